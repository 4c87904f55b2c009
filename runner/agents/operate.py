"""Tools that hold a run, or end it."""

from __future__ import annotations

from runner.agents.approval import approved_run
from runner.agents.forms import arguments, flag
from runner.agents.tool import GATED, RUN, Answer, Given, Tool
from runner.agents.watch import status_of
from runner.app.session import Session


def _pause(session: Session, given: Given) -> Answer:
    from runner.app.control import pause

    record, _ = approved_run(session, given["run"])
    pause(session, record.id)
    return status_of(session, record.id, "it is paused after the request in flight")


def _cancel(session: Session, given: Given) -> Answer:
    from runner.app.control import cancel

    record, _ = approved_run(session, given["run"])
    _, totals, unanswered, jobs = cancel(session, record.id, jobs=bool(given.get("jobs")))
    said = f"cancelled: {totals.accepted:,} of {totals.planned:,} events were sent"
    if unanswered:
        said += f"; {unanswered:,} more may have been taken: their answer was lost"
    if jobs:
        said += f"; {jobs.jobs:,} jobs cancelled, {jobs.going_on:,} go on"
    return status_of(session, record.id, said)


TOOLS = (
    Tool(
        "pause",
        "Hold a run that is under way; `resume` lets it go on." + GATED,
        arguments(("run",), RUN),
        ("status.v1",),
        _pause,
        reads=False,
    ),
    Tool(
        "cancel",
        "End a run for good; with `jobs`, its jobs too." + GATED,
        arguments(("run",), {**RUN, "jobs": flag("Also cancel the jobs it started.")}),
        ("status.v1",),
        _cancel,
        reads=False,
        destroys=True,
    ),
)
