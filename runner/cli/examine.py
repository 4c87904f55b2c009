"""Everything that can be known to go wrong before a run, from all sides at once."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from random import SystemRandom

import click

from runner.adapters.inngest.target import Target
from runner.cli.common import open_databases, wants_color
from runner.cli.plan import handler_warnings
from runner.errors import BackfillError, PreflightRefused
from runner.execution.doctor import examine_keys, examine_target, listening
from runner.execution.examine import (
    examine_facts,
    examine_github,
    examine_migrations,
    examine_questions,
)
from runner.execution.ports import Seen
from runner.model import ExecutionPlan, Finding
from runner.output.words import estimate


def examine_plan(path: str, plan: ExecutionPlan, *, thorough: bool) -> list[Finding]:
    """What it asks, and what it takes; `thorough`: its warnings as well.

    Raises `TargetError` and `PreflightRefused` for a database that is not there, unless `thorough`.
    """
    found = [
        Finding("plan", "warn", f"{warning.message} ({warning.path})", warning.hint)
        for warning in plan.warnings
        if thorough
    ]
    found += examine_facts(plan.facts)
    found += _asked(path, plan, thorough=thorough)
    if thorough and (needs := estimate(plan.needs)):
        found.append(Finding("needs", "ok", f"the plan takes about {needs}"))
    return [*found, *_github(plan, thorough=thorough)]


def examine_server(
    plan: ExecutionPlan | None,
    target: Target,
    seen: Callable[[str], Seen | None],
    *,
    thorough: bool,
) -> list[Finding]:
    """`thorough`: its keys are tried too; else a run does that by itself, with more patience."""
    if target.kind != "embedded":
        return asyncio.run(_server(plan, target, seen, thorough=thorough))
    found = [Finding("target", "ok", "embedded: handlers run in this process")] if thorough else []
    warnings = handler_warnings(plan, target) if plan and thorough else []
    return [*found, *(Finding("listeners", "warn", w.message, w.hint) for w in warnings)]


def refuse(findings: list[Finding]) -> None:
    """Raise `PreflightRefused` where a finding would keep the run from doing its work."""
    fails = [finding for finding in findings if finding.level == "fail"]
    if not fails:
        return
    from runner.output.findings import findings_text

    click.echo(findings_text(fails, color=wants_color(sys.stderr)), err=True)
    hint = "`backfill doctor` shows more; --skip-preflight sends all the same"
    raise PreflightRefused("the preflight refuses this run, and nothing was sent", hint=hint)


def _asked(path: str, plan: ExecutionPlan, *, thorough: bool) -> list[Finding]:
    """A question that cannot be asked is better known now than when the work is done."""
    from runner.spec.project import read_project

    until = any(stage.until for stage in plan.stages)
    if not (plan.checks or plan.coverage or plan.facts or until):
        return []
    database, migrations = open_databases(path), read_project(path).migrations
    try:
        found = examine_questions(plan, database, datetime.now(UTC))
        return [*found, *examine_migrations(plan, database, migrations.table, migrations.column)]
    except BackfillError as error:
        if not thorough:
            raise
        return [Finding("database", "fail", str(error), error.hint)]


async def _server(
    plan: ExecutionPlan | None,
    target: Target,
    seen: Callable[[str], Seen | None],
    *,
    thorough: bool,
) -> list[Finding]:
    from runner.adapters.http import open_client
    from runner.adapters.inngest.http import Retry
    from runner.adapters.inngest.jobs_api import HttpJobsApi
    from runner.adapters.inngest.probe import HttpProbe

    found = examine_keys(target.event_key, target.signing_keys)
    retry = Retry(asyncio.sleep, SystemRandom(), lambda _: None, stopped=lambda: True)
    async with open_client(None) as client:
        probe = HttpProbe(client, target, HttpJobsApi(client, target, retry))
        if thorough and not found:
            follows = bool(target.signing_keys) or target.kind != "cloud"
            found += await examine_target(probe, target.name, follows=follows)
        reached = not any(one.about == "target" and one.level == "fail" for one in found)
        if plan and reached:
            listeners = await probe.listeners()
            if thorough or listeners is not None:
                found += listening(plan, listeners, seen)
    return found


def _github(plan: ExecutionPlan, *, thorough: bool) -> list[Finding]:
    if not plan.needs.github_points:
        return []
    if not os.environ.get("GITHUB_TOKEN"):
        if not thorough:
            return []
        mend = "set GITHUB_TOKEN to the worker's token, to compare its points with the plan's"
        return [Finding("github", "warn", "no token: its rate limit is not known", mend)]
    from runner.adapters.guards.open import github_rate
    from runner.execution.ports import GuardUnanswered

    try:
        rate = asyncio.run(github_rate(os.environ))
        reset = datetime.fromtimestamp(rate.reset, UTC).strftime("%H:%M UTC")
    except (GuardUnanswered, ValueError, OverflowError, OSError) as error:
        mend = "look at GITHUB_TOKEN and the network"
        return [Finding("github", "warn", f"its rate limit cannot be told: {error}", mend)]
    return [examine_github(plan, rate.remaining, rate.limit, reset)]
