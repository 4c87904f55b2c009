"""Estimates of how long a run will take, from past runs of its plan."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from glob import escape
from typing import TYPE_CHECKING

from runner.app.session import Session
from runner.errors import BackfillError
from runner.model import ExecutionPlan, Function
from runner.planning.estimate import Estimate, Past, before, past_of

if TYPE_CHECKING:
    from runner.adapters.journal.state import StateReader

_PAST_RUNS = 5


def expected(
    session: Session, plan: ExecutionPlan, functions: Sequence[Function] | None = None
) -> Estimate:
    """Estimate a run's duration. `functions`: the server's, if it lists them."""
    past = _past(session.store, plan)
    return before(plan, past, session.clock.time(), functions or ())


def expected_of_preview(session: Session, plan: ExecutionPlan) -> Estimate:
    """Estimate for a dry run, which reaches nothing: use past runs only if the state is a file."""
    return before(plan, _local_past(session, plan), session.clock.time())


def tell(session: Session, estimate: Estimate) -> None:
    """Report the estimate if it tells more than the pacing, so that output stays reproducible."""
    if estimate.telling:
        session.reporter.say(f"time: {estimate.words}")


def _past(store: StateReader, plan: ExecutionPlan) -> Mapping[str, Past]:
    """Return how long the jobs took in the latest runs of the plan."""
    lines = store.runs(plan=escape(plan.name), limit=_PAST_RUNS)
    return past_of(store.glance(line.record) for line in lines)


def _local_past(session: Session, plan: ExecutionPlan) -> Mapping[str, Past]:
    file = session.state_file
    if file is None or not os.path.exists(file):  # noqa: PTH110 - with any error: there is none
        return {}
    try:
        return _past(session.reader, plan)
    except BackfillError:
        return {}  # a preview works without it
