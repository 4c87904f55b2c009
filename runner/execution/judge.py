"""Whether an answer of the database is what a check expects. Pure.

No rows, NULL and what is no figure are "no data", never 0 or 100 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from runner.model import RUN_STARTED, Check, Expect, Json, Table
from runner.model.json import as_compared
from runner.spec.units import parse_time

_NAMED = 5
_UNCHANGED = " (`unchanged: allow` where that is fine)"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`seen` in words; `message` says why the check does not hold."""

    seen: str
    message: str | None = None

    @property
    def holds(self) -> bool:
        return self.message is None


def judge(check: Check, now: Table, before: Table | None, started_at: float) -> Verdict:
    """`before`: the answer before the work, where it was asked for; `started_at`: since 1970."""
    expect = check.expect
    if expect.column is None:
        return _judge_rows(expect, len(now.rows))
    if expect.column not in now.columns:
        return Verdict("no data", f"the query gives no column `{expect.column}`")
    if not now.rows:
        return Verdict("no data", "no data: the query gives no rows")
    figures = dict(_figures(expect.column, now))
    seen = _seen(expect.column, figures)
    null = [label for label, value in figures.items() if value is None]
    if null:
        return Verdict(seen, f"no data: `{expect.column}` is NULL{_of(null)}")
    if wrong := [*_wrong(expect, figures, _figures_before(expect.column, before), started_at)]:
        reason = wrong[0][1]
        return Verdict(seen, f"{reason}{_of([label for label, why in wrong])}")
    if before is not None and check.unchanged == "fail" and not expect.change:
        earlier = _figures_before(expect.column, before)
        if earlier and all(figures[label] == earlier.get(label) for label in figures):
            return Verdict(seen, f"completed but nothing changed: {seen}, as before{_UNCHANGED}")
    return Verdict(seen)


def compares(check: Check) -> bool:
    """Is the answer before the work needed to judge the one after it?"""
    expect = check.expect
    if expect.column is None or check.moment == "before":
        return False
    return expect.change is not None or (check.unchanged == "fail" and not expect.newer_than)


def figure(column: str, table: Table) -> float:
    """The one number of a backlog. ValueError, in words, for anything else."""
    if column not in table.columns:
        raise ValueError(f"the query gives no column `{column}`")
    if len(table.rows) != 1:
        raise ValueError(f"the query gives {len(table.rows):,} rows where one is needed")
    value = table.rows[0][table.columns.index(column)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError(f"`{column}` is {'NULL' if value is None else 'no number'}")


def _judge_rows(expect: Expect, count: int) -> Verdict:
    seen = f"{count:,} row{'' if count == 1 else 's'}"
    low, high = expect.rows_at_least, expect.rows_at_most
    if (low is not None and count < low) or (high is not None and count > high):
        return Verdict(seen, f"{seen}; expected {expect.words}")
    return Verdict(seen)


def _figures(column: str, table: Table) -> Iterator[tuple[str, Json]]:
    """The column's value by what tells the rows apart: their texts, or else their number."""
    place = table.columns.index(column)
    labels: set[str] = set()
    for number, row in enumerate(table.rows, 1):
        others = [v for i, v in enumerate(row) if i != place and isinstance(v, str)]
        label = others[0] if others else (f"row {number}" if len(table.rows) > 1 else "")
        while label in labels:
            label = f"{label} (row {number})"
        labels.add(label)
        yield label, row[place]


def _figures_before(column: str, before: Table | None) -> Mapping[str, Json]:
    if before is None or column not in before.columns:
        return {}
    return dict(_figures(column, before))


def _wrong(
    expect: Expect, figures: Mapping[str, Json], before: Mapping[str, Json], started_at: float
) -> Iterator[tuple[str, str]]:
    for label, value in figures.items():
        why = _why(expect, value, before.get(label), started_at)
        if why:
            yield label, why


def _why(expect: Expect, value: Json, before: Json, started_at: float) -> str | None:
    column = expect.column
    if expect.newer_than:
        return _not_newer(expect, value, started_at)
    if expect.equals is not None:
        return None if value == expect.equals else f"`{column}` is {value}, not {expect.equals}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"`{column}` is no number: {value!r}"
    if expect.at_least is not None and value < expect.at_least:
        return f"`{column}` is {as_compared(value)}, below {as_compared(expect.at_least)}"
    if expect.at_most is not None and value > expect.at_most:
        return f"`{column}` is {as_compared(value)}, above {as_compared(expect.at_most)}"
    if expect.change:
        if not isinstance(before, int | float):
            return None if expect.change == "increased" else f"`{column}` was not there before"
        moved = value - before if expect.change == "increased" else before - value
        if moved == 0:
            return f"completed but nothing changed: `{column}` is {as_compared(value)} as before"
        if moved < 0:
            moves = f"was {as_compared(before)} and is {as_compared(value)}"
            return f"`{column}` {moves}: not {expect.change}"
    return None


def _not_newer(expect: Expect, value: Json, started_at: float) -> str | None:
    run = expect.newer_than == RUN_STARTED
    bound = datetime.fromtimestamp(started_at, UTC) if run else _instant(expect.newer_than)
    seen = _instant(value)
    if seen is None or bound is None:
        return f"`{expect.column}` is no time: {value!r}"
    if seen > bound:
        return None
    since = "the run's start" if run else str(expect.newer_than)
    return f"`{expect.column}` is {value}, not newer than {since}"


def _instant(written: Json) -> datetime | None:
    try:
        return parse_time(written)
    except ValueError:
        return None


def _seen(column: str, figures: Mapping[str, Json]) -> str:
    values = list(figures.values())
    if len(values) == 1:
        return f"{column} {_shown(values[0])}"
    known = [value for value in values if value is not None]
    if not known or any(type(value) is not type(known[0]) for value in known):
        return f"{column} of {len(values):,} rows"
    least, most = _shown(min(known)), _shown(max(known))
    span = least if least == most else f"{least} to {most}"
    return f"{column} {span} in {len(values):,} rows"


def _shown(value: Json) -> str:
    if value is None:
        return "NULL"
    return as_compared(value) if isinstance(value, float) else str(value)


def _of(labels: list[str]) -> str:
    named = [label for label in labels if label]
    if not named:
        return ""
    more = len(named) - _NAMED
    return f" ({', '.join(named[:_NAMED])}{f' and {more:,} more' if more > 0 else ''})"
