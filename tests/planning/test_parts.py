"""Selectors choose a part of an execution plan: the same events in the same order, without the
others, which are listed as skipped."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import InvalidPlan, UsageError
from runner.model import BackfillPlan, ExecutionPlan, Partial, Schedule, Selectors
from runner.planning.build import build_execution_plan, stage_as_of_now
from runner.planning.facts import gather, gather_again
from runner.planning.parts import Choice, select, subset
from runner.planning.saved import SavedPlan, read_saved, write_saved
from runner.planning.serialize import dump_head, load_head
from runner.spec.load import load_plan
from tests.depth import depth
from tests.planning.test_facts import Fake
from tests.support import write_plan

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: repo, payload: {repo: "{{ repo.repo }}"}}
  label:
    event: app/label
    for_each: repo
    after: [sync]
    payload: {repo: "{{ repo.repo }}"}
    when: repo.priority | default("low") != "low"
    checks:
      - {name: labelled, query: "select repo from l where repo in :repos", expect: {rows: 1}}
  embed:
    event: app/embed
    for_each: workspace
    after: [sync]
    payload: {id: "{{ workspace.id }}"}
    checks:
      - {name: embedded, query: "select 1 from e where w in :workspaces", expect: {rows: 1},
         each: false}
  tell: {event: app/tell, for_each: once, payload: {}}
coverage:
  issues: {query: "select item, total, done from c where repo in :repos"}
"""
BODY = """\
repos:
  - {repo: acme/a, workspace: w1}
  - {repo: acme/b, workspace: w2, priority: high}
  - {repo: other/c, workspace: w2, priority: medium}
  - {repo: other/d, workspace: w3}
  - {repo: acme/skips, workspace: w4, skip: [sync]}
operations: [sync, label, embed, tell]
"""
EVERY = {
    "sync": ["acme/b", "other/c", "acme/a", "other/d"],
    "label": ["acme/b", "other/c"],
    "embed": ["w2", "w1", "w3", "w4"],
    "tell": ["test"],
}


def built(folder: Path, body: str = BODY, **selectors: Any) -> tuple[BackfillPlan, ExecutionPlan]:
    plan = load_plan(str(write_plan(folder, body, catalog=CATALOG)))
    whole = build_execution_plan(plan)
    return plan, select(plan, whole, Selectors(**selectors)) if selectors else whole


def sent(plan: ExecutionPlan) -> dict[str, list[str]]:
    return {s.operation: [item for item, _ in s.items.raw()] for s in plan.stages}


