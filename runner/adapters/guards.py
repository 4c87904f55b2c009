"""The guards of a plan, ready to be asked before each batch. Each implements
`runner.execution.ports.Guard`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from anyio import to_thread

from runner.errors import PreflightRefused, TargetError, UsageError
from runner.execution.ports import Guard, GuardUnanswered, Hold
from runner.model import (
    CommandGuard,
    Database,
    FileGuard,
    GithubGuard,
    GuardSpec,
    HttpGuard,
    Json,
    Query,
    QueryRefused,
    SqlGuard,
    WindowGuard,
    frozen,
)
from runner.spec.opening import Opening, opening, shown
from runner.spec.secrets import redact
from runner.spec.urls import is_http

if TYPE_CHECKING:
    from runner.adapters.database.open import Databases
    from runner.adapters.guards_http import Rate
    from runner.adapters.http import Client

GITHUB = "https://api.github.com"
_AGAIN = 5.0  # seconds
_LIMIT = 30.0  # seconds that a command may take
_CANNOT_RUN = 126  # a shell's status for a program that it cannot start; 127: not found
_MESSAGE = 200  # characters of its last line
_TAIL = 4096  # bytes of its output that are read
_FILE_AGAIN = 1.0  # seconds between two looks at a file


@asynccontextmanager
async def open_guards(
    specs: Sequence[GuardSpec],
    env: Mapping[str, str],
    folder: Path,
    clock: Callable[[], float] = time.time,
    database: str | None = None,
) -> AsyncIterator[list[Guard]]:
    """Open the guards; none is asked yet.

    Paths are relative to `folder`, the plan's; `database`: the variable with the database's URL, if
    not the default. Raises `PreflightRefused` if a key or URL is missing, `UsageError` if one is
    malformed.
    """
    async with AsyncExitStack() as stack:
        opener = _Opener(env, folder, stack, clock, database)
        yield [await opener.open(spec) for spec in specs]


@dataclass(slots=True)
class _Opener:
    """Opens guards; what they share is opened for the first that needs it."""

    env: Mapping[str, str] = field(repr=False)
    folder: Path
    stack: AsyncExitStack
    clock: Callable[[], float]
    database: str | None
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
        from runner.adapters.guards_http import Github

        token = _github_token(self.env)
        return Github(spec, await self._shared_client(), _github_origin(self.env), token)

    async def _http(self, spec: HttpGuard) -> Guard:
        import httpx

        from runner.adapters.guards_http import Http

        try:
            return Http(spec, await self._shared_client())
        except httpx.InvalidURL:
            hint = "write it like https://status.example.com/ready"
            raise UsageError("the `http` of the guard is not a URL", hint=hint) from None

    def _window(self, spec: WindowGuard) -> Guard:
        try:
            return Window(spec, opening(spec), self.clock)
        except ValueError as error:  # the zone of a plan that was read elsewhere is unknown here
            raise PreflightRefused(f"the guard `window`: {error}") from None

    def _sql(self, spec: SqlGuard) -> Guard:
        from runner.adapters.database.open import Databases, configured_url

        if self._databases is None:
            # Report an invalid URL before the run.
            configured_url(self.env, self.database)
            self._databases = Databases(self.env, default=self.database)
            self.stack.callback(self._databases.close)
        return Sql(spec, self._databases)

    async def _shared_client(self) -> Client:
        from runner.adapters.http import open_client

        if self._client is None:  # follows no redirects, honours proxies, and logs no URL
            self._client = await self.stack.enter_async_context(open_client(env=self.env))
        return self._client


async def github_rate(env: Mapping[str, str]) -> Rate:
    """Return GitHub's current rate limit. Raises `GuardUnanswered`, and what `open_guards`
    raises."""
    from runner.adapters.guards_http import Github
    from runner.adapters.http import open_client

    async with open_client(env=env) as client:
        github = Github(GithubGuard(0), client, _github_origin(env), _github_token(env))
        return await github.rate()


def _github_token(env: Mapping[str, str]) -> str:
    token = env.get("GITHUB_TOKEN")
    if not token:
        raise PreflightRefused("the guard `github` needs a token", hint="set GITHUB_TOKEN")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError(
            "GITHUB_TOKEN has characters that cannot be part of a token",
            hint="copy the token again",
        )
    return token


def _github_origin(env: Mapping[str, str]) -> str:
    text = env.get("GITHUB_API_URL") or GITHUB
    if not is_http(text):
        raise UsageError("GITHUB_API_URL is not a URL", hint=f"write it like {GITHUB}")
    return text.rstrip("/")


@frozen
class Command:
    spec: CommandGuard
    folder: Path
    env: Mapping[str, str] = field(repr=False)
    limit: float = _LIMIT

    @property
    def name(self) -> str:
        return f"command {Path(self.spec.arguments[0]).name}"

    def find(self) -> None:
        """Raise `GuardUnanswered` if the program does not exist."""
        program = self.spec.arguments[0]
        there = str(self.folder / program) if "/" in program else program
        if which(there, path=self.env.get("PATH")) is None:
            raise GuardUnanswered("there is no such program")

    async def ask(self) -> Hold | None:
        try:
            # Not a pipe: processes that the program leaves running would keep it open.
            with TemporaryFile() as output:
                status = await self._run(output)
                words = _last_line(output)
        except OSError as error:
            raise GuardUnanswered(error.strerror or "it cannot be started") from None
        except ValueError:  # a zero byte in an argument
            raise GuardUnanswered("it cannot be started") from None
        if status < 0:
            raise GuardUnanswered(f"it was ended by signal {-status}")
        if status >= _CANNOT_RUN:
            raise GuardUnanswered(f"it ended with {status}")
        if status == 0:
            return None
        printed = f": {words}" if words else ""
        return Hold(f"`{self.name}` exits with {status}{printed}", _AGAIN)

    async def _run(self, output: IO[bytes]) -> int:
        process = await asyncio.create_subprocess_exec(
            *self.spec.arguments,
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            cwd=self.folder,
            env=without_keys(self.env),
            start_new_session=True,
        )
        try:
            return await asyncio.wait_for(process.wait(), self.limit)
        except TimeoutError:
            raise GuardUnanswered(f"it has not ended after {self.limit:g}s") from None
        finally:
            await _end(process)


def without_keys(env: Mapping[str, str]) -> dict[str, str]:
    """Remove keys of the target and the state, which a guard does not need."""
    return {name: value for name, value in env.items() if not _is_key(name)}


def _is_key(name: str) -> bool:
    inngest = name.startswith("INNGEST_") and "KEY" in name.removeprefix("INNGEST_")
    kept_back = name in ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY", "BACKFILL_STATE")
    return inngest or kept_back or name.endswith("_SIGNING_KEY")


def _last_line(output: IO[bytes]) -> str:
    """Return the last line without control characters and keys."""
    file = output.fileno()
    tail = os.pread(file, _TAIL, max(0, os.fstat(file).st_size - _TAIL))
    lines = tail.decode(errors="replace").strip().splitlines()
    line = redact(lines[-1]) if lines else ""
    return "".join(c if c.isprintable() else "?" for c in line)[:_MESSAGE]


async def _end(process: Process) -> None:
    """Kill a process that hangs, with its children."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@frozen
