"""How long a run will take: by its pace, and by what the last runs of the plan took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import escape

from runner.adapters.journal.state import StateReader
from runner.app.session import Session
from runner.errors import BackfillError
from runner.model import ExecutionPlan, Function
from runner.planning.estimate import Estimate, Past, before, past_of

_PAST_RUNS = 5


def expected(
    session: Session, plan: ExecutionPlan, functions: Sequence[Function] | None = None
) -> Estimate:
    """Of a run that may begin. `functions`: of the server, where it tells them."""
    past = _past(session.store, plan)
    return before(plan, past, session.clock.time(), functions or ())


def expected_of_preview(session: Session, plan: ExecutionPlan) -> Estimate:
    """The same for a dry run, which reaches nothing: by a state that is a file, where it is one."""
    return before(plan, _local_past(session, plan), session.clock.time())


def tell(session: Session, estimate: Estimate) -> None:
    """Where it tells more than the pacing: the same plan prints the same."""
    if estimate.telling:
        session.reporter.say(f"time: {estimate.words}")


def _past(store: StateReader, plan: ExecutionPlan) -> Mapping[str, Past]:
    """What the latest runs of the plan show of how long its jobs take."""
    lines = store.runs(plan=escape(plan.name), limit=_PAST_RUNS)
    return past_of(store.glance(line.record) for line in lines)


def _local_past(session: Session, plan: ExecutionPlan) -> Mapping[str, Past]:
    if session.state_file is None or not session.state_file.is_file():
        return {}
    try:
        return _past(session.reader, plan)
    except BackfillError:
        return {}  # a preview is no less true without it
