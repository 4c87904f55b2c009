"""Files of facts: what a trusted job records, for those who have no database."""

from __future__ import annotations

from datetime import UTC, datetime

from runner.adapters.files import write_file
from runner.app.session import Session
from runner.errors import UsageError
from runner.model import Json
from runner.planning.answers import Facts, read_facts, write_facts
from runner.spec.files import MAX_DATA, FileRefused, read_given
from runner.spec.schema import has_form


def read(path: str) -> Facts:
    """Raises `InvalidPlan` for another file, and `UsageError` where it cannot be read."""
    try:
        raw = read_given(path, limit=MAX_DATA)
    except FileRefused as error:
        hint = error.hint or "`backfill plan PLAN --record FILE` writes one"
        raise UsageError(f"{path} cannot be read: {error}", hint=hint) from None
    return facts_of(raw, path)


def facts_of(raw: bytes, path: str) -> Facts:
    """What a file holds. Raises `InvalidPlan`."""
    return read_facts(raw, path, _are_facts)


def record(session: Session, path: str) -> int:
    """Write what the session has recorded: the number of answers. Raises `PreflightRefused`."""
    answers = session.recorded or {}
    write_file(
        path, write_facts(answers, datetime.now(UTC).isoformat(timespec="seconds"), MAX_DATA)
    )
    return len(answers)


def _are_facts(value: Json) -> bool:
    """Raises `ValueError` for a time that is none."""
    return (
        has_form(value, "facts.v1")
        and isinstance(value, dict)
        and datetime.fromisoformat(value["recorded_at"]).tzinfo is not None
    )
