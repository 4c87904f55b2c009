"""The state of plans by their runs, the order in which plans are applied, and what is left to
do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.errors import InvalidPlan
from runner.model import BackfillPlan, Covered, Json, Pacing
from runner.planning.ledger import (
    Checked,
    LedgerEntry,
    PlanRun,
    after_their_needs,
    entry,
    in_order,
    inputs_digest,
)
from runner.planning.limits import more_time, resume_command, to_raise
from runner.planning.serialize import dump_head, load_head
from runner.planning.serialize import load_plan as load_whole
from runner.spec.load import load_plan
from tests.support import make_plan, repos, write_plan

NOW, BEFORE = "as it is", "as it was"


@pytest.fixture
def plan(tmp_path: Path) -> BackfillPlan:
    return load_plan(str(write_plan(tmp_path, repos(1) + "operations: [sync]\n")))


def named(plan: BackfillPlan, path: str, name: str = "", **metadata: Json) -> BackfillPlan:
    return replace(plan, name=name or path, path=path, metadata=metadata)


def run(status: Any, digest: str = NOW, *, partial: bool = False) -> PlanRun:
    done = status == "completed"
    return PlanRun(f"{status}-{digest}", status, digest, done, 0.0, None, "x" if partial else None)


@pytest.mark.parametrize(
    ("runs", "state", "told_from"),
    [
        ([], "pending", None),
        ([run("completed")], "applied", 0),
        ([run("completed", BEFORE), run("completed")], "changed", 0),
        ([run("sent")], "sent", 0),
        ([run("running"), run("completed")], "unfinished", 0),
        ([run("incomplete", BEFORE)], "unfinished", 0),
        ([run("failed"), run("completed")], "failed", 0),
        ([run("cancelled")], "failed", 0),
        ([run("completed", partial=True)], "partial", 0),
        ([run("failed", partial=True), run("completed")], "applied", 1),
    ],
)
def test_a_plan_stands_as_its_latest_run_of_the_whole_has_left_it(
    plan: BackfillPlan, runs: list[PlanRun], state: str, told_from: int | None
) -> None:
    digest = inputs_digest(plan.inputs, {"x": 1})
    known = [one._replace(digest=digest) if one.digest == NOW else one for one in runs]
    found = entry(plan, {"x": 1}, known)
    assert (found.state, found.run) == (state, None if told_from is None else known[told_from])
    assert found.depends_on == ()
    listed = named(plan, "a", depends_on=["b", 5])
    assert entry(listed, {}, ()).depends_on == ("b", "5")
    assert entry(named(plan, "a", depends_on="b"), {}, ()).depends_on == ()


@pytest.mark.parametrize(
    ("kept", "state"),
    [({"n": 1}, "applied"), ({"n": 2}, "changed"), ({}, "changed"), (None, "applied")],
)
def test_a_plan_has_changed_if_a_variable_that_its_run_has_kept_has(
    tmp_path: Path, plan: BackfillPlan, kept: dict[str, Json] | None, state: str
) -> None:
    """Older versions kept none of an environment."""
    sent = make_plan(tmp_path, repos(1) + "operations: [sync]\n")
    head = load_head(dump_head(replace(sent, variables=kept)))
    digest = inputs_digest(plan.inputs, {})
    known = run("completed", digest)._replace(variables=head.variables)
    assert entry(replace(plan, variables={"n": 1}), {}, [known]).state == state


@pytest.mark.parametrize(
    ("files", "order"),
    [
        ({"p10": {}, "p9": {}, "p2-b": {}, "p2-a": {}}, ["p2-a", "p2-b", "p9", "p10"]),
        ({"a": {}, "c": {"version": 10}, "b": {"version": 9}}, ["b", "c", "a"]),
        ({"a": {"version": "1.10"}, "b": {"version": "1.9"}}, ["b", "a"]),
        ({"a": {"depends_on": ["c", "elsewhere"]}, "b": {}, "c": {"depends_on": ["d"]}, "d": {}},
         ["d", "c", "a", "b"]),
    ],
)  # fmt: skip
def test_plans_go_by_version_then_by_file_after_what_they_depend_on(
    plan: BackfillPlan, files: dict[str, dict[str, Json]], order: list[str]
) -> None:
    plans = [named(plan, path, **metadata) for path, metadata in files.items()]
    assert [one.name for one in in_order(plans)] == order


@pytest.mark.parametrize("last", [[], ["p0"]])
def test_a_long_chain_of_plans_is_put_in_order_or_is_a_circle(last: list[str]) -> None:
    """No stack of Python's is as long."""
    names = [f"p{number}" for number in range(2_000)]
    needs = {name: [need] for name, need in pairwise(names)} | {names[-1]: last}
    order, circle = after_their_needs(needs)
    assert order == ([] if last else names[::-1])
    assert circle == ((*names, "p0") if last else ())


