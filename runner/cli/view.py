"""What a page shows of a run, put together from the journal; pages and reports are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runner.adapters.journal.store import StateReader
from runner.execution.check import AFTER, BEFORE, coverage_key
from runner.execution.coverage import covered
from runner.model import Covered, EventRecord, RunRecord, RunView, Table
from runner.output.page import MAX_ROWS


def view_of(store: StateReader, record: RunRecord) -> RunView:
    """All that there is, with the coverage before and after where the run has measured it."""
    view = store.view(record)
    if not view.plan.coverage:
        return view
    return replace(view, coverage=_coverage(view, store.answers(record)))


def failed_events(store: StateReader, view: RunView) -> list[EventRecord]:
    """The events that a page lists one by one."""
    if not view.outcomes:
        return []
    return store.failed_events(view.record, MAX_ROWS)


def _coverage(view: RunView, answers: Mapping[str, Any]) -> Mapping[str, tuple[Covered, ...]]:
    found = {}
    for measure in view.plan.coverage:
        before, after = (
            _table(answers.get(coverage_key(measure.name, when))) for when in (BEFORE, AFTER)
        )
        latest = after or before
        if latest:
            found[measure.name] = tuple(covered(measure.name, latest, before if after else None))
    return found


def _table(kept: Any) -> Table | None:
    return kept and Table(tuple(kept[0]), tuple(map(tuple, kept[1])))
