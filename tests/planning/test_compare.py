"""What a change to a plan does: every change is reported, and nothing if there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.model import ExecutionPlan, Selectors
from runner.planning.build import build_execution_plan
from runner.planning.compare import PlanChange, compare, first_difference, review
from runner.planning.event_blocks import EventBlocks
from runner.planning.parts import select
from runner.planning.serialize import dump_head
from runner.planning.serialize import load_plan as load_dump
from runner.spec.catalog import builtin_source
from runner.spec.load import load_plan
from tests.depth import depth
from tests.support import make_plan, write_plan

NAMES = [f"o/r{number}" for number in range(6)]
BASE = "repos: [o/r0, o/r1, o/r2, o/r3]\noperations: [sync, embed]\nbatch_size: 2\ndelay: 5s\n"


@st.composite
def bodies(draw: Any) -> str:
    """Plans that differ in what a reviewer has to see."""
    repos = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True))
    operations = draw(st.sampled_from(["[sync]", "[sync, embed]", "[sync, embed, fire]", "[fire]"]))
    skipped = draw(st.sampled_from(["", "skip: [embed]"])) if "embed" in operations else ""
    rows = "".join(
        f"  - {{repo: {name}{', ' + skipped if skipped and index == 0 else ''}}}\n"
        for index, name in enumerate(repos)
    )
    size, delay = draw(st.sampled_from([1, 2])), draw(st.sampled_from(["1s", "5s"]))
    failing = draw(st.sampled_from(["stop", "continue"]))
    flow = draw(st.sampled_from(["stages", "items"]))
    return (
        f"repos:\n{rows}operations: {operations}\nbatch_size: {size}\ndelay: {delay}\n"
        f"on_failure: {failing}\nflow: {flow}\n"
    )


def load_dumped(plan: ExecutionPlan) -> ExecutionPlan:
    """The plan as a saved plan and the journal keep it."""
    bodies = {stage.number: list(cast(EventBlocks, stage.items).blocks) for stage in plan.stages}
    return load_dump(dump_head(plan), bodies)


def _same(one: ExecutionPlan, other: ExecutionPlan) -> bool:
    events = [list(plan.planned()) for plan in (one, other)]
    return events[0] == events[1] and one.digest == other.digest and one.skipped == other.skipped


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        (None, 0, "nothing → required"),
        (None, 50, "nothing → required over 50 events"),
        (1, 0, "required over 1 event → required"),
        (0, None, "required → nothing"),
    ],
)
def test_an_approval_is_shown_in_words(
    tmp_path: Path, old: int | None, new: int | None, shown: str
) -> None:
    plan = make_plan(tmp_path, BASE)
    change, *_ = compare(replace(plan, approval=old), replace(plan, approval=new)).changes
    assert change.what == f"approval: {shown}"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("schedule: 0 3 * * *", "schedule: nothing → 0 3 * * * UTC"),
        ("requires: {environment: staging}", "requires: nothing → staging"),
        ("give_up_after: 90s", "give_up_after: nothing → 1m30s"),
        ("approval: {required: true}", "approval: nothing → required"),
        ("if_empty: ok", "if_empty: fail → ok"),
        ("on_failure: continue", "on_failure: stop → continue"),
    ],
)
def test_what_starts_a_plan_and_what_may_stop_it_is_a_change(
    tmp_path: Path, line: str, shown: str
) -> None:
    plan, other = make_plan(tmp_path, BASE), make_plan(tmp_path, f"{BASE}{line}\n")
    assert [change.what for change in compare(plan, other).changes] == [shown]
    assert [change.what for change in compare(other, load_dumped(other)).changes] == []


@settings(
    max_examples=depth(20, 60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(bodies(), bodies())
def test_there_is_no_difference_exactly_where_the_plans_are_equal(
    tmp_path: Path, old: str, new: str
) -> None:
    one, other = make_plan(tmp_path, old), make_plan(tmp_path, new)
    assert (not compare(one, other).changes) == _same(one, other)
    assert not compare(one, make_plan(tmp_path, old)).changes


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (
            BASE.replace("o/r3]", "o/r4, o/r5]"),
            [
                PlanChange("removed", "sync", "events", 1, ("o/r3",)),
                PlanChange("added", "sync", "events", 2, ("o/r4", "o/r5")),
                PlanChange("removed", "embed", "events", 1, ("o/r3",)),
                PlanChange("added", "embed", "events", 2, ("o/r4", "o/r5")),
            ],
        ),
        (
            BASE.replace("[o/r0, o/r1, o/r2, o/r3]", "[o/r3, o/r0, o/r1, o/r2]"),
            [
                PlanChange("moved", "sync", "moved in the order", 1, ("o/r3",)),
                PlanChange("moved", "embed", "moved in the order", 1, ("o/r3",)),
            ],
        ),
        (
            BASE.replace("delay: 5s", "delay: 10s"),
            [
                PlanChange("changed", "sync", "delay: 5s → 10s"),
                PlanChange("changed", "embed", "delay: 5s → 10s"),
            ],
        ),
        (
            BASE.replace("[sync, embed]", "[sync]"),
            [PlanChange("removed", "embed", "the operation", 4, tuple(NAMES[:4]))],
        ),
        (
            BASE + "on_failure: continue\n",
            [PlanChange("changed", None, "on_failure: stop → continue")],
        ),
        (
            BASE.replace("[o/r0,", "[{repo: o/r0, skip: [embed]},"),
            [
                PlanChange("removed", "embed", "events", 1, ("o/r0",)),
                PlanChange(
                    "added", "embed", "newly skipped: the repository skips it", 1, ("o/r0",)
                ),
            ],
        ),
    ],
)
def test_a_change_is_told_in_the_fields_words(
    tmp_path: Path, body: str, changes: list[PlanChange]
) -> None:
    found = compare(make_plan(tmp_path, BASE), make_plan(tmp_path, body)).changes
    told = [change for change in found if "skipped" not in change.what]
    assert told == [change for change in changes if "skipped" not in change.what]
    assert len(found) == len(changes)


def test_a_payload_is_compared_key_by_key(tmp_path: Path) -> None:
    catalog = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: repo, payload: {repo: "{{ repo.repo }}", %s}}
"""
    body = "repos: [o/r0, o/r1]\noperations: [sync]\n"
    old = make_plan(tmp_path, body, catalog=catalog % "days: 30, gone: 1")
    new = make_plan(tmp_path, body, catalog=catalog % "days: 90, more: true")
    assert [change.what for change in compare(old, new).changes] == [
        "payload `days`: 30 → 90",
        "payload `gone` is removed",
        "payload `more` is new: true",
    ]


