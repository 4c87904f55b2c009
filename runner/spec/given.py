"""Validate arguments of the Python API, within the same bounds as the command's options."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence

from runner.errors import UsageError
from runner.model import OUTCOMES, Json, Selectors
from runner.spec.document import did_you_mean, echo
from runner.spec.json_limits import fault, stored_fault
from runner.spec.units import LONGEST, MOST


def refuse_count(name: str, value: Json, least: int = 1, most: int = MOST) -> None:
    """Raise `UsageError` for a value that is not a whole number within the bounds."""
    if value is None or (type(value) is int and least <= value <= most):
        return
    hint = f"give a whole number from {least} to {most:,}"
    raise UsageError(f"`{name}` is {echo(value)}, which is not allowed", hint=hint)


def refuse_seconds(name: str, value: Json) -> None:
    """Raise `UsageError` for a value that is not a duration."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or (number and 0 <= value <= LONGEST):
        return
    hint = "give a number of seconds that is not negative"
    raise UsageError(f"`{name}` is {echo(value)}, which is not a duration", hint=hint)


def refuse_empty(**given: object) -> None:
    """Raise `UsageError` for an empty text, as an empty environment variable gives it."""
    for name, value in given.items():
        if value == "":
            hint = "is the variable that it comes from set? None stands for the default"
            raise UsageError(f"the {name} is empty", hint=hint)


def refuse_unlisted(name: str, value: Iterable[object], kind: type = Sequence) -> None:
    """Raise `UsageError` for what is no list of texts: each letter of a text would be an entry, and
    an iterator, once it has been read, holds none, which would select everything."""
    if isinstance(value, str):
        hint = f"give a list: [{value[:60]!r}]"
        raise UsageError(f"`{name}` is the text {echo(value)}, not a list", hint=hint)
    if not isinstance(value, kind):
        message = f"`{name}` is of the type {type(value).__name__}, not a list"
        raise UsageError(message, hint="make a list of it")
    for one in value:
        if not isinstance(one, str):
            message = f"`{name}` is a list with {type(one).__name__} in it, not only text"
            raise UsageError(message, hint="give texts")
        if wrong := stored_fault(one):
            raise UsageError(f"`{name}` is a list with {wrong}", hint="leave it out")


def refuse_selectors(selectors: Selectors | None) -> None:
    """Raise `UsageError` for selectors that select nothing, or contradict each other."""
    if selectors is None:
        return
    for name in ("only", "skip", "items"):
        refuse_unlisted(name, getattr(selectors, name))
    for name in ("limit", "sample"):
        refuse_count(name, getattr(selectors, name))
    if type(selectors.seed) is not int:
        message = f"`seed` is {echo(selectors.seed)}, which is not allowed"
        raise UsageError(message, hint="give a whole number")
    if selectors.limit is not None and selectors.sample is not None:
        raise UsageError("`limit` and `sample` exclude each other", hint="use one of them")
    if selectors.seed and selectors.sample is None:
        raise UsageError("`seed` does nothing without `sample`", hint="leave it out")


def refuse_others(name: str, value: Json, choice: Collection[str]) -> None:
    """Raise `UsageError` for a value that is neither None nor one of these words."""
    if value is not None and value not in choice:
        message = f"`{name}` is {echo(value)}, which is not allowed"
        raise UsageError(message, hint=f"give one of {', '.join(choice)}")


def refuse_outcomes(outcomes: Collection[str]) -> None:
    """Raise `UsageError` for unknown outcomes."""
    refuse_unlisted("outcomes", outcomes, Collection)
    for one in outcomes:
        if one not in OUTCOMES:
            hint = did_you_mean(str(one), OUTCOMES) or f"there are: {', '.join(OUTCOMES)}"
            raise UsageError(f"there is no outcome {echo(one)}", hint=hint)


def refuse_secret(source: str, text: str) -> None:
    """Raise `UsageError` if `text` looks like a key; `source` says where it came from."""
    from runner.spec.secrets import find

    if find(text):
        hint = "keys come from the environment only; payloads are stored in journals and logs"
        raise UsageError(f"{source} looks like a key or token", hint=hint)


def refuse_secrets(variables: Mapping[str, Json]) -> None:
    """Raise `UsageError` if a variable looks like a key."""
    for name, value in variables.items():
        if not fault(value):  # else loading the plan finds what is wrong, with its place
            refuse_secret(f"the variable `{name}`", f"{name}={json.dumps(value)}")
