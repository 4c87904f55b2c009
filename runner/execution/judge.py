"""Judge the database's answers: for checks and for coverage. Pure.

No rows, NULL and non-numbers are "no data", never 0 or 100 %. A check that must hold for each item
is judged item by item: an item without a row is not proved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TypeGuard

from runner.model import (
    RUN_STARTED,
    Check,
    Covered,
    DatabaseClock,
    Expect,
    Json,
    Measure,
    RowSecurity,
    Table,
    frozen,
)
from runner.model.value import as_compared, as_shown
from runner.spec.document import echo
from runner.spec.schema_messages import kind_of
from runner.spec.units import counted, parse_time

BEFORE, AFTER = "before", "after"

GRANT = "give the role a policy that shows it the rows, or BYPASSRLS"
UNTOLD = "it is not known whether this key sees the rows"


def blinded(security: Sequence[RowSecurity] | None) -> str | None:
    """Name the tables that have rows but show this role none."""
    tables = [one.table for one in security or () if one.blind]
    if not tables:
        return None
    names = ", ".join(f"`{table}`" for table in tables)
    return f"row-level security hides all rows of {names} from this role"


_NAMED = 5
_REASONS = 3
_LONGEST = 80  # characters of a value
_ORDERED = frozenset((bool, int, float, str))  # lists and mappings have no least value
_UNCHANGED = " (if that is fine, write `unchanged: allow`)"
Groups = Mapping[str, Sequence[Json]]  # the figures of each item, or of each row


@frozen
class Verdict:
    """The result of a check. `seen`: the figures in words; `message`: why it does not hold; `note`:
    a remark if it does. `blank`: all figures are zero or truths (as of `not exists`), which is also
    what a role without access would see."""

    seen: str
    message: str | None = None
    note: str | None = None
    blank: bool = False

    @property
    def holds(self) -> bool:
        return self.message is None

    def under(self, security: Sequence[RowSecurity] | None) -> Verdict:
        """Judge a zero in the light of row-level security, which may hide rows."""
        blind = blinded(security)
        note = self.note or (UNTOLD if security is None else None)
        return replace(self, message=blind and f"no data: {blind}", note=note)


UNSENT = Verdict("no item", note="nothing was sent for it, so there is nothing to prove")


@frozen
class Since:
    """The run's start by the database's own clock, and the zone of its times that have none."""

    at: datetime
    zone: tzinfo = UTC
    called: str = "UTC"

    @classmethod
    def of(cls, clock: DatabaseClock, zone: str | None = None) -> Since:
        """`zone`: the check's own, instead of the session's."""
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        called = zone or clock.zone
        try:
            found: tzinfo = ZoneInfo(called)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # PostgreSQL has others: `<+03>-03`
            found = timezone(timedelta(seconds=clock.offset))
        return cls(datetime.fromisoformat(clock.now), found, called)


@frozen
class _Rows:
    """An answer by item; `names`: the items that it must have, in order; None: by row."""

    figures: Groups
    names: Sequence[str] | None = None

    @property
    def all(self) -> list[Json]:
        return [value for values in self.figures.values() for value in values]

    @property
    def missing(self) -> list[str]:
        return [name for name in self.names or () if not self.figures.get(name)]


@dataclass(slots=True)
class _Notes:
    """Remarks on a check that holds."""

    zoneless: bool = False
    full: list[str] = field(default_factory=list)


def judge(
    check: Check, now: Table, before: Table | None, since: Since | None, *, sent: bool = True
) -> Verdict:
    """Judge the answer of a check.

    `before`: the answer before the work, if it was asked; `since`: the start, if times are
    compared; `sent`: whether anything was sent that could have changed the figures.
    """
    expect, question = check.expect, check.question
    of_none = question.of is not None and not question.items
    if question.key and of_none:
        return UNSENT
    wanted = [name for name in (question.key, expect.column) if name]
    if gap := next((name for name in wanted if name not in now.columns), None):
        which = ", which tells the items apart" if gap == question.key else ""
        return Verdict("no data", f"the query gives no column `{gap}`{which}")
    rows = _rows(check, now)
    if expect.column is None:
        return _judge_counts(check, rows, len(now.rows))
    if of_none and set(rows.all) <= {None}:  # the sum over no items
        return UNSENT
    if not rows.all:
        return Verdict("no data", f"no data: the query gives no rows{_of(rows.missing)}")
    seen = _seen(expect.column, rows.all)
    earlier = _rows(check, before) if before and set(wanted) <= set(before.columns) else None
    if rows.missing:
        return Verdict(seen, _missing(check, rows, earlier))
    null = [name for name, values in rows.figures.items() if None in values]
    if null:
        return Verdict(seen, f"no data: `{expect.column}` is NULL{_of(null)}")
    notes = _Notes()
    if wrong := [*_wrong(check, rows, earlier, since, notes)]:
        return Verdict(seen, _reasons(wrong))
    compared = sent and check.unchanged == "fail" and not expect.change
    unmoved = _unmoved(check, rows, earlier, notes) if compared and earlier else []
    if unmoved:
        message = f"completed but nothing changed: {seen}, as before{_of(unmoved)}{_UNCHANGED}"
        return Verdict(seen, message)
    blank = all(isinstance(value, bool) or value == 0 for value in rows.all)
    return Verdict(seen, note=_noted(check, notes, since), blank=blank)


def compares(check: Check) -> bool:
    """Whether judging the answer needs the answer before the work."""
    expect = check.expect
    if expect.column is None or check.moment == "before":
        return False
    return expect.change is not None or (check.unchanged == "fail" and not expect.newer_than)


def figure(column: str, table: Table, *, none: bool = False) -> float:
    """Return the single number of a backlog; a NULL is 0 if it is that of `none`, as the sum over
    no items. Raises ValueError, with a message, for anything else."""
    if column not in table.columns:
        raise ValueError(f"the query gives no column `{column}`")
    if len(table.rows) != 1:
        raise ValueError(f"the query gives {counted(len(table.rows), 'row')}, but one is needed")
    value = table.rows[0][table.columns.index(column)]
    if value is None and none:
        return 0
    if _is_number(value):
        return value
    raise ValueError(f"`{column}` is {'NULL' if value is None else 'not a number'}")


def _rows(check: Check, table: Table) -> _Rows:
    question, column = check.question, check.expect.column
    place = table.columns.index(column) if column else None
    if question.key is None:
        return _Rows({} if place is None else dict(_by_row(table, place)))
    key, names = table.columns.index(question.key), question.by_key()
    found: dict[str, list[Json]] = {}
    for row in table.rows:
        name = names.get(str(row[key]))
        if name is not None:  # rows of other items do not matter
            found.setdefault(name, []).append(None if place is None else row[place])
    return _Rows(found, question.items)


def _by_row(table: Table, place: int) -> Iterator[tuple[str, Sequence[Json]]]:
    """Label rows by their first text, or by number."""
    labels: set[str] = set()
    for number, row in enumerate(table.rows, 1):
        others = [v for i, v in enumerate(row) if i != place and isinstance(v, str)]
        label = others[0] if others else (f"row {number}" if len(table.rows) > 1 else "")
        while label in labels:
            label = f"{label} (row {number})"
        labels.add(label)
        yield label, (row[place],)


def _judge_counts(check: Check, rows: _Rows, count: int) -> Verdict:
    expect = check.expect
    low, high = expect.rows_at_least, expect.rows_at_most
    names = rows.names
    counts = {"": count} if names is None else {n: len(rows.figures.get(n, ())) for n in names}
    total = sum(counts.values())
    seen = counted(total, "row")
    wrong = [
        name
        for name, number in counts.items()
        if (low is not None and number < low) or (high is not None and number > high)
    ]
    if wrong:
        return Verdict(seen, f"{seen}; expected {expect.words}{_of(wrong)}")
    return Verdict(seen, blank=not total)


def _missing(check: Check, rows: _Rows, earlier: _Rows | None) -> str:
    """Report vanished rows first: they are worse than rows that never existed."""
    gone = [name for name in rows.missing if earlier and earlier.figures.get(name)]
    if gone:
        return f"a row that was there before is missing now{_of(gone)}"
    total = len(check.question.items)
    return f"no row for {len(rows.missing):,} of {counted(total, 'item')}{_of(rows.missing)}"


def _unmoved(check: Check, rows: _Rows, earlier: _Rows, notes: _Notes) -> list[str]:
    """Return what could have changed and has not: items; or all rows, if none of them changed."""
    same = [
        name
        for name, values in rows.figures.items()
        if _sorted(values) == _sorted(earlier.figures.get(name, ()))
    ]
    if rows.names is None and len(same) < len(rows.figures):
        return []
    free = [name for name in same if not all(_is_full(check, one) for one in rows.figures[name])]
    notes.full += [name for name in same if name not in free]
    return free


def _is_full(check: Check, value: Json) -> bool:
    """Whether the figure can go no further in the expected direction: a backlog of 0, a percentage
    of 100, a count of all items."""
    expect = check.expect
    if not _is_number(value):
        return False
    if (expect.at_most is not None or expect.equals is not None) and value == 0:
        return True
    if expect.at_least is not None or expect.equals is not None:
        if expect.is_full(value):
            return True
        question = check.question
        return question.key is None and bool(question.items) and value == len(question.items)
    return False


def _wrong(
    check: Check, rows: _Rows, earlier: _Rows | None, since: Since | None, notes: _Notes
) -> Iterator[tuple[str, str]]:
    for label, values in rows.figures.items():
        before = earlier.figures.get(label, ()) if earlier else ()
        if check.expect.change and max(len(values), len(before)) > 1:
            yield (
                label,
                (
                    f"{counted(len(values), 'row')}, but only one row can be compared with the "
                    "one before"
                ),
            )
            continue
        for value in values:
            why = _why(check.expect, value, before[0] if before else None, since, notes)
            if why:
                yield label, why
                break


def _why(
    expect: Expect, value: Json, before: Json, since: Since | None, notes: _Notes
) -> str | None:
    column = expect.column
    if expect.newer_than and (why := _not_newer(expect, value, since, notes)):
        return why
    if expect.equals is not None and value != expect.equals:
        shown, wanted = _shown(value), _shown(expect.equals)
        if shown == wanted:  # one is a string
            shown, wanted = kind_of(value), kind_of(expect.equals)
        return f"`{column}` is {shown}, not {wanted}"
    bounds = (expect.at_least, expect.at_most, expect.change)
    return None if bounds == (None, None, None) else _out_of_bounds(expect, value, before)


def _out_of_bounds(expect: Expect, value: Json, before: Json) -> str | None:
    column = expect.column
    if not _is_number(value):
        return f"`{column}` is not a number: {echo(value)}"
    if expect.at_least is not None and value < expect.at_least:
        return f"`{column}` is {as_compared(value)}, below {as_compared(expect.at_least)}"
    if expect.at_most is not None and value > expect.at_most:
        return f"`{column}` is {as_compared(value)}, above {as_compared(expect.at_most)}"
    if expect.change:
        if not _is_number(before):
            return None if expect.change == "increased" else f"`{column}` was not there before"
        moved = value - before if expect.change == "increased" else before - value
        if moved < 0:
            moves = f"was {as_compared(before)} and is {as_compared(value)}"
            return f"`{column}` {moves}: not {expect.change}"
        if moved == 0:
            return f"completed but nothing changed: `{column}` is {as_compared(value)} as before"
    return None


def _not_newer(expect: Expect, value: Json, since: Since | None, notes: _Notes) -> str | None:
    run = expect.newer_than == RUN_STARTED
    zone = since.zone if since else UTC
    bound = (since.at if since else None) if run else _instant(expect.newer_than, zone)
    seen = _instant(value, zone, notes)
    if seen is None or bound is None:
        return f"`{expect.column}` is not a time: {echo(value)}"
    if seen > bound:
        return None
    when = f"the run's start, {bound:%Y-%m-%d %H:%M:%S%z}" if run else str(expect.newer_than)
    return f"`{expect.column}` is {value}, not newer than {when}"


def _instant(written: Json, zone: tzinfo, notes: _Notes | None = None) -> datetime | None:
    """Parse a time; one that a clock change repeats is read as the earlier, which proves less."""
    try:
        found = parse_time(written, None)
        if found.tzinfo:
            return found
        if notes:
            notes.zoneless = True
        return found.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _noted(check: Check, notes: _Notes, since: Since | None) -> str | None:
    said = []
    if notes.zoneless:
        whose = "as `timezone` says" if check.question.query.timezone else "the zone of the session"
        zone = f"{since.called if since else 'UTC'}, {whose}"
        said.append(f"`{check.expect.column}` has no zone and was read in {zone}")
    if notes.full:
        said.append(f"unchanged, as it can go no further{_of(notes.full)}")
    return "; ".join(said) or None


def _sorted(values: Sequence[Json]) -> list[Json]:
    return sorted(values, key=lambda value: (type(value).__name__, str(value)))


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Json) -> str:
    """Format a figure; cut a long text, which is not a figure."""
    text = as_shown(value)
    return text if len(text) <= _LONGEST else echo(text)


def _reasons(wrong: Sequence[tuple[str, str]]) -> str:
    """Join the first reasons, each with the items that it is about."""
    alike: dict[str, list[str]] = {}
    for label, why in wrong:
        alike.setdefault(why, []).append(label)
    shown = list(alike.items())[:_REASONS]
    rest = len(wrong) - sum(len(labels) for _, labels in shown)
    said = "; ".join(f"{why}{_of(labels)}" for why, labels in shown)
    return f"{said}; and {rest:,} more" if rest else said


def _seen(column: str, values: Sequence[Json]) -> str:
    if len(values) == 1:
        return f"{column} {_shown(values[0])}"
    known = [value for value in values if value is not None]
    alike = {type(value) for value in known}
    if len(alike) != 1 or alike.isdisjoint(_ORDERED):
        return f"{column} of {counted(len(values), 'row')}"
    least, most = _shown(min(known)), _shown(max(known))
    span = least if least == most else f"{least} to {most}"
    return f"{column} {span} in {counted(len(values), 'row')}"


def _of(labels: Sequence[str]) -> str:
    named = [label for label in labels if label]
    if not named:
        return ""
    more = len(named) - _NAMED
    return f" ({', '.join(named[:_NAMED])}{f' and {more:,} more' if more > 0 else ''})"


NEEDED = ("item", "total", "done")


def coverage_key(name: str, when: str) -> str:
    """The name of the coverage in the journal, BEFORE or AFTER a run."""
    return f"coverage {name} {when}"


def covered(measure: Measure, now: Table, before: Table | None = None) -> list[Covered]:
    """Read a coverage answer; an item of the question without a row has no data.

    Raises ValueError, with a message, if the answer does not have the form of coverage.
    """
    of, question = measure.name, measure.question
    missing = [name for name in NEEDED if name not in now.columns]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise ValueError(f"the coverage `{of}` gives no column {names}; name them with `as`")
    known = before.dicts() if before and set(NEEDED) <= set(before.columns) else ()
    earlier = {str(row["item"]): row["done"] for row in known}
    found = [_row(of, row, earlier) for row in now.dicts()]
    if question.key is None:
        return found
    called = question.by_key()
    there = {called.get(row.item) for row in found}
    return [*found, *(Covered.unknown(of, item) for item in question.items if item not in there)]


def _item(of: str, row: Mapping[str, Json]) -> str:
    item = row["item"]
    if isinstance(item, str) or _is_number(item):
        return str(item)
    raise ValueError(f"the coverage `{of}`: `item` is {_shown(item)}, which is not an item")


def _row(of: str, row: Mapping[str, Json], earlier: Mapping[str, Json]) -> Covered:
    item = _item(of, row)

    def whole(name: str) -> int:
        value, what = row[name], "no number"
        if _is_number(value):
            if value == int(value) >= 0:
                return int(value)
            what = f"{as_compared(value)}, which is not a count"
        elif value is None:
            what = "NULL, which is no data"
        raise ValueError(f"the coverage `{of}` of {item}: `{name}` is {what}")

    pending, last, before = row.get("pending"), row.get("last_sync"), earlier.get(item)
    return Covered(
        of,
        item,
        whole("total"),
        whole("done"),
        None if pending is None else whole("pending"),
        None if last is None else str(last),
        int(before) if _is_number(before) else None,
    )