def test_a_pacing_that_travels_in_payloads_is_one_change(tmp_path: Path) -> None:
    def planned(use: str) -> ExecutionPlan:
        text = builtin_source().decode()
        body = f"repos: [o/r0]\nworkspace: w\noperations:\n  - {{use: embeddings, {use}}}\n"
        return make_plan(tmp_path, body, catalog=text)

    old, new = planned("batch_size: 50, delay: 5s"), planned("batch_size: 100, delay: 2s")
    told = [change.what for change in compare(old, new).changes]
    assert told == ["batch_size: 50 → 100", "delay: 5s → 2s"]
    pinned = planned("batch_size: 50, delay: 5s, with: {batch_size: 7}")
    told = [change.what for change in compare(old, pinned).changes]
    assert told == ["payload `batch_size`: 50 → 7"]


def test_what_has_a_name_is_told_by_it(tmp_path: Path) -> None:
    """And not as JSON: for a check that changed, only what changed."""
    query = "query: select 1 as n, expect: {column: n, at_least: %s}"
    checks = "checks: [{name: done, %s}, {name: %s, %s}]\n"
    old = BASE + checks % (query % 1, "gone", query % 1)
    new = BASE + checks % (query % 2, "new", query % 1)
    found = compare(make_plan(tmp_path, old), make_plan(tmp_path, new)).changes
    assert [(change.kind, change.what) for change in found] == [
        ("changed", "checks: done: expect: at_least: 1 → 2"),
        ("removed", "checks: gone"),
        ("added", "checks: new"),
    ]


