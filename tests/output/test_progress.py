from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest

from runner.model import ExecutionPlan, Observer, Round, StageRecord, Waiting
from runner.output.progress import LiveDisplay, PlainLines
from tests.output.fakes import DANGEROUS, HOSTILE

BEGUN = StageRecord(1, "sync", 3_000)
UNDERWAY = BEGUN._replace(
    sent=1_200,
    outcomes={"completed": 1_000, "failed": 1},
    rate=12.34,
    left=90.4,
)
ENDED = BEGUN._replace(sent=3_000, outcomes={"completed": 2_999, "failed": 1}, rate=12.0, done=True)
_STYLES = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("make", [LiveDisplay, PlainLines])
def test_each_display_is_an_observer(
    make: Callable[[io.StringIO], Observer], plan: ExecutionPlan
) -> None:
    observer = make(io.StringIO())
    observer.started("RUN1", plan)
    observer.progress(UNDERWAY)
    observer.note("a note")


def test_a_line_says_what_was_sent_what_became_of_it_and_what_is_left() -> None:
    assert _plain(UNDERWAY) == [
        "1. sync: 1,200/3,000 sent, 199 running, 1,000 completed, 1 failed; 12.3/s, 1m30s left"
    ]


@pytest.mark.parametrize(
    ("begun", "shown"),
    [
        (Round(1, 1, 0, 0, 0.0, 1.0), "at 0"),  # its goal was reached before any round
        (Round(1, 1, 0, 9, 4.0, 1.0), "round 1, at 4 before it"),
        (Round(1, 3, 9, 0, 4.0, 1.0), "round 3, at 4 before it"),
    ],
)
def test_a_drain_tells_its_round_and_that_it_had_none(begun: Round, shown: str) -> None:
    (line,) = _plain(BEGUN._replace(total=0, rounds=(begun,)))
    assert line == f"1. sync: {shown}, 0/0 sent"


def test_a_stage_that_waits_says_for_what() -> None:
    waiting = BEGUN._replace(sent=3_000, outcomes={"completed": 2_998}, waiting=Waiting("2 jobs"))
    assert _plain(waiting) == [
        "1. sync: 3,000/3,000 sent, 2 running, 2,998 completed; waiting: 2 jobs"
    ]


def test_a_stage_that_has_ended_says_so() -> None:
    assert _plain(ENDED) == ["1. sync: 3,000/3,000 sent, 2,999 completed, 1 failed; done"]


def test_a_stage_has_a_line_at_each_change_at_most_every_two_seconds_and_at_its_end() -> None:
    out, clock = io.StringIO(), Clock()
    lines = PlainLines(out, clock=clock)
    for moment in range(7):
        clock.now = float(moment)
        lines.progress(BEGUN._replace(sent=moment))
    lines.progress(ENDED)
    said = [line.split()[2] for line in out.getvalue().splitlines()]
    assert said == ["0/3,000", "2/3,000", "4/3,000", "6/3,000", "3,000/3,000"]


def test_a_change_that_came_too_soon_is_told_once_it_may_be() -> None:
    out, clock = io.StringIO(), Clock()
    lines = PlainLines(out, clock=clock)
    lines.progress(BEGUN._replace(total=2, sent=2))
    clock.now = 1.0
    lines.progress(BEGUN._replace(total=2, sent=2, outcomes={"completed": 1}))
    lines.tick()
    assert out.getvalue() == "1. sync: 2/2 sent, 2 running\n"
    for clock.now in (2.0, 2.5, 8.0):
        lines.tick()
    assert out.getvalue().splitlines()[1:] == ["1. sync: 2/2 sent, 1 running, 1 completed"]


def test_where_nothing_changes_a_line_every_thirty_seconds_says_that_it_goes_on() -> None:
    out, clock = io.StringIO(), Clock()
    lines = PlainLines(out, clock=clock, wall=clock)
    waiting = Waiting("for its jobs to end", "jobs", "o/r1", since=-10.0, until=900.0)
    lines.progress(BEGUN._replace(total=2, sent=2, outcomes={"completed": 1}, waiting=waiting))
    for clock.now in map(float, range(1, 65)):
        lines.tick()
    assert out.getvalue().splitlines() == [
        "1. sync: 2/2 sent, 1 running, 1 completed; "
        f"waiting: for its jobs to end: o/r1 for {spent}, times out in {left}"
        for spent, left in (("10s", "15m"), ("40s", "14m30s"), ("1m10s", "14m"))
    ]


