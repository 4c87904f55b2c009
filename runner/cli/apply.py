"""`backfill apply`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from runner.adapters.inngest.target import resolve
from runner.adapters.journal import DEFAULT_STATE
from runner.adapters.journal.store import Store
from runner.cli.common import (
    format_option,
    plan_options,
    read_variables,
    state_option,
    target_option,
)
from runner.cli.ledger import find_plans, standing
from runner.cli.plan import DEFAULT_EVENTS
from runner.cli.plan_files import changed_option
from runner.cli.run import run_command
from runner.errors import Incomplete, PreflightRefused, RunFailed, StalePlan, UsageError
from runner.model import BackfillPlan, Json
from runner.output.ledger import ledger_json
from runner.planning.ledger import Entry


@click.command(
    "apply",
    short_help="Run the plans of a folder that have not been, once each.",
    epilog="\b\nExamples:\n  backfill apply plans/\n  backfill apply plans/ --target cloud --yes"
    "\n  backfill apply plans/ --again refresh-after-schema-change",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@plan_options
@changed_option
@target_option
@state_option
@click.option("--yes", is_flag=True, help="Do not ask before sending.")
@click.option(
    "--again",
    multiple=True,
    metavar="NAME",
    help="Run this plan although it was applied, has changed since, or has failed.",
)
@click.option(
    "--summary-file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Add a summary of each run in Markdown to this file.",
)
@format_option("text", "json")
def apply_command(
    paths: tuple[str, ...],
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str,
    state: str | None,
    again: tuple[str, ...],
    summary_file: str | None,
    form: str,
    changed_since: str | None,
    *,
    strict: bool,
    yes: bool,
) -> int:
    """Run the plans of PATHS that are pending on the target, in order, until one fails.

    The ledger is in the state: which plan, with which files, ran where and how it ended. Applied
    ones are left alone. One that has changed since is reported (exit 5) and not run again, unless
    --again names it. Plans go by `metadata.version`, then by file name, after those of their
    `metadata.depends_on`.
    """
    overrides = read_variables(variables, var_files)
    plans = find_plans(paths, overrides, changed_since, strict=strict)
    unknown = set(again) - {plan.name for plan in plans}
    if unknown:
        raise UsageError(f"--again: there is no plan `{min(unknown)}` in {', '.join(paths)}")
    address = resolve(target, os.environ).address
    settings: dict[str, object] = {
        "variables": variables,
        "var_files": var_files,
        "target": target,
        "state": state,
        "strict": strict,
        "yes": yes,
        "summary_file": summary_file,
    }
    status, ran = 0, 0
    for plan in plans:
        before = _standing([plan], overrides, state, address)[0]
        if before.standing == "applied" and plan.name not in again:
            continue
        if before.standing == "changed" and plan.name not in again:
            click.echo(
                f"changed: {plan.name} was applied by run {before.run and before.run.run_id}, and "
                f"its files are others now: `--again {plan.name}` runs it",
                err=True,
            )
            status = StalePlan.exit_status
            continue
        _refuse_unfinished(before, again)
        _refuse_missing(plan, overrides, state, address, plans)
        click.echo(f"applying {plan.name} ({plan.path})", err=True)
        ran += 1
        if ended := _run(plan, settings, form):
            status = ended
            break
    entries = _standing(plans, overrides, state, address)
    if form == "json":
        click.echo(json.dumps(ledger_json(entries), indent=2))
    elif not ran and not status:
        click.echo(f"nothing is pending: {len(entries)} plans are applied")
    return status


def _run(plan: BackfillPlan, settings: dict[str, object], form: str) -> int:
    """As `backfill run` does; with JSON, what it prints gives way to the ledger."""
    arguments = {"plan": plan.path, "events": DEFAULT_EVENTS, "wait_lock": 0.0, "grace": None}
    with contextlib.ExitStack() as stack:
        if form == "json":
            null = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(null))
        status = click.get_current_context().invoke(run_command, **arguments, **settings)
    sys.stdout.flush()
    return int(status or 0)


def _standing(
    plans: Sequence[BackfillPlan], overrides: dict[str, Json], state: str | None, address: str
) -> list[Entry]:
    """Asked anew for each: the runs in between use the state by themselves."""
    with Store(state or DEFAULT_STATE) as store:
        return standing(plans, overrides, store, address)


def _refuse_unfinished(entry: Entry, again: Sequence[str]) -> None:
    if entry.run is None or entry.name in again:
        return
    run_id = entry.run.run_id
    if entry.standing == "unfinished":
        message = f"{entry.name}: run {run_id} has not come to its end"
        raise Incomplete(message, hint=f"`backfill resume {run_id}` carries it on")
    if entry.standing == "failed":
        hint = f"`backfill retry {run_id}` sends what failed; `--again {entry.name}` runs all of it"
        raise RunFailed(f"{entry.name}: run {run_id} is {entry.run.status}", hint=hint)


def _refuse_missing(
    plan: BackfillPlan,
    overrides: dict[str, Json],
    state: str | None,
    address: str,
    plans: Sequence[BackfillPlan],
) -> None:
    """What it depends on must have been applied, by this call or an earlier one."""
    wanted = {str(name) for name in plan.metadata.get("depends_on") or ()}
    known = [other for other in plans if other.name in wanted]
    for entry in _standing(known, overrides, state, address):
        if entry.standing not in ("applied", "changed"):
            raise PreflightRefused(f"{plan.name} depends on {entry.name}, which is not applied")
    with Store(state or DEFAULT_STATE) as store:
        for name in sorted(wanted - {other.name for other in known}):
            runs = store.ledger(name, address)
            if not runs or not runs[0].done:
                message = f"{plan.name} depends on `{name}`, which is neither here nor applied"
                raise PreflightRefused(message, hint="is its name right, and its file among these?")
