"""Diagnose a target, its server and a plan's questions; nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from runner.adapters.inngest.target import Target
from runner.app.approval import FOLDER, refuse_unapproved
from runner.app.build import build, handler_warnings
from runner.app.notify import examine_hooks
from runner.app.session import HERE, Session, blocking
from runner.errors import BackfillError, InvalidPlan, PreflightRefused, TargetError, UsageError
from runner.execution.doctor import (
    examine_clocks,
    examine_facts,
    examine_github,
    examine_keys,
    examine_migrations,
    examine_questions,
    examine_target,
    failed,
    listening,
)
from runner.execution.ports import GuardUnanswered, LastSent
from runner.model import (
    CommandGuard,
    ExecutionPlan,
    Finding,
    Function,
    GuardSpec,
    HttpGuard,
    Json,
)
from runner.planning.estimate import needed
from runner.spec.units import counted


class Examined(NamedTuple):
    """Findings, and the server's functions if they were requested and it lists them."""

    findings: list[Finding]
    functions: Sequence[Function] | None = None


def examine(
    session: Session,
    plan: str | None,
    target: Target,
    *,
    variables: dict[str, Json] | None = None,
    strict: bool = False,
    named: str | None = None,
) -> list[Finding]:
    """Diagnose the target, its keys and functions, and a plan's questions, guards and rules; send
    nothing. A plan that cannot be built is a finding, not an error. `named`: the target as the user
    named it, for the policy. `strict`: report warnings as failures. Raises `UsageError` for what is
    given for a plan, if there is none."""
    if plan is None and (variables or session.collections):
        given = "--var" if variables else "--collection"
        raise UsageError(f"{given} does nothing without a plan", hint="name the plan, too")
    built, findings = None, list[Finding]()
    if plan is not None:
        built, findings = _read(session, plan, variables or {}, named, strict=strict)
    state = _state(session)
    findings += examine_server(session, built, target, thorough=True, stated=not state).findings
    if built:
        findings += examine_plan(session, built, thorough=True)
        findings += [*_allowed(built, target), *_guards(session, built)]
    findings += [*examine_hooks(session, plan or HERE), *(state or _holds(session, target))]
    if strict:
        findings = [one._replace(level="fail") if one.level == "warn" else one for one in findings]
    return findings


def _read(
    session: Session, path: str, variables: dict[str, Json], target: str | None, *, strict: bool
) -> tuple[ExecutionPlan | None, list[Finding]]:
    """Build the plan as a run would, with problems as findings."""
    try:
        plan = build(session, path, variables, strict=strict, target=target).execution_plan
    except InvalidPlan as error:
        return None, [
            Finding(
                "plan",
                "fail" if problem.severity == "error" else "warn",
                f"{problem.path}:{problem.line}: {problem.message}",
                problem.hint,
            )
            for problem in error.problems
        ]
    except UsageError:
        raise
    except BackfillError as error:
        return None, [failed("plan", error)]
    stages = counted(len(plan.stages), "stage")
    message = f"{plan.name}: {counted(plan.events, 'event')}, {stages}"
    if plan.may_send or plan.if_empty == "ok":
        return plan, [Finding("plan", "ok", f"{message}; every payload meets its contract")]
    hint = "`backfill plan` shows what is skipped and why"
    return plan, [Finding("plan", "fail", f"{message}: there is nothing to send", hint)]


