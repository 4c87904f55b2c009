"""Runs commands in forks of one process that has imported everything: most of the time that a
command takes is its imports, and tests have a thousand of them.

`python -m tests.warm SOCKET` serves; CLIENT, with the same socket in SANDBOX_WARM, stands for the
command: it hands over its arguments, folder, environment and files, and ends as the fork does.
SANDBOX_LIMITS bounds the fork: JSON of a limit's name, as `resource` has it, to a number.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import runner

CLIENT = Path(__file__).with_name("warm_client.py")
_READY = "ready"
# Beside all of ours: what others import only when they are used.
_IMPORTED = (
    "anyio._backends._asyncio",
    "concurrent.futures.thread",
    "encodings.idna",
    "jsonschema_rs",
    "psycopg",
    "rich.live",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "statistics",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.h11_impl",
    "yaml",
)


@contextmanager
def serving() -> Iterator[str]:
    """The socket of a process that serves until the block ends."""
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        path = f"{folder}/socket"
        command = [sys.executable, "-m", "tests.warm", path]
        root = Path(__file__).parents[1]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline().strip() == _READY
            yield path
            process.terminate()


def serve(path: str) -> NoReturn:
    ours = (one.name for one in pkgutil.walk_packages(runner.__path__, "runner."))
    for name in (*ours, *_IMPORTED):
        if name != "runner.__main__":
            importlib.import_module(name)
    gc.freeze()  # no fork looks through it, and copies it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        print(_READY, flush=True)
        while True:
            client, _ = listening.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(client)
            client.close()


def _answer(client: socket.socket) -> NoReturn:
    child = os.fork()
    if child == 0:
        _run(client)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):
        client.send(b"%d" % (status if status >= 0 else 128 - status))
    os._exit(0)


def _run(client: socket.socket) -> NoReturn:
    length, files, _, _ = socket.recv_fds(client, 8, 3)
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1)
    arguments, folder, env = json.loads(client.recv(int(length), socket.MSG_WAITALL))
    threading.Thread(target=_end_with, args=[client], daemon=True).start()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for name, limit in json.loads(os.environ.pop("SANDBOX_LIMITS", "{}")).items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    sys.argv[1:] = arguments
    from runner.cli.main import main

    try:
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
    serve(sys.argv[1])