def left_out(plan: ExecutionPlan) -> set[tuple[str, str | None]]:
    return {(s.operation, s.item) for s in plan.skipped if s.reason == "not selected"}


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ({"only": ("sync",)}, {"sync": EVERY["sync"]}),
        ({"skip": ("sync", "tell")}, {"label": EVERY["label"], "embed": EVERY["embed"]}),
        ({"limit": 2}, {"sync": ["acme/b", "other/c"], "label": ["acme/b", "other/c"],
                        "embed": ["w2"], "tell": ["test"]}),
        ({"limit": 1, "only": ("embed",)}, {"embed": ["w2"]}),
        ({"items": ("acme/*",)}, {"sync": ["acme/b", "acme/a"], "label": ["acme/b"],
                                  "embed": ["w2", "w1", "w4"]}),
        ({"items": ("acme/*", "!*/b")}, {"sync": ["acme/a"], "embed": ["w1", "w4"]}),
        ({"items": ("!other/*",)}, {"sync": ["acme/b", "acme/a"], "label": ["acme/b"],
                                    "embed": ["w2", "w1", "w4"], "tell": ["test"]}),
        ({"items": ("w3",)}, {"embed": ["w3"]}),
        ({"items": ("other/*", "!w2")}, {"sync": ["other/c", "other/d"], "label": ["other/c"],
                                         "embed": ["w3"]}),
        ({"items": ("acme/*",), "limit": 1}, {"sync": ["acme/b"], "label": ["acme/b"],
                                              "embed": ["w2"]}),
        ({"sample": 1, "seed": 1}, {"sync": ["other/d"], "embed": ["w3"], "tell": ["test"]}),
    ],
)  # fmt: skip
def test_repositories_are_chosen_once_and_workspaces_follow(
    tmp_path: Path, selectors: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    _, plan = built(tmp_path, **selectors)
    assert sent(plan) == expected
    gone = {(op, item) for op, items in EVERY.items() for item in items}
    gone -= {(op, item) for op, items in expected.items() for item in items}
    named = left_out(plan)
    assert {(op, i) for op, i in gone if (op, None) not in named} == {e for e in named if e[1]}
    assert plan.partial is not None
    assert plan.partial.selectors == Selectors(**selectors)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=depth(20, 50),
    deadline=None,
)
@given(
    chosen=st.fixed_dictionaries(
        {},
        optional={
            "only": st.sets(st.sampled_from([*EVERY]), min_size=1).map(tuple),
            "items": st.lists(
                st.sampled_from(["acme/*", "other/?", "!*/a", "!w2", "w*", "test", "*"]),
                min_size=1,
                max_size=3,
            ).map(tuple),
        },
    ),
    so_many=st.sampled_from([{}, {"limit": 1}, {"limit": 3}, {"sample": 2, "seed": 7}]),
)
def test_a_part_is_the_whole_without_what_is_left_out(
    tmp_path: Path, chosen: dict[str, Any], so_many: dict[str, int]
) -> None:
    """Whatever the selectors: events, order and payloads are those of the whole, each omitted item
    is named, and questions are about the remaining items. The result is the same again, also when
    read from a journal."""
    selectors = {**chosen, **so_many}
    _, whole = built(tmp_path)
    if not Selectors(**selectors):
        return
    plan = load_plan(str(tmp_path / "plan.yaml"))
    part = select(plan, whole, Selectors(**selectors), sure=False)
    events = [(p.operation, p.item, p.event) for p in part.planned()]
    rest = {(op, item) for op, item in left_out(part) if item}
    gone = {op for op, item in left_out(part) if item is None}
    assert events == [
        (p.operation, p.item, p.event)
        for p in whole.planned()
        if p.operation not in gone and (p.operation, p.item) not in rest
    ]
    assert [stage.number for stage in part.stages] == list(range(1, len(part.stages) + 1))
    for check in part.checks:
        of = {"labelled": ("label", "repos"), "embedded": ("embed", "workspaces")}[check.name]
        assert sorted(check.question.parameters[of[1]]) == sorted(sent(part)[of[0]])
    again = select(plan, build_execution_plan(plan), Selectors(**selectors), sure=False)
    assert again.digest == part.digest
    if part.partial:
        assert part.digest != whole.digest
        assert load_head(dump_head(part)).partial == part.partial


ASKED = """\
checks:
  - {name: of-all, query: "select repo from r where repo in :repos", expect: {rows: 1}}
  - {name: of-none, query: "select 1", expect: {rows: 1}}
"""


@pytest.mark.parametrize(
    ("selected", "repos", "workspaces"),
    [
        ({"only": ("embed",)}, [], ["w1", "w2", "w3", "w4"]),
        ({"skip": ("embed",)}, EVERY["sync"], []),
        ({"only": ("label", "embed")}, EVERY["label"], ["w1", "w2", "w3", "w4"]),
        ({"only": ("embed",), "items": ("w2",)}, [], ["w2"]),
    ],
)
def test_a_check_of_the_plan_is_not_about_kinds_of_items_for_which_nothing_selected_runs(
    tmp_path: Path, selected: dict[str, Any], repos: list[str], workspaces: list[str]
) -> None:
    """A figure of the whole still is, and coverage."""
    checks = ASKED + (
        '  - {name: homes, query: "select id as item from w where w in :workspaces", '
        "key: item, expect: {rows: 1}}\n"
    )
    _, part = built(tmp_path, BODY + checks, **selected)
    items = {check.name: sorted(check.question.items) for check in part.checks}
    assert (items["of-all"], items["homes"]) == (sorted(repos), sorted(workspaces))
    assert part.coverage[0].question.items


