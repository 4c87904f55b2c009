"""Everything that may refuse a run before anything is sent, and the question whether to send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from runner.adapters.files import refuse_inputs
from runner.adapters.inngest.target import Target, shown
from runner.app.approval import refuse_unapproved
from runner.app.doctor import examine_plan, examine_server
from runner.app.session import Session
from runner.errors import PreflightRefused, StalePlan, UsageError
from runner.execution.context import RunOptions
from runner.execution.doctor import event_key_variables
from runner.model import ExecutionPlan, Finding, Function, RunRecord
from runner.spec.units import counted


class Cleared(NamedTuple):
    """The options that a run can have, and what the server told of its functions meanwhile."""

    options: RunOptions
    functions: Sequence[Function] | None = None


def preflight(
    session: Session, plan: ExecutionPlan, target: Target, options: RunOptions
) -> Cleared:
    """Raises `PreflightRefused` for what is bound to fail."""
    refuse_empty(plan)
    refuse_own_files(plan, options)
    refuse_unapproved(plan, target)
    options = followed(plan, target, options)
    functions = None
    if not options.skip_preflight:
        of_server, functions = examine_server(session, plan, target, thorough=False)
        findings = of_server + examine_plan(session, plan, thorough=False)
        fails = tuple(finding for finding in findings if finding.level == "fail")
        if fails:
            message = "the preflight refuses this run, and nothing was sent"
            hint = "`backfill doctor` shows more; --skip-preflight sends all the same"
            raise PreflightRefused(message, hint=hint, findings=fails)
        _tell(session, of_server)
    return Cleared(options, functions)


def tell_of_functions(session: Session, plan: ExecutionPlan, target: Target) -> None:
    """What keeps the plan's events from starting jobs, before some of them are sent once more."""
    _tell(session, examine_server(session, plan, target, thorough=False).findings)


def _tell(session: Session, findings: Sequence[Finding]) -> None:
    for finding in findings:
        if finding.level != "ok":
            hint = f" ({finding.hint})" if finding.hint else ""
            session.reporter.note(f"{finding.about}: {finding.message}{hint}")


def confirm(
    session: Session,
    plan: ExecutionPlan,
    target: Target,
    options: RunOptions,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Ask before events leave this machine; where nobody can be asked, a yes must have been given.

    `before` says what should be known before the answer.
    """
    ask = plan.may_send and not (options.yes or target.local)
    events = counted(plan.events, "event")
    if ask and session.confirm is None:
        message = f"{events} would go to {target.name}, and there is no terminal to ask"
        raise PreflightRefused(message, hint="say --yes")
    before()
    if ask and session.confirm and not session.confirm(f"Send {events} to {target.name}?"):
        raise PreflightRefused("not confirmed; nothing was sent")


def refuse_own_files(plan: ExecutionPlan, options: RunOptions) -> None:
    """Raises `UsageError` where a file that is written is one that the plan is made of."""
    read = [plan.path, *(path for path, _ in plan.inputs)]
    refuse_inputs({"--summary-file": options.summary_file}, read)


def refuse_empty(plan: ExecutionPlan) -> None:
    """Raises `PreflightRefused` where there is nothing to do, unless the plan says that it may."""
    if not plan.may_send and plan.if_empty == "fail":
        hint = "`backfill plan` shows what is skipped and why; `if_empty: ok` where that is fine"
        raise PreflightRefused("there is nothing to send: the plan has no events", hint=hint)


def followed(
    plan: ExecutionPlan, target: Target, options: RunOptions, *, begun: bool = False
) -> RunOptions:
    """The options, without following where nothing can be followed. The jobs of a scheduled plan
    start when the command that sends it has long ended: only who goes on with it (`begun`) can.

    Raises `PreflightRefused` where a key is missing, or the plan needs what cannot be.
    """
    if not target.event_key:
        message = f"{target.name} needs an event key, and none is set"
        raise PreflightRefused(message, hint=f"set {event_key_variables(target.variable)}")
    follow = options.follow and (begun or not plan.scheduled)
    capped = next((stage for stage in plan.stages if stage.cap and stage.cap.written), None)
    if not options.follow and capped:
        message = (
            f"--no-wait follows no jobs, and `max_in_flight` of `{capped.operation}` counts those "
            "that go on"
        )
        raise UsageError(message, hint="leave one of them out")
    drained = next((stage for stage in plan.stages if stage.until), None)
    if not follow and drained:
        message = (
            f"`{drained.operation}` is sent in rounds until its backlog is empty, and without "
            "following nobody knows when a round is done"
        )
        raise PreflightRefused(message, hint="leave --no-wait out")
    if not follow and target.kind == "embedded":
        message = (
            "the embedded target ends with this process, and jobs that are not followed with it"
        )
        raise PreflightRefused(message, hint="follow them, or choose a server with --target")
    if not follow or target.kind != "cloud" or target.signing_keys:
        return replace(options, follow=follow)
    barrier = next((stage for stage in plan.stages if stage.wait == "completed"), None)
    if barrier is None:
        return replace(options, follow=False)
    message = (
        f"`{barrier.operation}` waits for its jobs to complete, and following them on "
        f"{target.name} needs a signing key"
    )
    variable = target.variable("INNGEST_SIGNING_KEY")
    hint = f"set {variable}, or send without following: --no-wait"
    raise PreflightRefused(message, hint=hint)


def refuse_another_address(record: RunRecord, target: Target) -> None:
    """`dev` and `cloud` mean what the environment says: the rest must not go elsewhere."""
    if target.address != record.address:
        raise StalePlan(
            f"run {record.id} was started on {shown(record.address)}, and `{record.target}` is now "
            f"{shown(target.address)}",
            hint="set INNGEST_DEV, INNGEST_BASE_URL and INNGEST_ENV as they were",
        )
