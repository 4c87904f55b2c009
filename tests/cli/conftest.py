"""The command line as its users have it: a process, its exit status, what it prints."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "runner"]


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


@pytest.fixture
def backfill() -> Callable[..., Result]:
    """Run `backfill ARGUMENTS`; a traceback is never part of an answer."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert "Traceback" not in done.stdout
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def quickstart(tmp_path: Path) -> Path:
    """A copy of the quickstart, so that its database is the test's own."""
    folder = tmp_path / "quickstart"
    shutil.copytree(
        ROOT / "plans" / "quickstart", folder, ignore=shutil.ignore_patterns("*.db*", "__pycache__")
    )
    return folder / "plan.yaml"


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """`app` on a loopback port of its own, until the block ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(app, log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(10)
