"""Handing a run over to the workers: it is in the state, and one event asks for it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from random import SystemRandom
from typing import Any

import click
import orjson

from runner.adapters.inngest.target import Target
from runner.adapters.journal.leases import Lease, holding
from runner.adapters.journal.store import Store
from runner.adapters.worker.request import EVENT, event_of
from runner.cli.streams import outcome_decides
from runner.errors import BackfillError, PreflightRefused, TargetError
from runner.execution.limits import RequestLimits
from runner.execution.ports import Listener
from runner.execution.seeds import make_seed
from runner.output.escape import visible

NOBODY_YET = "nobody yet: it waits for a worker"


def refuse_unheard(target: Target) -> None:
    """Raises `PreflightRefused` where a submitted run would wait for ever; `TargetDown` or
    `KeyRefused` where it could not be asked for. Nothing is written down yet."""
    if target.kind == "embedded":
        message = "the embedded target ends with its process, and no worker could send to it"
        raise PreflightRefused(message, hint="choose a server: --target dev, cloud, or its URL")
    listeners = asyncio.run(_listeners(target))
    if listeners is None:
        click.echo(
            f"note: {target.name} does not tell whether a worker listens for {EVENT}; `backfill "
            "status` shows whether one has taken the run up",
            err=True,
        )
    elif not any(listener.hears(EVENT) for listener in listeners):
        hint = "start one: `backfill serve`, with this state and for this server"
        raise PreflightRefused(f"no worker listens for {EVENT} on {target.name}", hint=hint)


def hand_over(
    store: Store,
    lease: Lease,
    target: Target,
    run_id: str,
    plan: str,
    limits: RequestLimits,
    **options: Any,
) -> str:
    """The id of the event that asks for the run, whose requests are to keep to the limits.

    Raises `TargetError` where it cannot be sent: the run is written down, and nobody has it.
    """
    outcome_decides()
    cut = {"request_events": limits.events, "request_bytes": limits.bytes}
    known = {"run": run_id, "plan": plan, "address": target.address, **cut}
    event = event_of({**known, **options})
    parked = store.park(lease, time.time(), NOBODY_YET)
    try:
        asyncio.run(_send(target, event))
    except BackfillError as error:
        with holding(parked):  # nobody waits for it
            pass
        hint = f"`backfill resume {run_id} --detach` asks for it once more"
        raise TargetError(f"run {run_id} is not handed over: {error}", hint=hint) from None
    return str(event["id"])


async def _listeners(target: Target) -> Sequence[Listener] | None:
    from runner.adapters.http import open_client
    from runner.adapters.inngest.http import Retry
    from runner.adapters.inngest.jobs_api import HttpJobsApi
    from runner.adapters.inngest.probe import HttpProbe

    retry = Retry(asyncio.sleep, SystemRandom(), lambda _: None, stopped=lambda: True)
    async with open_client(None) as client:
        probe = HttpProbe(client, target, HttpJobsApi(client, target, retry))
        await probe.accept()
        return await probe.listeners()


async def _send(target: Target, event: dict[str, Any]) -> None:
    from runner.adapters.http import open_client
    from runner.adapters.inngest.event_api import HttpEventApi, trace_context
    from runner.adapters.inngest.http import Retry

    random = SystemRandom()
    retry = Retry(
        asyncio.sleep, random, lambda note: click.echo(f"note: {visible(note)}", err=True)
    )
    async with open_client(None) as client:
        api = HttpEventApi(client, target, retry, trace_context(os.environ))
        answer = await api.send(orjson.dumps([event]), 1, make_seed(time.time(), random))
    if answer.refused:
        raise TargetError(answer.refused)
