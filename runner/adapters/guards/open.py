"""The guards of a plan, connected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from runner.adapters.guards.command import Command
from runner.adapters.guards.flag import Flag
from runner.adapters.guards.github import Github
from runner.adapters.guards.http import Http
from runner.errors import PreflightRefused
from runner.execution.ports import Guard
from runner.model import CommandGuard, FileGuard, GithubGuard, GuardSpec, HttpGuard, SqlGuard

GITHUB = "https://api.github.com"
_TIMEOUT = 10.0  # seconds


@asynccontextmanager
async def open_guards(
    specs: Sequence[GuardSpec], env: Mapping[str, str], folder: Path
) -> AsyncIterator[list[Guard]]:
    """Paths are relative to `folder`, the plan's. Raises `PreflightRefused` for a missing key."""
    async with AsyncExitStack() as stack:
        client = httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False)
        await stack.enter_async_context(client)
        yield [_open(spec, env, folder, client, stack) for spec in specs]


def _open(
    spec: GuardSpec,
    env: Mapping[str, str],
    folder: Path,
    client: httpx.AsyncClient,
    stack: AsyncExitStack,
) -> Guard:
    match spec:
        case GithubGuard():
            token = env.get("GITHUB_TOKEN")
            if not token:
                raise PreflightRefused("the guard `github` needs a token", hint="set GITHUB_TOKEN")
            origin = env.get("GITHUB_API_URL", GITHUB).rstrip("/")
            return Github(spec, client, origin, token)
        case HttpGuard():
            return Http(spec, client)
        case SqlGuard():
            from runner.adapters.database.connect import database_engine
            from runner.adapters.guards.sql import Sql

            engine = database_engine(env)
            stack.callback(engine.dispose)
            return Sql(spec, engine)
        case CommandGuard():
            return Command(spec, folder, env)
        case FileGuard():
            return Flag(folder / spec.path)
