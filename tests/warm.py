"""Runs commands in forks of one process that has imported everything: most of the time that a
command takes is its imports, and tests have a thousand of them.

`python -m tests.warm NUMBER` serves at the socket that it was handed as this file. `Forked` stands
for a command's process: it hands over arguments, folder, environment and files, and ends as the
fork does. CLIENT does so for shells, with the socket in SANDBOX_WARM. SANDBOX_LIMITS bounds the
fork: JSON of a limit's name, as `resource` has it, to a number; SANDBOX_KILLED says at which point
it dies: see tests/faults/killed.py.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from pathlib import Path
from typing import IO, NoReturn, Self, TypeAlias
from unittest.mock import patch

import httpx

import runner
from runner.adapters.http import open_client
from runner.cli.main import main
from tests.faults.killed import killed_at

CLIENT = Path(__file__).with_name("warm_client.py")
PID = 10  # characters
SOCKET = "SANDBOX_WARM"  # the variable
_SDK = "runner.agents.server"  # its imports take a second, and most commands have no use for it
# Beside all of ours: what others import only when they are used.
_IMPORTED = (
    "anyio._backends._asyncio",
    "concurrent.futures.thread",
    "encodings.idna",
    "jsonschema_rs",
    "psycopg",
    "rich.live",
    "rich.table",
    "statistics",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.h11_impl",
    "yaml",
)
# Seconds: what is looked at again and again is looked at sooner, and a worker's step does not sleep
# for long by itself. No test cuts the power, so nothing waits for the disk.
SOONER: dict[str, float | str] = {
    "runner.adapters.journal.database._SYNCHRONOUS": "synchronous=OFF",
    "runner.adapters.worker.app._CHECK_AGAIN": 0.1,
    "runner.adapters.worker.registration._AGAIN": 0.2,
    "runner.adapters.web.app._EVERY": 0.1,
    "runner.app.notify.DEADLINE": 2.0,
    "runner.app.notify._EVERY": 0.1,
    "runner.cli.logs._EVERY": 0.1,
    "runner.cli.status._EVERY": 0.1,
    "runner.execution.follow._FIRST_WAIT": 0.02,
    "runner.execution.gate._ASK_AGAIN": 0.1,
    "runner.execution.pacing._MOST": 1.5,
    "runner.execution.pacing._SHORT": 0.3,
    "runner.model.patience.FIRST": 0.5,  # a server that is away is away
}
_PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: warm}
repos: [{repo: acme/x}]
operations: [repository-sync]
"""


Asked: TypeAlias = tuple[list[str], str, dict[str, str]]  # arguments, folder, environment