def test_what_changes_the_events_is_told_first(tmp_path: Path) -> None:
    new = BASE.replace("o/r3]", "o/r4]").replace("delay: 5s", "delay: 10s")
    found = compare(make_plan(tmp_path, BASE), make_plan(tmp_path, new)).changes
    assert [change.counts_events for change in found] == [True] * 4 + [False] * 2


SIDE_BY_SIDE = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  a: {event: app/a, for_each: repo, payload: {}}
  b: {event: app/b, for_each: repo, payload: {}, repeat: 2}
"""
FLOW = "repos: [o/r0, o/r1]\nflow: items\noperations: [a, b]\n"
OF_A = FLOW.replace("[a,", "[{use: a, with: {z: 1}},")


@pytest.mark.parametrize(
    ("selectors", "body", "changes"),
    [
        (
            {},
            FLOW.replace("[a,", "["),
            [
                PlanChange("removed", "a", "the operation", 2, ("o/r0", "o/r1")),
                PlanChange("changed", "b", "shares its stage with: a → nothing"),
            ],
        ),
        (
            {},
            FLOW.replace("items", "stages"),
            [
                PlanChange("changed", "a", "shares its stage with: b → nothing"),
                PlanChange("changed", "b", "shares its stage with: a → nothing"),
            ],
        ),
        (
            {},
            FLOW.replace("o/r1]", "o/r1, o/r2]"),
            [
                PlanChange("added", "a", "events", 1, ("o/r2",)),
                PlanChange("added", "b", "events", 2, ("o/r2", "o/r2 #2")),
            ],
        ),
        (
            {},
            OF_A,
            [PlanChange("changed", "a", "payload `z` is new: 1", 2, ("o/r0", "o/r1"))],
        ),
        ({"only": ("b",)}, OF_A, []),
        ({"only": ("b",)}, FLOW.replace("items", "stages"), []),
        ({"items": ("o/r0",)}, FLOW.replace("o/r1]", "o/r1, o/r2]"), []),
    ],
)
def test_operations_that_share_a_stage_are_compared_one_by_one_and_only_what_is_selected(
    tmp_path: Path, selectors: dict[str, Any], body: str, changes: list[PlanChange]
) -> None:
    plans = []
    for text in (FLOW, body):
        plan = load_plan(str(write_plan(tmp_path, text, catalog=SIDE_BY_SIDE)))
        whole = build_execution_plan(plan)
        plans.append(select(plan, whole, Selectors(**selectors)) if selectors else whole)
    assert [*compare(*plans).changes] == changes


@pytest.mark.parametrize("more", ["group: 5", "repeat: 1"])
def test_how_events_are_made_is_no_change_where_they_are_the_same(
    tmp_path: Path, more: str
) -> None:
    catalog = KEYED % 'a: "{{ repo.repo }}"'
    old = make_plan(tmp_path, BASE, catalog=catalog)
    other = catalog.replace("app/sync, for_each: repo", f"app/sync, for_each: repo, {more}")
    assert compare(old, make_plan(tmp_path, BASE, catalog=other)).changes == ()


def test_a_digest_that_nothing_explains_is_of_what_the_database_says(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, BASE)
    (change,) = compare(plan, replace(plan, digest="sha256:other")).changes
    assert change.what == "the database's questions or answers"


def test_a_payload_whose_keys_are_in_another_order_is_another(tmp_path: Path) -> None:
    old = make_plan(tmp_path, BASE, catalog=KEYED % "a: 1, b: 2")
    new = make_plan(tmp_path, BASE, catalog=KEYED % "b: 2, a: 1")
    assert [change.what for change in compare(old, new).changes] == [
        "the payload's keys are in a different order"
    ]


@pytest.mark.parametrize("within", ["%s", "[0, %s]", '{"b": %s}', '[{"b": [%s]}]'])
@pytest.mark.parametrize(("was", "now"), [("1", "true"), ("false", "0"), ("1", "1.0")])
def test_values_that_are_equal_to_python_alone_are_others(
    tmp_path: Path, within: str, was: str, now: str
) -> None:
    old, new = (
        make_plan(tmp_path, BASE, catalog=KEYED % f"a: {within % value}") for value in (was, now)
    )
    shown = [json.dumps(json.loads(within % value), separators=(",", ":")) for value in (was, now)]
    assert [change.what for change in compare(old, new).changes] == [
        f"payload `a`: {' → '.join(shown)}"
    ]


@pytest.mark.parametrize(("length", "cut"), [(76, False), (77, True)])
def test_a_value_is_shown_in_eighty_characters(tmp_path: Path, length: int, cut: bool) -> None:
    """The brackets and quotes of a list with one text add four characters."""
    old, new = (make_plan(tmp_path, BASE, catalog=KEYED % f"a: [{'x' * n}]") for n in (1, length))
    (change,) = compare(old, new).changes
    value = change.what.partition(" → ")[2]
    assert (len(value), value.endswith("…")) == (80, cut)


def test_metadata_are_compared_key_by_key_and_the_name_once(tmp_path: Path) -> None:
    old = make_plan(tmp_path, BASE)
    new = replace(old, name="other", metadata={"name": "other", "owner": "data"})
    assert [change.what for change in compare(old, new).changes] == [
        "name: test → other",
        "owner: nothing → data",
    ]
    assert [change.what for change in compare(new, old).changes] == [
        "name: other → test",
        "owner: data → nothing",
    ]


KEYED = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: repo, payload: {%s}}
  embed: {event: app/embed, for_each: repo, after: [sync], payload: {}}
"""
THREE = BASE.replace(", o/r3]", "]")
FIVE = BASE.replace("o/r3]", "o/r3, o/r4]")


