"""How a run goes through its stages, what ends it within one, and what is not done then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InvalidPlan, PreflightRefused, TargetError
from runner.execution.context import Ending, RequestLimits, RunOptions
from runner.execution.pacing import Step
from runner.execution.ports import NOTHING, About, Guard, Resolved
from runner.execution.run import execute
from runner.model import (
    BoundQuestion,
    Check,
    DatabaseClock,
    ExecutionPlan,
    Expect,
    Json,
    Problem,
    Query,
    Stage,
    Table,
)
from runner.planning.event_blocks import pack
from tests.support import (
    CATALOG,
    FakeClock,
    HoldsOnce,
    Recorder,
    StandIn,
    answers,
    connect,
    lost_after,
    make_plan,
    new_store,
    reopen,
    repos,
    start_journal,
)

DRAINS = """\
  drain:
    event: app/sync
    for_each: repo
    payload: {repo: "{{ repo.repo }}"}
    done: completed
    until: {query: backlog, expect: {column: n, at_most: 0}, max_rounds: 2, stalled_after: 2}
  short:
    event: app/sync
    for_each: repo
    payload: {repo: "{{ repo.repo }}"}
    done: completed
    until: {query: backlog, expect: {column: n, at_most: 0}, max_time: 1m}
  tell: {event: app/sync, for_each: repo, payload: {repo: "{{ repo.repo }}"}, done: sent}