def examine_plan(session: Session, plan: ExecutionPlan, *, thorough: bool) -> list[Finding]:
    """Examine the plan's questions and needs; `thorough`: its warnings as well.

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
    session: Session,
    plan: ExecutionPlan | None,
    target: Target,
    *,
    thorough: bool,
    stated: bool = True,
) -> Examined:
    """Examine the server. `thorough`: try its keys too; a run does that itself, more patiently.
    `stated`: the state can be read."""
    if target.kind != "embedded":
        return blocking(_server(session, plan, target, thorough=thorough, stated=stated))
    found = [Finding("target", "ok", "embedded: handlers run in this process")] if thorough else []
    warnings = handler_warnings(plan, target) if plan and thorough else []
    found += [Finding("listeners", "warn", w.message, w.hint) for w in warnings]
    return Examined(found)


def _allowed(plan: ExecutionPlan, target: Target) -> list[Finding]:
    """Tell whether the policy allows the plan, and whether a required approval is there."""
    found = [
        Finding(
            "policy",
            "fail" if rule.level == "mandatory" else "warn",
            f"the rule `{rule.name}` does not hold: {rule.reason}",
            rule.message,
        )
        for rule in plan.broken
    ]
    try:
        refuse_unapproved(plan, target)
    except PreflightRefused as error:
        found.append(failed("approval", error))
    else:
        if plan.needs_approval:
            found.append(Finding("approval", "ok", f"a file in `{FOLDER}` names its digest"))
    return found


def _guards(session: Session, plan: ExecutionPlan) -> list[Finding]:
    """Tell whether the guards can be asked and would hold a run. Commands and URLs that a plan
    names are neither run nor called here."""
    environ, folder = session.environ_in(plan.path), Path(plan.path).resolve().parent
    found = session.environment(plan.path)
    database = found.database if found else None
    return [blocking(_guard(spec, environ, folder, database)) for spec in plan.guards]


async def _guard(
    spec: GuardSpec, environ: Mapping[str, str], folder: Path, database: str | None
) -> Finding:
    from runner.adapters.guards import Command, open_guards

    try:
        async with open_guards([spec], environ, folder, database=database) as (guard,):
            called = f"the guard `{guard.name}`"
            try:
                if isinstance(guard, Command):
                    guard.find()
                if isinstance(spec, CommandGuard | HttpGuard):
                    return Finding("guard", "ok", f"{called} is only asked by a run")
                hold = await guard.ask()
            except GuardUnanswered as error:
                hint = "a run would be refused: fix what the guard asks"
                return Finding("guard", "fail", f"{called} cannot be asked: {error}", hint)
    except BackfillError as error:
        return failed("guard", error)
    if hold:
        return Finding(
            "guard", "warn", f"{called} holds: {hold.reason}", "a run waits until it lets go"
        )
    return Finding("guard", "ok", f"{called} lets a run go on")


def _state(session: Session) -> list[Finding]:
    """Report a state that is there and cannot be read."""
    try:
        _ = session.has_state
    except TargetError as error:
        return [failed("state", error)]
    return []


def _holds(session: Session, target: Target) -> list[Finding]:
    """Report holds on the target; without a state there are none."""
    holds = session.reader.holds() if session.has_state else []
    return [
        Finding(
            "hold",
            "warn",
            f"{hold.target} is held by {hold.holder}: {hold.reason}",
            f"runs wait until the hold is released: `backfill resume --target {hold.target}`",
        )
        for hold in holds
        if hold.address == target.address
    ]


def _of_database(session: Session, plan: ExecutionPlan, *, thorough: bool) -> list[Finding]:
    """Ask the plan's questions once, so that a broken one is found before the run."""
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
        return [failed("database", error)]


async def _server(
    session: Session,
    plan: ExecutionPlan | None,
    target: Target,
    *,
    thorough: bool,
    stated: bool,
) -> Examined:
    def last_sent(event: str) -> LastSent | None:
        """Read the journal if there is one; create none."""
        known = stated and session.has_state
        found = session.reader.last_seen(event, target.address) if known else None
        return found and LastSent(*found)

    found = examine_keys(target.event_key, target.signing_keys, target.variable)
    functions = None
    async with session.connect(target) as server:
        if thorough and not found:
            follows = bool(target.signing_keys) or target.kind != "cloud"
            found += await examine_target(
                server.probe, target.name, follows=follows, variable=target.variable
            )
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
        return [Finding("github", "warn", "no token, so its rate limit is not known", hint)]
    from runner.adapters.guards import github_rate

    try:
        rate = blocking(github_rate(session.environ))
        reset = datetime.fromtimestamp(rate.reset, UTC).strftime("%H:%M UTC")
    except (GuardUnanswered, ValueError, OverflowError, OSError) as error:
        hint = "check GITHUB_TOKEN and the network"
        return [Finding("github", "warn", f"its rate limit cannot be read: {error}", hint)]
    return [examine_github(plan, rate.remaining, rate.limit, reset)]
