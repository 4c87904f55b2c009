"""The events of a run, by what they are and what has come of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

from runner.app.session import Session
from runner.errors import UsageError
from runner.model import EventRecord, RunRecord


def events_of(
    session: Session,
    run: str,
    operations: Collection[str] = (),
    patterns: Collection[str] = (),
    outcomes: Collection[str] = (),
) -> tuple[RunRecord, Iterator[EventRecord]]:
    """The events of a run in sending order: of these operations, of items like these patterns, that
    have come to these outcomes; all, where nothing is chosen."""
    store = session.reader
    record = store.find(run)
    view = store.glance(record)
    known = {stage.operation for stage in view.stages}
    for name in operations:
        if name not in known:
            hint = f"it has {', '.join(sorted(known))}"
            raise UsageError(f"run {record.id} has no operation `{name}`", hint=hint)
    stages = {stage.number for stage in view.stages if stage.operation in operations}
    chosen = (
        event
        for event in store.events(record, stages, set(outcomes))
        if not patterns or any(fnmatchcase(event.item, pattern) for pattern in patterns)
    )
    return record, chosen
