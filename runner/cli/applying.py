"""The plans of a folder, run in their order, once each: `apply` and what it has decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import click

from runner.app.session import Session
from runner.cli.ledger import standing
from runner.cli.main import ERROR_STATUS, status_of
from runner.errors import Incomplete, PreflightRefused, RunFailed, StalePlan
from runner.execution.options import RunOptions
from runner.model import BackfillPlan, Json
from runner.output.escape import visible
from runner.planning.ledger import Entry


@dataclass(slots=True)
class Applying:
    """The plans in their order, how they are run, and which have been by this call."""

    session: Session
    plans: Sequence[BackfillPlan]
    overrides: dict[str, Json]
    target: str
    again: Sequence[str]
    carry_on: bool
    options: RunOptions
    strict: bool = False
    detach: bool = False
    ran: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.session.target(self.target).address

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
            return ERROR_STATUS[StalePlan], True
        try:
            ended = self._one(plan, before, told_to=told_to)
        except _Meanwhile as other:
            click.echo(f"{plan.name} was run meanwhile: run {other}", err=True)
            return self._decide(plan)
        return ended, not ended

    def standing(self, plans: Sequence[BackfillPlan] | None = None) -> list[Entry]:
        """Asked anew for each: the runs in between use the state by themselves."""
        plans = self.plans if plans is None else plans
        return standing(plans, self.overrides, self.session.store, self.address)

    def _one(self, plan: BackfillPlan, before: Entry, *, told_to: bool) -> int:
        if before.standing == "unfinished" and before.run and self._waits(before.run.run_id):
            return _detached(before.run.run_id)
        resumed = before.run if before.standing == "unfinished" and self.carry_on else None
        if not told_to and not resumed:
            _refuse_unfinished(before)
        self._refuse_missing(plan)
        self.ran.append(plan.name)
        if resumed and not told_to:
            click.echo(f"carrying on {plan.name} ({visible(plan.path)})", err=True)
            return self._resume(resumed.run_id)
        click.echo(f"applying {plan.name} ({visible(plan.path)})", err=True)
        known = before.run and before.run.run_id
        return self._run(plan, lambda: self._refuse_others(plan, known))

    def _resume(self, run_id: str) -> int:
        from runner.app.run import resubmit, resume

        if self.detach:
            submitted = resubmit(self.session, run_id, self.options)
            return _detached(submitted.run_id if submitted else None)
        summary = resume(self.session, run_id, self.options)
        return status_of(summary) if summary else 0

    def _run(self, plan: BackfillPlan, once_locked: Callable[[], None]) -> int:
        from runner.app.run import prepare, run, submit

        prepared = prepare(
            self.session,
            plan.path,
            target=self.target,
            variables=self.overrides,
            strict=self.strict,
        )
        if self.detach:
            submitted = submit(self.session, prepared, self.options, once_locked=once_locked)
            return _detached(submitted.run_id)
        return status_of(run(self.session, prepared, self.options, once_locked=once_locked))

    def _waits(self, run_id: str) -> bool:
        """Is it left to the workers, and not for so long that anybody may take it?"""
        return self.session.store.run_state(run_id).parked

    def _refuse_others(self, plan: BackfillPlan, known: str | None) -> None:
        """While the plan was planned, another process may have run it: the lock is held now."""
        latest = next(iter(self.session.store.ledger(plan.name, self.address)), None)
        if latest and latest.run_id != known:
            raise _Meanwhile(latest.run_id)

    def _refuse_missing(self, plan: BackfillPlan) -> None:
        """What it depends on must have been applied, by this call or an earlier one."""
        wanted = {str(name) for name in plan.metadata.get("depends_on") or ()}
        known = [other for other in self.plans if other.name in wanted]
        for entry in self.standing(known):
            if entry.standing not in ("applied", "changed"):
                raise PreflightRefused(f"{plan.name} depends on {entry.name}, which is not applied")
        for name in sorted(wanted - {other.name for other in known}):
            runs = self.session.store.ledger(name, self.address)
            if not runs or not runs[0].done:
                message = f"{plan.name} depends on `{name}`, which is neither here nor applied"
                hint = "is its name right, and its file among these?"
                raise PreflightRefused(message, hint=hint)


def _detached(run_id: str | None) -> int:
    """It is under way, and no more than that: what comes after it waits."""
    click.echo(f"run {run_id} is with the workers: `backfill status {run_id} --watch`", err=True)
    return ERROR_STATUS[Incomplete]


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
