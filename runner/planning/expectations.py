"""Tests of plans: plan a case from the rows that it gives, and describe how the result differs from
what is expected. No database is queried."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from runner.errors import InvalidPlan, UsageError
from runner.model import (
    BackfillPlan,
    Data,
    ExecutionPlan,
    Json,
    Problem,
    Selectors,
    frozen,
)
from runner.model.value import same
from runner.planning.answers import NOT_RECORDED, Facts
from runner.planning.build import build_execution_plan
from runner.planning.facts import gather
from runner.planning.given_rows import GivenRows, Misfit
from runner.planning.lines import line_of
from runner.planning.parts import select
from runner.spec.plan_test import Case, PlanTest
from runner.spec.units import counted, parse_time

_WHOLE = ("data",)  # keys whose values are compared as a whole
_WITHIN = ("message", "reason", "hint")  # keys whose text must contain what is expected
_SHOWN = 20  # differences shown for a list
_MOST = 1_000_000  # comparisons for the tests of a file: some seconds
A_CASE = 3_000  # ... the least cost of a case, for planning it


class TooMuchWork(ValueError):
    """The comparisons exceed the limit for a stranger's tests."""


@dataclass(slots=True)
class Work:
    """How many comparisons the tests of a file may still use."""

    left: int = _MOST

    def spend(self, count: int) -> None:
        """Use up `count` comparisons; raise `TooMuchWork` if none are left."""
        if self.left < 0:
            raise TooMuchWork
        self.left -= count


@frozen
class Came:
    """The result of planning: events as lines, skipped items, and problems, each as JSON."""

    events: Sequence[Data]
    skipped: Sequence[Data]
    problems: Sequence[Data]


@frozen
class Tested:
    """A case and its result; `differences` in words, empty if it holds. `index`: in the file's list
    of cases; `place`: where the expectation is written, without a message."""

    file: str
    case: str
    index: int | None
    place: Problem
    expected: Data
    differences: Sequence[str]
    came: Came

    @property
    def lacking(self) -> list[Problem]:
        """The queries for which the test gives no rows."""
        found = [one for one in self.came.problems if one["rule"] == NOT_RECORDED]
        return [
            replace(self.place, message=f"{self.case}: {one['message']}", hint=one["hint"])
            for one in found
        ]

    @property
    def problems(self) -> list[Problem]:
        return [replace(self.place, message=f"{self.case}: {one}") for one in self.differences]


def differences(expect: Data, came: Came, work: Work) -> list[str]:
    """Return what is expected and missing, and errors that are not expected; empty if it holds.

    Raises `TooMuchWork`.
    """
    found = _of_problems(expect.get("problems", ()), came.problems, work)
    if "events" in expect:
        found += _of_list("event", expect["events"], came.events, work, ordered=True)
    if "skipped" in expect:
        found += _of_list("skipped item", expect["skipped"], came.skipped, work, ordered=False)
    return found


def _of_problems(expected: Sequence[Data], came: Sequence[Data], work: Work) -> list[str]:
    lacking = [one for one in came if one["rule"] == NOT_RECORDED]  # a mistake of the test
    missing, left = _matched(expected, [one for one in came if one not in lacking], work)
    left = [*lacking, *left]
    found = [f"no problem like {_text(one)}" for one in missing]
    found += [
        f"not expected: {one['path']}:{one['line']}:{one['column']}: error: {one['message']}"
        for one in left
        if one["severity"] == "error"
    ]
    return found


def _of_list(
    what: str, expected: Json, came: Sequence[Data], work: Work, *, ordered: bool
) -> list[str]:
    if isinstance(expected, list) and (ordered or not expected):
        found = _in_order(what, expected, came, work)
    elif isinstance(expected, list):
        found = _some(what, expected, came, work)
    else:
        found = []
        if "count" in expected and len(came) != expected["count"]:
            number = expected["count"]
            found.append(f"{counted(number, what)} expected, {len(came):,} came")
        found += _some(what, expected.get("some", ()), came, work)
        if "any_order" in expected:
            missing, left = _matched(expected["any_order"], came, work)
            found += [f"no {what} like {_text(one)}" for one in missing]
            found += [f"not expected: {what} {_name(one)}" for one in left]
    return [*found[:_SHOWN], "... and more"] if len(found) > _SHOWN else found


