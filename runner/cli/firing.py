"""Plans with a schedule, started when they are due."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from runner.adapters.inngest.target import resolve
from runner.adapters.journal.store import Store
from runner.cli.common import take_lock
from runner.cli.handing import hand_over
from runner.cli.sending import Sending
from runner.cli.starting import Start, submit
from runner.errors import BackfillError
from runner.model import Schedule
from runner.spec.recurring import firing_id

_OTHERS = 70.0  # seconds after which the lock of a process that has died is anybody's


@dataclass(frozen=True, slots=True)
class Firing:
    """Meets `runner.adapters.worker.function.Scheduled`. What a firing sends is found out then."""

    name: str
    path: str
    schedule: Schedule
    state: str
    target: str
    log: logging.Logger

    @property
    def cron(self) -> str:
        return f"TZ={self.schedule.timezone} {self.schedule.cron}"

    def start(self, run: str, fired_at: float | None) -> Mapping[str, Any]:
        if fired_at is not None:
            run = firing_id(self.schedule, self.name, self.target, fired_at) or run
        more = {"run": run}
        try:
            if self._has_ended(run):
                self.log.info("%s was started at this time already", self.name, extra=more)
                return {"run": run, "event": None}
            event = self._again(run) or self._submit(run)
        except BackfillError as error:
            self.log.warning("%s is due and is not started: %s", self.name, error, extra=more)
            raise
        self.log.info("%s is due: started", self.name, extra=more)
        return {"run": run, "event": event}

    def _submit(self, run: str) -> str:
        asked = Start(
            self.path, {}, self.target, self.state, Sending(), form="json", yes=True, run_id=run
        )
        with click.Context(click.Command("submit")):  # what is opened for it ends with it
            return submit(asked)[1]

    def _has_ended(self, run: str) -> bool:
        with Store(self.state) as store:
            record = store.known(run)
            return record is not None and record.status != "running"

    def _again(self, run: str) -> str | None:
        """The run is written down, and whoever did that has died before it was handed over."""
        with click.Context(click.Command("resume")), Store(self.state) as store:
            record = store.known(run)
            if record is None:
                return None
            lease = take_lock(store, record.plan, record.address, run, _OTHERS)
            target, limits = resolve(self.target, os.environ), Sending().limits
            return hand_over(store, lease, target, run, record.plan, limits)
