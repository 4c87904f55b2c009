"""The public Python API, exported by `runner`.

It offers the use cases of the command line as methods of a `Session`. Methods neither print nor
ask; they return values and raise the errors of `runner.errors`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath

from runner.app import session as base
from runner.app.check import Checked, check
from runner.app.control import cancel, hold, let_go, pause, tune
from runner.app.prepare import Prepared, prepare
from runner.app.queries import coverage, list_runs, view_of
from runner.app.resume import resume
from runner.app.retry import FailedEvents, retry
from runner.app.run import run, submit
from runner.app.session import Silent
from runner.app.submit import Submitted
from runner.errors import (
    BackfillError,
    Incomplete,
    InvalidPlan,
    KeyRefused,
    LockHeld,
    PreflightRefused,
    RunFailed,
    StalePlan,
    TargetDown,
    TargetError,
    UsageError,
)
from runner.execution.context import OF_A_START, RequestLimits, RunOptions, refuse_options
from runner.model import (
    RETRIED,
    CheckResult,
    Covered,
    EventRecord,
    ExecutionPlan,
    Failure,
    Json,
    Observer,
    Outcome,
    RunLine,
    RunView,
    Selectors,
    Summary,
    TargetHold,
    Totals,
)

__all__ = [
    "BackfillError",
    "CheckResult",
    "Checked",
    "Covered",
    "EventRecord",
    "ExecutionPlan",
    "Failure",
    "Incomplete",
    "InvalidPlan",
    "KeyRefused",
    "LockHeld",
    "Observer",
    "PreflightRefused",
    "Prepared",
    "RequestLimits",
    "RunFailed",
    "RunLine",
    "RunOptions",
    "RunView",
    "Selectors",
    "Session",
    "StalePlan",
    "Submitted",
    "Summary",
    "TargetDown",
    "TargetError",
    "TargetHold",
    "Totals",
    "UsageError",
]

_YES = RunOptions(yes=True)


class Session(base.Session):
    """A state, its databases and its targets, opened on first use; close it with `with`.

    `state`: the path of a SQLite file, or a `postgresql://` URL; by default BACKFILL_STATE of
    `environ`, or `.backfill/state.db`. `environ`: the variables with keys and addresses;
    `os.environ` by default.

        with runner.Session() as session:
            plan = session.plan("plans/refresh.yaml", target="dev")
            outcome = session.run(plan)

    Name a run by its id, the beginning of its id, `latest`, or `latest:NAME` for the last run of a
    plan. Durations are in seconds, times in seconds since 1970. Every method raises `TargetError`
    if the state cannot be reached, and `UsageError` if the run does not exist.
    """

    def plan(
        self,
        path: str | PathLike[str],
        *,
        target: str | None = None,
        variables: Mapping[str, Json] | None = None,
        strict: bool = False,
        selectors: Selectors | None = None,
    ) -> Prepared:
        """Build the execution plan of a plan file, or load a saved plan. Nothing is sent.

        `target`: `embedded` (the default), `dev`, `cloud` or a base URL. `variables` override those
        of the plan. With `strict`, warnings are errors. `selectors` limit the run to a part of the
        plan, as in `Selectors(only=("embeddings",), items=("acme/*",), limit=5)`; such a run is
        partial and never counts as applied. The result has `plan` (an `ExecutionPlan`: stages,
        digest, skipped, warnings), `target`, `run_id`, and `events()` in sending order. It can be
        run once.

        Raises `InvalidPlan` with every problem, `StalePlan` if a saved plan has expired or changed,
        `TargetError` if a database of the plan cannot be reached.
        """
        return prepare(
            self,
            fspath(path),
            target=target,
            variables=dict(variables or {}),
            strict=strict,
            selectors=selectors,
        )

    def run(
        self,
        plan: Prepared,
        observer: Observer | None = None,
        options: RunOptions = _YES,
    ) -> Summary:
        """Send the plan's events and follow their jobs; block until they have ended.

        `observer` receives the progress. The result has `run_id`, `status` (`completed`, `failed`,
        `incomplete` or `cancelled`), `totals` and `failures`; a failed run is a result, not an
        error. Raises `PreflightRefused` before anything is sent, `LockHeld` while another run of
        the plan is under way, and `TargetError` or `Incomplete` if the run ends early: `resume`
        continues it.
        """
        _refuse_unplanned(plan)
        with self._observed(observer):
            return run(self, plan, options)

    def submit(self, plan: Prepared, options: RunOptions = _YES) -> Submitted:
        """Leave the run to the workers (`backfill serve`) that share this state."""
        _refuse_unplanned(plan)
        return submit(self, plan, options)

    def resume(
        self,
        run: str = "latest",
        observer: Observer | None = None,
        options: RunOptions = _YES,
        *,
        from_journal: bool = False,
    ) -> Summary | None:
        """Continue a run that was stopped or has crashed; return None if it has completed, or if it
        was paused and continues where it is driven.

        `from_journal`: send what the run was started with, even if its plan file has changed.
        Otherwise raises `StalePlan` if the plan no longer begins with what was sent.
        """
        refuse_options(options, "a resume", OF_A_START)
        with self._observed(observer):
            return resume(self, run, options, from_journal=from_journal)

    def retry(
        self,
        run: str = "latest",
        observer: Observer | None = None,
        options: RunOptions = _YES,
        *,
        outcomes: Collection[Outcome] = RETRIED,
        items: Sequence[str] = (),
    ) -> Summary:
        """Send the failed events of a run again, as a new run with fresh event ids.

        `outcomes`: only events with these outcomes; `items`: only items that match these patterns.
        Raises `PreflightRefused` if there are none.
        """
        with self._observed(observer):
            return retry(self, FailedEvents(run, outcomes, items), options)

    def pause(self, run: str = "latest") -> None:
        """Stop sending for a run, whoever drives it, until it is resumed."""
        pause(self, run)

    def tune(
        self,
        run: str = "latest",
        *,
        batch_size: int | None = None,
        delay: float | None = None,
        max_in_flight: int | None = None,
    ) -> None:
        """Change the pace of a run from its next batch on, whoever drives it."""
        tune(self, run, batch_size=batch_size, delay=delay, max_in_flight=max_in_flight)

    def hold(self, target: str, reason: str, seconds: float | None = None) -> None:
        """Keep every run of this state from sending to a target, for `seconds` or until `let_go`
        (`pause --target`)."""
        hold(self, target, reason, seconds)

    def let_go(self, target: str) -> None:
        """Allow runs to send to the target again (`resume --target`).

        Raises `UsageError` if the target is not held.
        """
        let_go(self, target)

    def holds(self) -> list[TargetHold]:
        """Return the held targets: why, by whom, since when and until when."""
        return self.reader.holds() if self.has_state else []

    def cancel(self, run: str, *, jobs: bool = False) -> None:
        """End a run for good, and with `jobs` also the jobs it started."""
        cancel(self, run, jobs=jobs)

    def status(self, run: str = "latest") -> RunView:
        """Return where a run stands: its record, stages, outcomes, failures and what it waits
        for."""
        return view_of(self.reader, self.reader.find(run))

    def events(self, run: str = "latest") -> Iterator[EventRecord]:
        """Return every event of a run in sending order: item, ids, jobs, outcome and message."""
        return self.reader.events(self.reader.find(run))

    def runs(self, *, plan: str | None = None, limit: int | None = None) -> list[RunLine]:
        """Return the runs in the state, latest first; only of plans that match the pattern `plan`.

        Empty if there is no state yet: the first run creates it.
        """
        return list_runs(self.reader, plan=plan, limit=limit) if self.has_state else []

    def check(
        self,
        path: str | PathLike[str],
        *,
        variables: Mapping[str, Json] | None = None,
        applied: str | None = None,
        wait: float = 0.0,
        selectors: Selectors | None = None,
    ) -> Checked:
        """Run the checks and coverage questions of a plan now; nothing is sent.

        Checks that compare with figures from before a run are in `skipped`. `applied`: the target
        whose ledger must show the plan as completed and unchanged. `wait`: how many seconds to keep
        asking until everything holds. Raises `InvalidPlan`, `TargetError` if the database cannot be
        reached, `PreflightRefused` if it refuses or if there is nothing to ask.
        """
        return check(
            self,
            fspath(path),
            variables=dict(variables or {}),
            applied=applied,
            wait=wait,
            selectors=selectors,
        )

    def coverage(
        self,
        path: str | PathLike[str],
        *,
        variables: Mapping[str, Json] | None = None,
        selectors: Selectors | None = None,
    ) -> Mapping[str, Sequence[Covered]]:
        """Return how much of the data is there, by item, for each coverage question of a plan."""
        return coverage(self, fspath(path), variables=dict(variables or {}), selectors=selectors)

    @contextmanager
    def _observed(self, observer: Observer | None) -> Iterator[None]:
        before = self.reporter
        self.reporter = Silent(observer) if observer else before
        try:
            yield
        finally:
            self.reporter = before


def _refuse_unplanned(plan: object) -> None:
    """Raise `UsageError` for anything else than a plan that is ready to run, such as its path."""
    if not isinstance(plan, Prepared):
        hint = "give what `session.plan(PATH)` has returned"
        raise UsageError(f"a {type(plan).__name__} cannot be run", hint=hint)
