"""Windows: when they are open, in their time zone, even when its clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.errors import InvalidPlan
from runner.model import WindowGuard
from runner.spec.load import load_plan
from runner.spec.opening import finished, opening
from tests.support import CATALOG, write_plan


def at(text: str, zone: str = "Europe/Berlin") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


NIGHTS = opening(WindowGuard("22:00-06:00", "mon-fri", "Europe/Berlin"))


@pytest.mark.parametrize(
    ("moment", "is_open", "until"),
    [
        ("2026-11-27 21:59", False, "2026-11-27 22:00"),  # a Friday
        ("2026-11-27 22:00", True, "2026-11-28 06:00"),
        ("2026-11-28 05:59", True, "2026-11-28 06:00"),  # Friday's window, on Saturday
        ("2026-11-28 06:00", False, "2026-11-30 22:00"),
        ("2026-11-28 23:00", False, "2026-11-30 22:00"),
        ("2026-12-01 03:00", True, "2026-12-01 06:00"),
    ],
)
def test_a_window_belongs_to_the_day_on_which_it_opens(
    moment: str, is_open: bool, until: str
) -> None:
    assert NIGHTS.state(at(moment)) == (is_open, at(until))


@pytest.mark.parametrize(
    ("day", "hours"),
    [("2026-03-28", 7), ("2026-10-24", 9), ("2026-11-27", 8)],  # spring, autumn, no change
)
def test_a_night_in_which_clocks_change_is_as_long_as_it_is(day: str, hours: int) -> None:
    every_night = opening(WindowGuard("22:00-06:00", timezone="Europe/Berlin"))
    begins = at(f"{day} 22:00")
    assert every_night.state(begins) == (True, begins + hours * 3600)


@pytest.mark.parametrize(
    ("allow", "begins", "ends"),
    [
        ("01:00-02:30", "2026-03-29 01:00", "2026-03-29 03:00"),
        ("02:30-03:30", "2026-03-29 03:00", "2026-03-29 03:30"),
        ("02:45-03:15", "2026-03-29 03:00", "2026-03-29 03:15"),
        ("22:00-02:30", "2026-03-28 22:00", "2026-03-29 03:00"),
        ("02:00-03:00", "2026-03-30 02:00", "2026-03-30 03:00"),
        ("02:10-02:50", "2026-03-30 02:10", "2026-03-30 02:50"),
    ],
)
def test_a_window_is_open_where_the_clock_shows_a_time_of_it(
    allow: str, begins: str, ends: str
) -> None:
    """At 02:00 that day the clock goes forward to 03:00."""
    window = opening(WindowGuard(allow, timezone="Europe/Berlin"))
    assert window.state(at("2026-03-28 21:00")) == (False, at(begins))
    assert window.state(at(begins)) == (True, at(ends))
    assert not window.state(at(ends))[0]


def test_windows_that_touch_are_one() -> None:
    always = opening(WindowGuard("00:00-24:00"))
    is_open, until = always.state(at("2026-11-27 12:00"))
    assert is_open
    assert until - at("2026-11-27 12:00") > 7 * 86_400


@pytest.mark.parametrize(
    ("allow", "days", "zone", "says"),
    [
        ("22-06", "mon", "UTC", "allow: `22-06` is not a window of the day"),
        ("22:00-26:00", "mon", "UTC", "allow: `22:00-26:00` is not a window of the day"),
        ("22:60-23:00", "mon", "UTC", "allow: `22:60-23:00` is not a window of the day"),
        ("24:00-06:00", "mon", "UTC", "allow: `24:00-06:00` is not a window of the day"),
        ("08:00-08:00", "mon", "UTC", "allow: `08:00-08:00` has no length"),
        ("08:00-09:00", "mo-fr", "UTC", "days: `mo-fr` is not a day of the week"),
        ("08:00-09:00", "", "UTC", "days: `` is not a day of the week"),
        ("08:00-09:00", "mon", "Berlin", "timezone: `Berlin` is not a time zone"),
        ("08:00-09:00", "mon", "../etc", "timezone: `../etc` is not a time zone"),
    ],
)
def test_what_is_no_window_is_told_by_its_key(allow: str, days: str, zone: str, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        opening(WindowGuard(allow, days, zone))
    assert str(refused.value).startswith(says)


def test_all_that_is_wrong_with_a_window_is_told_at_once(tmp_path: Path) -> None:
    written = '{allow: "22-06", days: "mo,fri,su", timezone: Berlin}'
    path = write_plan(
        tmp_path, f"repos: [o/r]\noperations: [sync]\nguards: [{{window: {written}}}]\n"
    )
    with pytest.raises(InvalidPlan) as refused:
        load_plan(str(path))
    told = [problem.message.split(";")[0] for problem in refused.value.problems]
    assert told == [
        "`22-06` is not a window of the day",
        "`mo` is not a day of the week",
        "`su` is not a day of the week",
        "`Berlin` is not a time zone",
    ]
    assert len({problem.column for problem in refused.value.problems}) == 3, "each at its key"


def test_all_that_is_wrong_with_windows_of_time_is_told_at_once(tmp_path: Path) -> None:
    written = '{from: "2026-13-01", to: "soon", every: "{{ vars.often }}"}'
    body = f"collections: {{days: {{dates: {written}}}}}\noperations: [daily]\n"
    daily = "  daily: {event: app/daily, for_each: days, payload: {at: '{{ row.from }}'}}\n"
    with pytest.raises(InvalidPlan) as refused:
        load_plan(str(write_plan(tmp_path, body, catalog=CATALOG + daily)))
    told = [problem.message.split(";")[0] for problem in refused.value.problems]
    assert told == [
        "`2026-13-01` is not a day or a time",
        "`soon` is not a day or a time",
        "`{{ vars.often }}` is not a duration",
    ]


def test_work_goes_on_in_the_next_window() -> None:
    start = at("2026-11-27 12:00")  # a Friday; the window is open that night, then on Monday night
    assert finished([NIGHTS], start, 3600) == at("2026-11-27 23:00")
    assert finished([NIGHTS], start, 8 * 3600) == at("2026-11-28 06:00")
    assert finished([NIGHTS], start, 9 * 3600) == at("2026-11-30 23:00")
    assert finished([], start, 60) == start + 60


def test_two_windows_are_both_to_be_open_and_may_never_be() -> None:
    early = opening(WindowGuard("22:00-23:00", timezone="Europe/Berlin"))
    late = opening(WindowGuard("23:30-23:45", timezone="Europe/Berlin"))
    start = at("2026-11-27 12:00")
    assert finished([NIGHTS, early], start, 3600) == at("2026-11-27 23:00")
    assert finished([early, late], start, 60) == float("inf")


ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
MINUTES = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02d}:{minute % 60:02d}")
MOMENTS = st.integers(0, 366 * 24 * 60).map(
    lambda minutes: (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)).timestamp()
)


CHANGE = datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp()


@example(begins="02:00", ends="03:00", zone="Europe/Berlin", moment=CHANGE - 60)
@example(begins="02:40", ends="03:10", zone="Europe/Berlin", moment=CHANGE)
@given(begins=MINUTES, ends=MINUTES, zone=ZONES, moment=MOMENTS)
def test_what_is_said_of_the_next_change_holds(
    begins: str, ends: str, zone: str, moment: float
) -> None:
    if begins == ends:
        return
    window = opening(WindowGuard(f"{begins}-{ends}", "mon,wed-thu,sun", zone))
    is_open, until = window.state(moment)
    assert until > moment
    for part in (0.01, 0.5, 0.99):
        assert window.state(moment + (until - moment) * part)[0] == is_open
    assert window.state(until)[0] != is_open


def test_a_pause_goes_on_while_the_window_is_closed() -> None:
    """Two batches, 20 h apart: the second is due at 18:00, and waits until 22:00."""
    start = at("2026-11-30 12:00")  # a Monday
    assert finished([NIGHTS], start, 20 * 3600, 20 * 3600) == at("2026-12-01 18:00")
    assert finished([NIGHTS], start, 40 * 3600, 20 * 3600) == at("2026-12-02 18:00")
