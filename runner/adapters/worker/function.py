"""The durable function: drives a run in steps, with the engine's sleeps between them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import inngest

from runner.adapters.worker.request import EVENT, FUNCTION, event_of, filter_of
from runner.errors import BackfillError, TargetError

RETRIES = 10  # for each step; the engine waits longer each time
MOST_STEPS = (
    200  # of work in one function run; the server takes 1,000 steps, and each may have a sleep
)
_TIMER = "inngest/scheduled.timer"
_KEY = "event.data.plan + ' -> ' + event.data.address"


class Driver(Protocol):
    """Drives runs one step at a time; requests and results are small JSON objects. `identity`: that
    of the state."""

    @property
    def identity(self) -> str: ...

    def drive_step(
        self, request: Mapping[str, Any], before: Mapping[str, Any] | None, /
    ) -> Mapping[str, Any]:
        """Drive one step; return ``status``, ``why``, and ``until`` when the next one is due."""

    def give_up(self, request: Mapping[str, Any], why: str, /) -> None: ...


class Scheduled(Protocol):
    """A plan with a schedule: `cron` is in the engine's form, with its zone."""

    @property
    def name(self) -> str: ...

    @property
    def cron(self) -> str: ...

    def start(self, run: str, fired_at: float | None, /) -> Mapping[str, Any]:
        """Submit the run that was due at this time, or a run with this id if none was due.

        Repeated calls return the same run, as a small JSON object.
        """


def create_firing(client: inngest.Inngest, scheduled: Scheduled) -> inngest.Function[Any]:
    """Create the function that starts a scheduled plan. A retry starts no second run; if it is
    invoked by hand, the engine's id names the run."""

    @client.create_function(
        fn_id=f"scheduled-{scheduled.name}",
        name=f"Start {scheduled.name}, as scheduled",
        trigger=inngest.TriggerCron(cron=scheduled.cron),
        retries=RETRIES,
    )
    def fire(ctx: inngest.ContextSync) -> dict[str, Any]:
        timed = ctx.event.name == _TIMER and ctx.event.ts
        fired_at = ctx.event.ts / 1000 if timed else None

        def start() -> dict[str, Any]:
            try:
                return dict(scheduled.start(ctx.run_id, fired_at))
            except TargetError:
                raise
            except BackfillError as refused:
                raise inngest.NonRetriableError(str(refused)) from None

        return ctx.step.run("start", start)

    return fire


def create_function(client: inngest.Inngest, driver: Driver) -> inngest.Function[Any]:
    @client.create_function(
        fn_id=FUNCTION,
        name="Drive a backfill run",
        trigger=inngest.TriggerEvent(event=EVENT, expression=filter_of(client.app_id)),
        retries=RETRIES,
        concurrency=[inngest.Concurrency(limit=1, key=_KEY)],
    )
    def run(ctx: inngest.ContextSync) -> dict[str, Any]:
        request = dict(ctx.event.data)
        before: Any = request.pop("before", None)
        for number in range(1, MOST_STEPS + 1):
            before = _step(ctx, driver, number, request, before)
            if before["status"] != "running":
                return _ended(request, before)
            if before["until"]:
                until = datetime.fromtimestamp(before["until"], UTC)
                ctx.step.sleep_until(f"wait {number}", until)
        part = int(str(request.get("part") or 0)) + 1
        following = event_of({**request, "part": part, "before": before})
        ctx.step.send_event(
            "go on", inngest.Event(name=EVENT, id=following["id"], data=following["data"])
        )
        return {"run": request["run"], "goes_on_in": following["id"]}

    return run


def _step(
    ctx: inngest.ContextSync,
    driver: Driver,
    number: int,
    request: Mapping[str, Any],
    before: Mapping[str, Any] | None,
) -> Any:
    def drive() -> dict[str, Any]:
        return dict(driver.drive_step(request, before))

    try:
        return ctx.step.run(f"step {number}", drive)
    except inngest.StepError as error:
        why = f"a step failed {RETRIES + 1} times: {error.message}"
        ctx.step.run("give up", lambda: driver.give_up(request, why))
        raise inngest.NonRetriableError(f"run {request['run']} is incomplete: {why}") from None


def _ended(request: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result; a run that did not succeed fails the function, so that people notice."""
    run, status, why = request["run"], last["status"], last["why"]
    if status not in ("completed", "sent", "cancelled"):
        message = f"run {run} is {status}" + (f": {why}" if why else "")
        raise inngest.NonRetriableError(message)
    return {"run": run, "status": status}
