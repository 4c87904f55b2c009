"""Cron expressions are due when the engine fires them: robfig/cron, version 3."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from runner.spec.recurring import BadCron, firings, parse

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def days(cron: str, count: int = 5) -> list[int]:
    return [due.day for due in islice(firings(parse(cron), UTC, MONDAY), count)]


def test_of_day_and_weekday_both_must_fit_where_one_is_a_star_and_else_either_will_do() -> None:
    assert days("0 3 * * 1") == [2, 9, 16, 23, 30]
    assert days("0 3 5 * *", 2) == [5, 5]
    assert days("0 3 5 * 1") == [2, 5, 9, 16, 23]
    assert days("0 3 */2 * 1") == [2, 3, 5, 7, 9], "a step is a restriction"
    assert days("0 3 */1 * 1") == [2, 9, 16, 23, 30], "a step of one is none"
    assert days("0 3 5 * */2") == [3, 5, 7, 8, 10]
    assert days("0 3 1-31 * 1") == [2, 3, 4, 5, 6], "all days, and yet no star"


def test_fields_are_read_as_the_engine_reads_them() -> None:
    found = parse("5/20,7 1-5/2 1,31 jan-MAR sun,Fri-sat")
    assert found.minutes == {5, 25, 45, 7}
    assert found.hours == {1, 3, 5}
    assert found.days == {1, 31}
    assert found.months == {1, 2, 3}
    assert found.weekdays == {0, 5, 6}


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("60 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("* * 0 * *", "bad day"),
        ("* * * 13 *", "bad month"),
        ("* * * feb-jan *", "bad month"),
        ("* * * * 7", "bad weekday"),  # the engine does not accept 7
        ("* * * * mon-sun", "bad weekday"),
        ("*/0 * * * *", "bad minute"),
        ("1-2-3 * * * *", "bad minute"),
        ("1_0 * * * *", "bad minute"),
        ("\u0663 * * * *", "bad minute"),
        ("*/1_0 * * * *", "bad minute"),
        ("* * 1-1_0 * *", "bad day"),
        ("* * * *", "it does not have five fields"),
    ],
)
def test_what_the_engine_refuses_is_refused(cron: str, words: str) -> None:
    with pytest.raises(BadCron, match=words):
        parse(cron)


def test_a_day_that_never_comes_has_no_firings_and_a_leap_day_has() -> None:
    assert list(firings(parse("0 0 30 2 *"), UTC, MONDAY)) == []
    assert next(firings(parse("0 0 29 2 *"), UTC, MONDAY)).date() == date(2028, 2, 29)


@pytest.mark.parametrize("cron", ["30 2 * * *", "0,30 0-3 * * *", "15 * * * *", "*/20 1,2 * * 0"])
@pytest.mark.parametrize(
    ("zone", "month", "day"),
    [
        ("America/New_York", 3, 8),
        ("America/New_York", 11, 1),
        ("Europe/Berlin", 3, 29),
        ("Europe/Berlin", 10, 25),
        ("Africa/Cairo", 4, 24),
        ("Asia/Kolkata", 3, 8),
    ],
)
def test_over_a_change_of_the_clock_each_minute_is_due_whose_wall_time_fits(
    cron: str, zone: str, month: int, day: int
) -> None:
    """The expected times come from trying every minute of four days."""
    here, parsed = ZoneInfo(zone), parse(cron)
    start = datetime(2026, month, day, tzinfo=UTC) - timedelta(days=2)
    minutes = [start + timedelta(minutes=number) for number in range(1, 4 * 24 * 60)]
    expected = [
        moment
        for moment in minutes
        for wall in (moment.astimezone(here),)
        if wall.minute in parsed.minutes and wall.hour in parsed.hours and parsed.fits(wall.date())
    ]
    assert expected or cron.endswith("0")
    found = [due.astimezone(UTC) for due in islice(firings(parsed, here, start), len(expected))]
    assert found == expected
