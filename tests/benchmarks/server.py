"""The sink in a process of its own, and what it saw."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measure import BenchmarkFailed
from tests.benchmarks.process import ROOT, environment


@dataclass(frozen=True, slots=True)
class Seen:
    """What arrived, and at which rate: see `tests.benchmarks.send`."""

    events: int
    requests: int
    rate: float


@dataclass(frozen=True, slots=True)
class Server:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def seen(self, events: int) -> Seen:
        """Since the last time this was asked; it must have been so many events."""
        times: list[tuple[float, float, int]] = json.loads(self._get("/times"))
        taken = sum(count for _, _, count in times)
        if taken != events:
            raise BenchmarkFailed(f"{taken:,} events arrived of {events:,}")
        seconds = times[-1][1] - times[0][1]
        rate = (taken - times[0][2]) / seconds if seconds else 0.0
        return Seen(taken, len(times), rate)

    def record(self) -> None:
        """Keep the requests seen so far, as files that others can post again."""
        self._get("/bodies")

    def _get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def sink(bodies: Path) -> Iterator[Server]:
    """`bodies`: the folder for the requests that are recorded. It ends when its stdin closes."""
    command = [sys.executable, "-m", "tests.benchmarks.sink", str(bodies)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline()
            if not port:
                raise BenchmarkFailed("the local server did not start")
            yield Server(int(port))
        finally:
            process.terminate()