def test_a_server_that_is_away_is_the_reason_of_the_wait_with_the_next_try() -> None:
    out, clock = io.StringIO(), Clock()
    lines = PlainLines(out, clock=clock, wall=clock)
    away = Waiting("the server does not answer", "away", again=8.0, until=540.0, tries=3)
    lines.progress(BEGUN._replace(sent=10, left=None, waiting=away))
    assert out.getvalue() == (
        "1. sync: 10/3,000 sent, 10 running; "
        "waiting: the server does not answer: trying again in 8s (try 3), for 9m more\n"
    )


def test_each_stage_keeps_its_own_time() -> None:
    out = io.StringIO()
    lines = PlainLines(out, clock=Clock())
    for stage in (1, 2, 1, 2):
        lines.progress(BEGUN._replace(number=stage))
    assert [line[:2] for line in out.getvalue().splitlines()] == ["1.", "2."]


def test_every_note_has_its_line() -> None:
    out = io.StringIO()
    lines = PlainLines(out, clock=Clock())
    lines.note("one")
    lines.note("two")
    assert out.getvalue() == "note: one\nnote: two\n"


def test_the_start_says_how_to_carry_the_run_on(plan: ExecutionPlan) -> None:
    out = io.StringIO()
    PlainLines(out).started("RUN1", plan)
    assert out.getvalue() == "run RUN1 of test (backfill resume RUN1 continues it)\n"


def test_the_live_display_leaves_the_final_state_of_every_stage(
    plan: ExecutionPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = _live(plan, monkeypatch, lambda display: display.progress(ENDED))
    assert lines[0].startswith("run RUN1 ")
    assert re.fullmatch(r"1\. sync .* 3,000/3,000 sent, 2,999 completed, 1 failed", lines[-2])
    assert re.fullmatch(r"2\. embed .* 0/2 sent", lines[-1])


@pytest.mark.parametrize("kind", ["plain", "live"])
def test_a_run_that_has_ended_shows_no_pace_no_time_left_and_no_wait(
    plan: ExecutionPlan, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A failure has stopped it: "1s left" stood on its last line."""

    def tell(display: Observer) -> None:
        display.progress(BEGUN)
        display.progress(UNDERWAY._replace(waiting=Waiting("5s between batches")))

    out = io.StringIO()
    if kind == "live":
        text = "\n".join(_live(plan, monkeypatch, tell))
    else:
        with PlainLines(out) as lines:
            tell(lines)
        text = out.getvalue()
    assert "1,200/3,000 sent, 199 running, 1,000 completed, 1 failed\n" in text
    assert not any(word in text for word in ("left", "/s", "wait"))


def test_the_live_display_keeps_notes_above_the_stages(
    plan: ExecutionPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = _live(plan, monkeypatch, lambda display: display.note("server is slow"))
    assert lines.index("note: server is slow") < len(lines) - 2


@pytest.mark.parametrize("kind", ["plain", "live"])
def test_names_reasons_and_notes_inject_no_escape_and_are_not_read_as_markup(
    plan: ExecutionPlan, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def tell(display: Observer) -> None:
        display.progress(BEGUN._replace(operation=HOSTILE, waiting=Waiting(HOSTILE)))
        display.note(HOSTILE)

    if kind == "live":
        text = "\n".join(_live(plan, monkeypatch, tell, width=400))
    else:
        out = io.StringIO()
        tell(PlainLines(out))
        text = out.getvalue()
    shown = {"plain": 3, "live": 2}[kind]  # the last frame shows no wait
    assert text.count("[red]\\x1b[2J\\x9b1m\\u202e:boom:") == shown
    assert not DANGEROUS.search(text)


@pytest.mark.parametrize("kind", ["plain", "live"])
def test_a_key_in_a_note_is_not_printed(
    plan: ExecutionPlan, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    key = "signkey-prod-0123456789abcdef"
    if kind == "live":
        text = "\n".join(_live(plan, monkeypatch, lambda display: display.note(f"used {key}")))
    else:
        out = io.StringIO()
        PlainLines(out).note(f"used {key}")
        text = out.getvalue()
    assert "note: used ***" in text
    assert key not in text


def _plain(progress: StageRecord) -> list[str]:
    out = io.StringIO()
    PlainLines(out).progress(progress)
    return out.getvalue().splitlines()


def _live(
    plan: ExecutionPlan,
    monkeypatch: pytest.MonkeyPatch,
    tell: Callable[[LiveDisplay], None],
    *,
    width: int = 100,
) -> list[str]:
    """Return the final screen, without styles."""
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    with LiveDisplay(out) as display:
        display.started("RUN1", plan)
        tell(display)
    return [line.rstrip() for line in _STYLES.sub("", out.getvalue()).splitlines() if line.strip()]
