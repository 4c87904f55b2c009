"""Runs commands in forks of one process that has imported everything, and measures each.

A line of JSON in, `{"folder": ..., "arguments": [...]}`, a line out: the exit status, what was
written, the seconds of the processor, and the most memory. A fork that runs on is killed.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from contextlib import suppress
from typing import Any

from tests.warm import staying, warm_up

SECONDS, BYTES = 10, 1024**3


def answer(folder: str, arguments: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out:
        child = os.fork()
        if child == 0:
            _run(folder, arguments, out.fileno())
        _, status, used = os.wait4(child, 0)
        out.seek(0)
        return {
            "status": os.waitstatus_to_exitcode(status),
            "out": out.read().decode("utf-8", "replace"),
            "seconds": used.ru_utime + used.ru_stime,
            "bytes": used.ru_maxrss * 1024,
        }


def _run(folder: str, arguments: list[str], out: int) -> None:
    from runner.cli.main import main

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + 5, SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_AS, (3 * BYTES, 3 * BYTES))
    signal.alarm(10 * SECONDS)
    os.chdir(folder)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv = ["backfill", *arguments]
    status = 0
    try:
        with staying():
            main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    warm_up()
    asked = os.fdopen(os.dup(0), encoding="utf-8")
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for line in asked:
        print(json.dumps(answer(**json.loads(line))), file=told, flush=True)
