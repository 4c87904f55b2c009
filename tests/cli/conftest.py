"""The command line as users have it: its exit status, its output, and its process."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from unittest.mock import patch

import pytest
import uvicorn
from starlette.types import ASGIApp

from runner.adapters.door import Door, configured
from runner.adapters.embedded.server import create_app
from runner.cli.main import main
from tests.documents import expect_form
from tests.types import Backfill
from tests.warm import SOONER, Forked, staying

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "runner"]


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


@pytest.fixture
def backfill(monkeypatch: pytest.MonkeyPatch) -> Backfill:
    """Run `backfill ARGUMENTS`; check that there is no traceback, and that JSON documents fit their
    published schemas.

    This runs in the test's process: it is cheaper, and mutants of the code take effect. Tests about
    processes use `start`. PYTHON* variables need a new Python process.
    """
    for name, seconds in SOONER.items():
        if "worker" not in name or name.rpartition(".")[0] in sys.modules:  # its SDK loads slowly
            monkeypatch.setattr(name, seconds)

    def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
        anew = any(name.startswith("PYTHON") for name in env or {})
        given = {**os.environ, **(env or {})}
        result = (_anew if anew else _here)(*map(str, arguments), env=given)
        assert "Traceback" not in result.err
        assert "Traceback" not in result.out
        if ("--format", "json") in pairwise(map(str, arguments)):
            expect_form(result.out)
        return result

    return run


def _here(*arguments: str, env: dict[str, str]) -> Result:
    with ExitStack() as files, Path(os.devnull).open() as null:
        out, err = (files.enter_context(TemporaryFile("w+", encoding="utf-8")) for _ in range(2))
        with (
            patch.dict(os.environ, env, clear=True),
            patch.multiple(sys, argv=["backfill", *arguments], stdin=null, stdout=out, stderr=err),
            staying(),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        out.seek(0)
        err.seek(0)
        return Result(int(ended.value.code or 0), out.read(), err.read())


def _anew(*arguments: str, env: dict[str, str]) -> Result:
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def quickstart(tmp_path: Path) -> Path:
    """Copy the quickstart, so that its database belongs to the test."""
    folder = tmp_path / "quickstart"
    shutil.copytree(
        ROOT / "plans" / "quickstart", folder, ignore=shutil.ignore_patterns("*.db*", "__pycache__")
    )
    return folder / "plan.yaml"


class _Server(uvicorn.Server):
    """A server that stops at once: uvicorn checks only every tenth of a second, and there are a
    thousand servers in the tests."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ended = Future[None]()

    async def main_loop(self) -> None:
        ticking = asyncio.create_task(super().main_loop())
        await asyncio.wrap_future(self.ended)
        ticking.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        # A connection that is accepted as a server closes would be left open (Python 3.11).
        for server in self.servers:
            for listening in server.sockets:
                asyncio.get_running_loop().remove_reader(listening)
        for _ in range(3):  # until those that were accepted are made
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        latest = time.monotonic() + (self.config.timeout_graceful_shutdown or 10)
        while self.server_state.connections and time.monotonic() < latest:  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@contextmanager
def served(
    app: ASGIApp,
    door: Door = Door(1 << 30),  # noqa: B008 - frozen
    *,
    dated: bool = True,
) -> Iterator[str]:
    """Serve `app` on a free loopback port until the block ends; bodies of any size get through,
    unless the test is about the door. `dated`: answers have this machine's time."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # clients that connect before the server runs are not refused
        port = listener.getsockname()[1]
        config = configured(app, door, log_level="critical", lifespan="off", date_header=dated)
        server = _Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.ended.set_result(None)
            thread.join(10)


class Jobs:
    """A handler that counts, and lets tests wait for a count; jobs of `held` items never end."""

    def __init__(self, *, failing: Sequence[str] = (), held: Sequence[str] = ()) -> None:
        self.items: list[str] = []
        self.failing, self.held = set(failing), set(held)
        self._more = threading.Condition()

    async def __call__(self, event: Any) -> None:
        item = event["data"]["repo"]
        with self._more:
            self.items.append(item)
            self._more.notify_all()
        if item in self.held:
            await asyncio.sleep(3600)
        if item in self.failing:
            raise ValueError(f"{item} is broken")

    def wait_for(self, count: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self.items) >= count, 30), self.items


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def url(jobs: Jobs) -> Iterator[str]:
    """A server whose only function counts its calls."""
    with served(create_app({"app/sync": jobs})) as address:
        yield address


Start = Callable[..., Forked]


@pytest.fixture
def start(warm: str) -> Iterator[Start]:
    """Start `backfill ARGUMENTS`; what still runs is killed when the test ends."""
    started: list[Forked] = []

    def run(*arguments: object, **options: Any) -> Forked:
        process = Forked(warm, *arguments, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        with process:
            pass


def until(what: Callable[[], bool], seconds: float = 30) -> None:
    latest = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < latest, f"it has not come to this in {seconds} s"
        time.sleep(0.02)
