"""Run the sink in a process of its own, and read what it saw."""

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
        """Return what arrived since the last call; fail unless it was so many events."""
        times: list[tuple[float, float, int]] = json.loads(self._get("/times"))
        taken = sum(count for _, _, count in times)
        if taken != events:
            raise BenchmarkFailed(f"{taken:,} events arrived of {events:,}")
        seconds = times[-1][1] - times[0][1]
        rate = (taken - times[0][2]) / seconds if seconds else 0.0
        return Seen(taken, len(times), rate)

    def record(self) -> None:
        """Write the requests seen so far to files, to be posted again."""
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
    """Run the sink until its stdin closes; `bodies`: the folder for recorded requests."""
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
