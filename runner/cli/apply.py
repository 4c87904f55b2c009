"""`backfill apply`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from runner.adapters.inngest.target import resolve
from runner.adapters.journal import DEFAULT_STATE
from runner.adapters.journal.store import Store
from runner.cli.applied import tell_applied
from runner.cli.carry_out import Sending
from runner.cli.common import (
    format_option,
    plan_options,
    read_variables,
    state_option,
    target_option,
)
from runner.cli.github import comment_option
from runner.cli.ledger import find_plans, standing
from runner.cli.plan_files import changed_option
from runner.cli.resuming import Resume, resubmit, resume
from runner.cli.starting import Start, start, submit
from runner.errors import (
    BackfillError,
    Incomplete,
    PreflightRefused,
    RunFailed,
    StalePlan,
    TargetError,
    UsageError,
)
from runner.model import BackfillPlan, Json
from runner.output.escape import visible
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
    "--resume",
    "carry_on",
    is_flag=True,
    help="Carry on a run that has not come to its end, in place of stopping there.",
)
@click.option(
    "--summary-file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Add a summary of each run, and of the plans, in Markdown to this file.",
)
@click.option(
    "--detach",
    is_flag=True,
    help="Hand the next one over to the workers, as `submit` does, and exit with 7 while it is "
    "not at its end; said again, the one after it follows.",
)
@comment_option
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
    carry_on: bool,
    comment: bool,
    detach: bool,
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
    asked = Start(
        "", overrides, target, state, Sending(summary_file=summary_file), strict=strict, yes=yes
    )
    applying = _Applying(
        plans, overrides, state or DEFAULT_STATE, address, again, carry_on, asked, form, detach
    )
    error: BackfillError | None = None
    status = 0
    try:
        status = applying.apply()
    except BackfillError as caught:
        error = caught
    try:
        entries = applying.standing()
    except TargetError as away:
        entries, error = [], error or away
    if summary_file or comment:
        tell_applied(
            entries,
            applying.ran,
            error,
            applying.state,
            target=target,
            summary_file=summary_file,
            comment=comment,
        )
    if error:
        raise error
    if form == "json":
        click.echo(json.dumps(ledger_json(entries), indent=2))
    elif not applying.ran and not status:
        click.echo(f"nothing is pending: {len(entries)} plans are applied")
    return status


@dataclass(slots=True)
class _Applying:
    """The plans in their order, how they are run, and which have been by this call."""

    plans: Sequence[BackfillPlan]
    overrides: dict[str, Json]
    state: str
    address: str
    again: Sequence[str]
    carry_on: bool
    asked: Start  # how each is run
    form: str
    detach: bool = False
    ran: list[str] = field(default_factory=list)

    def apply(self) -> int:
        """The exit status of the first that fails; else 5 where one has changed."""
        status = 0
        for plan in self.plans:
            ended, goes_on = self._decide(plan)
            if not goes_on:
                return ended
            status = max(status, ended)
        return status

    def _decide(self, plan: BackfillPlan) -> tuple[int, bool]:
        """What the plan comes to, and whether the next one may follow."""
        before = self.standing([plan])[0]
        told_to = plan.name in self.again
        if before.standing == "applied" and not told_to:
            return 0, True
        if before.standing == "changed" and not told_to:
            _say_changed(before)
            return StalePlan.exit_status, True
        try:
            ended = self._one(plan, before, told_to=told_to)
        except _Meanwhile as other:
            click.echo(f"{plan.name} was run meanwhile: run {other}", err=True)
            return self._decide(plan)
        return ended, not ended

    def standing(self, plans: Sequence[BackfillPlan] | None = None) -> list[Entry]:
        """Asked anew for each: the runs in between use the state by themselves."""
        with Store(self.state) as store:
            return standing(self.plans if plans is None else plans, self.overrides, store,
                            self.address)  # fmt: skip

    def _one(self, plan: BackfillPlan, before: Entry, *, told_to: bool) -> int:
        if before.standing == "unfinished" and before.run and self._is_parked(before.run.run_id):
            return _detached(before.run.run_id)
        resumed = before.run if before.standing == "unfinished" and self.carry_on else None
        if not told_to and not resumed:
            _refuse_unfinished(before)
        self._refuse_missing(plan)
        self.ran.append(plan.name)
        if resumed and not told_to:
            click.echo(f"carrying on {plan.name} ({visible(plan.path)})", err=True)
            asked = self.asked
            again = Resume(resumed.run_id, asked.state, asked.sending, yes=asked.yes)
            if self.detach:
                return self._quietly(lambda: _detached(resubmit(again)))
            return self._quietly(lambda: resume(again))
        click.echo(f"applying {plan.name} ({visible(plan.path)})", err=True)
        known = before.run and before.run.run_id
        new = replace(
            self.asked,
            plan=plan.path,
            once_locked=lambda store: self._refuse_others(store, plan, known),
        )
        if self.detach:
            return self._quietly(lambda: _detached(submit(new)[0]))
        return self._quietly(lambda: start(new))

    def _is_parked(self, run_id: str) -> bool:
        with Store(self.state) as store:
            return store.is_parked(run_id)

    def _refuse_others(self, store: Store, plan: BackfillPlan, known: str | None) -> None:
        """While the plan was planned, another process may have run it: the lock is held now."""
        latest = next(iter(store.ledger(plan.name, self.address)), None)
        if latest and latest.run_id != known:
            raise _Meanwhile(latest.run_id)

    def _quietly(self, run: Callable[[], int]) -> int:
        """As the command itself does it; with JSON, what it prints gives way to the ledger.

        What it opens and locks is let go at its end: the next one has a lock of its own.
        """
        with contextlib.ExitStack() as stack:
            if self.form == "json":
                null = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(null))
            stack.enter_context(click.Context(click.get_current_context().command))
            status = run()
        sys.stdout.flush()
        return status

    def _refuse_missing(self, plan: BackfillPlan) -> None:
        """What it depends on must have been applied, by this call or an earlier one."""
        wanted = {str(name) for name in plan.metadata.get("depends_on") or ()}
        known = [other for other in self.plans if other.name in wanted]
        for entry in self.standing(known):
            if entry.standing not in ("applied", "changed"):
                raise PreflightRefused(f"{plan.name} depends on {entry.name}, which is not applied")
        with Store(self.state) as store:
            for name in sorted(wanted - {other.name for other in known}):
                runs = store.ledger(name, self.address)
                if not runs or not runs[0].done:
                    message = f"{plan.name} depends on `{name}`, which is neither here nor applied"
                    hint = "is its name right, and its file among these?"
                    raise PreflightRefused(message, hint=hint)


def _detached(run_id: str | None) -> int:
    """It is under way, and no more than that: what comes after it waits."""
    click.echo(f"run {run_id} is with the workers: `backfill status {run_id} --watch`", err=True)
    return Incomplete.exit_status


class _Meanwhile(Exception):
    """Another process has run the plan: its run."""


def _say_changed(entry: Entry) -> None:
    run = entry.run and entry.run.run_id
    click.echo(
        f"changed: {entry.name} was applied by run {run}, and its files are others now: "
        f"`--again {entry.name}` runs it",
        err=True,
    )


def _refuse_unfinished(entry: Entry) -> None:
    if entry.run is None:
        return
    run_id = entry.run.run_id
    if entry.standing == "unfinished":
        message = f"{entry.name}: run {run_id} has not come to its end"
        raise Incomplete(message, hint=f"`backfill resume {run_id}` carries it on")
    if entry.standing == "failed":
        hint = f"`backfill retry {run_id}` sends what failed; `--again {entry.name}` runs all of it"
        raise RunFailed(f"{entry.name}: run {run_id} is {entry.run.status}", hint=hint)
