"""Tools that send: anything within this process; elsewhere, what a person has approved."""

from __future__ import annotations

from dataclasses import replace

from runner.agents.approval import APPROVED, approved_run, refuse_unapproved
from runner.agents.review import previewed
from runner.agents.tool import (
    GATED,
    RUN,
    SUBSET,
    TARGET,
    Answer,
    Given,
    Tool,
    arguments,
    flag,
    inside,
    is_strict,
    known_target,
    selectors_of,
    several,
    text,
    texts,
    variables_of,
)
from runner.app.session import Session
from runner.model import FAILURES, OUTCOMES, RETRIED, Outcome


def _run(session: Session, given: Given) -> Answer:
    from runner.app.prepare import prepare
    from runner.app.run import run, submit
    from runner.app.saved import load_saved
    from runner.output.summary import submitted_json, summary_json

    path = inside(given["plan"])
    prepared = prepare(
        session,
        path,
        target=known_target(given.get("target")),
        variables=variables_of(given),
        strict=is_strict(given),
        selectors=selectors_of(given),
    )
    refuse_unapproved(session, prepared, saved=load_saved(path) is not None)
    options = replace(APPROVED, follow=not given.get("no_wait"))
    if given.get("detach"):
        submitted = submit(session, prepared, options)
        return Answer(submitted_json(submitted.run_id, submitted.event_id))
    return Answer(summary_json(run(session, prepared, options)))


def _retry(session: Session, given: Given) -> Answer:
    from runner.app.retry import FailedEvents, plan_retry, retry
    from runner.output.summary import summary_json

    outcomes: tuple[Outcome, ...] = several(given, "outcome")  # type: ignore[assignment]
    failed = FailedEvents(given["run"], outcomes or RETRIED, several(given, "item"))
    if given.get("dry_run"):
        prepared = plan_retry(session, failed, APPROVED)
        return previewed(prepared.plan, prepared.target)
    record, _ = approved_run(session, failed.run)
    summary = retry(session, replace(failed, run=record.id), APPROVED)
    return Answer(summary_json(summary))


TOOLS = (
    Tool(
        "run",
        "Send a plan's events, follow their jobs to the end and ask its checks." + GATED,
        arguments(
            ("plan",),
            {
                "plan": text("A saved plan; or, for the target embedded, a plan file."),
                **SUBSET,
                **TARGET,
                "no_wait": flag("Only send: do not follow jobs, and do not wait between stages."),
                "detach": flag("Leave the run to the workers and return."),
            },
        ),
        ("run.v1", "submission.v1"),
        _run,
        reads=False,
        destroys=True,
    ),
    Tool(
        "retry",
        "Send what failed in a run again, as a new run." + GATED,
        arguments(
            ("run",),
            {
                **RUN,
                "outcome": texts(
                    "Only events with these outcomes.", *(o for o in OUTCOMES if o in FAILURES)
                ),
                "item": texts("Only items whose names match these globs."),
                "dry_run": flag("Only show what would be sent."),
            },
        ),
        ("run.v1", "execution-plan.v1"),
        _retry,
        reads=False,
        destroys=True,
    ),
)
