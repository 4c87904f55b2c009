"""The guards of a plan, connected."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner.adapters.guards.command import Command
from runner.adapters.guards.flag import Flag
from runner.errors import PreflightRefused, UsageError
from runner.execution.ports import Guard
from runner.model import (
    CommandGuard,
    FileGuard,
    GithubGuard,
    GuardSpec,
    HttpGuard,
    SqlGuard,
    WindowGuard,
)

if TYPE_CHECKING:
    from runner.adapters.database.open import Databases
    from runner.adapters.guards.github import Rate
    from runner.adapters.http import Client

GITHUB = "https://api.github.com"


@asynccontextmanager
async def open_guards(
    specs: Sequence[GuardSpec],
    env: Mapping[str, str],
    folder: Path,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[list[Guard]]:
    """Paths are relative to `folder`, the plan's. Nothing is asked yet.

    Raises `PreflightRefused` where a key or URL is missing, `UsageError` where one is malformed.
    """
    async with AsyncExitStack() as stack:
        opener = _Opener(env, folder, stack, clock)
        yield [await opener.open(spec) for spec in specs]


@dataclass(slots=True)
class _Opener:
    """What guards share is opened for the first that needs it."""

    env: Mapping[str, str] = field(repr=False)
    folder: Path
    stack: AsyncExitStack
    clock: Callable[[], float]
    _client: Client | None = None
    _databases: Databases | None = None

    async def open(self, spec: GuardSpec) -> Guard:
        match spec:
            case GithubGuard():
                return await self._github(spec)
            case HttpGuard():
                return await self._http(spec)
            case SqlGuard():
                return self._sql(spec)
            case CommandGuard():
                return Command(spec, self.folder, self.env)
            case FileGuard():
                return Flag(self.folder / spec.path)
            case WindowGuard():
                return self._window(spec)

    async def _github(self, spec: GithubGuard) -> Guard:
        from runner.adapters.guards.github import Github

        token = _github_token(self.env)
        return Github(spec, await self._shared_client(), _github_origin(self.env), token)

    async def _http(self, spec: HttpGuard) -> Guard:
        import httpx

        from runner.adapters.guards.http import Http

        try:
            return Http(spec, await self._shared_client())
        except httpx.InvalidURL:
            hint = "write it like https://status.example.com/ready"
            raise UsageError("the guard `http` has something else than a URL", hint=hint) from None

    def _window(self, spec: WindowGuard) -> Guard:
        from runner.adapters.guards.window import Window
        from runner.spec.opening import opening

        try:
            return Window(spec, opening(spec), self.clock)
        except ValueError as error:  # this machine lacks the zone of a plan that was read elsewhere
            raise PreflightRefused(f"the guard `window`: {error}") from None

    def _sql(self, spec: SqlGuard) -> Guard:
        from runner.adapters.database.open import Databases, configured_url
        from runner.adapters.guards.sql import Sql

        if self._databases is None:
            configured_url(self.env)  # what is wrong with the URL is known before the run
            self._databases = Databases(self.env)
            self.stack.callback(self._databases.close)
        return Sql(spec, self._databases)

    async def _shared_client(self) -> Client:
        from runner.adapters.http import open_client

        if self._client is None:  # it follows no redirects, honours proxies, and logs no URL
            self._client = await self.stack.enter_async_context(open_client(env=self.env))
        return self._client


async def github_rate(env: Mapping[str, str]) -> Rate:
    """Raises `GuardUnanswered`, and what `open_guards` raises."""
    from runner.adapters.guards.github import Github
    from runner.adapters.http import open_client

    async with open_client(env=env) as client:
        github = Github(GithubGuard(0), client, _github_origin(env), _github_token(env))
        return await github.rate()


def _github_token(env: Mapping[str, str]) -> str:
    token = env.get("GITHUB_TOKEN")
    if not token:
        raise PreflightRefused("the guard `github` needs a token", hint="set GITHUB_TOKEN")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError("GITHUB_TOKEN has characters that no token has", hint="copy it again")
    return token


def _github_origin(env: Mapping[str, str]) -> str:
    text = env.get("GITHUB_API_URL") or GITHUB
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageError("GITHUB_API_URL is not a URL", hint=f"write it like {GITHUB}")
    return text.rstrip("/")