@pytest.mark.parametrize(
    ("body", "sent", "words"),
    [
        (BASE, 8, None),
        (THREE, 0, None),
        (THREE, 3, None),
        (THREE, 4, "event 4 of the plan, `sync` of o/r3, was sent and is no longer in the plan"),
        (FIVE, 4, None),
        (FIVE, 5, "`sync` had 4 events and now has 5, but events that come after it were sent"),
        (BASE.replace("o/r2", "o/r9"), 2, None),
        (BASE.replace("o/r2", "o/r9"), 3,
         "event 3 of the plan, `sync` of o/r2, is now that of o/r9"),
        (BASE.replace("[o/r0,", "[{repo: o/r0, skip: [embed]},"), 5,
         "event 5 of the plan, `embed` of o/r0, is now that of o/r1"),
        (BASE.replace("[sync, embed]", "[sync]"), 4, None),
        (BASE.replace("[sync, embed]", "[sync]"), 5,
         "`embed` is no longer in the plan, but its events were sent"),
        (BASE.replace("[sync, embed]", "[sync, fire]"), 4, None),
        (BASE.replace("[sync, embed]", "[sync, fire]"), 5,
         "stage 2 was `embed` (app/embed) and is now `fire` (app/fire)"),
    ],
)  # fmt: skip
def test_what_was_sent_must_be_what_a_plan_still_begins_with(
    tmp_path: Path, body: str, sent: int, words: str | None
) -> None:
    assert first_difference(make_plan(tmp_path, BASE), make_plan(tmp_path, body), sent) == words


def test_an_event_that_was_sent_with_another_payload_is_told_by_its_first_change(
    tmp_path: Path,
) -> None:
    old = make_plan(tmp_path, BASE, catalog=KEYED % "a: 1, b: 2")
    new = make_plan(tmp_path, BASE, catalog=KEYED % "a: 2, b: 3")
    words = "event 1 of the plan, `sync` of o/r0: payload `a`: 1 → 2"
    assert first_difference(old, new, 1) == words


def test_a_review_says_what_becomes_of_the_file_and_how_many_more_events_there_are(
    tmp_path: Path,
) -> None:
    old, new = make_plan(tmp_path, BASE), make_plan(tmp_path, FIVE)
    found = [
        review("p", None, old),
        review("p", old, None),
        review("p", old, new),
        review("p", new, old),
        review("p", old, old),
        replace(review("p", old, None), fate="invalid", plan=None),
    ]
    assert [(one.fate, one.events) for one in found] == [
        ("added", 8),
        ("removed", -8),
        ("changed", 2),
        ("changed", -2),
        ("same", 0),
        ("invalid", 0),
    ]
