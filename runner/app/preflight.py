"""Everything that may refuse a run before anything is sent, and the question whether to send."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from runner.adapters.files import refuse_inputs
from runner.adapters.inngest.target import Target, shown
from runner.app.build import handler_warnings
from runner.app.session import Session, blocking
from runner.errors import BackfillError, PreflightRefused, StalePlan, UsageError
from runner.execution.context import RunOptions
from runner.execution.doctor import (
    examine_clocks,
    examine_facts,
    examine_github,
    examine_keys,
    examine_migrations,
    examine_questions,
    examine_target,
    listening,
)
from runner.execution.ports import LastSent
from runner.model import ExecutionPlan, Finding, Function, RunRecord
from runner.planning.estimate import needed
from runner.spec.files import FileRefused, read_named
from runner.spec.units import counted

FOLDER = "approvals"
_LARGEST = 64 * 1024  # bytes of a file that is looked into


class Examined(NamedTuple):
    """`functions`: of the server, where it tells them and was asked."""

    findings: list[Finding]
    functions: Sequence[Function] | None = None


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
        for finding in of_server:
            if finding.level == "warn":
                hint = f" ({finding.hint})" if finding.hint else ""
                session.reporter.note(f"{finding.about}: {finding.message}{hint}")
    return Cleared(options, functions)


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


def refuse_unapproved(plan: ExecutionPlan, target: Target) -> None:
    """Raises `PreflightRefused` where the plan demands an approval and no file gives it.

    The digest covers everything that decides what is sent: whoever approves it approves that, and
    nothing that the plan may become later. Any file of the folder `approvals` beside the plan does
    that has the digest in it.
    """
    if not plan.needs_approval or approved(plan.path, plan.digest, target):
        return
    message = (
        f"{plan.name} demands an approval of what it sends, and no file in "
        f"{os.path.relpath(_approvals(plan.path))} names its digest"
    )
    raise PreflightRefused(message, hint=how_to_approve(plan.path, plan.name, plan.digest))


def approved(path: str, digest: str, target: Target) -> bool:
    """Is there a file in the plan's folder of approvals that names the digest, and this target or
    none?"""
    folder = _approvals(path)
    return folder.is_dir() and any(_names(file, path, digest, target) for file in folder.iterdir())


def how_to_approve(path: str, name: str, digest: str) -> str:
    file = os.path.relpath(_approvals(path) / f"{name}.yaml")
    return f"whoever has reviewed it adds {file} with: digest: {digest}"


def _approvals(path: str) -> Path:
    return Path(path).parent / FOLDER


def _names(file: Path, path: str, digest: str, target: Target) -> bool:
    try:
        raw = read_named(file.absolute(), path, limit=_LARGEST)[1]
    except FileRefused:
        return False
    words = raw.decode("utf-8", "replace").split()
    targets = {named for key, named in pairwise(words) if key == "target:"}
    return digest in words and (not targets or bool(targets & target.called))


def followed(plan: ExecutionPlan, target: Target, options: RunOptions) -> RunOptions:
    """The options, without following where nothing can be followed.

    Raises `PreflightRefused` where a key is missing, or the plan needs what cannot be.
    """
    if not target.event_key:
        hint = "set INNGEST_EVENT_KEY, or INNGEST_PRODUCTION_EVENT_KEY"
        raise PreflightRefused(f"{target.name} needs an event key, and none is set", hint=hint)
    follow = options.follow and not plan.scheduled  # its jobs start when the command has long ended
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
    hint = "set INNGEST_SIGNING_KEY, or send without following: --no-wait"
    raise PreflightRefused(message, hint=hint)


def refuse_another_address(record: RunRecord, target: Target) -> None:
    """`dev` and `cloud` mean what the environment says: the rest must not go elsewhere."""
    if target.address != record.address:
        raise StalePlan(
            f"run {record.id} was started on {shown(record.address)}, and `{record.target}` is now "
            f"{shown(target.address)}",
            hint="set INNGEST_DEV, INNGEST_BASE_URL and INNGEST_ENV as they were",
        )


def examine_plan(session: Session, plan: ExecutionPlan, *, thorough: bool) -> list[Finding]:
    """What the plan asks, and what it takes; `thorough`: its warnings as well.

    Raises `TargetError` and `PreflightRefused` for a database that is not there, unless `thorough`.
    """
    found = [
        Finding(
            "plan",
            "ok" if warning.accepted else "warn",
            f"{warning.message} ({warning.path})",
            f"accepted: {warning.accepted}" if warning.accepted else warning.hint,
        )
        for warning in plan.warnings
        if thorough
    ]
    found += examine_facts(plan.facts)
    found += _of_database(session, plan, thorough=thorough)
    if thorough and (needs := needed(plan.needs)):
        found.append(Finding("needs", "ok", f"the plan takes about {needs}"))
    return found + _github(session, plan, thorough=thorough)


def examine_server(
    session: Session, plan: ExecutionPlan | None, target: Target, *, thorough: bool
) -> Examined:
    """`thorough`: its keys are tried too; else a run does that by itself, with more patience."""
    if target.kind != "embedded":
        return blocking(_server(session, plan, target, thorough=thorough))
    found = [Finding("target", "ok", "embedded: handlers run in this process")] if thorough else []
    warnings = handler_warnings(plan, target) if plan and thorough else []
    found += [Finding("listeners", "warn", w.message, w.hint) for w in warnings]
    return Examined(found)


def _of_database(session: Session, plan: ExecutionPlan, *, thorough: bool) -> list[Finding]:
    """A question that cannot be asked is better known now than when the work is done."""
    until = any(stage.until for stage in plan.stages)
    if not (plan.checks or plan.coverage or plan.facts or until):
        return []
    database, migrations = session.databases(plan.path), session.project(plan.path).migrations
    try:
        found = examine_clocks(plan, database) if thorough else []
        found += examine_questions(plan, database, datetime.now(UTC))
        return [*found, *examine_migrations(plan, database, migrations.table, migrations.column)]
    except BackfillError as error:
        if not thorough:
            raise
        return [Finding("database", "fail", str(error), error.hint)]


async def _server(
    session: Session, plan: ExecutionPlan | None, target: Target, *, thorough: bool
) -> Examined:
    def last_sent(event: str) -> LastSent | None:
        """From a journal that is there; looking for one must not make one."""
        found = session.reader.last_seen(event, target.address) if session.has_state else None
        return found and LastSent(*found)

    found, functions = examine_keys(target.event_key, target.signing_keys), None
    async with session.connect(target) as server:
        if thorough and not found:
            follows = bool(target.signing_keys) or target.kind != "cloud"
            found += await examine_target(server.probe, target.name, follows=follows)
        reached = not any(one.about == "target" and one.level == "fail" for one in found)
        if plan and reached:
            functions = await server.probe.functions()
            if thorough or functions is not None:
                found += listening(plan, functions, last_sent)
    return Examined(found, functions)


def _github(session: Session, plan: ExecutionPlan, *, thorough: bool) -> list[Finding]:
    if not plan.needs.github_points:
        return []
    if not session.environ.get("GITHUB_TOKEN"):
        if not thorough:
            return []
        hint = "set GITHUB_TOKEN to the worker's token, to compare its points with the plan's"
        return [Finding("github", "warn", "no token: its rate limit is not known", hint)]
    from runner.adapters.guards.open import github_rate
    from runner.execution.ports import GuardUnanswered

    try:
        rate = blocking(github_rate(session.environ))
        reset = datetime.fromtimestamp(rate.reset, UTC).strftime("%H:%M UTC")
    except (GuardUnanswered, ValueError, OverflowError, OSError) as error:
        hint = "look at GITHUB_TOKEN and the network"
        return [Finding("github", "warn", f"its rate limit cannot be told: {error}", hint)]
    return [examine_github(plan, rate.remaining, rate.limit, reset)]
