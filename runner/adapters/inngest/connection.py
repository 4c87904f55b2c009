"""A connection to a target's server, with all its APIs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from runner.adapters.http import Client, open_client
from runner.adapters.inngest.event_api import HttpEventApi, trace_context
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.adapters.inngest.target import Target
from runner.errors import KeyRefused, PreflightRefused, TargetDown
from runner.model import frozen

if TYPE_CHECKING:
    from runner.adapters.inngest.cancel_api import HttpCancelApi
    from runner.adapters.inngest.probe import HttpProbe


@frozen
class Connection:
    client: Client
    target: Target
    retry: Retry
    events: HttpEventApi
    jobs: HttpJobsApi

    @property
    def probe(self) -> HttpProbe:
        from runner.adapters.inngest.probe import HttpProbe

        return HttpProbe(self.client, self.target, self.jobs)

    @property
    def cancel(self) -> HttpCancelApi:
        from runner.adapters.inngest.cancel_api import HttpCancelApi

        return HttpCancelApi(self.client, self.target, self.retry)

    async def may_be_followed(self) -> None:
        """Check that following works, before the first event is sent."""
        try:
            doubt = await self.jobs.probe()
        except TargetDown as error:
            hint = "nothing is sent; run the command again once it answers"
            raise TargetDown(str(error), hint=hint) from None
        except KeyRefused as error:
            if self.target.signing_keys:
                raise
            raise PreflightRefused(str(error), hint=error.hint) from None
        if doubt:
            self.retry.note(doubt)


@asynccontextmanager
async def connected(
    target: Target,
    retry: Retry,
    environ: Mapping[str, str],
    transport: httpx.AsyncBaseTransport | None,
) -> AsyncIterator[Connection]:
    """Connect to a target; `transport` replaces the network."""
    async with open_client(transport, env=environ) as client:
        events = HttpEventApi(client, target, retry, trace_context(environ))
        yield Connection(client, target, retry, events, HttpJobsApi(client, target, retry))


@asynccontextmanager
async def embedded(
    handlers: Mapping[str, str], plan_path: str
) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Run a server in this process within the block."""
    from runner.adapters.embedded.handlers import load_handlers
    from runner.adapters.embedded.server import create_app

    app = create_app(load_handlers(handlers, Path(plan_path).parent))
    try:
        yield httpx.ASGITransport(app)
    finally:
        await app.state.engine.aclose()
