"""`flow: items`: which operations share a stage, in which order, and at which pace."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.model import ExecutionPlan, Needs, Pacing, Throttle
from runner.planning.build import build_execution_plan
from runner.planning.flow import needed_delay, throttled
from runner.planning.serialize import dump_head, load_plan
from runner.spec.load import load_plan as read_plan
from tests.support import write_plan

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync:
    {event: a/sync, for_each: repo, payload: {}, batch_size: 10, delay: 2s, done: sent, timeout: 1m}
  issues: {event: a/issues, for_each: repo, payload: {}, batch_size: 4, delay: 1s, timeout: 5m}
  talks: {event: a/talks, for_each: repo, when: repo.talks, payload: {}}
  embed: {event: a/embed, for_each: repo, after: [sync], payload: {}}
  other: {event: a/other, for_each: things, payload: {}}
  rank: {event: a/rank, for_each: workspace, after: [embed], payload: {}}
"""
BODY = """\
workspace: w
repos:
  - {repo: o/a, talks: false}
  - {repo: o/b, talks: true, priority: high}
  - {repo: o/c, talks: true, skip: [issues]}
collections: {things: [x]}
flow: items
"""


def made(folder: Path, operations: str, more: str = "") -> ExecutionPlan:
    body = f"{BODY}operations: {operations}\n{more}"
    return build_execution_plan(read_plan(str(write_plan(folder, body, catalog=CATALOG))))


def lines(plan: ExecutionPlan) -> list[tuple[int, str, str]]:
    return [(one.stage, one.operation, one.item) for one in plan.planned()]


def test_operations_that_do_not_depend_on_one_another_go_item_by_item(tmp_path: Path) -> None:
    plan = made(tmp_path, "[sync, talks, issues, embed, rank]")
    assert lines(plan) == [
        (1, "sync", "o/b"),
        (1, "talks", "o/b"),
        (1, "issues", "o/b"),
        (1, "sync", "o/a"),
        (1, "issues", "o/a"),
        (1, "sync", "o/c"),
        (1, "talks", "o/c"),
        (2, "embed", "o/b"),
        (2, "embed", "o/a"),
        (2, "embed", "o/c"),
        (3, "rank", "w"),
    ]
    assert plan.stages[0].operations == ("sync", "talks", "issues")
    assert [one.event.name for one in plan.planned()][:3] == ["a/sync", "a/talks", "a/issues"]


def test_a_stage_of_several_takes_the_strictest_pace_and_waits_for_all(tmp_path: Path) -> None:
    stage = made(tmp_path, "[sync, issues]").stages[0]
    assert (stage.pacing.batch_size, stage.pacing.delay) == (4, 2.0)
    assert (stage.wait, stage.timeout) == ("completed", 300.0)


@pytest.mark.parametrize(
    ("operations", "stages"),
    [
        ("[sync, other, issues]", [("sync",), ("other",), ("issues",)]),
        ("[sync, {use: issues, resolve: stage}]", [("sync",), ("issues",)]),
        ("[sync, {use: issues, group: 2}, talks]", [("sync",), ("issues",), ("talks",)]),
        ("[sync, embed, issues]", [("sync",), ("embed", "issues")]),
    ],
)
def test_what_cannot_share_a_stage_keeps_its_own(
    tmp_path: Path, operations: str, stages: list[tuple[str, ...]]
) -> None:
    assert [stage.operations for stage in made(tmp_path, operations).stages] == stages


def test_a_check_after_an_operation_is_asked_when_its_stage_is_done(tmp_path: Path) -> None:
    check = "{name: c, after: sync, query: select 1 as n, expect: {column: n, at_least: 1}}"
    plan = made(tmp_path, "[sync, issues]", f"checks: [{check}]\n")
    assert [one.operation for one in plan.checks] == ["sync"]
    assert plan.checks[0].operation in plan.stages[0].operations


def test_a_stage_of_several_survives_the_journal(tmp_path: Path) -> None:
    plan = made(tmp_path, "[sync, talks, issues]")
    bodies = {stage.number: stage.items.blocks for stage in plan.stages}  # type: ignore[attr-defined]
    again = load_plan(dump_head(plan), bodies)
    assert lines(again) == lines(plan)
    assert again.stages[0].members == plan.stages[0].members
    assert plan.digest != made(tmp_path, "[sync, issues, talks]").digest


@pytest.mark.parametrize(("wait", "stands"), [("sent", "sent"), ("completed", "completed")])
def test_a_stage_of_several_takes_what_all_of_its_events_take_and_waits_where_one_does(
    tmp_path: Path, wait: str, stands: str
) -> None:
    catalog = CATALOG.replace("timeout: 1m}", "timeout: 1m, needs: {github_points: 3}}").replace(
        "timeout: 5m}", f"timeout: 5m, done: {wait}, needs: {{usd: 0.5, seconds: 4}}}}"
    )
    body = f"{BODY}operations: [sync, issues]\n"
    path = str(write_plan(tmp_path, body, catalog=catalog))
    (stage,) = build_execution_plan(read_plan(path)).stages
    assert (stage.total, stage.wait) == (5, stands)
    assert stage.needs == Needs(3 * 3 / 5, 2 * 0.5 / 5, 2 * 4 / 5)
    assert made(tmp_path, "[sync, issues]").stages[0].needs is None


@pytest.mark.parametrize(
    ("keys", "limit", "size", "delay", "order", "pace"),
    [
        ("", 1, 1, 1.0, [], (1, 1.0)),
        ("ab", 1, 1, 1.0, [0, 1], (1, 1.0)),
        ("aba", 1, 1, 5.0, [0, 1, 2], (1, 5.0)),
        ("aabb", 1, 1, 5.0, [0, 2, 1, 3], (1, 5.0)),
        ("aaabb", 1, 1, 1.0, [0, 3, 1, 4, 2], (1, 5.0)),
        ("aaab", 1, 1, 1.0, [0, 1, 3, 2], (1, 10.0)),
        ("aaaa", 2, 4, 1.0, [0, 1, 2, 3], (2, 10.0)),
        ("aa", 2, 4, 1.0, [0, 1], (4, 1.0)),
    ],
)
def test_events_of_a_key_are_as_far_apart_as_they_can_be_and_the_pace_does_the_rest(
    keys: str, limit: int, size: int, delay: float, order: list[int], pace: tuple[int, float]
) -> None:
    throttle, pacing = Throttle(limit, 10.0, None), Pacing(size, delay)
    found, kept = throttled(list(keys), throttle, pacing)
    assert (list(found), (kept.batch_size, kept.delay)) == (order, pace)
    assert needed_delay([keys[index] for index in found], throttle, kept) <= kept.delay