class Forked:
    """Meets what tests use of `subprocess.Popen`: its output is text."""

    def __init__(
        self,
        warm: str,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
        stdin: bytes | None = None,
        stdout: IO[str] | int = subprocess.PIPE,
        stderr: IO[str] | int = subprocess.PIPE,
    ) -> None:
        self.returncode: int | None = None
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(warm)
        self.stdout, out = _handed(stdout)
        self.stderr, err = _handed(stderr)
        given = os.open(os.devnull, os.O_RDONLY) if stdin is None else _piped(stdin)
        where, variables = str(folder or Path.cwd()), dict(env or os.environ)
        asked = json.dumps([[*map(str, arguments)], where, variables])
        socket.send_fds(self._server, [b"%8d" % len(asked)], [given, out, err])
        self._server.sendall(asked.encode())
        for own in (given, out, err):
            os.close(own)
        self.pid = int(self._server.recv(PID))

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # else its number may be another's by now
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0.001)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._server.settimeout(timeout)
            try:
                self.returncode = int(self._server.recv(8))
            except TimeoutError:
                raise subprocess.TimeoutExpired("backfill", timeout or 0) from None
            self._server.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What is left of its output. Raises `TimeoutExpired` where it has not ended by then."""
        with ThreadPoolExecutor(2) as threads:
            ends = [threads.submit(one.read) for one in (self.stdout, self.stderr) if one]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            read = iter(end.result() for end in ends)
        out, err = (next(read) if one else "" for one in (self.stdout, self.stderr))
        self._closed()
        return out, err

    def _closed(self) -> None:
        for one in (self.stdout, self.stderr):
            if one:
                one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._closed()


def _piped(stdin: bytes) -> int:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as pipe:  # has room for some thousand bytes
        pipe.write(stdin)
    return read


def _handed(file: IO[str] | int) -> tuple[IO[str] | None, int]:
    """What this process reads of the output, and where the fork writes it to."""
    if file == subprocess.PIPE:
        read, write = os.pipe()
        return os.fdopen(read, encoding="utf-8"), write
    if file == subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_WRONLY)
    assert not isinstance(file, int)
    return None, os.dup(file.fileno())


def serving() -> Callable[[], None]:
    """Starts a process that serves, for this one and those that it starts; what ends it.

    Nobody waits for it here: it is ready before a worker has found its tests. Should this process
    end without a word, so does that one, whose stdin ends.
    """
    folder = tempfile.mkdtemp(prefix="warm-")
    os.environ[SOCKET] = f"{folder}/socket"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.environ[SOCKET])
    listening.listen(128)
    command = [sys.executable, "-m", "tests.warm", str(listening.fileno())]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, pass_fds=[listening.fileno()]
    )
    listening.close()

    def end() -> None:
        process.kill()  # it may be at a command, which would take another signal for its own
        process.communicate()
        shutil.rmtree(folder)

    return end


def warm_up() -> None:
    """Imports everything and runs commands, which compile the schemas and the built-in catalog."""
    ours = (one.name for one in pkgutil.walk_packages(runner.__path__, "runner."))
    for name in (*ours, *_IMPORTED):
        if name not in ("runner.__main__", _SDK):
            importlib.import_module(name)
    here, environ = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as null:
        os.chdir(folder)
        os.environ["BACKFILL_STATE"] = f"sqlite:///{folder}/state.db"
        Path("plan.yaml").write_text(_PLAN, encoding="utf-8")
        with redirect_stdout(null), redirect_stderr(null):
            for arguments in (
                ("validate", "plan.yaml"),
                ("run", "plan.yaml", "--yes"),
                ("status",),
            ):
                sys.argv[1:] = arguments
                with suppress(SystemExit), staying():
                    main()
        os.chdir(here)
    os.environ.clear()
    os.environ.update(environ)
    asyncio.run(_trust())
    gc.collect()
    gc.freeze()  # no fork looks through it, and copies it


@contextmanager
def staying() -> Iterator[None]:
    """A command that ends leaves to this process what is to be done at its own end."""
    with patch("runner.cli.main._leave", sys.exit), patch("atexit._run_exitfuncs"):
        yield


def hurry() -> None:
    """No fork waits for as long as people and servers have it wait: see `SOONER`."""
    for name, sooner in SOONER.items():
        module, _, constant = name.rpartition(".")
        assert constant in vars(importlib.import_module(module)), name
        setattr(sys.modules[module], constant, sooner)


async def _trust() -> None:
    """Reads this machine's certificates, which takes longer than all else that a client does; also
    for the engine's SDK, whose every client reads them twice."""
    made = cache(httpx.create_ssl_context)
    setattr(sys.modules["httpx._transports.default"], "create_ssl_context", made)  # noqa: B010
    async with open_client(), httpx.AsyncClient():
        pass


def serve(listening: socket.socket) -> None:
    warm_up()
    hurry()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this one ends it
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        client, _ = listening.accept()
        length, files, _, _ = socket.recv_fds(client, 8, 3)
        asked: Asked = json.loads(client.recv(int(length), socket.MSG_WAITALL))
        if asked[0][:1] == ["mcp"]:
            importlib.import_module(_SDK)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(client, files, asked)
        client.close()
        for file in files:
            os.close(file)


def _answer(client: socket.socket, files: list[int], asked: Asked) -> NoReturn:
    child = os.fork()
    if child == 0:
        _run(client, files, asked)
    for file in files:
        os.close(file)
    with suppress(BrokenPipeError):
        client.send(b"%*d" % (PID, child))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):
        client.send(b"%d" % status)
    os._exit(0)


def _run(client: socket.socket, files: list[int], asked: Asked) -> NoReturn:
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1)
    arguments, folder, env = asked
    threading.Thread(target=_end_with, args=[client], daemon=True).start()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for name, limit in json.loads(os.environ.pop("SANDBOX_LIMITS", "{}")).items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    for number in (signal.SIGHUP, signal.SIGTERM):  # whatever the tests were started with
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if point := os.environ.pop("SANDBOX_KILLED", None):
        killed_at(*point.split())
    sys.argv[1:] = arguments

    try:
        with staying():
            main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))


def _end_with(client: socket.socket) -> None:
    """Who kills the client means the command."""
    client.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
