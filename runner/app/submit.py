"""Submit a run to the workers: it is in the state, and one event requests it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import SystemRandom
from typing import Any

import orjson

from runner.adapters.inngest.target import Target
from runner.adapters.journal.leases import Lease, holding
from runner.adapters.worker.request import EVENT, app_of, event_of, filter_of
from runner.app.session import Session, blocking
from runner.errors import BackfillError, PreflightRefused, TargetError
from runner.execution.context import RunOptions
from runner.execution.seeds import make_seed
from runner.model import Function, frozen

NOBODY_YET = "nobody yet: it waits for a worker"


@frozen
class Submitted:
    """A run that was submitted to the workers, and the id of the event that requests it."""

    run_id: str
    event_id: str


def refuse_embedded(target: Target) -> None:
    if target.kind == "embedded":
        message = "the embedded target ends with its process: no worker can send to it"
        raise PreflightRefused(message, hint="choose a server: --target dev, cloud, or its URL")


def refuse_unheard(session: Session, target: Target, app: str | None = None) -> None:
    """Check that a worker can take a run. `app`: of the workers that should; None: the state's.

    Raises `PreflightRefused` if a submitted run would wait forever; `TargetDown` or `KeyRefused` if
    it cannot be requested. Writes nothing."""
    refuse_embedded(target)

    async def functions() -> Sequence[Function] | None:
        async with session.connect(target) as server:
            await server.probe.accept()
            return await server.probe.functions()

    found = blocking(functions())
    if found is None:
        session.reporter.note(
            f"{target.name} does not tell whether a worker listens for {EVENT}; `backfill "
            "status` shows whether a worker has picked up the run"
        )
        return
    if app is None and session.has_state:  # do not create a state for this
        app = app_of(session.reader.identity)
    hearing = [one for one in found if one.hears(EVENT) and _takes(one, app)]
    paused = ", ".join(one.name for one in hearing if one.paused)
    paused = f"; paused: {paused}" if paused else ""
    if all(one.paused for one in hearing):
        hint = "start one with `backfill serve`, with this state and for this server"
        hint = f"unpause them there, or {hint}" if hearing else hint
        message = f"no worker listens for {EVENT} on {target.name}{paused}"
        raise PreflightRefused(message, hint=hint)
    names = ", ".join(one.name for one in hearing if not one.paused)
    session.reporter.note(f"workers of {target.name} that listen for {EVENT}: {names}{paused}")


def _takes(one: Function, app: str | None) -> bool:
    """Tell whether the function takes the runs of this app. Without a state there is no app."""
    filters = one.filters(EVENT)
    return not filters or (app is not None and filter_of(app) in filters)


def enqueue(
    session: Session,
    lease: Lease,
    target: Target,
    run_id: str,
    plan: str,
    options: RunOptions,
    app: str | None = None,
    **more: Any,
) -> str:
    """Send the event that requests the run, with the options that matter to a worker; return its
    id.

    Raises `TargetError` if it cannot be sent: the run is recorded, and nobody drives it.
    """
    limits = options.limits
    cut = {"request_events": limits.events, "request_bytes": limits.bytes}
    known = {"run": run_id, "plan": plan, "address": target.address, **cut}
    known["app"] = app or app_of(session.store.identity)
    event = event_of({**known, **more})
    parked = session.store.park(lease, time.time(), NOBODY_YET)
    try:
        blocking(_send(session, target, event))
    except BackfillError as error:
        with holding(parked):  # release it: no worker will come for it
            pass
        hint = f"submit it again with `backfill resume {run_id} --detach`"
        raise TargetError(f"run {run_id} is not submitted: {error}", hint=hint) from None
    return str(event["id"])


async def _send(session: Session, target: Target, event: dict[str, Any]) -> None:
    async with session.connect(target, note=session.reporter.note) as server:
        seed = make_seed(time.time(), SystemRandom())
        answer = await server.events.send(orjson.dumps([event]), 1, seed)
    if answer.refused:
        raise TargetError(answer.refused)
