"""The plans of a folder, run in their order, once each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.app.plan_files import plans_to_apply
from runner.app.prepare import prepare
from runner.app.queries import how_to_go_on, how_to_make_good, view_of
from runner.app.resume import resubmit, resume
from runner.app.run import run, submit
from runner.app.session import Session
from runner.errors import (
    BackfillError,
    Incomplete,
    PreflightRefused,
    RunFailed,
    StalePlan,
    TargetError,
    UsageError,
)
from runner.execution.context import RunOptions
from runner.model import BackfillPlan, ExecutionPlan, Json, RunView, Summary, frozen
from runner.planning.ledger import LedgerEntry, entry, inputs_digest
from runner.spec.document import did_you_mean


@frozen
class ApplyOptions:
    """How to apply plans.

    `variables`: those the plans were loaded with. `again`: names of plans to run even if applied.
    `resume`: continue an unfinished run. `detach`: submit the next run to the workers. `strict`:
    treat warnings as errors."""

    target: str | None
    variables: dict[str, Json] = field(default_factory=dict)
    again: Sequence[str] = ()
    resume: bool = False
    detach: bool = False
    run: RunOptions = field(default_factory=RunOptions)
    strict: bool = False


@frozen
class Applied:
    """The result of applying plans.

    `entries`: the state of each plan now. `ran`: the names of the plans that were to be run or
    resumed. `runs`: the ids of these runs; one that was refused before it began is in no state.
    `error`: what ended it early. `open`: why not all plans are applied, if that is no error: the
    summary of a run that did not complete, a run that the workers drive, or plans that have changed
    since they were applied.
    """

    entries: Sequence[LedgerEntry]
    ran: Sequence[str]
    runs: Sequence[str]
    error: BackfillError | None = None
    open: Summary | Incomplete | StalePlan | None = None


def to_apply(
    session: Session,
    paths: Sequence[str],
    variables: Mapping[str, Json],
    changed_since: str | None,
    *,
    strict: bool,
    named: Mapping[str, Sequence[str]],
    writes: Mapping[str, str | None],
) -> list[BackfillPlan]:
    """Load the plans to apply; see `plans_to_apply`.

    `named`: names of plans, by the option that gave them. `writes`: files that will be written, by
    option. Raises `UsageError` for an unknown name, and for a file to write that is an input.
    """
    plans = plans_to_apply(session, paths, variables, changed_since, strict=strict)
    session.refuse_to_write(writes, (path for plan in plans for path, _ in plan.inputs))
    known = [plan.name for plan in plans]
    for option, names in named.items():
        for name in names:
            if name not in known:
                message = f"{option}: there is no plan `{name}` in {', '.join(paths)}"
                raise UsageError(message, hint=did_you_mean(name, known))
    return plans


def pending(
    session: Session, plans: Sequence[BackfillPlan], options: ApplyOptions
) -> list[LedgerEntry]:
    """Return the state of each plan on the target. Changes nothing and creates no state."""
    return [
        entry(plan, options.variables, session.ledger(plan.name, plan.path, options.target))
        for plan in plans
    ]


def missing(
    session: Session,
    plans: Sequence[BackfillPlan],
    entries: Sequence[LedgerEntry],
    target: str | None,
) -> list[PreflightRefused]:
    """Find the plans that cannot be applied because a plan they depend on is neither among `plans`
    nor applied. `entries`: the state of each plan."""
    return [
        refused
        for plan, found in zip(plans, entries, strict=True)
        if found.state not in ("applied", "changed")
        for refused in _missing(session, plan, plans, target)
    ]


def _wanted(plan: BackfillPlan) -> set[str]:
    return {str(name) for name in plan.metadata.get("depends_on") or ()}


def _missing(
    session: Session, plan: BackfillPlan, plans: Sequence[BackfillPlan], target: str | None
) -> Iterator[PreflightRefused]:
    for name in sorted(_wanted(plan) - {other.name for other in plans}):
        whole = [run for run in session.ledger(name, plan.path, target) if not run.partial]
        if not whole or not whole[0].done:
            message = (
                f"{plan.name} depends on `{name}`, which is not among these plans and not applied"
            )
            hint = (
                "check its name, and name its file too; a plan with a `schedule` counts "
                "as applied once a run of it has completed"
            )
            yield PreflightRefused(message, hint=hint)


def apply(session: Session, plans: Sequence[BackfillPlan], options: ApplyOptions) -> Applied:
    """Run the pending plans in order, until one does not complete."""
    applying = _Applying(session, plans, options)
    left: Summary | Incomplete | StalePlan | None = None
    error: BackfillError | None = None
    try:
        left = applying.all()
    except BackfillError as caught:
        error = caught
    try:
        entries = pending(session, plans, options)
    except TargetError as away:
        entries, error = [], error or away
    return Applied(entries, applying.ran, applying.runs, error, left)


def adopt(
    session: Session, plans: Sequence[BackfillPlan], options: ApplyOptions, why: str
) -> list[LedgerEntry]:
    """Record plans in the ledger whose work was done before; send nothing.

    Raises `StalePlan` if one is applied already, and `Incomplete` if it has an open run.
    """
    for plan in plans:
        (before,) = pending(session, [plan], options)
        if before.state in ("unfinished", "sent"):
            _refuse_open(session, before)
        if before.state == "applied":
            raise StalePlan(
                f"{plan.name} is applied already", hint="`backfill runs` lists its runs"
            )
        _adopt(session, plan, options, why)
    return pending(session, plans, options)


def _adopt(session: Session, plan: BackfillPlan, options: ApplyOptions, why: str) -> None:
    from ulid import ULID

    run_id, path = str(ULID()), str(Path(plan.path).resolve())
    target = session.target(options.target, plan.path)
    environment = session.environment(plan.path)
    digest = inputs_digest(plan.inputs, options.variables)
    nothing = ExecutionPlan(
        plan.name,
        path,
        digest,
        (),
        (),
        (),
        metadata=plan.metadata,
        inputs=plan.inputs,
        variables=plan.variables,
    )
    with session.lock(plan.name, target.address, run_id) as lease:
        journal = session.store.start(
            run_id,
            nothing,
            lease,
            target=session.named_target(options.target, plan.path),
            address=target.address,
            environment=environment.name if environment else "",
            variables=options.variables,
            follow=False,
            baseline=why,
        )
        journal.end("completed", f"baseline: {why}")


def views_of(session: Session, applied: Applied) -> list[RunView]:
    """Return the views of the runs that were started or resumed."""
    latest = [one.run.run_id for one in applied.entries if one.run]
    runs = [run for run in latest if run in applied.runs]
    return [view_of(session.reader, session.reader.find(run)) for run in runs]


@dataclass(slots=True)
class _Applying:
    """The plans in order; see `Applied` for `ran` and `runs`."""

    session: Session
    plans: Sequence[BackfillPlan]
    options: ApplyOptions
    ran: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def all(self) -> Summary | Incomplete | StalePlan | None:
        """Apply all plans. Return what keeps one from being applied: the first that does not
        complete, else one that has changed."""
        changed: StalePlan | None = None
        for plan in self.plans:
            found = self._decide(plan)
            if isinstance(found, StalePlan):
                changed = found
            elif found is not None:
                return found
        return changed

    def _decide(self, plan: BackfillPlan) -> Summary | Incomplete | StalePlan | None:
        """Apply one plan; None if it is applied."""
        before = self._entry(plan)
        again = plan.name in self.options.again
        if before.state == "applied" and not again:
            return None
        if before.state == "changed" and not again:
            return self._changed(before)
        try:
            return self._one(plan, before, again=again)
        except _Meanwhile as other:
            self.session.reporter.say(f"{plan.name} has been run in the meantime: run {other}")
            return self._decide(plan)

    def _entry(self, plan: BackfillPlan) -> LedgerEntry:
        return pending(self.session, [plan], self.options)[0]

    def _changed(self, before: LedgerEntry) -> StalePlan:
        run_id = before.run and before.run.run_id
        message = (
            f"changed: {before.name} was applied by run {run_id}, but its files or "
            f"variables have changed since: `apply --again {before.name}` runs it again"
        )
        self.session.reporter.say(message)
        return StalePlan(message)

    def _one(
        self, plan: BackfillPlan, before: LedgerEntry, *, again: bool
    ) -> Summary | Incomplete | StalePlan | None:
        unfinished = before.run if before.state in ("unfinished", "sent") else None
        if unfinished and self.session.store.run_state(unfinished.run_id).with_workers:
            return self._submitted(unfinished.run_id)
        if not again and not (unfinished and self.options.resume):
            _refuse_open(self.session, before)
        self._refuse_missing(plan)
        self.ran.append(plan.name)
        if unfinished and self.options.resume and not again:
            self.session.reporter.say(f"resuming {plan.name} ({plan.path})")
            return self._resume(unfinished.run_id, plan)
        self.session.reporter.say(f"applying {plan.name} ({plan.path})")
        known = before.run and before.run.run_id
        return self._run(plan, lambda: self._refuse_others(plan, known))

    def _resume(self, run_id: str, plan: BackfillPlan) -> Summary | Incomplete | StalePlan | None:
        """Continue the run with the file of this plan. It keeps its variables, so the plan may have
        changed since even if the run completes."""
        options, path = self.options.run, plan.path
        self.runs.append(run_id)
        if self.options.detach:
            if submitted := resubmit(self.session, run_id, options, path=path):
                return self._submitted(submitted.run_id)
            left: Summary | Incomplete | None = self._elsewhere(run_id)
        else:
            summary = resume(self.session, run_id, options, path=path)
            left = _unless_completed(summary) if summary else self._elsewhere(run_id)
        return left or self._decide(plan)

    def _elsewhere(self, run_id: str) -> Incomplete | None:
        """Report a run that was paused and continues where it is driven; the plans after it wait.
        None if it has completed meanwhile."""
        if self.session.store.find(run_id).status == "completed":
            return None
        message = f"run {run_id} has not completed: `backfill status {run_id} --watch`"
        self.session.reporter.say(message)
        return Incomplete(message)

    def _run(
        self, plan: BackfillPlan, once_locked: Callable[[], None]
    ) -> Summary | Incomplete | None:
        options = self.options
        prepared = prepare(
            self.session,
            plan,
            target=options.target,
            variables=dict(options.variables),
            strict=options.strict,
        )
        self.runs.append(prepared.run_id)
        if not options.detach:
            found = run(self.session, prepared, options.run, once_locked=once_locked)
            return _unless_completed(found)
        submitted = submit(self.session, prepared, options.run, once_locked=once_locked)
        return self._submitted(submitted.run_id)

    def _submitted(self, run_id: str) -> Incomplete:
        """Report that the workers have the run; the plans after it wait."""
        message = f"run {run_id} is with the workers: `backfill status {run_id} --watch`"
        self.session.reporter.say(message)
        return Incomplete(message)

    def _refuse_others(self, plan: BackfillPlan, known: str | None) -> None:
        """Raise `_Meanwhile` if another process ran the plan before this one got the lock."""
        latest = self._entry(plan).run
        if latest and latest.run_id != known:
            raise _Meanwhile(latest.run_id)

    def _refuse_missing(self, plan: BackfillPlan) -> None:
        """Refuse the plan unless all it depends on is applied, by this call or an earlier one."""
        known = [other for other in self.plans if other.name in _wanted(plan)]
        for found in pending(self.session, known, self.options):
            if found.state not in ("applied", "changed"):
                raise PreflightRefused(f"{plan.name} depends on {found.name}, which is not applied")
        for refused in _missing(self.session, plan, self.plans, self.options.target):
            raise refused


class _Meanwhile(Exception):
    """Another process has run the plan; the argument is the id of that run."""


def _unless_completed(summary: Summary | None) -> Summary | None:
    return summary if summary and (summary.interrupted or summary.status != "completed") else None


def _refuse_open(session: Session, found: LedgerEntry) -> None:
    if found.run is None:
        return
    run_id = found.run.run_id
    if found.state == "unfinished":
        message = f"{found.name}: run {run_id} has not ended"
        state = session.store.run_state(run_id)
        hint = how_to_go_on(session.store, state.record, "goes on with it")
        if state.goes_on and state.record.wanted is None:
            hint = f"{state.holder} drives it: watch it with `backfill status {run_id} --watch`"
        raise Incomplete(message, hint=hint)
    if found.state == "sent":
        message = (
            f"{found.name}: run {run_id} was sent but not followed, so its outcome is not known"
        )
        raise Incomplete(message, hint=f"`backfill resume {run_id}` follows it to its end")
    if found.state == "failed":
        ways = how_to_make_good(session.store, session.store.find(run_id))
        hint = "; ".join([*ways, f"to run all of it: `apply --again {found.name}`"])
        raise RunFailed(f"{found.name}: run {run_id} is {found.run.status}", hint=hint)