@pytest.mark.parametrize(
    ("plans", "message"),
    [
        ([("a", "x", []), ("b", "x", [])], "the name `x` is already used by a"),
        ([("a", "a", ["b"]), ("b", "b", ["c"]), ("c", "c", ["b"])],
         "plans depend on each other: b → c → b"),
        ([("a", "a", ["a"])], "plans depend on each other: a → a"),
    ],
)  # fmt: skip
def test_plans_that_cannot_be_put_in_order_are_named(
    plan: BackfillPlan, plans: list[tuple[str, str, list[Json]]], message: str
) -> None:
    with pytest.raises(InvalidPlan) as invalid:
        in_order([named(plan, path, name, depends_on=on) for path, name, on in plans])
    assert [one.message for one in invalid.value.problems] == [message]


def covered(item: str, total: int, done: int, *, there: bool = True) -> Covered:
    return Covered("issues", item, total, done, there=there)


def stands(state: Any, status: Any = "completed") -> LedgerEntry:
    return LedgerEntry("p", "p", state, None if state == "pending" else run(status), ())


@pytest.mark.parametrize(
    ("rows", "lack"),
    [
        ([covered("a", 2, 2), covered("b", 0, 0)], None),
        ([covered("a", 0, 0)], "no data: there is nothing to cover"),
        ([], "no data: there is nothing to cover"),
        ([covered("a", 2, 2), covered("b", 2000, 1)], "b has 1 of 2,000"),
        ([covered("a", 0, 0, there=False)], "a has no row"),
        ([covered("a", 2, 1), covered("b", 2, 1)], "a has 1 of 2, and 1 other is not covered"),
        ([covered("a", 2, 1), covered("b", 2, 1), covered("c", 0, 0, there=False)],
         "a has 1 of 2, and 2 others are not covered"),
    ],
)  # fmt: skip
def test_without_a_check_every_item_is_to_be_covered(rows: list[Covered], lack: str | None) -> None:
    found = Checked("p", (), {"issues": rows})
    assert found.unmet == ((f"the coverage `issues`: {lack}",) if lack else ())
    assert found.ok is (lack is None)
    held: Any = SimpleNamespace(ok=True)
    assert Checked("p", (held,), {"issues": rows}).ok
    failed: Any = SimpleNamespace(ok=False, name="c", words="it is 0")
    assert Checked("p", (held, failed), {}).unmet == ("the check `c`: it is 0",)


@pytest.mark.parametrize(
    ("ledger", "words"),
    [
        (stands("applied"), None),
        (stands("pending"), "it has not been run there"),
        (stands("changed"), "its files or variables have changed since run completed-as it is"),
        (stands("sent", "sent"), "run sent-as it is was sent but not followed"),
        (stands("unfinished", "running"), "run running-as it is has not ended"),
        (stands("partial"), "run completed-as it is was only for a part of the plan"),
        (stands("failed", "cancelled"), "run cancelled-as it is is cancelled"),
    ],
)
def test_a_plan_that_is_not_applied_is_said_to_stand_so(
    ledger: LedgerEntry, words: str | None
) -> None:
    found = Checked("p", (), {}, applied="dev", ledger=ledger)
    assert found.unmet == ((f"p is not applied to dev: {words}",) if words else ())


