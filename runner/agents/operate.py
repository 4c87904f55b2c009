"""Tools that pause a run, resume it, or end it."""

from __future__ import annotations

from dataclasses import replace

from runner.agents.approval import APPROVED, approved_run
from runner.agents.tool import GATED, RUN, Answer, Given, Tool, arguments, flag
from runner.agents.watch import status_of
from runner.app.session import Session
from runner.spec.units import counted


def _pause(session: Session, given: Given) -> Answer:
    from runner.app.control import pause

    record, _ = approved_run(session, given["run"])
    pause(session, record.id)
    return status_of(session, record.id, "it is paused after the request in flight")


def _resume(session: Session, given: Given) -> Answer:
    from runner.app.resume import resubmit, resume
    from runner.output.summary import submitted_json, summary_json

    record, approved = approved_run(session, given["run"])
    # A person approves what the run was started with.
    options = replace(APPROVED, past_failures=bool(given.get("past_failures")))
    from_journal = approved or bool(given.get("from_journal"))
    if given.get("detach"):
        if submitted := resubmit(session, record.id, options, from_journal=from_journal):
            return Answer(submitted_json(submitted.run_id, submitted.event_id))
    elif summary := resume(session, record.id, options, from_journal=from_journal):
        return Answer(summary_json(summary))
    return status_of(session, record.id)


def _cancel(session: Session, given: Given) -> Answer:
    from runner.app.control import cancel
    from runner.output import words

    record, _ = approved_run(session, given["run"])
    record, totals, unanswered, jobs = cancel(session, record.id, jobs=bool(given.get("jobs")))
    said = f"{record.status}: {words.were_sent(totals)}"
    if unanswered:
        said += f"; {unanswered:,} more may have been accepted: no valid answer came"
    if jobs:
        said += f"; {counted(jobs.jobs, 'job')} cancelled, {jobs.going_on:,} still running"
    return status_of(session, record.id, said)


TOOLS = (
    Tool(
        "pause",
        "Hold a run that is under way; `resume` continues it." + GATED,
        arguments(("run",), RUN),
        ("status.v1",),
        _pause,
        reads=False,
    ),
    Tool(
        "resume",
        "Continue a run that was stopped, was paused or has crashed." + GATED,
        arguments(
            ("run",),
            {
                **RUN,
                "from_journal": flag(
                    "Send the plan as the run started with it, even if the file has changed."
                ),
                "past_failures": flag("Go on even though the plan stops on failures."),
                "detach": flag("Leave the rest to the workers."),
            },
        ),
        ("run.v1", "submission.v1", "status.v1"),
        _resume,
        reads=False,
        destroys=True,
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
