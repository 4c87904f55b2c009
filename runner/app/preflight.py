"""The checks before a run sends anything, and the user's confirmation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from runner.adapters.inngest.target import Target, shown
from runner.app.approval import refuse_unapproved
from runner.app.doctor import examine_plan, examine_server
from runner.app.plan_files import found_here, moved_to
from runner.app.policy import refuse_broken
from runner.app.session import Session
from runner.errors import PreflightRefused, StalePlan, UsageError
from runner.execution.context import RunOptions
from runner.execution.doctor import event_key_variables
from runner.model import ExecutionPlan, Finding, Function, RunRecord
from runner.spec.units import counted


class Cleared(NamedTuple):
    """The options that the run can have, and the server's functions if it listed them."""

    options: RunOptions
    functions: Sequence[Function] | None = None


def preflight(
    session: Session,
    plan: ExecutionPlan,
    target: Target,
    options: RunOptions,
    *,
    before_asking: Callable[[], None] = lambda: None,
) -> Cleared:
    """Check that the run may and can succeed. Raises `PreflightRefused` for what is bound to
    fail. `before_asking` may refuse as well: after what is known here, before what is asked."""
    refuse_broken(plan)
    refuse_empty(plan)
    refuse_own_files(session, plan, options)
    refuse_unapproved(plan, target)
    options = followed(plan, target, options)
    before_asking()
    functions = None
    if not options.skip_preflight:
        of_server, functions = examine_server(session, plan, target, thorough=False)
        findings = of_server + examine_plan(session, plan, thorough=False)
        fails = tuple(finding for finding in findings if finding.level == "fail")
        if fails:
            message = "the preflight refuses this run; nothing was sent"
            hint = "`backfill doctor` shows more; --skip-preflight sends anyway"
            raise PreflightRefused(message, hint=hint, findings=fails)
        _tell(session, of_server)
    return Cleared(options, functions)


def refuse_forbidden(plan: ExecutionPlan, target: Target) -> None:
    """Raise `PreflightRefused` if the policy forbids the plan, or its approval is missing."""
    refuse_broken(plan)
    refuse_unapproved(plan, target)


def tell_of_functions(session: Session, plan: ExecutionPlan, target: Target) -> None:
    """Note what keeps the plan's events from starting jobs, before a retry sends them."""
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
    """Ask before events leave this machine; without a terminal, --yes is required.

    `before` reports what the user should know before answering.
    """
    ask = plan.may_send and not (options.yes or target.local)
    events = counted(plan.events, "event")
    if ask and session.confirm is None:
        message = f"{events} would go to {target.name}, and there is no terminal to ask"
        raise PreflightRefused(message, hint="say --yes")
    before()
    if ask and session.confirm and not session.confirm(f"Send {events} to {target.name}?"):
        raise PreflightRefused("not confirmed: nothing is sent")


def refuse_own_files(session: Session, plan: ExecutionPlan, options: RunOptions) -> None:
    """Raise `UsageError` if the summary file is one of the plan's inputs, or the state."""
    read = [plan.path, *(path for path, _ in plan.inputs)]
    session.refuse_to_write({"--summary-file": options.summary_file}, read)


def refuse_empty(plan: ExecutionPlan) -> None:
    """Raise `PreflightRefused` if there is nothing to send, unless the plan allows that."""
    if not plan.may_send and plan.if_empty == "fail":
        hint = (
            "`backfill plan` shows what is skipped and why; if that is fine, write `if_empty: ok`"
        )
        raise PreflightRefused("there is nothing to send: the plan has no events", hint=hint)


def followed(
    plan: ExecutionPlan, target: Target, options: RunOptions, *, begun: bool = False
) -> RunOptions:
    """Return the options, with `follow` off if nothing can be followed. The jobs of a scheduled
    plan start long after the sending command has ended: only a resume (`begun`) can follow them.

    Raises `PreflightRefused` if a key is missing, or if the plan needs to be followed and cannot;
    `UsageError` for --no-wait with a written `max_in_flight`.
    """
    if not target.event_key:
        message = f"{target.name} needs an event key, but none is set"
        raise PreflightRefused(message, hint=f"set {event_key_variables(target.variable)}")
    follow = options.follow and (begun or not plan.scheduled)
    capped = next((stage for stage in plan.stages if stage.cap and stage.cap.written), None)
    if not options.follow and capped:
        message = (
            f"--no-wait follows no jobs, but `max_in_flight` of `{capped.operation}` "
            "limits the jobs that are running"
        )
        raise UsageError(message, hint="leave one of them out")
    needed = _why_followed(plan)
    if not follow and needed:
        message = f"{needed}, which cannot be known without following the jobs"
        raise PreflightRefused(message, hint="leave --no-wait out")
    if not follow and target.kind == "embedded":
        message = "the embedded target ends with this process, and so do jobs that are not followed"
        raise PreflightRefused(
            message, hint="leave --no-wait out, or choose a server with --target"
        )
    if not follow or target.kind != "cloud" or target.signing_keys:
        return replace(options, follow=follow)
    barrier = next((stage for stage in plan.stages if stage.wait == "completed"), None)
    if not (needed or barrier):
        return replace(options, follow=False)
    hint = f"set {target.variable('INNGEST_SIGNING_KEY')}"
    if barrier and not needed:
        needed = f"`{barrier.operation}` waits for its jobs to complete"
        hint += ", or send without following: --no-wait"
    message = f"{needed}, but following jobs on {target.name} needs a signing key"
    raise PreflightRefused(message, hint=hint)


def _why_followed(plan: ExecutionPlan) -> str | None:
    """Name what would have no effect if nothing is followed."""
    for stage in plan.stages:
        if stage.until:
            return f"`{stage.operation}` is sent in rounds until its backlog is empty"
        if stage.canary:
            return f"`{stage.operation}` waits until its canary has succeeded"
        if stage.cap and stage.cap.written:
            return f"`max_in_flight` of `{stage.operation}` limits how many jobs are under way"
    return None


def as_begun(
    session: Session, record: RunRecord, path: str | None = None
) -> tuple[ExecutionPlan, Target]:
    """Return the plan of a started run, with the paths of this machine, and its target.

    `path`: where the plan's file is now, if the caller knows it. Raises `StalePlan` if the target
    is now elsewhere."""
    plan = session.store.plan_of(record)
    plan = moved_to(plan, path) if path else found_here(plan)
    target = session.target(record.target, plan.path, record.environment)
    refuse_another_address(record, target)
    return plan, target


def refuse_another_address(record: RunRecord, target: Target) -> None:
    """Refuse to continue a run elsewhere: `dev` and `cloud` depend on environment variables."""
    if target.address != record.address:
        raise StalePlan(
            f"run {record.id} was started on {shown(record.address)}, and `{record.target}` is now "
            f"{shown(target.address)}",
            hint="set INNGEST_DEV, INNGEST_BASE_URL and INNGEST_ENV as they were",
        )