@pytest.mark.parametrize(
    ("positions", "asked"),
    [
        ((1,), {"of-all": ["other/c"]}),
        ((0, 5), {"of-all": ["acme/b", "other/c"], "labelled": ["other/c"]}),
        ((6, 9), {"of-all": EVERY["sync"], "embedded": EVERY["embed"]}),
        ((4, 10), {"of-all": ["acme/b"], "labelled": ["acme/b"]}),
        (
            range(11),
            {"of-all": EVERY["sync"], "labelled": EVERY["label"], "embedded": EVERY["embed"]},
        ),
    ],
)
def test_what_is_sent_again_are_those_events_in_their_order_and_only_they_are_proved(
    tmp_path: Path, positions: Collection[int], asked: dict[str, list[str]]
) -> None:
    _, whole = built(tmp_path, BODY + ASKED)
    part = subset(replace(whole, approval=0, schedule=Schedule("0 3 * * *")), positions)
    assert not part.needs_approval
    assert part.schedule is None
    events = [*whole.planned()]
    assert [(one.operation, one.item, one.event) for one in part.planned()] == [
        (events[at].operation, events[at].item, events[at].event) for at in sorted(positions)
    ]
    assert [stage.number for stage in part.stages] == [*range(1, len(part.stages) + 1)]
    assert not any(stage.deferred or stage.until for stage in part.stages)
    found = {check.name: sorted(check.question.items) for check in part.checks}
    assert found == {name: sorted(items) for name, items in {**asked, "of-none": []}.items()}
    unproved = subset(whole, positions, dict.fromkeys(found, False)).checks
    assert unproved == tuple(check for check in whole.checks if check.name in found)
    refuted = subset(whole, positions, {check.name: True for check in whole.checks}).checks
    moments = {check.name: check.moment if check.name in found else "end" for check in whole.checks}
    assert {check.name: check.moment for check in refuted} == moments
    assert [check.question for check in refuted] == [check.question for check in whole.checks]


SIDE_BY_SIDE = CATALOG.replace("after: [sync]", "")
TOGETHER = """\
flow: items
repos:
  - {repo: acme/b, priority: high}
  - {repo: acme/c, priority: high, skip: [sync]}
  - acme/a
operations: [sync, label]
"""


@pytest.mark.parametrize(
    ("positions", "selectors", "operations", "proved"),
    [
        ((0, 2), None, ("sync", "label"), ["acme/c"]),
        ((0, 3), {"only": ("sync",)}, ("sync",), None),
        ((1, 2), {"only": ("label",)}, ("label",), ["acme/b", "acme/c"]),
        ((2,), {"items": ("acme/c",)}, ("label",), ["acme/c"]),
        ((3,), {"items": ("acme/a",)}, ("sync",), None),
    ],
)
def test_of_operations_side_by_side_only_those_are_there_that_send_something(
    tmp_path: Path,
    positions: Collection[int],
    selectors: dict[str, Any] | None,
    operations: tuple[str, ...],
    proved: list[str] | None,
) -> None:
    """In a retry and in a selection: in the stage's name, in its events, and in the checks."""
    plan = load_plan(str(write_plan(tmp_path, TOGETHER, catalog=SIDE_BY_SIDE)))
    whole = build_execution_plan(plan)
    parts = [subset(whole, positions)]
    if selectors:
        parts.append(select(plan, whole, Selectors(**selectors)))
    events = [*whole.planned()]
    for part in parts:
        (stage,) = part.stages
        assert stage.operations == operations
        assert stage.operation == " + ".join(operations)
        assert stage.event == " + ".join(f"app/{one}" for one in operations)
        assert [one.event for one in part.planned()] == [events[at].event for at in positions]
    asked = {check.name: sorted(check.question.items) for check in parts[0].checks}
    assert asked == ({} if proved is None else {"labelled": proved})


SENT = "[" + ", ".join(f"{{use: {name}, wait: sent}}" for name in EVERY) + "]"


def test_a_part_of_a_scheduled_plan_begins_at_once_and_goes_on_without_gaps(tmp_path: Path) -> None:
    body = BODY.replace("[sync, label, embed, tell]", SENT)
    body += "pacing: scheduled\nbatch_size: 1\ndelay: 10s\n"
    _, whole = built(tmp_path, body)
    assert [stage.begins for stage in whole.stages] == [0.0, 40.0, 60.0, 100.0]
    _, part = built(tmp_path, body, only=("label", "embed", "tell"))
    assert [stage.begins for stage in part.stages] == [0.0, 20.0, 60.0]
    assert [stage.begins for stage in subset(whole, [0, 2, 6]).stages] == [0.0, 20.0]


def test_the_plans_own_reasons_stay_for_what_still_runs(tmp_path: Path) -> None:
    """For an operation that does not run, "not selected" is the only reason."""
    own = "skipped by the repository"
    _, of_sync = built(tmp_path, BODY + "skip: [tell]\n", only=("sync",))
    found = {(one.operation, one.item, one.reason) for one in of_sync.skipped}
    assert found == {
        ("sync", "acme/skips", own),
        ("tell", None, "skipped by the plan"),
        ("label", None, "not selected"),
        ("embed", None, "not selected"),
    }
    _, without = built(tmp_path, skip=("sync",))
    assert {one.operation for one in without.skipped} == {"sync", "label"}
    assert all(one.item is None for one in without.skipped if one.operation == "sync")


