"""How results that differ from a plan test's expectations are described, and what that costs."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.planning.expectations import Came, TooMuchWork, Work, differences, update


def line(item: str | None, operation: str = "sync", **data: Any) -> dict[str, Any]:
    event = {"name": f"app/{operation}", "data": data or {"repo": item}}
    return {"stage": 1, "operation": operation, "batch": 1, "item": item, "event": event}


def problem(message: str, severity: str = "error") -> dict[str, Any]:
    where = {"path": "plans/a.yaml", "line": 3, "column": 5}
    return {"severity": severity, "message": message, **where, "rule": None}


def found(expect: dict[str, Any], *events: dict[str, Any], work: Work | None = None) -> list[str]:
    return differences(expect, Came(events, (), ()), work or Work())


A, B, C = line("a"), line("b"), line("c")
FLAG = line("a", a=[1])


@pytest.mark.parametrize(
    ("expected", "came", "wrong"),
    [
        ([{"item": "a"}, {"item": "b"}], [A, A],
         ['event sync a: `item` is "a", not "b"']),
        ([{"item": "z"}, {"item": "b"}, {"item": "c"}], [A, B, C],
         ['event sync a: `item` is "a", not "z"']),
        ([{"item": "c"}, {"item": "z"}], [A, B, C],
         ["not expected: event sync a", "not expected: event sync b",
          'no event like {"item": "z"}']),
        ([{"item": "z"}, {"item": "a"}, {"item": "b"}], [A, B],
         ['no event like {"item": "z"}']),
        ([{"item": "a"}], [A, B, line(None, "tell")],
         ["not expected: event sync b", "not expected: event tell"]),
        ([{"item": "a", "at": 1}], [A], ["event sync a: there is no `at`"]),
        ([{"event": {"name": "app/x", "id": "1"}}], [A],
         ['event sync a: `event.name` is "app/sync", not "app/x"',
          "event sync a: there is no `event.id`"]),
        ([{"event": {"data": {}}}], [A],
         ['event sync a: `event.data` is {"repo": "a"}, not {}']),
        ([{"item": "é"}], [A], ['event sync a: `item` is "a", not "é"']),
        ([{"stage": True}], [A], ["event sync a: `stage` is 1, not true"]),
        ([{"event": {"data": {"a": [True]}}}], [FLAG],
         ['event sync a: `event.data` is {"a": [1]}, not {"a": [true]}']),
        ([{"event": {"data": {"a": [1.0]}}}], [FLAG], []),
        ([{"event": {"name": "app/sync"}}], [A], []),
    ],
)  # fmt: skip
def test_events_are_compared_in_order_and_where_they_part_the_next_that_fits_is_looked_for(
    expected: list[dict[str, Any]], came: list[dict[str, Any]], wrong: list[str]
) -> None:
    assert found({"events": expected}, *came) == wrong


@pytest.mark.parametrize(
    ("expected", "wrong"),
    [
        ({"any_order": [{"item": "b"}, {"operation": "sync"}]}, []),
        ({"any_order": [{"item": "a"}, {"item": "a"}]},
         ['no event like {"item": "a"}', "not expected: event sync b"]),
        ({"any_order": [{"item": ["a"]}, {"stage": 1}, {"stage": 1}]},
         ['no event like {"item": ["a"]}']),
        ({"some": [{"at": 1}]}, ['no event like {"at": 1}']),
        ({"some": [{"event": {"at": 1}}]}, ['no event like {"event": {"at": 1}}']),
        ({"some": [{"event": 1}]}, ['no event like {"event": 1}']),
        ({"count": 1}, ["1 event expected, 2 came"]),
    ],
)  # fmt: skip
def test_in_any_order_each_event_counts_once(expected: dict[str, Any], wrong: list[str]) -> None:
    assert found({"events": expected}, A, B) == wrong


PARTS = [{"item": "a"}, {"item": "b"}, {"operation": "sync"}, {"operation": "tell"}, {"stage": 1}]
LINES = [line(item, operation) for item in "ab" for operation in ("sync", "tell")]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=3), st.lists(st.sampled_from(LINES), max_size=3))
@example([{"operation": "sync"}, {"item": "a"}], [LINES[0], LINES[2]])
def test_what_fits_several_leaves_the_one_that_fits_another_alone(
    expected: list[dict[str, Any]], came: list[dict[str, Any]]
) -> None:
    most = max(
        sum(
            not found({"events": {"some": [one]}}, other)
            for one, other in zip(expected, order, strict=True)
        )
        for order in permutations([*came, *[{}] * len(expected)], len(expected))
    )
    assert len(found({"events": {"some": expected}}, *came)) == len(expected) - most
    wrong = found({"events": {"any_order": expected}}, *came)
    assert len(wrong) == len(expected) + len(came) - 2 * most


@pytest.mark.parametrize(
    ("expected", "wrong"),
    [
        ([], ["not expected: plans/a.yaml:3:5: error: no `repo` here"]),
        ([{"message": "`repo`", "severity": "error"}], []),
        ([{"path": "a.yaml"}, {"path": "plans/a.yaml", "rule": "odd"}], []),
        ([{"path": "lans/a.yaml"}],
         ['no problem like {"path": "lans/a.yaml"}',
          "not expected: plans/a.yaml:3:5: error: no `repo` here"]),
        ([{"message": "no `repo` here, but there"}, {"severity": "error"}],
         ['no problem like {"message": "no `repo` here, but there"}']),
        ([{"message": None}, {"path": 1}, {"severity": "error"}],
         ['no problem like {"message": null}', 'no problem like {"path": 1}']),
    ],
)  # fmt: skip
def test_each_error_is_expected_and_a_warning_may_be(
    expected: list[dict[str, Any]], wrong: list[str]
) -> None:
    warning = {**problem("it is odd", "warning"), "rule": "odd"}
    came = Came((), (), (problem("no `repo` here"), warning))
    assert differences({"problems": expected}, came, Work()) == wrong


@pytest.mark.parametrize("form", ["in order", "any_order"])
@pytest.mark.parametrize(
    ("count", "more"), [(20, []), (21, ["... and more"]), (50, ["... and more"])]
)
def test_of_many_differences_the_first_twenty_are_shown(
    form: str, count: int, more: list[str]
) -> None:
    expected = [{"item": f"x{number}"} for number in range(count)]
    events: Any = {"any_order": expected} if form == "any_order" else expected
    shown = [f'no event like {{"item": "x{number}"}}' for number in range(20)]
    assert found({"events": events}) == [*shown, *more]


@pytest.mark.parametrize(
    ("events", "cost"),
    [
        ([{"item": "a"}, {"item": "b"}, {"item": "c"}], 0),
        ([{"item": "a"}, {"item": "z"}], 3),
        ({"some": [{"item": "b"}]}, 1),
        ({"some": [{"stage": 1}, {"operation": "sync"}]}, 2),
    ],
)
def test_a_comparison_costs_what_it_looks_through(events: Any, cost: int) -> None:
    work = Work(100)
    found({"events": events}, A, B, C, work=work)
    assert work.left == 100 - cost


def test_work_that_is_used_up_is_an_error() -> None:
    work = Work(2)
    for _ in range(3):
        work.spend(1)
    with pytest.raises(TooMuchWork):
        work.spend(1)


@pytest.mark.parametrize(
    ("expect", "written"),
    [
        ({}, {"events": ["a", "b"]}),
        ({"events": []}, {"events": ["a", "b"]}),
        ({"events": {"some": []}}, {"events": {"any_order": ["a", "b"]}}),
        ({"events": {"count": 7}}, {"events": {"count": 2}}),
        ({"skipped": []}, {"skipped": ["s"]}),
        ({"events": [], "skipped": {"count": 0}}, {"events": ["a", "b"], "skipped": {"count": 1}}),
    ],
)
def test_an_update_has_the_keys_that_were_there_with_what_came(
    expect: dict[str, Any], written: dict[str, Any]
) -> None:
    """An updated event leaves out what pacing alone decides."""
    short = {
        name: {key: one[key] for key in ("operation", "item", "event")}
        for name, one in (("a", A), ("b", B))
    }
    skipped = {"operation": "sync", "item": "s", "reason": "r"}
    came = Came((A, B), (skipped,), (problem("it is odd", "warning"),))

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: whole(one) for key, one in value.items()}
        return [{**short, "s": skipped}[one] for one in value] if isinstance(value, list) else value

    assert update(expect, came) == whole(written)
    assert differences(update(expect, came), came, Work()) == []


def test_an_update_of_a_plan_with_errors_expects_them_and_no_events() -> None:
    came = Came((A,), (), (problem("no"), problem("odd", "warning")))
    written = update({"events": [], "skipped": []}, came)
    assert written == {"problems": [{"severity": "error", "message": "no"}]}
    assert differences(written, came, Work()) == []