"""
PACED = "batch_size: 2\ndelay: 40s\n"


class Clock(FakeClock):
    """A clock at whose n-th sleep something happens."""

    def __init__(self, at: Mapping[int, Callable[[], object]]) -> None:
        super().__init__()
        self._at = at

    async def sleep(self, seconds: float, until: asyncio.Event) -> None:
        await super().sleep(seconds, until)
        self._at.get(len(self.slept), lambda: None)()


@dataclass
class Database:
    """Gives the answers to each query in turn, the last one forever."""

    answers: Mapping[str, Sequence[float]]
    asked: list[str] = field(default_factory=list)
    meanwhile: Mapping[str, Callable[[], None]] = field(default_factory=dict)

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:  # noqa: ARG002
        text = str(query.ask)
        number = self.asked.count(text)
        self.asked.append(text)
        self.meanwhile.get(text, lambda: None)()
        answers = self.answers[text]
        return Table(("n",), ((answers[min(number, len(answers) - 1)],),))

    def clock(self, name: str | None) -> DatabaseClock:
        raise AssertionError(f"no time is compared in {name}")

    def row_security(self, query: Query, parameters: Mapping[str, Json]) -> tuple[()]:  # noqa: ARG002
        return ()


def ask(moment: Any, operation: str | None = None) -> Check:
    question = BoundQuestion(Query(f"{moment} {operation}" if operation else moment), {})
    return Check(moment, question, Expect("n", at_least=1), moment, operation, unchanged="allow")


AFTER = [ask("after", operation) for operation in ("sync", "drain", "short")]
CHECKS = (ask("before"), *AFTER, ask("end"))
GOOD = {str(one.question.query.ask): [1.0] for one in CHECKS}


class Run:
    """A run of two stages: the one under test, and `fire`."""

    def __init__(
        self,
        folder: Path,
        operation: str = "sync",
        body: str = "",
        *,
        use: str | None = None,
        count: int = 4,
        answers: Mapping[str, Sequence[float]] = {},
        sleeps: Mapping[int, Callable[[Run], object]] = {},
        posts: Mapping[int, Callable[[Run], object]] = {},
        **server: Any,
    ) -> None:
        body = f"{repos(count)}operations: [{use or operation}, fire]\n{body}"
        plan = make_plan(folder, body, catalog=CATALOG + DRAINS)
        named = tuple(one for one in CHECKS if one.operation in (None, operation))
        self.plan: ExecutionPlan = replace(plan, checks=named)
        self.clock = Clock({number: self._act(act) for number, act in sleeps.items()})
        self.store = new_store(folder, self.clock.time)
        self.journal = start_journal(self.store, self.plan)
        self.database = Database({**GOOD, **answers})
        self.observer, self.stop = Recorder(), asyncio.Event()
        self.step = Step(self.clock, self.stop, self.journal.keep_lease)
        faults: list[Any] = [
            self._act(posts[n]) if n in posts else None for n in range(max(posts, default=0) + 1)
        ]
        self.server = StandIn(faults=faults, **server)
        self.resolver: Run | None = self
        self.items: Callable[[Stage], Stage] = lambda stage: self.plan.stages[stage.number - 1]

    def _act(self, act: Callable[[Run], object]) -> Callable[..., None]:
        def do(*_given: object) -> None:
            act(self)

        return do

    async def resolve(self, stage: Stage, _about: About = NOTHING) -> Resolved:
        return Resolved(self.items(stage))

    def drive(
        self,
        *,
        follow: bool = True,
        step: bool = False,
        guards: Sequence[Guard] = (),
        **options: Any,
    ) -> Ending:
        async def main() -> Ending:
            async with connect(
                self.server,
                self.journal,
                clock=self.clock,
                observer=self.observer,
                stop=self.stop,
                follow=follow,
                guards=guards,
            ) as context:
                context = replace(
                    context,
                    database=self.database,
                    resolver=self.resolver,
                    options=RunOptions(**options),
                    step=self.step if step else None,
                )
                return await execute(self.plan, context)

        return asyncio.run(main())

    def again(self, **options: Any) -> Ending:
        """Drive the run again, as `resume` does."""
        self.reopen()
        return self.drive(**options)

    def reopen(self) -> None:
        self.journal = reopen(self.store, self.store.plan_of(self.store.find("RUN1")))
        self.plan = self.store.plan_of(self.store.find("RUN1"))
        self.observer, self.stop = Recorder(), asyncio.Event()

    @property
    def sent(self) -> list[str]:
        return [
            f"{event['name'][4:]} {event['data']['repo'][2:]}" for event in self.server.received
        ]

    @property
    def waits(self) -> list[str]:
        """The reasons for waiting that the display got."""
        told = [one.waiting.reason for one in self.observer.progresses if one.waiting]
        return [reason for number, reason in enumerate(told) if reason not in told[:number]]


def cancel(run: Run) -> None:
    run.store.request_cancel("RUN1")


def stop(run: Run) -> None:
    run.stop.set()


def at_rest(act: Callable[[Run], object]) -> dict[int, Callable[[Run], object]]:
    """Act once the run rests between two batches."""
    return dict.fromkeys(range(1, 20), lambda run: "between" in "".join(run.waits) and act(run))


def finish(run: Run) -> None:
    """Complete the running jobs."""
    for job in (job for jobs in run.server._runs.values() for job in jobs):
        job |= {"status": "Completed", "ended_at": "2026-01-01T00:00:00Z"}


WHOLE = ["sync r0", "sync r1", "sync r2", "sync r3", "fire r0", "fire r1", "fire r2", "fire r3"]


def test_a_run_goes_through_its_stages_and_asks_each_check_at_its_moment(tmp_path: Path) -> None:
    run = Run(tmp_path, body=PACED)
    assert run.drive() == Ending("complete")
    assert run.sent == WHOLE
    assert run.database.asked == ["before", "after sync", "end"]
    last = {one.number: one for one in run.observer.progresses}
    assert [one.done for one in last.values()] == [True, True]
    assert run.observer.run_id == "RUN1"
    assert run.observer.notes == []
    assert run.waits == ["40s between batches", "for its jobs to end"]


ENDS: dict[str, tuple[dict[str, Any], dict[str, Any], int, Ending]] = {
    "cancelled while it rests": (
        {"body": PACED, "sleeps": at_rest(cancel)},
        {},
        2,
        Ending("cancelled", "cancelled by an operator"),
    ),
    "cancelled while a request is made": (
        {"body": "batch_size: 2\n", "posts": {0: cancel}},
        {},
        2,
        Ending("cancelled", "cancelled by an operator"),
    ),
    "cancelled within a batch": (
        {"posts": {0: cancel}},
        {"limits": RequestLimits(events=1)},
        1,
        Ending("cancelled", "cancelled by an operator"),
    ),
    "cancelled while its jobs go on": (
        {"sleeps": {2: cancel, 3: stop}, "slow_jobs": {"o/r1"}},
        {},
        4,
        Ending("cancelled", "cancelled by an operator"),
    ),
    "cancelled while there is no room": (
        {
            "use": "{use: sync, max_in_flight: 2}",
            "sleeps": {2: cancel},
            "slow_jobs": {"o/r0", "o/r1"},
        },
        {},
        2,
        Ending("cancelled", "cancelled by an operator"),
    ),
    "stopped while it rests": (
        {"body": PACED, "sleeps": at_rest(stop)},
        {},
        2,
        Ending("stopped"),
    ),
    "stopped while a request is made": (
        {"body": "batch_size: 2\n", "posts": {0: stop}},
        {},
        2,
        Ending("stopped"),
    ),
    "stopped with its last request": ({"posts": {0: stop}}, {}, 4, Ending("stopped")),
    "stopped while its jobs go on": (
        {"sleeps": {2: stop}, "slow_jobs": {"o/r1"}},
        {},
        4,
        Ending("stopped"),
    ),
    "stopped while there is no room": (
        {
            "use": "{use: sync, max_in_flight: 2}",
            "sleeps": {2: stop},
            "slow_jobs": {"o/r0", "o/r1"},
        },
        {},
        2,
        Ending("stopped"),
    ),
    "stopped while its canary goes on": (
        {"body": "canary: 1\n", "sleeps": {2: stop}, "slow_jobs": {"o/r0"}},
        {},
        1,
        Ending("stopped"),
    ),
    "its canary failed": (
        {"body": "canary: 1\non_failure: continue\n", "failing": {"o/r0"}},
        {},
        1,
        Ending("complete", "the canary of `sync` failed", "--past-failures"),
    ),
    "a failure of a batch": (
        {"body": "batch_size: 2\n", "bad": {"o/r1"}},
        {},
        1,
        Ending("complete"),
    ),
    "a failure of the last batch": ({"failing": {"o/r1"}}, {}, 4, Ending("complete")),
    "too many failures within a batch": (
        {"body": "max_failures: 1\non_failure: continue\n", "bad": {"o/r1"}},
        {"limits": RequestLimits(events=2)},
        1,
        Ending("limit", "1 of 1 event has failed: `max_failures` is reached"),
    ),
    "too many failures at the end of a batch": (
        {"body": "max_failures: 1\non_failure: continue\nbatch_size: 2\n", "bad": {"o/r1"}},
        {},
        1,
        Ending("limit", "1 of 1 event has failed: `max_failures` is reached"),
    ),
    "too many failures at its end": (
        {"body": "max_failures: 2\non_failure: continue\n", "failing": {"o/r1", "o/r2"}},
        {},
        4,
        Ending("limit", "2 of 4 events have failed: `max_failures` is reached"),
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_what_ends_a_run_within_a_stage_ends_all_that_would_follow(
    tmp_path: Path, how: str
) -> None:
    given, options, sent, ending = ENDS[how]
    run = Run(tmp_path, **given)
    assert run.drive(**options) == ending
    assert run.sent == WHOLE[:sent]
    assert run.database.asked == ["before"], "neither the stage's check nor the last one"
    stages = [one.number for one in run.observer.progresses]
    assert 2 not in stages, "the next stage is not begun"
    if ending.reason and ending.how != "cancelled":
        assert any(note.startswith(ending.reason) for note in run.observer.notes)


def test_a_run_that_is_cancelled_with_the_last_request_of_a_stage_begins_no_other(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, posts={0: cancel})
    assert run.drive().how == "cancelled"
    assert (run.sent, run.database.asked) == (WHOLE[:4], ["before", "after sync"])


def test_before_anything_is_sent_its_checks_must_hold(tmp_path: Path) -> None:
    run = Run(tmp_path, answers={"before": [0.0]})
    assert run.drive() == Ending("failed", "a check before the run does not hold")
    assert (run.sent, run.database.asked) == ([], ["before"])
    assert run.observer.notes[-1] == "a check before the run does not hold; nothing more is sent"
    assert run.observer.progresses == []


def test_a_check_after_a_stage_that_does_not_hold_ends_the_run_there(tmp_path: Path) -> None:
    run = Run(tmp_path, answers={"after sync": [0.0]})
    assert run.drive() == Ending("failed", "a check after `sync` does not hold")
    assert (run.sent, run.database.asked) == (WHOLE[:4], ["before", "after sync"])
    assert run.observer.notes[-1] == "a check after `sync` does not hold; nothing more is sent"
    assert {one.number for one in run.observer.progresses} == {1}


@pytest.mark.parametrize("how", ["the plan goes on", "past failures"])
def test_where_a_failure_does_not_stop_a_run_a_check_that_does_not_hold_does_not_either(
    tmp_path: Path, how: str
) -> None:
    body = "on_failure: continue\n" if how == "the plan goes on" else ""
    run = Run(tmp_path, body=body, answers={"after sync": [0.0]})
    assert run.drive(past_failures=how == "past failures") == Ending("complete")
    assert run.sent == WHOLE


def test_a_run_that_is_stopped_while_a_check_after_a_stage_is_asked_goes_no_further(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, body="on_failure: continue\n", answers={"after sync": [0.0]})
    run.database.meanwhile = {"after sync": run.stop.set}
    assert run.drive() == Ending("stopped")
    assert run.sent == WHOLE[:4]
    assert {one.number for one in run.observer.progresses} == {1}


def test_a_check_at_the_end_that_does_not_hold_is_noted(tmp_path: Path) -> None:
    run = Run(tmp_path, answers={"end": [0.0]})
    assert run.drive() == Ending("complete")
    assert run.observer.notes[-1] == "a check at the end does not hold"


def test_a_run_that_is_stopped_while_its_last_check_is_asked_says_nothing_of_it(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, answers={"end": [0.0]})
    run.database.meanwhile = {"end": run.stop.set}
    assert run.drive() == Ending("stopped")
    assert "a check at the end does not hold" not in run.observer.notes


@pytest.mark.parametrize("use", ["tell", "{use: tell, resolve: stage}"])
def test_jobs_of_a_stage_that_is_done_when_sent_are_waited_for_at_the_end(
    tmp_path: Path, use: str
) -> None:
    sent = list[int]()

    def end(run: Run) -> None:
        sent.append(len(run.sent))
        finish(run)

    run = Run(
        tmp_path,
        "tell",
        use=use,
        slow_jobs={"o/r1"},
        sleeps=dict.fromkeys(range(4, 40, 4), end),
    )
    assert run.drive() == Ending("complete")
    assert sent[0] == len(WHOLE), "the next stage did not wait for them"
    assert run.waits == ["for its jobs to end"]
    last = {one.number: one for one in run.observer.progresses}
    assert [(one.done, one.waiting) for one in last.values()] == [(True, None)] * 2
    assert run.journal.totals().completed == 8


def test_a_run_that_a_failure_has_stopped_says_so_while_it_waits_for_its_jobs(
    tmp_path: Path,
) -> None:
    run = Run(
        tmp_path,
        body="batch_size: 2\n",
        slow_jobs={"o/r0"},
        bad={"o/r1"},
        sleeps=dict.fromkeys(range(8, 60, 4), finish),
    )
    assert run.drive() == Ending("complete")
    assert run.waits[-1] == "for its jobs to end before it stops"


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
def test_jobs_of_what_was_sent_are_not_waited_for_by_a_run_that_is_ended(
    tmp_path: Path, how: str
) -> None:
    act = cancel if how == "cancelled" else stop
    run = Run(
        tmp_path,
        "tell",
        "batch_size: 2\n",
        slow_jobs={"o/r1"},
        posts={0: act},
    )
    assert run.drive().how == how
    assert "for its jobs to end" not in run.waits


def test_without_following_what_is_done_when_sent_has_completed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.drive(follow=False)
    assert run.journal.totals().completed == 4
    last = {one.number: one for one in run.observer.progresses}
    assert [one.outcomes for one in last.values()] == [{}, {"completed": 4}]
    assert not any(one.followed for one in run.observer.progresses)


def test_somebody_drives_a_run_while_it_is_under_way(tmp_path: Path) -> None:
    driven: list[bool] = []
    look = {0: lambda run: driven.append(run.journal._is_driven())}
    run = Run(tmp_path, body=PACED, posts=look)
    run.drive()
    assert driven == [True]
    assert not run.journal._is_driven()
    assert run.journal.driven().seconds == pytest.approx(sum(run.clock.slept))


# Goals: a stage that is sent in rounds.


@pytest.mark.parametrize("use", ["drain", "sync, drain"])
@pytest.mark.parametrize(
    ("backlog", "rounds", "reason"),
    [
        ([4, 0], 1, None),
        ([0], 0, None),
        ([4, 2, 0], 2, None),
        ([4, 4, 4], 2, "`drain` is stalled: `n` is 4, without progress after its last 2 rounds"),
        ([6, 4, 2], 2, "`drain` has used up its 2 rounds, and `n` is 2"),
    ],
)
def test_rounds_are_sent_until_the_goal_is_met_or_there_may_be_no_more(
    tmp_path: Path, use: str, backlog: list[float], rounds: int, reason: str | None
) -> None:
    run = Run(tmp_path, "drain", PACED, use=use, answers={"backlog": backlog})
    found = run.drive()
    number = len(use.split(","))
    before = WHOLE[:4] * (number - 1)
    shown = {one.round.number for one in run.observer.progresses if one.round and one.round.events}
    assert sorted(shown) == list(range(1, rounds + 1))
    of_it = [one for one in run.observer.progresses if one.number == number]
    assert not of_it or of_it[-1].total == 4 * rounds, "as the journal has it"
    assert ("40s between rounds" in run.waits) is (rounds > 1)
    if reason is None:
        assert found == Ending("complete")
        assert run.sent == before + WHOLE[:4] * rounds + WHOLE[4:]
        assert run.journal.reached() == {number}
        assert run.database.asked[-2:] == ["after drain", "end"]
    else:
        stalled = "stalled" in reason
        assert (found.how, found.reason) == ("failed" if stalled else "limit", reason)
        assert found.option
        assert run.sent == before + WHOLE[:4] * rounds
        assert run.observer.notes[-1] == f"{reason}; nothing more is sent"
        assert run.database.asked[-1] == "backlog", "no check is asked"


def test_a_round_has_the_items_of_its_own_time(tmp_path: Path) -> None:
    run = Run(tmp_path, "drain", answers={"backlog": [4, 2, 0]})
    few = replace(run.plan.stages[0], items=pack("app/sync", [("o/r9", b'{"repo":"o/r9"}')]))
    run.items = lambda stage: few if stage.items else run.plan.stages[0]
    assert run.drive() == Ending("complete")
    assert run.sent == ["sync r9", "sync r9", *WHOLE[4:]]
    totals = [one.total for one in run.observer.progresses if one.number == 1 and one.round]
    assert sorted({*totals}) == [1, 2]


def test_a_stage_whose_items_cannot_be_told_any_more_ends_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path, "drain", answers={"backlog": [4]})

    def refuse(_stage: Stage) -> Stage:
        problems = [Problem(said, "p.yaml", 1, 1) for said in ("no such table", "and more")]
        raise InvalidPlan(tuple(problems))

    run.items = refuse
    reason = "`drain` cannot be resolved: no such table"
    assert run.drive() == Ending("limit", reason)
    assert (run.sent, run.journal.rounds(1)) == ([], [])
    assert run.observer.notes[-1] == f"{reason}; nothing more is sent"


def test_a_stage_that_nothing_resolves_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, "drain")
    run.resolver = None
    with pytest.raises(PreflightRefused, match="`drain` is resolved when it starts"):
        run.drive()


def test_a_drain_whose_time_a_rest_would_pass_begins_no_other_batch(tmp_path: Path) -> None:
    run = Run(tmp_path, "short", PACED, count=8, answers={"backlog": [8, 4]})
    reason = "`short` has used up its 1m in the middle of a round"
    assert run.drive(follow=False) == Ending("limit", reason, "--max-time 2m40s")
    assert len(run.sent) == 4
    assert sum(run.clock.slept) == 40.0
    assert run.observer.notes[-1] == f"{reason}; nothing more is sent"
    assert run.database.asked == ["before", "backlog"]


def test_a_drain_whose_time_passes_while_it_is_held_begins_no_other_batch(tmp_path: Path) -> None:
    run = Run(tmp_path, "short", "batch_size: 2\n", answers={"backlog": [8, 4]})
    ending = run.drive(follow=False, guards=[HoldsOnce(2, 8)])
    assert ending.reason == "`short` has used up its 1m in the middle of a round"
    assert len(run.sent) == 2
    assert run.database.asked == ["before", "backlog"]


def test_a_drain_whose_time_a_rest_would_pass_begins_no_other_round(tmp_path: Path) -> None:
    run = Run(tmp_path, "short", PACED, count=2, answers={"backlog": [6, 4, 2]})
    reason = "`short` has used up its 1m, and `n` is 2"
    ending = run.drive(follow=False)
    assert (ending.how, ending.reason) == ("limit", reason)
    assert len(run.sent) == 4
    assert sum(run.clock.slept) == 40.0


def test_a_run_that_is_stopped_while_its_backlog_is_asked_for_goes_no_further(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, "drain", answers={"backlog": [4]})
    run.database.meanwhile = {"backlog": run.stop.set}
    assert run.drive() == Ending("stopped")
    assert (run.sent, run.database.asked) == ([], ["before", "backlog"])


def test_a_backlog_is_asked_for_once_the_jobs_of_the_round_have_ended(tmp_path: Path) -> None:
    completed: list[int] = []
    at = dict.fromkeys(range(4, 40, 4), finish)
    slow = {"o/r1"}
    run = Run(tmp_path, "short", answers={"backlog": [4, 0]}, slow_jobs=slow, sleeps=at)
    run.database.meanwhile = {"backlog": lambda: completed.append(run.journal.totals().completed)}
    assert run.drive() == Ending("complete")
    assert completed == [0, 4]


@pytest.mark.parametrize("use", ["drain", "sync, drain"])
@pytest.mark.parametrize(
    ("body", "fate", "at", "how"),
    [
        ("batch_size: 2\n", "rejected", 1, "complete"),
        ("max_failures: 1\non_failure: continue\n", "failed", 4, "limit"),
    ],
)
def test_a_goal_is_not_asked_about_where_its_round_was_not_gone_through(
    tmp_path: Path, use: str, body: str, fate: str, at: int, how: str
) -> None:
    run = Run(tmp_path, "drain", body, use=use, answers={"backlog": [4, 0]})
    before = 4 * (len(use.split(",")) - 1)
    run.server.fate = lambda _: fate if len(run.sent) == before + at else "completed"
    assert run.drive().how == how
    assert run.database.asked == ["before", "backlog"]


def test_between_two_rounds_a_run_can_be_stopped(tmp_path: Path) -> None:
    run = Run(
        tmp_path, "drain", PACED, count=2, answers={"backlog": [4, 2, 0]}, sleeps=at_rest(stop)
    )
    assert run.drive() == Ending("stopped")
    assert len(run.journal.rounds(1)) == 1
    assert run.sent == WHOLE[:2]


@pytest.mark.parametrize("use", ["drain", "sync, drain"])
@pytest.mark.parametrize(("left", "reached"), [(0, True), (2, False)])
def test_a_goal_that_is_reached_counts_whatever_has_failed(
    tmp_path: Path, use: str, left: int, *, reached: bool
) -> None:
    """Otherwise a plan that stops on a failure would not go on."""
    run = Run(tmp_path, "drain", use=use, answers={"backlog": [4, left]})
    number = len(use.split(","))

    def fate(event: dict[str, Any]) -> str:
        last = event["name"] == "app/sync" and len(run.sent) == 4 * number
        return "failed" if last else "completed"

    run.server.fate = fate
    assert run.drive() == Ending("complete", None, None if reached else "--past-failures")
    assert run.sent == WHOLE[:4] * number + (WHOLE[4:] if reached else [])
    short = "`drain` stops on a failure, short of its goal: `n` is 2; nothing more is sent"
    assert run.observer.notes == ([] if reached else [short])
    assert run.journal.reached() == ({number} if reached else set())


def test_a_run_that_is_resumed_goes_on_in_its_round(tmp_path: Path) -> None:
    run = Run(tmp_path, "drain", "batch_size: 2\n", answers={"backlog": [4, 0]}, posts={0: stop})
    assert run.drive() == Ending("stopped")
    assert run.again() == Ending("complete")
    assert run.sent == WHOLE
    assert len(run.journal.rounds(1)) == 1
    assert {one.round.number for one in run.observer.progresses if one.round} == {1}
    asked = len(run.database.asked)
    assert run.again() == Ending("complete")
    assert (run.sent, run.database.asked[asked:]) == (WHOLE, []), "its goal is reached"


# Within a batch, and between batches.


def test_what_was_under_way_is_made_again_once_nothing_holds_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.server.faults = [lost_after, *[answers(503)] * 50]
    with pytest.raises(TargetError):
        run.drive()
    run.server.faults = []
    guard, before = HoldsOnce(1, 2), len(run.server.bodies)
    assert run.again(guards=[guard]) == Ending("complete")
    assert guard.asked > 3, "it is asked before what was under way"
    assert run.server.bodies[before] == run.server.bodies[0]
    assert run.server.effects == [f"RUN1:{one.replace(' ', ':o/')}" for one in WHOLE]


def test_of_a_run_that_is_cancelled_nothing_is_made_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.server.faults = [answers(503)] * 50
    with pytest.raises(TargetError):
        run.drive()
    run.server.faults = []
    run.reopen()
    cancel(run)
    assert run.drive().how == "cancelled"
    assert run.sent == []


def test_a_canary_that_failed_is_passed_over_where_failures_are(tmp_path: Path) -> None:
    run = Run(tmp_path, body="canary: 1\n", failing={"o/r0"})
    failed, later = (
        Ending("complete", f"the canary of `{name}` failed", "--past-failures")
        for name in ("sync", "fire")
    )
    assert run.drive() == failed
    assert run.observer.notes[-1] == f"{failed.reason}: nothing more is sent"
    assert run.again() == failed
    assert run.observer.progresses[-1].waiting is None
    assert run.again(past_failures=True) == later, "what fails from then on is not passed over"
    assert run.sent == WHOLE[:5]
    assert run.again(past_failures=True) == Ending("complete")
    assert run.sent == WHOLE


def test_a_canary_that_has_succeeded_lets_the_others_go(tmp_path: Path) -> None:
    run = Run(tmp_path, body="canary: 1\n")
    assert run.drive() == Ending("complete")
    assert [len(post) for post in run.server.posts] == [1, 3, 1, 3]
    assert "for its canary to end" in run.waits


def test_while_a_run_rests_others_see_what_was_taken(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(run: Run) -> None:
        seen.append(run.store.reading(run.store.find("RUN1")).totals().accepted)

    run = Run(tmp_path, body=PACED, sleeps={1: look})
    run.drive(follow=False)
    assert seen == [2]


def test_the_reason_of_a_rest_says_what_has_slowed_it_down(tmp_path: Path) -> None:
    run = Run(tmp_path, body=PACED)
    run.server.faults = [answers(429)]
    run.drive(follow=False)
    assert run.waits[0] == "1m between batches (slowed down)"
    assert any(note.startswith("faster again") for note in run.observer.notes)


def test_no_more_events_are_out_than_may_be_and_that_is_told_when_it_changes(
    tmp_path: Path,
) -> None:
    run = Run(
        tmp_path,
        use="{use: sync, max_in_flight: 2}",
        slow_jobs={"o/r0", "o/r1", "o/r2", "o/r3"},
        sleeps=dict.fromkeys(range(4, 60, 4), finish),
    )
    assert run.drive() == Ending("complete")
    assert [len(post) for post in run.server.posts] == [2, 2, 4]
    assert run.waits == ["2 jobs are in flight", "for its jobs to end"]


def test_a_step_looks_at_the_jobs_of_what_it_has_sent_before_it_ends(tmp_path: Path) -> None:
    run = Run(tmp_path, body=PACED)
    assert run.drive(step=True) == Ending("stopped")
    assert run.sent == WHOLE[:2]
    assert run.journal.totals().completed == 2
    assert run.step.until == run.clock.now + 40.0


def test_a_step_that_does_not_follow_ends_where_it_rests(tmp_path: Path) -> None:
    run = Run(tmp_path, body=PACED)
    assert run.drive(step=True, follow=False) == Ending("stopped")
    assert run.sent == WHOLE[:2]


@pytest.mark.parametrize(("when", "slept"), [("before", 1.0), ("meanwhile", 20.0)])
def test_a_shorter_delay_counts_at_once(tmp_path: Path, when: str, slept: float) -> None:
    """Even if it was requested before the rest began, or in the middle of it."""
    asks: dict[int, Callable[[Run], object]] = {
        (0 if when == "before" else 1): lambda run: run.store.set_pace("RUN1", delay=slept)
    }
    how: Any = {"posts": asks} if when == "before" else {"sleeps": asks}
    run = Run(tmp_path, body=PACED, **how)
    run.drive(follow=False)
    assert run.sent == WHOLE
    assert sum(run.clock.slept) == 2 * slept, "in each of the two stages"


def test_a_delay_that_is_over_is_no_reason_for_waiting(tmp_path: Path) -> None:
    """While a server was slow to answer, "waiting: 1s between batches" stood there."""
    seen: list[object] = []
    look = lambda run: seen.append(run.observer.progresses[-1].waiting)  # noqa: E731
    run = Run(tmp_path, body=PACED, posts={1: look})
    run.drive(follow=False)
    assert "40s between batches" in run.waits
    assert seen == [None]


def test_a_delay_is_shown_to_a_tenth_of_a_second(tmp_path: Path) -> None:
    run = Run(tmp_path, body="batch_size: 2\ndelay: 2.26s\n")
    run.drive(follow=False)
    assert run.waits == ["2.3s between batches"]


def test_more_room_that_is_requested_while_there_is_none_is_used_at_once(tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        use="{use: sync, max_in_flight: 1}",
        slow_jobs={"o/r0"},
        sleeps={
            3: lambda run: run.store.set_pace("RUN1", max_in_flight=3),
            **dict.fromkeys(range(6, 40, 4), finish),
        },
    )
    run.drive()
    assert [len(post) for post in run.server.posts][:2] == [1, 2]
    assert run.waits[0] == "1 job is in flight"


@pytest.mark.parametrize(
    ("limit", "failing", "ends"),
    [("20%", 5, False), ("19%", 5, True), ("1%", 1, True)],
)
def test_a_share_of_failures_ends_a_run_where_it_is_exceeded(
    tmp_path: Path, limit: str, failing: int, *, ends: bool
) -> None:
    body = f'max_failures: "{limit}"\non_failure: continue\n'
    lost = {f"o/r{number}" for number in range(failing)}
    run = Run(tmp_path, body=body, count=25, failing=lost)
    assert run.drive().how == ("limit" if ends else "complete")
    assert len(run.sent) == (25 if ends else 50)


@pytest.mark.parametrize(("count", "ends"), [(19, False), (20, True)])
def test_a_share_says_nothing_of_fewer_than_twenty_events(
    tmp_path: Path, count: int, *, ends: bool
) -> None:
    body = 'max_failures: "5%"\non_failure: continue\nbatch_size: 100\n'
    run = Run(tmp_path, "sync", body, count=count, failing={"o/r0", "o/r1"})
    run.drive()
    assert (len(run.sent) == count) is ends


def test_the_failures_of_all_its_steps_count_where_a_run_may_have_so_many(tmp_path: Path) -> None:
    body = f"max_failures: 2\non_failure: continue\n{PACED}"
    run = Run(tmp_path, body=body, count=6, failing={"o/r0", "o/r2"})
    assert run.drive(step=True) == Ending("stopped")
    assert run.journal.totals().failed == 1
    for _ in range(9):
        run.clock.now = max(run.clock.now, run.step.until)
        before = run.step.checkpoint()
        run.reopen()
        run.step = Step(run.clock, run.stop, run.journal.keep_lease, before=before)
        if (ending := run.drive(step=True)).how != "stopped":
            break
    reason = "2 of 4 events have failed: `max_failures` is reached"
    assert ending == Ending("limit", reason)
    assert len(run.sent) == 4