@pytest.mark.parametrize(
    ("rounds", "worked", "options"),
    [
        (2, 59.9, None),
        (3, 1.0, "--max-rounds 6"),
        (5, 1.0, "--max-rounds 10"),
        (2, 60.0, "--max-time 2m"),
        (3, 90.0, "--max-rounds 6 --max-time 3m"),
        (0, 90.0, None),
    ],
)
def test_a_drain_is_given_twice_of_what_it_has_used_up(
    rounds: int, worked: float, options: str | None
) -> None:
    until: Any = SimpleNamespace(max_rounds=3, max_time=60.0)
    begun: Any = [object()] * rounds
    assert to_raise(until, begun, worked) == options
    short: Any = SimpleNamespace(max_time=0.0)
    assert more_time(short, 0.2) == "--max-time 2s"


def drained(
    *at: float, goal: bool = True, sent: float | None = None, delay: float = 0.0
) -> tuple[Any, Any]:
    """A stage, whose rounds began at these times, and which sent last at `sent`; its limits are
    three rounds and 80 s."""
    until = SimpleNamespace(max_rounds=3, max_time=80.0) if goal else None
    rounds = [SimpleNamespace(at=a) for a in at]
    record = SimpleNamespace(rounds=rounds, sent=0, total=9, last_sent=sent)
    return SimpleNamespace(until=until, canary=0, pacing=Pacing(1, delay)), record


def tried(sent: int, total: int = 9) -> tuple[Any, Any]:
    """A stage that has sent so many events, two of them its canary."""
    record = SimpleNamespace(rounds=(), sent=sent, total=total)
    return SimpleNamespace(until=None, canary=2), record


@pytest.mark.parametrize(
    ("status", "reason", "stages", "failed", "options"),
    [
        ("running", None, [drained(10.0, 20.0, 30.0)], 1, ""),
        ("running", "it waits", [drained(10.0, 20.0, 30.0)], 1, ""),
        ("incomplete", None, [drained(10.0, 20.0, 30.0)], 1, ""),
        ("incomplete", "used up", [drained(90.0, 91.0, 92.0)], 1, " --max-rounds 6"),
        ("incomplete", "used up", [drained(10.0, 50.0)], 1, " --max-time 3m"),
        ("incomplete", "used up", [drained(50.0, 60.0), drained(10.0)], 1, " --max-time 3m"),
        ("incomplete", "stopped", [drained(50.0, 60.0)], 1, ""),
        ("incomplete", "used up", [drained(25.0, sent=96.0, delay=9.0)], 1, " --max-time 2m40s"),
        ("incomplete", "used up", [drained(25.0, sent=96.0, delay=8.0)], 1, ""),
        ("incomplete", "stopped", [drained(10.0, goal=False), drained()], 1, ""),
        ("incomplete", "canary", [tried(9), tried(2)], 1, " --past-failures"),
        ("incomplete", "canary", [tried(9), tried(2)], 0, ""),
        ("incomplete", "limit", [tried(9), tried(3)], 1, ""),
        ("incomplete", "limit", [tried(2, total=2), tried(0)], 1, ""),
    ],
)
def test_what_continues_a_run_has_the_option_that_it_needs(
    status: str, reason: str | None, stages: list[tuple[Any, Any]], failed: int, options: str
) -> None:
    """A drain that reached its limit gets more; a failed canary is passed over."""
    view: Any = SimpleNamespace(
        record=SimpleNamespace(
            id="R", status=status, reason=reason, ended_at=100.0, batch_size=None, delay=None
        ),
        plan=SimpleNamespace(stages=[spec for spec, _ in stages]),
        stages=[record for _, record in stages],
        driven=SimpleNamespace(between=lambda start, end: end - start),
        now=100.0,
        outstanding=failed,
    )
    assert resume_command(view) == f"backfill resume R{options}"


def test_the_head_of_a_plan_keeps_its_guards(tmp_path: Path) -> None:
    guards = (
        "guards: [{github: {remaining: 5}}, {http: 'https://x.test'}, {file: hold.flag}, "
        "{command: [./ask.sh, now]}, {window: {allow: '01:00-02:00'}}]\n"
    )
    plan = make_plan(tmp_path, repos(1) + "operations: [sync]\n" + guards)
    assert len(plan.guards) == 5
    bodies = {stage.number: stage.items.blocks for stage in plan.stages}  # type: ignore[attr-defined]
    assert load_whole(dump_head(plan), bodies).guards == plan.guards
    assert [one.allow for one in load_head(dump_head(plan)).windows] == ["01:00-02:00"]
