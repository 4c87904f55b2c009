"""Send 100,000 events, with the journal, to a server on this machine.

The rate is, for all senders alike and by the server's clock: the events after the first request,
divided by the time from the first answer to the last one. Between two answers is one full round of
each sender (for ours: journal the answer, render, encode, derive the ids, journal the next request,
post it), without the start and end of a process. The whole process is measured as well, on a line
without a goal. The slow peers send fewer events; that does not affect a rate.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from shutil import which

from tests.benchmarks.inputs import plan_send
from tests.benchmarks.measure import Figure, Goal, Sizes, in_turn, paired, say
from tests.benchmarks.process import ROOT, Process, backfill, run
from tests.benchmarks.server import Seen, Server, sink

_LARGE, _EVENTS, _ROUNDS = 5_000, 100_000, 5
# Small requests take little time and are easily disturbed: measure many short rounds.
_SMALL, _FEW_EVENTS, _MANY_ROUNDS = 50, 20_000, 21
_ONE_EACH = 4_000  # events per round
_CURLS = 40  # events per round
_SAME = "httpx.AsyncClient, bytes ready"


@dataclass(frozen=True, slots=True)
class Sending:
    process: Process
    seen: Seen


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    large = _Benchmark(folder, sizes.of(_EVENTS), _LARGE)
    small = _Benchmark(folder, sizes.of(_FEW_EVENTS), _SMALL)
    return [
        *large.measure(sizes.rounds(_ROUNDS), Goal("at least", 0.85), peers=True),
        *small.measure(sizes.rounds(_MANY_ROUNDS), Goal("at least", 0.7), peers=False),
    ]


class _Benchmark:
    def __init__(self, folder: Path, events: int, batch_size: int) -> None:
        self.folder, self.events, self.batch_size = folder, events, batch_size
        self.plan = plan_send(folder, events, batch_size)
        self.bodies = folder / f"bodies-{batch_size}"
        self.bodies.mkdir()
        self.numbers = count()

    def measure(self, rounds: int, goal: Goal | None, *, peers: bool) -> list[Figure]:
        with sink(self.bodies) as server:
            self._ours(server, record=True)
            works: dict[str, Callable[[], Sending]] = {
                _SAME: lambda: self._theirs(server, "async-client", self.events),
                "httpx.Client, bytes ready": lambda: self._theirs(
                    server, "sync-client", self.events
                ),
            }
            if peers:
                works |= dict(self._peers(server))
            found = in_turn(rounds, lambda: self._ours(server), *works.values())
        ours, *theirs = found
        goals = {
            _SAME: goal,
            "Inngest's SDK": Goal("at least", 1.0),
            "curl per event": Goal("at least", 200),
        }
        work = f"send {self.events:,}, batches of {self.batch_size:,}"
        figures = [
            Figure(
                work,
                "events/s",
                name,
                paired([one.seen.rate for one in ours], [one.seen.rate for one in others]),
                goals.get(name),
                "limit" if name.endswith("ready") else "peer",
            )
            for name, others in zip(works, theirs, strict=True)
        ]
        walls = paired([one.process.wall for one in ours], [one.process.wall for one in theirs[0]])
        return [*figures, Figure(f"{work}, whole process", "s", _SAME, walls)]

    def _peers(self, server: Server) -> Iterator[tuple[str, Callable[[], Sending]]]:
        yield "Inngest's SDK", lambda: self._theirs(server, "sdk", self.events)
        one_each = min(_ONE_EACH, self.events)
        yield (
            "httpx.Client, one event each",
            lambda: self._theirs(server, "one-each", one_each, str(one_each)),
        )
        if curl := self._curl(server):
            yield (
                "curl per event",
                lambda: Sending(run(curl, self.folder), server.seen(_CURLS)),
            )

    def _ours(self, server: Server, *, record: bool = False) -> Sending:
        state = f"sqlite:///{self.folder}/state-{self.batch_size}-{next(self.numbers)}.db"
        process = run(send(self.plan, server.url, state), self.folder)
        if record:
            server.record()
        seen = server.seen(self.events)
        if record:
            say(f"  {self.events:,} events in {seen.requests:,} requests")
        return Sending(process, seen)

    def _theirs(self, server: Server, name: str, events: int, *most: str) -> Sending:
        arguments = [name, server.url, str(self.bodies), *most]
        process = run([sys.executable, "-m", "tests.benchmarks.senders", *arguments], ROOT)
        return Sending(process, server.seen(events))

    def _curl(self, server: Server) -> list[str] | None:
        """Return a shell loop with one curl process per event; None if there is no curl."""
        program = which("curl")
        if program is None:
            say("  there is no curl here: that line is left out")
            return None
        first = json.loads((self.bodies / "000000.json").read_bytes())
        for number, event in enumerate(first[:_CURLS]):
            text = json.dumps([event])
            (self.folder / f"event-{number}.json").write_text(text, encoding="utf-8")
        loop = (
            f"n=0; while [ $n -lt {_CURLS} ]; do"
            ' "$0" -sS -o /dev/null -H content-type:application/json'
            ' --data-binary "@event-$n.json" "$1" || exit 1; n=$((n+1)); done'
        )
        return ["/bin/sh", "-c", loop, program, f"{server.url}/e/benchmark"]


def send(plan: Path, url: str, state: str) -> list[str]:
    options = ("--no-wait", "--yes", "--target", url, "--format", "json")
    return backfill("run", plan.name, *options, "--state", state)
