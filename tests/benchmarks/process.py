"""Measured child processes: `backfill`, the limits and the peers, all started in the same way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.benchmarks.measure import BenchmarkFailed

ROOT = Path(__file__).resolve().parents[2]
_CHILD = Path(__file__).with_name("child.py")

# The environment variables that children get: no keys, no proxies (all traffic is on loopback).
_KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "SYSTEMROOT", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Process:
    """What one child process took: seconds of wall clock and of CPU, and its peak memory.

    `began`: by `time.perf_counter`, which is the same clock in all processes of a machine.
    """

    began: float
    wall: float
    cpu: float
    peak_mb: float


@dataclass(slots=True)
class Running:
    """A running child."""

    command: Sequence[str]
    _parent: subprocess.Popen[bytes]
    _words: IO[bytes]

    def ended(self, expect: int = 0) -> Process:
        """Wait for its end; fail with its stderr if the status is not as expected."""
        with self._words:
            try:
                out, _ = self._parent.communicate()
            except BaseException:
                self.kill()
                self._parent.wait()
                raise
            status, found = self._parent.returncode, {}
            if status == 0:
                found = json.loads(out)
                status = found.pop("status")
            if status != expect:
                self._words.seek(0)
                said = self._words.read().decode(errors="replace")[-2000:]
                raise BenchmarkFailed(f"{' '.join(self.command)} exits {status}:\n{said}")
        return Process(**found)

    @property
    def over(self) -> bool:
        return self._parent.poll() is not None

    def kill(self) -> None:
        """Kill the command with SIGKILL; its status is then -9."""
        self._parent.terminate()


def start(command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> Running:
    words = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
    parent = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_CHILD), *command],
        cwd=folder,
        env=environment() | dict(env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=words,
    )
    return Running(command, parent, words)


def run(command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> Process:
    """Run one child to its end; its output is discarded, its stderr is kept for errors."""
    return start(command, folder, env).ended()


def backfill(*arguments: str) -> list[str]:
    """Return the command of the console script, run by this interpreter."""
    script = Path(sys.executable).with_name("backfill")
    begin = [str(script)] if script.exists() else ["-m", "runner"]
    return [sys.executable, *begin, *arguments]


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def script(name: str, *arguments: str) -> list[str]:
    """Return the command of a file of this folder, which imports nothing of the harness."""
    return [sys.executable, str(Path(__file__).with_name(name)), *arguments]


def environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"NO_COLOR": "1"}
