"""Read what is given beside a plan: template variables, and facts files.

Facts are the database's answers, recorded by a trusted job for those without access.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.app.session import Session
from runner.errors import InvalidPlan, UsageError
from runner.model import Json
from runner.model.value import as_argument
from runner.spec.files import MAX_DATA, FileRefused, read_given
from runner.spec.given import refuse_secret
from runner.spec.json_limits import TOO_DEEP, each_once, fault
from runner.spec.units import counted, parse_time

if TYPE_CHECKING:
    from runner.planning.answers import Facts


def read_variables(assignments: Sequence[str], var_files: Sequence[str]) -> dict[str, Json]:
    """Read variables; `--var` overrides `--var-file`."""
    variables: dict[str, Json] = {}
    for name in var_files:
        variables.update(_read_var_file(name))
    given = set[str]()
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError("--var needs NAME=VALUE", hint="write it like --var window_days=30")
        if name in given:
            raise UsageError(f"--var names {name} twice", hint="keep one of them")
        given.add(name)
        variables[name] = _value(name, value)
        refuse_secret(f"--var {name}", f"{name}={value}")
    return variables


def _value(name: str, text: str) -> Json:
    try:
        value = json.loads(text, parse_constant=lambda _: text, object_pairs_hook=each_once)
    except ValueError:
        return text
    except KeyError as error:
        raise UsageError(f"--var {name}: {error.args[0]}", hint="keep one of them") from None
    except RecursionError:
        wrong: str | None = TOO_DEEP
    else:
        wrong = fault(value)
    if wrong:
        raise UsageError(f"--var {name} has {wrong} in it")
    return value


def _read_var_file(name: str) -> dict[str, Json]:
    from runner.spec.reading import parse_clean

    try:
        raw = read_given(name)
    except FileRefused as error:
        message = f"--var-file {name} cannot be read: {error}"
        raise UsageError(message, hint=error.hint) from None
    document, problems = parse_clean(raw, name)
    if not problems and not isinstance(document.value, dict):
        problems = [document.problem("expected a mapping of variables", hint="window_days: 30")]
    if problems:
        raise InvalidPlan(tuple(problems))
    return dict(document.value)


def read_facts_file(path: str) -> Facts:
    """Read facts. Raises `InvalidPlan` for another file, and `UsageError` for an unreadable one."""
    try:
        raw = read_given(path, limit=MAX_DATA)
    except FileRefused as error:
        hint = error.hint or "write one with `backfill plan PLAN --record FILE`"
        raise UsageError(f"{path} cannot be read: {error}", hint=hint) from None
    return facts_of(raw, path)


def facts_of(raw: bytes, path: str) -> Facts:
    """Parse facts. Raises `InvalidPlan`."""
    from runner.planning.answers import read_facts

    return read_facts(raw, path, _are_facts)


def record_facts(session: Session, path: str) -> None:
    """Write the answers that the session recorded. Raises `CannotWrite`."""
    from runner.adapters.files import write_file
    from runner.planning.answers import write_facts

    answers = session.recorded or {}
    write_file(
        path, write_facts(answers, datetime.now(UTC).isoformat(timespec="seconds"), MAX_DATA)
    )
    number = counted(len(answers), "answer")
    session.reporter.say(
        f"{number} in {path}: `--facts {as_argument(path)}` plans without a database"
    )


def _are_facts(value: Json) -> bool:
    """Tell whether the value is facts. Raises `ValueError` for an invalid time."""
    from runner.spec.schema import has_form

    return (
        has_form(value, "facts.v1")
        and isinstance(value, dict)
        and parse_time(value["recorded_at"], None).tzinfo is not None
    )
