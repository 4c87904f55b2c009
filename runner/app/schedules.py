"""Plans with a schedule: when each is due, and how its run is submitted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any

from runner.app.plan_files import plans_in
from runner.app.prepare import prepare
from runner.app.run import submit
from runner.app.session import Session, Silent
from runner.app.submit import enqueue
from runner.errors import BackfillError, LockHeld, StalePlan
from runner.execution.context import RunOptions
from runner.model import Observer, Schedule, frozen
from runner.planning.ledger import in_order
from runner.spec.recurring import Scheduled, due_after, firing_id

_OTHERS = 70.0  # seconds to wait for a lock: by then that of a dead process has expired
_LOG = logging.getLogger("backfill.worker")


def scheduled(session: Session, paths: Sequence[str], now: datetime) -> list[Scheduled]:
    """Return the plans that have a schedule. Raises `InvalidPlan` with all their problems."""
    plans = in_order([plan for plan in plans_in(session, paths) if plan.schedule])
    return [
        Scheduled(plan, plan.schedule, due_after(plan.schedule, now))
        for plan in plans
        if plan.schedule
    ]


@frozen
class Firing:
    """A scheduled plan, which is planned and started when it is due. Its runs go to the `app` of
    the workers that have its files.

    Meets `runner.adapters.worker.function.Scheduled`.
    """

    name: str
    path: str
    schedule: Schedule
    state: str
    app: str
    target: str
    environment: str | None
    environ: Mapping[str, str] = field(repr=False)
    observer: Callable[[str], Observer]

    @property
    def cron(self) -> str:
        return f"TZ={self.schedule.timezone} {self.schedule.cron}"

    def start(self, run: str, fired_at: float | None) -> Mapping[str, Any]:
        """Submit the run due at this time (if none is due, a run with this id), or submit it
        again."""
        try:
            with Session(self.state, environ=self.environ, environment=self.environment) as session:
                if fired_at is not None:
                    run = firing_id(self.schedule, self.name, self._place(session), fired_at) or run
                session.reporter = Silent(self.observer(run))
                event = self._started(session, run)
        except BackfillError as error:
            _LOG.warning("%s is due and is not started: %s", self.name, error, extra={"run": run})
            raise
        what = "%s is due: started" if event else "%s was started at this time already"
        _LOG.info(what, self.name, extra={"run": run})
        return {"run": run, "event": event}

    def _place(self, session: Session) -> str:
        """Return where its events go, as the ledger knows it: workers of two servers may have the
        plan, with one name for their target."""
        environment = session.environment(self.path)
        address = session.target(self.target, self.path).address
        return f"{address} {environment.name if environment else ''}"

    def _started(self, session: Session, run: str) -> str | None:
        """Return the id of the event that requests the run; None if it was started already."""
        record = session.store.known(run)
        if record and record.status != "running":
            return None
        try:
            return self._again(session, run) or self._submit(session, run)
        except (StalePlan, LockHeld):
            if record is None and session.store.known(run):
                return None  # by a worker at another URL, at the same moment
            raise

    def _submit(self, session: Session, run: str) -> str:
        prepared = prepare(session, self.path, target=self.target, run_id=run)
        return submit(session, prepared, RunOptions(yes=True), app=self.app).event_id

    def _again(self, session: Session, run: str) -> str | None:
        """Submit a recorded run whose process died before submitting it."""
        record = session.store.known(run)
        if record is None:
            return None
        with session.lock(record.plan, record.address, run, _OTHERS) as lease:
            target = session.target(record.target, self.path, record.environment)
            return enqueue(session, lease, target, run, record.plan, RunOptions(), self.app)
