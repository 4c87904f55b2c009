"""`backfill` in a process of its own, forked from one that has the imports behind it.

A test that starts the command twenty times waits for what it does, and not twenty times for Python
and the libraries. What a process is, it is: memory, folder, environment, streams, status.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [f"runner.cli.{name}" for name in ("applying", "resuming", "pages", "examine", "review")]
)


def call(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, seconds: float
) -> int:
    """Run it to its end, its output in `folder`; its exit status. Raises `TimeoutError`."""
    process = _CONTEXT.Process(
        target=_become, args=(list(arguments), dict(environment), Path.cwd(), folder)
    )
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"backfill {' '.join(arguments)} is still under way")
    return process.exitcode


def _become(arguments: list[str], environment: dict[str, str], folder: Path, output: Path) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for number, path in enumerate((Path(os.devnull), output / "out", output / "err")):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = ["backfill", *arguments]
    from runner.cli.main import main

    main()
