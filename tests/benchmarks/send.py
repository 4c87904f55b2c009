"""Sending 50,000 events with the journal on, to a server on this machine.

What counts as the rate, for all three senders alike and by the server's clock: the events after
the first request, divided by the time from the first answer to the last one. Between two answers
lies one full round of each sender (for ours: journal the answer, render, encode, derive the ids,
journal the next request, post it), and nothing of what starts and ends a process. The whole
processes are measured as well: they are the lines without a goal.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from shutil import which

from tests.benchmarks.inputs import plan_send
from tests.benchmarks.measure import (
    ROOT,
    BenchmarkFailed,
    Figure,
    Goal,
    Process,
    backfill,
    environment,
    figure,
    in_turn,
    run,
    say,
)

_EVENTS = 50_000
_PAIRS = 5
_CURLS = 40  # a round; 200 in all
_MODULE = "tests.benchmarks"


@dataclass(frozen=True, slots=True)
class Sending:
    process: Process
    rate: float
    requests: int


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    bodies: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def times(self, events: int) -> tuple[float, int]:
        """Events a second since the last time this was asked, and in how many requests."""
        seen: list[tuple[float, float, int]] = json.loads(self._get("/times"))
        taken = sum(events for _, _, events in seen)
        if taken != events:
            raise BenchmarkFailed(f"{taken:,} events arrived of {events:,}")
        return (taken - seen[0][2]) / (seen[-1][1] - seen[0][1]), len(seen)

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


def measure(folder: Path) -> list[Figure]:
    figures = []
    for batch_size in (5_000, 50):
        figures += _measure(folder, batch_size)
    return figures


def _measure(folder: Path, batch_size: int) -> list[Figure]:
    plan = plan_send(folder, _EVENTS, batch_size)
    bodies = folder / f"bodies-{batch_size}"
    bodies.mkdir()
    with _serve(bodies) as server:
        numbers = count()

        def send(*, record: bool = False) -> Sending:
            state = f"sqlite:///{folder}/state-{batch_size}-{next(numbers)}.db"
            options = ("--no-wait", "--yes", "--target", server.url, "--format", "json")
            process = run(backfill("run", plan.name, *options, "--state", state), folder)
            if record:
                server.record()
            return Sending(process, *server.times(_EVENTS))

        def post() -> Sending:
            arguments = [f"{_MODULE}.bare_loop", f"{server.url}/e/benchmark", str(bodies)]
            process = run([sys.executable, "-m", *arguments], ROOT)
            return Sending(process, *server.times(_EVENTS))

        requests = send(record=True).requests
        say(f"  {_EVENTS:,} events in {requests:,} requests")
        curls: list[Sending] = []
        curl = _curl(folder, bodies, server) if batch_size == 5_000 else None

        def post_and_curl() -> Sending:
            posted = post()
            if curl:
                process = run(curl, folder)
                curls.append(Sending(process, *server.times(_CURLS)))
            return posted

        pairs = in_turn(send, post_and_curl, _PAIRS)
    return _figures(batch_size, pairs, curls[1:])


def bare_seconds(folder: Path, events: int, batch_size: int, times: int) -> list[float]:
    """How long the bare loop takes to send what we would send, by the server's clock."""
    plan = plan_send(folder, events, batch_size)
    bodies = folder / "bodies"
    bodies.mkdir()
    with _serve(bodies) as server:
        options = ("--no-wait", "--yes", "--target", server.url, "--format", "json")
        state = f"sqlite:///{folder}/bare.db"
        run(backfill("run", plan.name, *options, "--state", state), folder)
        server.record()
        server.times(events)
        rates = []
        for _ in range(times):
            run(
                [sys.executable, "-m", f"{_MODULE}.bare_loop", f"{server.url}/e/x", str(bodies)],
                ROOT,
            )
            rates.append(server.times(events)[0])
    return [events / rate for rate in rates]


def _figures(
    batch_size: int, pairs: list[tuple[Sending, Sending]], curls: list[Sending]
) -> list[Figure]:
    work = f"send {_EVENTS:,}, batches of {batch_size:,}"
    rates = tuple((ours.rate, bare.rate) for ours, bare in pairs)
    goal = Goal("at least", 0.5) if batch_size == 5_000 else None
    figures = [Figure(work, "events/s", "bare httpx loop", rates, goal)]
    if curls:
        against = tuple((ours.rate, by.rate) for (ours, _), by in zip(pairs, curls, strict=True))
        figures.append(Figure(work, "events/s", "curl per event", against, Goal("at least", 50)))
    whole = [(ours.process, bare.process) for ours, bare in pairs]
    return [*figures, figure(f"{work}, whole process", whole, "bare httpx loop")]


def _curl(folder: Path, bodies: Path, server: Server) -> list[str] | None:
    """A shell loop, one curl process an event; None where there is no curl."""
    program = which("curl")
    if program is None:
        say("  there is no curl here: that line is left out")
        return None
    first = json.loads((bodies / "000000.json").read_bytes())
    for number, event in enumerate(first[:_CURLS]):
        (folder / f"event-{number}.json").write_text(json.dumps([event]), encoding="utf-8")
    loop = (
        f'n=0; while [ $n -lt {_CURLS} ]; do "$0" -sS -o /dev/null -H content-type:application/json'
        ' --data-binary "@event-$n.json" "$1" || exit 1; n=$((n+1)); done'
    )
    return ["/bin/sh", "-c", loop, program, f"{server.url}/e/benchmark"]


@contextmanager
def _serve(bodies: Path) -> Iterator[Server]:
    """The sink in a process of its own; it ends when its stdin closes."""
    command = [sys.executable, "-m", f"{_MODULE}.sink", str(bodies)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline()
            if not port:
                raise BenchmarkFailed("the local server did not start")
            yield Server(int(port), bodies)
        finally:
            process.terminate()