def test_coverage_is_asked_of_what_is_selected(tmp_path: Path) -> None:
    _, part = built(tmp_path, items=("acme/a",))
    assert part.coverage[0].question.parameters == {"repos": ["acme/a"]}
    _, of_workspaces = built(tmp_path, only=("embed",), limit=1)
    assert of_workspaces.coverage[0].question.parameters == {"repos": ["acme/b", "other/c"]}


@pytest.mark.parametrize(
    ("selectors", "message", "hint"),
    [
        ({"only": ("synk",)}, "--only synk: test has no such operation", "`sync`"),
        ({"skip": ("embd",)}, "--skip embd: test has no such operation", "`embed`"),
        ({"items": ("acme/z*",)}, "--item acme/z* matches no item", "did you mean `acme/"),
        ({"items": ("!acm/a",)}, "--item !acm/a matches no item", "did you mean `acme/a`?"),
        ({"only": ("sync",), "skip": ("sync",)}, "both name `sync`", "leave one"),
        ({"only": ("label",), "items": ("acme/a",)}, "leaves nothing to send", "without them"),
    ],
)
def test_a_selector_that_fits_nothing_is_an_error_with_a_suggestion(
    tmp_path: Path, selectors: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        built(tmp_path, **selectors)
    assert message in str(refused.value)
    assert hint in (refused.value.hint or "")


def test_where_nothing_is_near_the_first_items_are_examples(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        built(tmp_path, items=("0",))
    assert refused.value.hint == "items are named like acme/b, other/c, acme/a"


def test_an_operation_that_the_plan_skips_cannot_be_selected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--only tell: skipped by the plan"):
        built(tmp_path, BODY + "skip: [tell]\n", only=("tell",))


def test_selectors_that_leave_nothing_out_say_that_it_is_the_whole(tmp_path: Path) -> None:
    plan, part = built(tmp_path, limit=10)
    whole = build_execution_plan(plan)
    assert (part.digest, part.partial) == (whole.digest, None)
    assert [warning.rule for warning in part.warnings] == ["selects-all"]
    with pytest.raises(InvalidPlan, match="excludes nothing: this is the whole plan"):
        select(plan, whole, Selectors(limit=10), strict=True)


def test_an_operation_whose_need_is_not_selected_warns(tmp_path: Path) -> None:
    _, part = built(tmp_path, only=("embed",))
    assert [(w.rule, w.accepted) for w in part.warnings] == [("needs-skipped", None)]
    _, later = built(tmp_path, skip=("sync", "label"))
    assert [w.message for w in later.warnings] == [
        "`embed` comes after `sync`, which is not selected"
    ]
    _, first = built(tmp_path, only=("sync",))
    assert first.warnings == ()


def test_what_is_found_out_when_a_stage_starts_is_selected_too(tmp_path: Path) -> None:
    """Even if there are other items by then; a goal of the whole is no goal of a part."""
    catalog = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  late:
    event: app/late
    for_each: {query: select rows, item: "{{ row.id }}"}
    payload: {id: "{{ row.id }}"}
    resolve: stage
  drain:
    event: app/drain
    for_each: {query: select rows, item: "{{ row.id }}"}
    payload: {}
    until: {query: select left, expect: {column: left, at_most: 0}}
"""
    path = str(write_plan(tmp_path, "operations: [late, drain]\n", catalog=catalog))
    plan = gather(load_plan(path), Fake({"rows": [{"id": "a"}, {"id": "b"}], "left": []}), NOW)
    part = select(plan, build_execution_plan(plan), Selectors(items=("!b",), limit=1))
    late, drain = part.stages
    assert [(s.deferred, s.until is None) for s in (late, drain)] == [(True, True), (False, True)]
    now = Fake({"rows": [{"id": "b"}, {"id": "c"}, {"id": "d"}]})
    known = gather_again(plan, plan.operations[0], now, NOW)
    found = stage_as_of_now(known, late)
    assert part.partial is not None
    assert [item for item, _ in Choice(part.partial, known).of(found).items.raw()] == ["c"]


@pytest.mark.parametrize("after", ["after: count, ", ""])
@pytest.mark.parametrize("resolve", ["plan", "stage"])
@pytest.mark.parametrize(
    ("selectors", "things"),
    [
        ({"items": ("a/mon",)}, ["a"]),
        ({"items": ("b/*", "!*/tue")}, ["b"]),
        ({"items": ("acme/*",)}, []),  # nothing of the product
        ({"limit": 3}, ["a", "b"]),
        ({"limit": 2}, ["a"]),
    ],
)
def test_the_parts_of_the_selected_items_of_a_product_are_proved_and_no_others(
    tmp_path: Path, selectors: dict[str, Any], things: list[str], after: str, resolve: str
) -> None:
    catalog = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  count: {{event: a/count, for_each: cells, resolve: {resolve}, payload: {{}}}}
  sync: {{event: a/sync, for_each: repo, payload: {{}}}}
"""
    body = f"""\
repos: [acme/a, acme/b]
collections:
  things: [a, b, c]
  days: [mon, tue]
  cells: {{matrix: {{thing: things, day: days}}}}
operations: [count, sync]
checks:
  - {{name: c, {after}query: "select name as item, n from t where name in :things",
     expect: {{column: n, at_least: 1}}}}
coverage:
  all: {{query: "select item, total, done from c where item in :things"}}
"""
    plan = load_plan(str(write_plan(tmp_path, body, catalog=catalog)))
    part = select(plan, build_execution_plan(plan), Selectors(**selectors))
    assert [list(one.question.items) for one in part.coverage] == [things]
    if things or not after:  # else its operation does not run
        assert [list(one.question.items) for one in part.checks] == [things]


LATE = """\
apiVersion: backfill/v1
kind: OperationCatalog
lookups:
  of_repos: {query: select repos, key: repo}
  of_workspaces: {for: workspace, query: select workspaces, key: workspace}
operations:
  first: {event: app/first, for_each: FOR, lookups: [], payload: {}, checks: [FIRST]}
  late: {event: app/late, for_each: FOR, payload: {}, when: ITEM.on == 1, resolve: stage}
coverage: {all: {query: "select item, total, done from c where x in :OF"}}
"""


@pytest.mark.parametrize(
    ("for_each", "item", "of", "names"),
    [
        ("repo", "repo", "repos", ["o/a", "o/b", "o/c"]),
        ("workspace", "workspace", "workspaces", ["a", "b", "c"]),
        ("things", "row", "things", ["x", "y", "z"]),
    ],
)
@pytest.mark.parametrize(
    ("options", "first", "today", "later"),
    [
        ({}, 2, 2, [0, 1]),  # "!c": what is skipped today is selected by its name
        ({"only": ("late",)}, 0, 2, [0, 1]),
        ({"limit": 1}, 1, 1, [0]),
        ({"sample": 3}, 3, 3, [0, 1, 2]),
    ],
)
def test_what_a_lookup_decides_when_a_stage_starts_is_selected_as_it_is_then(
    tmp_path: Path,
    for_each: str,
    item: str,
    of: str,
    names: list[str],
    options: dict[str, Any],
    first: int,
    today: int,
    later: list[int],
) -> None:
    check = "{name: first, query: 'select item, n from c where x in :OF', "
    check += "key: item, expect: {column: n, at_least: 1}}"
    catalog = LATE.replace("FIRST", check).replace("FOR", for_each).replace("ITEM", item)
    if for_each == "things":
        catalog = catalog.replace("lookups: [], ", "")
    body = "repos: [" + ", ".join(f"{{repo: o/{one}, workspace: {one}}}" for one in "abc") + "]\n"
    body += "collections: {things: {query: select own, item: '{{ row.id }}'}}\n"
    body += "operations: [first, late]\n"
    path = str(write_plan(tmp_path, body, catalog=catalog.replace("OF", of)))

    def facts(on: str) -> Fake:
        flags = {"o/" + one: int(one in on) for one in "abc"} | {
            one: int(one in on) for one in "abc"
        }
        own = [{"id": id_, "on": flags[one]} for id_, one in zip("xyz", "abc", strict=True)]
        return Fake(
            {
                "own": own,
                "repos": [{"repo": name, "on": on_} for name, on_ in flags.items()],
                "workspaces": [{"workspace": name, "on": on_} for name, on_ in flags.items()],
            }
        )

    plan = gather(load_plan(path), facts("ac"), NOW)
    by_name = () if "limit" in options or "sample" in options else (f"!{names[-1]}",)
    part = select(plan, build_execution_plan(plan), Selectors(items=by_name, **options))
    assert part.partial is not None
    assert [len(one.question.items) for one in part.checks] == [first] * (first > 0)
    assert len(part.coverage[0].question.items) == today
    known = gather_again(plan, plan.operations[1], facts("abc"), NOW)
    found = Choice(part.partial, known).of(stage_as_of_now(known, part.stages[-1]))
    assert [name for name, _ in found.items.raw()] == [names[index] for index in later]


def test_a_saved_part_is_the_same_part_when_it_is_read(tmp_path: Path) -> None:
    _, part = built(tmp_path, items=("acme/*",), limit=1)
    saved = SavedPlan("1", "0" * 26, 0, 1, "dev", "x", "", {}, None, part)
    again = read_saved(write_saved(saved), lambda _: True)
    assert again is not None
    assert (
        again.plan.partial
        == part.partial
        == Partial(
            Selectors(items=("acme/*",), limit=1),
            {"repo": ("acme/b",), "workspace": ("w2",), "once": ()},
        )
    )


GROUPED = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  index:
    event: docs/index
    for_each: docs
    group: 2
    payload: {ids: "{{ rows | map(attribute='id') | list }}"}
    when: row.id != 3
"""


@pytest.mark.parametrize(
    ("selectors", "sent", "left"),
    [
        ({"items": ("2", "5")}, [[2, 5]], ["1", "4", "6"]),
        ({"items": ("!4",)}, [[1, 2], [5, 6]], ["4"]),
        ({"limit": 3}, [[1, 2], [4]], ["5", "6"]),
        ({"items": ("*",)}, [[1, 2], [4, 5], [6]], []),
    ],
)
def test_of_events_for_several_items_each_item_is_selected(
    tmp_path: Path, selectors: dict[str, Any], sent: list[list[int]], left: list[str]
) -> None:
    """The selected items are grouped again; items that `when` skips cannot be selected."""
    docs = ", ".join(f"{{id: {number}}}" for number in range(1, 7))
    body = f"collections: {{docs: [{docs}]}}\noperations: [index]\n"
    plan = load_plan(str(write_plan(tmp_path, body, catalog=GROUPED)))
    part = select(plan, build_execution_plan(plan), Selectors(**selectors))
    assert [one.event.data["ids"] for one in part.planned()] == sent
    assert [one.item for one in part.skipped if one.reason == "not selected"] == left


def test_an_event_for_several_items_is_proved_for_all_of_them_again(tmp_path: Path) -> None:
    check = "{name: there, query: 'select id from d where id in :docs', key: id, expect: {rows: 1}}"
    catalog = f"{GROUPED}    checks: [{check}]\n"
    body = "collections: {docs: [{id: 1}, {id: 2}, {id: 4}]}\noperations: [index]\n"
    path = write_plan(tmp_path, body, catalog=catalog)
    whole = build_execution_plan(load_plan(str(path)))
    assert whole.checks[0].question.items == ("1", "2", "4")
    assert subset(whole, [0]).checks == whole.checks


OWN = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  greet:
    event: a/greet
    for_each: users
    payload: {}
    when: row.id != 3
    checks:
      - {name: greeted, query: "select id, n from g where id in :users", key: id,
         expect: {column: n, at_least: 1}}
  count: {event: a/count, for_each: others, payload: {}}
coverage:
  all: {query: "select item, total, done from c where id in :users or x in :others"}
"""


@pytest.mark.parametrize(
    ("items", "greeted", "counted"),
    [
        ((), ["1", "2", "4"], {"users": ["1", "2", "3", "4"], "others": ["x", "y"]}),
        (("1", "x"), ["1"], {"users": ["1"], "others": ["x"]}),
        (("!1", "!y"), ["2", "4"], {"users": ["2", "4"], "others": ["x"]}),
    ],
)
def test_items_of_the_plans_own_are_proved_and_covered_as_they_are_selected(
    tmp_path: Path, items: tuple[str, ...], greeted: list[str], counted: dict[str, list[str]]
) -> None:
    users = ", ".join(f"{{id: {number}}}" for number in range(1, 5))
    body = f"collections: {{users: [{users}], others: [x, y]}}\noperations: [greet, count]\n"
    plan = load_plan(str(write_plan(tmp_path, body, catalog=OWN)))
    whole = build_execution_plan(plan)
    part = select(plan, whole, Selectors(items=items)) if items else whole
    assert sent(part)["greet"] == greeted
    assert list(part.checks[0].question.items) == greeted
    assert part.coverage[0].question.parameters == counted
