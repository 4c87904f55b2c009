"""How a batch is cut into requests, what happens while one is under way, and what a refusal
does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from runner.adapters.journal.writer import JournalWriter
from runner.errors import Incomplete, TargetDown, TargetError
from runner.execution.context import RequestLimits
from runner.execution.pacing import Pace
from runner.execution.ports import Answer, Chunk, Control, RequestTooLarge
from runner.execution.send import Ahead, Sender, Sent, Wire, batch_size, pick, stage_at
from runner.model import ExecutionPlan, Pacing, Stage
from runner.planning.event_blocks import EventBlocks
from tests.support import CATALOG, FakeClock, Recorder, make_plan, new_store, repos, start_journal

FIRE = "operations: [fire]\n"
MIXED = f"""{CATALOG}  mark:
    {{event: app/mark, for_each: repo, payload: {{repo: "{{{{ repo.repo }}}}"}}, done: completed}}
"""


@dataclass
class Server:
    """Takes as many events of each request as `script` says, in turn, or raises what it has;
    without a script it takes all. `meanwhile`: called while a request is under way."""

    script: list[int | Exception | Answer] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    async def send(
        self, body: bytes, count: int, seed: str, meanwhile: Callable[[], object] | None
    ) -> Answer:
        assert body.startswith(b"[{")
        self.asked.append(count)
        if meanwhile:
            meanwhile()
        self.meanwhile()
        come = self.script.pop(0) if self.script else count
        if isinstance(come, Exception):
            raise come
        if isinstance(come, Answer):
            return come
        ids = tuple(f"{seed}{number}" for number in range(come))
        return Answer(ids, refused="bad event" if come < count else None)


@dataclass
class Made:
    plan: ExecutionPlan
    journal: JournalWriter
    server: Server
    sender: Sender
    observer: Recorder

    @property
    def stage(self) -> Stage:
        return self.plan.stages[0]

    def ahead(self, start: int = 0) -> Ahead:
        return Ahead(Wire("RUN1", 1.0, self.stage), start)

    async def batch(self, ahead: Ahead, count: int, pace: Pace | None = None) -> list[Sent]:
        pace, control, stop = pace or Pace(self.stage.pacing), Control(), asyncio.Event()
        sent = self.sender.send_batch(self.stage, ahead, count, 1, pace, control, stop)
        return [one async for one in sent]

    def send(self, count: int) -> list[Sent]:
        return asyncio.run(self.batch(self.ahead(), count))


def make(
    folder: Path,
    body: str,
    *script: int | Exception | Answer,
    most: int = 5_000,
    catalog: str = CATALOG,
) -> Made:
    plan = make_plan(folder, body, catalog=catalog)
    journal = start_journal(new_store(folder), plan)
    server, observer, random = Server([*script]), Recorder(), Random(1)  # noqa: S311
    limits = RequestLimits(most)
    sender = Sender(server, journal, FakeClock(), observer, random, limits)
    return Made(plan, journal, server, sender, observer)


TOO_LARGE = RequestTooLarge("too large")


def test_a_request_that_is_too_large_is_halved_and_the_next_batch_tries_twice_as_many(
    tmp_path: Path,
) -> None:
    made = make(tmp_path, repos(64) + FIRE, TOO_LARGE, TOO_LARGE, most=16)

    async def main() -> None:
        ahead = made.ahead()
        for _ in range(4):
            await made.batch(ahead, 16)

    asyncio.run(main())
    sizes = made.server.asked
    assert sizes == [16, 8, 4, 4, 4, 4, 8, 8, 16, 16]
    notes = [
        "too large: from now on at most 8 events a request",
        "too large: from now on at most 4 events a request",
    ]
    assert made.observer.notes == notes
    assert made.journal.next_position() == 64


def test_of_two_events_that_are_too_large_together_none_is_rejected(tmp_path: Path) -> None:
    made = make(tmp_path, repos(2) + FIRE, TOO_LARGE)
    assert [(one.accepted, one.rejected) for one in made.send(2)] == [(1, 0), (1, 0)]
    assert made.server.asked == [2, 1, 1]


def test_an_event_that_is_too_large_by_itself_is_rejected_by_name(tmp_path: Path) -> None:
    made = make(tmp_path, repos(2) + FIRE, TOO_LARGE, TOO_LARGE)
    assert [(one.accepted, one.rejected) for one in made.send(2)] == [(0, 1), (1, 0)]
    assert made.observer.notes[-1] == "fire: o/r0 was rejected: too large"
    assert [one.item for one in made.journal.failures()] == ["o/r0"]


def test_a_request_that_may_have_been_taken_is_never_cut_anew(tmp_path: Path) -> None:
    made = make(tmp_path, repos(4) + FIRE, RequestTooLarge("too large", maybe_taken=True))
    with pytest.raises(Incomplete, match="an answer was lost, and then too large"):
        made.send(4)
    assert [len(lost.positions) for lost in made.journal.unanswered()] == [4]


def test_what_a_refusal_leaves_out_goes_into_a_request_of_its_own(tmp_path: Path) -> None:
    made = make(tmp_path, repos(6) + FIRE, 2, 1)
    sent = made.send(6)
    assert [one.chunk.number for one in sent] == [0, 1, 2]
    assert [(one.accepted, one.rejected) for one in sent] == [(2, 1), (1, 1), (1, 0)]
    assert [event.item for one in sent for event in one.events()] == [
        "o/r0",
        "o/r1",
        "o/r3",
        "o/r5",
    ]
    assert made.server.asked == [6, 3, 1]


@pytest.mark.parametrize(("before", "error"), [(0, TargetDown), (1, Incomplete)])
def test_a_server_that_has_answered_and_is_gone_leaves_the_run_to_be_resumed(
    tmp_path: Path, before: int, error: type[TargetError]
) -> None:
    made = make(tmp_path, repos(2) + FIRE, *[1] * before, TargetDown("away"), most=1)
    with pytest.raises(error, match="stopped: away" if before else "^away$"):
        made.send(2)
    assert len(made.journal.unanswered()) == 1


def test_while_a_request_is_under_way_the_answer_before_is_written_down(tmp_path: Path) -> None:
    made = make(tmp_path, repos(6) + FIRE, most=2)
    store, written = new_store(tmp_path), []
    made.server.meanwhile = lambda: written.append(store.reading(store.find("RUN1")).totals())
    made.send(6)
    assert [one.accepted for one in written] == [0, 2, 4]


def test_all_requests_but_the_first_are_ready_when_the_one_before_is_answered(
    tmp_path: Path,
) -> None:
    """Including those of the next batch."""
    made = make(tmp_path, repos(14) + FIRE + "batch_size: 7\n", most=3)
    under_way: list[bool] = []

    class Watched(Ahead):
        def prepare(self, skipped: int, limits: RequestLimits) -> None:
            under_way.append(skipped > 0)
            super().prepare(skipped, limits)

    async def main() -> None:
        ahead = Watched(Wire("RUN1", 1.0, made.stage), 0)
        for _ in range(2):
            await made.batch(ahead, 7)

    asyncio.run(main())
    assert made.server.asked == [3, 3, 1, 3, 3, 1]
    assert under_way == [False, *[True] * 6]


def test_trouble_on_the_way_slows_the_pace_and_says_so(tmp_path: Path) -> None:
    made = make(tmp_path, repos(2) + FIRE, Answer(("a", "b"), trouble="503"))
    pace = Pace(Pacing(10, 2.0))
    asyncio.run(made.batch(made.ahead(), 2, pace))
    assert (pace.size, pace.delay) == (5, 4.0)
    assert made.observer.notes == ["slower now, batches of 5, 4s apart: 503"]


@pytest.mark.parametrize("resent", [False, True])
@pytest.mark.parametrize("trouble", [None, "503"])
def test_the_time_of_a_request_is_that_at_which_the_server_took_it(
    tmp_path: Path, trouble: str | None, resent: bool
) -> None:
    """Waiting for jobs starts then: after trouble, that is later than when the request was first
    made."""
    made = make(tmp_path, repos(1) + FIRE, Answer(("a",), resent=resent, trouble=trouble))
    clock = made.sender.clock
    assert isinstance(clock, FakeClock)
    clock.now, began = 1_000.0, 1_000.0
    made.server.meanwhile = lambda: setattr(clock, "now", began + 300.0)
    (sent,) = made.send(1)
    made.journal.settle()
    took = began + 300.0 if trouble or resent else began
    assert [event.sent_at for event in sent.events()] == [took]
    assert [one.sent_at for one in made.journal.unsettled()] == [took]


def chunk_of(made: Made, count: int) -> Chunk:
    """Return a request whose answer was lost."""
    made.server.script = [TargetDown("away")]
    with pytest.raises(TargetDown):
        made.send(count)
    lost = made.journal.unanswered()[0]
    events = made.ahead()
    _, body = events.request(RequestLimits(count))
    lines = events.lines[:count]
    name = "app/fire"
    return Chunk(0, 1, 1, "fire", name, lost.seed, body, lost.positions, lines, 1.0, 1.0)


def test_a_lost_request_that_is_sent_again_counts_as_such(tmp_path: Path) -> None:
    made = make(tmp_path, repos(3) + FIRE)
    asyncio.run(made.sender.send_again(chunk_of(made, 3)))
    totals = made.journal.totals()
    assert (totals.accepted, totals.deduplicated) == (3, 3)


def test_a_lost_event_that_is_too_large_now_is_rejected_and_two_are_cut_anew(
    tmp_path: Path,
) -> None:
    for count, rejected in ((1, 1), (2, 0)):
        (folder := tmp_path / str(count)).mkdir()
        made = make(folder, repos(2) + FIRE)
        sent = made.sender.cut_anew(chunk_of(made, count), TOO_LARGE)
        assert (sent.accepted, sent.rejected) == (0, rejected)
        assert made.journal.next_position() == rejected
        assert not made.journal.unanswered()


def test_a_request_is_of_one_operation_and_written_down_as_such(tmp_path: Path) -> None:
    made = make(tmp_path, repos(2) + "flow: items\noperations: [sync, mark]\n", catalog=MIXED)
    sent = made.send(4)
    kinds = [(one.chunk.operation, one.chunk.event, one.accepted) for one in sent]
    assert kinds == [("sync", "app/sync", 1), ("mark", "app/mark", 1)] * 2


def test_any_events_of_a_plan_are_found_by_their_positions(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, repos(3) + "operations: [sync, embed, fire]\n")
    every = [
        (stage, index, item, data)
        for stage in plan.stages
        for index, (item, data) in enumerate(stage.items.raw())
    ]
    for count in range(len(every) + 1):
        for positions in combinations(range(len(every)), count):
            assert [*pick(plan, positions)] == [every[position] for position in positions]
    unpacked: list[int] = []

    class Counted(EventBlocks):
        def raw(self, start: int = 0) -> Iterator[tuple[str, bytes]]:
            unpacked.append(start)
            return super().raw(start)

    def watched(stage: Stage) -> Stage:
        items = stage.items
        assert isinstance(items, EventBlocks)
        return replace(stage, items=Counted(items.event, items.count, items.blocks))

    counted = replace(plan, stages=tuple(map(watched, plan.stages)))
    assert len([*pick(counted, (1, 2, 4, 5, 8))]) == 5
    assert unpacked == [1, 1, 2], "once a stage"
    assert [stage_at(plan, position)[1] for position in range(9)] == [0] * 3 + [3] * 3 + [6] * 3
    with pytest.raises(IndexError):
        stage_at(plan, 9)


@pytest.mark.parametrize(
    ("index", "planned", "slowed"),
    [(0, 2, 2), (1, 1, 1), (2, 4, 2), (3, 3, 2), (6, 4, 2), (9, 1, 1)],
)
def test_a_batch_keeps_its_bounds_at_the_planned_pace_and_is_the_paces_else(
    tmp_path: Path, index: int, planned: int, slowed: int
) -> None:
    """A canary of two goes alone, at any pace."""
    body = repos(10) + "operations: [sync]\nbatch_size: 4\ncanary: 2\n"
    stage = make_plan(tmp_path, body).stages[0]
    pace = Pace(stage.pacing)
    assert batch_size(stage, index, pace) == planned
    pace.slow_down("trouble")
    assert batch_size(stage, index, pace) == slowed