class Flag:
    path: Path

    @property
    def name(self) -> str:
        return f"file {self.path.name}"

    async def ask(self) -> Hold | None:
        try:
            self.path.lstat()  # a broken link counts too
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GuardUnanswered(error.strerror or "it cannot be read") from None
        except ValueError:  # a zero byte in the path
            raise GuardUnanswered("it cannot be read") from None
        return Hold(f"`{self.path.name}` exists", _FILE_AGAIN)


@frozen
class Sql:
    spec: SqlGuard
    database: Database
    name: str = "sql"

    async def ask(self) -> Hold | None:
        # Abandoned on cancel: who stops the run does not wait for the answer.
        value = await to_thread.run_sync(self._value, abandon_on_cancel=True)
        spec = self.spec
        bounded = spec.at_most is not None or spec.at_least is not None
        reason = self._outside(_number(value)) if bounded else _no(value)
        return Hold(reason, _AGAIN) if reason else None

    def _value(self) -> Json:
        try:
            table = self.database.ask(Query(self.spec.query, max_rows=1), {})
        except (QueryRefused, TargetError) as error:
            raise GuardUnanswered(str(error)) from None
        if len(table.rows) != 1 or len(table.columns) != 1:
            raise GuardUnanswered("its query does not give exactly one value")
        return table.rows[0][0]

    def _outside(self, value: float) -> str | None:
        at_most, at_least = self.spec.at_most, self.spec.at_least
        if at_most is not None and value > at_most:
            return f"the guard's query gives {value}, above {_shown(at_most)}"
        if at_least is not None and value < at_least:
            return f"the guard's query gives {value}, below {_shown(at_least)}"
        return None


def _number(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GuardUnanswered("its query does not give a number")
    return value


def _no(value: Json) -> str | None:
    """Read a truth value; databases without a boolean type give 0 or 1."""
    if not isinstance(value, int | float) or value not in (0, 1):
        raise GuardUnanswered("its query gives neither true nor false")
    return None if value else "the guard's query gives false"


def _shown(bound: float) -> str:
    return str(bound).removesuffix(".0")


@frozen
class Window:
    """`clock`: seconds since 1970."""

    spec: WindowGuard
    opening: Opening
    clock: Callable[[], float] = time.time

    @property
    def name(self) -> str:
        return "window"

    async def ask(self) -> Hold | None:
        now = self.clock()
        is_open, until = self.opening.state(now)
        if is_open:
            return None
        reason = f"outside its window ({self.spec.words}): it opens at {shown(until)}"
        return Hold(reason, until - now)