def _some(what: str, expected: Sequence[Data], came: Sequence[Data], work: Work) -> list[str]:
    return [f"no {what} like {_text(one)}" for one in _matched(expected, came, work)[0]]


def _in_order(what: str, expected: Sequence[Data], came: Sequence[Data], work: Work) -> list[str]:
    """Compare pairwise; after a mismatch, look for the next entry that fits."""
    found: list[str] = []
    at = 0
    for index, one in enumerate(expected):
        if len(found) > _SHOWN:
            return found
        here = came[at] if at < len(came) else None
        if here is not None and not _differs(one, here):
            at += 1
            continue
        work.spend(len(came) - at + len(expected) - index)
        later = next((n for n in range(at, len(came)) if _fits(one, came[n])), None)
        if later is not None:
            found += [f"not expected: {what} {_name(other)}" for other in came[at:later]]
            at = later + 1
        elif here is None or any(_fits(other, here) for other in expected[index + 1 :]):
            found.append(f"no {what} like {_text(one)}")
        else:
            found += [f"{what} {_name(here)}: {why}" for why in _differs(one, here)]
            at += 1
    found += [f"not expected: {what} {_name(other)}" for other in came[at:]]
    return found


def _matched(
    expected: Sequence[Data], came: Sequence[Data], work: Work
) -> tuple[list[Data], list[Data]]:
    """Return what is expected and missing, and what is left over; each entry matches only once."""
    matching = _Matching(expected, came, work)
    missing = [one for index, one in enumerate(expected) if not matching.place(index)]
    return missing, [came[number] for number in matching.left]


class _Matching:
    """Matches as many expectations as possible, each with a result of its own: an expectation that
    fits several results gives way to one that fits only one of them."""

    def __init__(self, expected: Sequence[Data], came: Sequence[Data], work: Work) -> None:
        self._expected, self._came, self._work = expected, came, work
        self.left = dict.fromkeys(range(len(came)), -1)
        self._of: dict[int, int] = {}  # result -> its expectation
        self._has: dict[int, int] = {}
        self._of_item: dict[Json, list[int]] = {}
        for number, one in enumerate(came):
            self._of_item.setdefault(_key(one.get("item")), []).append(number)

    def place(self, index: int) -> bool:
        reached: dict[int, int] = {}  # result -> the expectation that would take it
        waiting = [index]
        for entry in waiting:
            for number in self._fitting(entry, self.left):
                self._move(number, entry, reached)
                return True
            for number in self._fitting(entry, self._of):
                if number not in reached:
                    reached[number] = entry
                    waiting.append(self._of[number])
        return False

    def _fitting(self, entry: int, among: Mapping[int, int]) -> Iterator[int]:
        one = self._expected[entry]
        named = self._of_item.get(_key(one["item"]), ()) if "item" in one else [*among]
        for number in named:
            self._work.spend(1)
            if number in among and _fits(one, self._came[number]):
                yield number

    def _move(self, number: int, entry: int, reached: Mapping[int, int]) -> None:
        """Assign along the path that reached the result: each takes what its predecessor gives
        up."""
        del self.left[number]
        given_up = self._has.get(entry)
        self._of[number], self._has[entry] = entry, number
        while given_up is not None:
            number, entry = given_up, reached[given_up]
            given_up = self._has.get(entry)
            self._of[number], self._has[entry] = entry, number


def _key(item: Json) -> Json:
    """Items are strings; everything else shares one key."""
    return item if isinstance(item, str) else None


def _fits(expected: Mapping[str, Json], came: Mapping[str, Json]) -> bool:
    """Equivalent to `not _differs(...)`, without the texts."""
    for key, value in expected.items():
        if key not in came:
            return False
        other = came[key]
        if type(value) is dict and type(other) is dict and key not in _WHOLE:
            if not _fits(value, other):
                return False
        elif not _same(key, value, other):
            return False
    return True


