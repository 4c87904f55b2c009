"""Only the time during which somebody drove the run counts, and every surface shows the same."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import TargetDown
from runner.execution.ports import Resolved
from runner.execution.progress import summarise
from runner.model import RunView, Stage, Table
from runner.output.progress import PlainLines
from runner.output.run import report_json, write_view
from runner.planning.estimate import before, left, past_of
from runner.spec.units import format_duration
from tests.depth import depth
from tests.execution.test_pacing import DRAIN, Backlog, SameItems, World
from tests.support import CATALOG, Recorder, close_stores, make_plan, new_store, reopen, repos

BODY = repos(4) + "operations: [sync]\nbatch_size: 1\ndelay: 10s\n"
DAY = 86_400.0


def view(made: World) -> RunView:
    store = new_store(made.folder, made.clock.time)
    return store.glance(store.find("RUN1"))


def interrupted(folder: Path) -> World:
    """Send two events within 15 s; the others are left for the next day."""
    made = World(folder, make_plan(folder, BODY))
    made.drive(15)
    made.clock.now += DAY
    return made


def test_a_standstill_is_no_part_of_the_duration_on_any_surface(tmp_path: Path) -> None:
    made = interrupted(tmp_path)
    assert view(made).driven.seconds == pytest.approx(15, abs=0.2)
    ending, _ = made.drive()
    summary = summarise(made.journal, plan="p", target="t", followed=True, ending=ending)
    assert summary.duration == pytest.approx(15 + 10, abs=0.5)
    reopen(new_store(tmp_path, made.clock.time), made.plan).end(summary.status)
    made.clock.now += DAY
    shown = view(made)
    assert report_json(shown)["duration_s"] == round(summary.duration, 3)
    out = io.StringIO()
    write_view(shown, out, color=False)
    assert f"({format_duration(round(summary.duration, 1))})" in out.getvalue().splitlines()[0]


def test_nor_of_rates_and_estimates(tmp_path: Path) -> None:
    made = interrupted(tmp_path)
    made.drive()
    shown = view(made)
    past = past_of([shown])["sync"]
    assert past.rate == pytest.approx(4 / 25, rel=0.05)
    assert past.took < 1
    assert before(made.plan, {"sync": past}, 0.0).seconds == pytest.approx(30, abs=2)


def test_jobs_that_ran_on_while_nobody_drove_the_run_took_what_was_seen_of_them(
    tmp_path: Path,
) -> None:
    made = World(tmp_path, make_plan(tmp_path, repos(1) + "operations: [sync]\n"))
    made.server.slow_jobs = {"o/r0"}
    made.drive(5)
    made.clock.now += DAY
    made.server.finish()
    made.drive()
    assert past_of([view(made)])["sync"].took == pytest.approx(5, abs=1)


def test_a_process_that_was_killed_has_driven_until_its_last_word(tmp_path: Path) -> None:
    made = World(tmp_path, make_plan(tmp_path, BODY))
    made.drive(15)
    store = new_store(tmp_path, made.clock.time)
    with store._database.write() as connection:  # as if it had not recorded its end
        connection.change("UPDATE drives SET until = until - 0.5")
    made.clock.now += DAY
    assert view(made).driven.seconds == pytest.approx(14.5, abs=0.2)
    assert left(view(made)) is None, "nobody drives it"


def drain(folder: Path, rounds: int, limits: str) -> World:
    catalog = CATALOG + DRAIN.replace("at_most: 0}}", "at_most: 0}, " + limits + "}")
    body = repos(1) + "operations: [drain]\ndelay: 1m\n"
    return World(folder, make_plan(folder, body, catalog=catalog), rounds=rounds)


def test_a_drain_uses_up_its_time_only_while_it_is_driven(tmp_path: Path) -> None:
    made = drain(tmp_path, 8, "max_time: 8m")
    made.drive(90)
    made.clock.now += DAY
    assert made.drive()[0].how == "complete"
    assert len(made.server.received) == 8


def test_a_drain_ends_when_it_has_been_driven_for_its_time(tmp_path: Path) -> None:
    made = drain(tmp_path, 100, "max_time: 5m")
    made.drive(90)
    made.clock.now += DAY
    ending, _ = made.drive()
    assert ending.how == "limit"
    assert len(made.server.received) == 6, "the next would have come half a minute late"


def test_a_drain_says_its_round_what_is_left_and_that_it_is_done_once(tmp_path: Path) -> None:
    made = drain(tmp_path, 3, "max_rounds: 9")
    out = io.StringIO()
    made.observer = PlainLines(out)
    made.drive(90)
    assert "  1. drain: round 2, at 2 before it, 2/2 sent" in status(made)
    made.drive()
    lines = [line for line in out.getvalue().splitlines() if line.startswith("1. drain")]
    assert any(line.startswith("1. drain: round 3, at 1 before it, ") for line in lines)
    assert [line.endswith("; done") for line in lines].count(True) == 1
    assert lines[-1].endswith("; done")


def test_a_drain_that_ends_short_of_its_goal_waits_for_nothing(tmp_path: Path) -> None:
    made, observer = drain(tmp_path, 3, "max_rounds: 1"), Recorder()
    made.observer = observer
    ending, _ = made.drive()
    assert ending.how == "limit"
    assert observer.progresses[-1].waiting is None


def status(made: World) -> str:
    out = io.StringIO()
    write_view(view(made), out, color=False)
    return out.getvalue()


@settings(max_examples=depth(15, 200), deadline=None)
@given(
    items=st.integers(1, 6),
    size=st.integers(1, 3),
    delay=st.sampled_from([5.0, 20.0, 60.0]),
    limit=st.sampled_from([1, 30, 90, 200]),
    stops=st.lists(st.sampled_from([3.0, 40.0, 100.0]), max_size=3),
)
def test_no_batch_of_a_drain_begins_after_its_time(
    items: int, size: int, delay: float, limit: int, stops: list[float]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        catalog = CATALOG + DRAIN.replace("at_most: 0}}", f"at_most: 0}}, max_time: {limit}s}}")
        body = f"{repos(items)}operations: [drain]\nbatch_size: {size}\ndelay: {delay:g}s\n"
        made = World(Path(folder), make_plan(Path(folder), body, catalog=catalog), rounds=50)
        try:
            for seconds in stops:
                made.drive(seconds)
                made.clock.now += DAY
            ending, _ = made.drive()
            first = made.server.came[0][0]
            driven = view(made).driven
            assert all(driven.between(first, at) < limit for at, _, _ in made.server.came)
            assert ending.how == "limit"
            assert f"has used up its {format_duration(limit)}" in str(ending.reason)
            assert str(ending.option).startswith("--max-time ")
            # It ends as soon as that is known, without sending the rest first.
            assert driven.between(made.server.came[-1][0], made.clock.now) <= max(delay, 3.0)
            ids = [event["id"] for post in made.server.posts for event in post]
            assert len(ids) == len(set(ids))
        finally:
            close_stores()


@pytest.mark.parametrize("what", ["backlog", "items"])
def test_the_time_of_a_drain_bounds_what_it_asks_patience_included(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    made = drain(tmp_path, 100, "max_time: 3m")
    ask, resolve = made._backlog.ask, made._items.resolve
    asked_at: list[float] = []

    def refuse(which: str) -> None:
        if what == which and len(made.server.received) == 2:
            asked_at.append(made.clock.now)
            raise TargetDown("the database is away")

    def asked(*given: Any) -> Table:
        refuse("backlog")
        return ask(*given)

    async def resolved(stage: Stage) -> Resolved:
        refuse("items")
        return await resolve(stage)

    monkeypatch.setattr(Backlog, "ask", lambda _, *given: asked(*given))
    monkeypatch.setattr(SameItems, "resolve", lambda _, stage, *_about: resolved(stage))
    with pytest.raises(TargetDown, match="the database is away"):
        made.drive()
    first = made.server.came[0][0]
    assert asked_at[-1] - first == pytest.approx(180, abs=1), "not for ten minutes, as else"
