"""What Python programs use; `runner` exports it.

The use cases of the command line as methods of a `Session`: no output, no questions, values as
results, and the errors of `runner.errors`.
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
    """A state, the databases and the targets, opened when they are needed; close it with `with`.

    `state`: the path of a SQLite file, or a `postgresql://` URL; by default BACKFILL_STATE of
    `environ`, or `.backfill/state.db`. `environ`: variables with keys and addresses, as
    `os.environ`, which is the default.

        with runner.Session() as session:
            plan = session.plan("plans/refresh.yaml", target="dev")
            outcome = session.run(plan)

    A run is named by its id, the beginning of one, `latest`, or `latest:NAME`, the last run of a
    plan. Times are in seconds; moments in seconds since 1970. Every method raises `TargetError`
    where the state cannot be reached, and `UsageError` for a run that is not there.
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
        """What a run of the plan file would send; or what a saved plan does. Nothing is sent.

        `target`: `embedded` (the default), `dev`, `cloud` or a base URL. `variables` go over those
        of the plan; with `strict`, its warnings are errors. `selectors`: only a part of it, as in
        `Selectors(only=("embeddings",), items=("acme/*",), limit=5)`; the run is partial, and never
        counts as applied. The result has `plan` (an
        `ExecutionPlan`: stages, digest, skipped, warnings), `target`, `run_id`, and `events()` in
        sending order. It can be run once.

        Raises `InvalidPlan` with every problem, `StalePlan` for a saved plan that has expired or
        changed, `TargetError` where its database cannot be reached.
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
        """Send the plan's events and follow their jobs to the end; blocks until then.

        `observer` hears of progress. The result has `run_id`, `status` (`completed`, `failed`,
        `incomplete` or `cancelled`), `totals` and `failures`: a run that failed is a result, no
        error. Raises `PreflightRefused` before anything is sent, `LockHeld` while another run of
        the plan is under way, `TargetError` and `Incomplete` for what ended it early: `resume` goes
        on from there.
        """
        with self._observed(observer):
            return run(self, plan, options)

    def submit(self, plan: Prepared, options: RunOptions = _YES) -> Submitted:
        """Leave the run to the workers (`backfill serve`), which share this state."""
        return submit(self, plan, options)

    def resume(
        self,
        run: str = "latest",
        observer: Observer | None = None,
        options: RunOptions = _YES,
        *,
        from_journal: bool = False,
    ) -> Summary | None:
        """Go on with a run that was stopped or has crashed; None where there is nothing to do.

        `from_journal`: send what it was started with, whatever its plan file says by now; else
        raises `StalePlan` where what was sent is no longer what the plan begins with.
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
        """Send what failed in a run once more, as a run of its own with fresh event ids.

        `outcomes`: only events that ended so; `items`: only items like these patterns. Raises
        `PreflightRefused` where there is none.
        """
        with self._observed(observer):
            return retry(self, FailedEvents(run, outcomes, items), options)

    def pause(self, run: str = "latest") -> None:
        """Send nothing more of a run, whoever drives it, until it is resumed."""
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
        """Send nothing to a target, by whatever run of this state, for so long or until it is let
        go (`pause --target`)."""
        hold(self, target, reason, seconds)

    def let_go(self, target: str) -> None:
        """Runs may send to the target again (`resume --target`). Raises `UsageError` where it is
        not held."""
        let_go(self, target)

    def holds(self) -> list[TargetHold]:
        """The targets that are held: why, by whom, since when and until when."""
        return self.reader.holds() if self.has_state else []

    def cancel(self, run: str, *, jobs: bool = False) -> None:
        """End a run, which cannot be resumed, and with `jobs` the jobs it started."""
        cancel(self, run, jobs=jobs)

    def status(self, run: str = "latest") -> RunView:
        """Where a run stands: its record, stages, outcomes, failures and what it waits for."""
        return view_of(self.reader, self.reader.find(run))

    def events(self, run: str = "latest") -> Iterator[EventRecord]:
        """Every event of a run in sending order: item, ids, jobs, outcome and message."""
        return self.reader.events(self.reader.find(run))

    def runs(self, *, plan: str | None = None, limit: int | None = None) -> list[RunLine]:
        """The runs that the state has, the latest first; of plans like the pattern `plan`. None
        where there is no state yet: the first run makes it."""
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
        """Ask the checks and the coverage of a plan now; nothing is sent.

        Checks that compare with figures from before a run are in `skipped`. `applied`: the target
        whose ledger must have the plan, unchanged and completed. `wait`: for how many seconds to
        ask again while not all holds. Raises `InvalidPlan`, `TargetError` where the database cannot
        be reached, `PreflightRefused` where it refuses and where there is nothing to ask.
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
        """How much of the data is there, item by item, for each coverage question of a plan."""
        return coverage(self, fspath(path), variables=dict(variables or {}), selectors=selectors)

    @contextmanager
    def _observed(self, observer: Observer | None) -> Iterator[None]:
        before = self.reporter
        self.reporter = Silent(observer) if observer else before
        try:
            yield
        finally:
            self.reporter = before