def _differs(expected: Mapping[str, Json], came: Mapping[str, Json], within: str = "") -> list[str]:
    """Describe where `came` lacks what is expected."""
    found: list[str] = []
    for key, value in expected.items():
        name = f"{within}{key}"
        if key not in came:
            found.append(f"there is no `{name}`")
        elif key not in _WHOLE and isinstance(value, Mapping) and isinstance(came[key], Mapping):
            found += _differs(value, came[key], f"{name}.")
        elif not _same(key, value, came[key]):
            found.append(f"`{name}` is {_text(came[key])}, not {_text(value)}")
    return found


def _same(key: str, expected: Json, came: Json) -> bool:
    if key in _WITHIN and isinstance(expected, str) and isinstance(came, str):
        return expected in came
    if key == "path" and isinstance(expected, str) and isinstance(came, str):
        return f"/{came}".endswith(f"/{expected}")
    return same(expected, came)


def _name(came: Data) -> str:
    item = came.get("item")
    return f"{came['operation']}" if item is None else f"{came['operation']} {item}"


def _text(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def update(expect: Data, came: Came) -> Data:
    """Return an expectation that holds: the same keys with the actual results, and any errors."""
    errors = [
        {"severity": one["severity"], "message": one["message"]}
        for one in came.problems
        if one["severity"] == "error"
    ]
    found: Data = {}
    if not errors and ("events" in expect or "skipped" not in expect):
        found["events"] = _updated(expect.get("events"), [_short(one) for one in came.events])
    if not errors and "skipped" in expect:
        found["skipped"] = _updated(expect["skipped"], came.skipped)
    if errors:
        found["problems"] = errors
    return found


def _updated(expected: Json, came: Sequence[Data]) -> Json:
    if isinstance(expected, Mapping) and "count" in expected:
        return {"count": len(came)}
    return {"any_order": list(came)} if isinstance(expected, Mapping) else list(came)


def _short(line: Data) -> Data:
    """Keep only what the pacing does not decide."""
    return {key: line[key] for key in ("operation", "item", "event")}


def came_of(
    test: PlanTest, case: Case, loaded: BackfillPlan, facts: Facts | None, now: datetime
) -> Came:
    """Plan a case from its rows or from the facts that it names. Without a time of its own, it is
    of the time of the facts, or of `now`.

    Raises `Misfit`, and `InvalidPlan` for faults of the plan itself.
    """
    if facts and case.now is None:
        now = datetime.fromisoformat(facts.recorded_at)
    known = gather(loaded, facts or GivenRows.of(test, case, loaded), now)
    plan = _part(test, case, known, build_execution_plan(known))
    return Came(
        [line_of(stage, event) for stage in plan.stages for event in stage.planned()],
        list(map(asdict, plan.skipped)),
        list(map(asdict, plan.warnings)),
    )


def now_of(test: PlanTest, case: Case, now: datetime) -> datetime:
    """Return the case's own time, or `now` if it has none. Raises `InvalidPlan`."""
    if case.now is None:
        return now
    try:
        found = parse_time(case.now, None)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        message = "`now` is not a time with a time zone"
        hint = 'write it like now: "2026-11-01T00:00:00Z"'
        problem = test.document.problem(message, case.where["now"], hint=hint)
        raise InvalidPlan((problem,))
    return found


def _part(test: PlanTest, case: Case, known: BackfillPlan, whole: ExecutionPlan) -> ExecutionPlan:
    selectors = Selectors(tuple(case.only), tuple(case.skip), tuple(case.items))
    if not selectors:
        return whole
    try:
        return select(known, whole, selectors)
    except UsageError as refused:
        written = {"only": case.only, "skip": case.skip, "item": case.items}
        place = case.where[next(key for key, names in written.items() if names)]
        problem = test.document.problem(str(refused), place, hint=refused.hint)
        raise Misfit((problem,)) from None
