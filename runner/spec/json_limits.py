"""The limits of values that are sent: what JSON can hold and workers can read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from runner.model import Data, Json
from runner.spec.document import echo

MAX_DEPTH = 64
TOO_DEEP = f"values nested more than {MAX_DEPTH} levels deep"
MAX_NAME = 200  # characters of a repository or workspace, as in the plan's schema
MAX_ITEM = 1_024  # characters of an item's name
MAX_EVENT = 3 * 1024 * 1024  # bytes of an event's data: the most that a server takes
_LEAST, _MOST = -(2**63), 2**64 - 1


def fault(value: Json, depth: int = 0) -> str | None:
    """Return what keeps `value` from being sent as JSON, in a few words, or None."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return text_fault(value)
    if isinstance(value, int):
        return None if fits(value) else "a number that does not fit into 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else "not a JSON number"
    if depth >= MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return "a mapping whose keys are not all strings"
        members = [*value, *value.values()]
    elif isinstance(value, list):
        members = value
    else:
        return f"a {type(value).__name__}, not a JSON value"
    return next((wrong for member in members if (wrong := fault(member, depth + 1))), None)


def each_once(pairs: Sequence[tuple[str, Json]]) -> Data:
    """Make a mapping of these members. Raises `KeyError`, with a message, for a duplicate key."""
    members = dict(pairs)
    if len(members) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in members if times[name] > 1)
        raise KeyError(f"the key {echo(twice)} is written twice")
    return members


def text_fault(text: str) -> str | None:
    """Find half a surrogate pair, which only Python takes as text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"text with half of a surrogate pair (U+{ord(text[error.start]):04X}) in it"
    return None


def stored_fault(text: str) -> str | None:
    """Find what keeps a name from a state: no database takes half a surrogate pair, and PostgreSQL
    no zero byte."""
    return "text with a zero byte in it" if "\0" in text else text_fault(text)


def fits(number: int) -> bool:
    return _LEAST <= number <= _MOST
