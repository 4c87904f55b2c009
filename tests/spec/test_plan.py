"""Plan and catalog: names resolved, pacing decided, advice given, everything wrong at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.errors import InvalidPlan
from runner.model import BackfillPlan, Operation, Problem
from runner.spec.load import load_plan, read_catalog
from runner.spec.units import parse_duration
from tests.support import write_plan

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  a: {event: app/a, for_each: repo, CATALOG}
  b: {event: app/b, for_each: repo, after: [a]}
  c: {event: app/c, for_each: repo, after: [b]}
  w: {event: app/w, for_each: workspace, after: [c]}
"""


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
DEEP: list[Any] = []
for _ in range(2_000):
    DEEP = [DEEP]


def load(folder: Path, body: str, *, catalog: str = "", **options: Any) -> BackfillPlan:
    text = CATALOG.replace(", CATALOG", f", {catalog}" if catalog else "")
    return load_plan(str(write_plan(folder, body, catalog=text)), **options)


def problems(folder: Path, body: str, **options: Any) -> list[Problem]:
    with pytest.raises(InvalidPlan) as caught:
        load(folder, body, **options)
    return list(caught.value.problems)


def only_operation(plan: BackfillPlan) -> Operation:
    (operation,) = plan.operations
    return operation


@pytest.mark.parametrize("catalog", [None, 30])
@pytest.mark.parametrize("plan", [None, 20])
@pytest.mark.parametrize("entry", [None, 10])
def test_pacing_is_the_entrys_else_the_plans_else_the_catalogs_else_the_default(
    tmp_path: Path, entry: int | None, plan: int | None, catalog: int | None
) -> None:
    def pacing(number: int | None, start: str, end: str) -> str:
        return f"{start}batch_size: {number}, delay: {number}s{end}" if number else ""

    top = f"batch_size: {plan}\ndelay: {plan}s\n" if plan else ""
    body = f"repos: [o/r]\noperations: [{{use: a{pacing(entry, ', ', '')}}}]\n{top}"
    decided = only_operation(load(tmp_path, body, catalog=pacing(catalog, "", ""))).pacing
    wanted = entry or plan or catalog
    assert decided.batch_size == (wanted or 50)
    assert decided.delay == (wanted or 5)


@pytest.mark.parametrize(
    ("delay", "raised"),
    [("delay: 2s", True), ("delay: 10s", False), ("delay: 1m", False), ("", False)],
)
def test_a_delay_under_the_catalogs_least_is_raised_and_said_where_the_plan_wrote_it(
    tmp_path: Path, delay: str, raised: bool
) -> None:
    plan = load(tmp_path, f"repos: [o/r]\noperations: [a]\n{delay}\n", catalog="min_delay: 10s")
    assert only_operation(plan).pacing.delay == max(10, parse_duration(delay[7:] or "5s"))
    assert [w.message for w in plan.warnings] == [
        "`a`: the delay is raised to 10s, the shortest that its catalog allows"
    ] * raised
    assert [w.line for w in plan.warnings] == [7] * raised


@pytest.mark.parametrize(
    ("load_kind", "pacing", "warnings"),
    [
        ("internal", "batch_size: 100, delay: 1s", 0),
        ("internal", "batch_size: 101, delay: 999ms", 2),
        ("external", "batch_size: 50, delay: 5s", 0),
        ("external", "batch_size: 51, delay: 5s", 1),
        ("external", "batch_size: 50, delay: 4s", 1),
        ("heavy", "batch_size: 100, delay: 15s", 0),
        ("heavy", "batch_size: 101, delay: 14s", 2),
    ],
)
def test_advice_goes_by_what_the_work_leans_on(
    tmp_path: Path, load_kind: str, pacing: str, warnings: int
) -> None:
    body = f"repos: [o/r]\noperations: [{{use: a, {pacing}}}]\n"
    plan = load(tmp_path, body, catalog=f"load: {load_kind}")
    assert [w.severity for w in plan.warnings] == ["warning"] * warnings
    if warnings:
        found = problems(tmp_path, body, catalog=f"load: {load_kind}", strict=True)
        assert [p.severity for p in found] == ["error"] * warnings
        assert all(p.hint and p.line == 6 for p in found)


def test_operations_run_in_the_catalogs_order_and_ties_in_the_written_one(tmp_path: Path) -> None:
    plan = load(tmp_path, "workspace: x\nrepos: [o/r]\noperations: [w, c, a]\n")
    assert [operation.name for operation in plan.operations] == ["a", "c", "w"]


def test_what_is_left_out_is_said_with_its_reason(tmp_path: Path) -> None:
    plan = load(tmp_path, "repos: [o/r]\noperations: [a, b, c]\nskip: [b]\nonly: [a, a]\n")
    assert [operation.name for operation in plan.operations] == ["a"]
    assert [(s.operation, s.item, s.reason) for s in plan.skipped] == [
        ("b", None, "skipped by the plan"),
        ("c", None, "not in the plan's `only`"),
    ]


def test_an_operation_whose_need_is_skipped_runs_and_it_is_said(tmp_path: Path) -> None:
    plan = load(tmp_path, "repos: [o/r]\noperations: [a, b]\nskip: [a]\n")
    (warning,) = plan.warnings
    assert warning.message == "`b` comes after `a`, which this plan skips"
    assert warning.hint == "it works on the results of the last `a`"


def test_a_whole_number_may_be_written_as_a_decimal(tmp_path: Path) -> None:
    """To JSON Schema 50.0 is an integer; batches are counted in Python integers."""
    plan = load(tmp_path, "repos: [o/r]\noperations: [a]\nbatch_size: 50.0\n")
    assert repr(only_operation(plan).pacing.batch_size) == "50"


def test_variables_from_outside_go_over_the_plans_own(tmp_path: Path) -> None:
    body = "vars: {x: 1, y: 2}\nrepos: [o/r]\noperations: [a]\n"
    plan = load(tmp_path, body, overrides={"x": "over"})
    assert plan.variables == {"x": "over", "y": 2}


@pytest.mark.parametrize("read", ["{{ vars.z }}", "{{ vars['z'] }}", '{{ vars["z"] }}'])
def test_a_variable_that_only_a_template_knows_may_come_from_outside(
    tmp_path: Path, read: str
) -> None:
    body = f"repos: [o/r]\noperations:\n  - use: a\n    with: {{z: {read!r}}}\n".replace('\\"', '"')
    body = f"repos: [o/r]\noperations:\n  - use: a\n    with:\n      z: >-\n        {read}\n"
    assert load(tmp_path, body, overrides={"z": 1}).variables == {"z": 1}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2**64, "64 bits"),
        (float("inf"), "not a JSON number"),
        ({"a": [float("nan")]}, "not a JSON number"),
        ("\ud800", "surrogate"),
        ({"\udcff": 1}, "surrogate"),
        ({1: 2}, "keys"),
        (b"x", "bytes"),
        (DEEP, "64 levels deep"),
        (ENDLESS, "64 levels deep"),
    ],
)
def test_a_variable_that_json_cannot_hold_is_refused(
    tmp_path: Path, value: Any, words: str
) -> None:
    body = "vars: {x: 1}\nrepos: [o/r]\noperations: [a]\n"
    (problem,) = problems(tmp_path, body, overrides={"x": value})
    assert words in problem.message
    assert problem.line == 5


def test_a_later_catalog_replaces_operations_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n"
        "  repository-sync: {event: own/sync, for_each: repo}\n"
        "  extra: {event: own/extra, for_each: once, after: [workspace-aggregation]}\n",
        encoding="utf-8",
    )
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "apiVersion: backfill/v1\nkind: BackfillPlan\nmetadata: {name: x}\nrepos: [o/r]\n"
        "workspace: w\noperations: [extra, embeddings, repository-sync]\n"
        "catalog: [builtin, own.yaml]\n",
        encoding="utf-8",
    )
    events = [operation.event for operation in load_plan(str(plan)).operations]
    assert events == ["own/sync", "embeddings/process.workspace", "own/extra"]
    catalog, found = read_catalog(str(plan))
    assert not found
    assert list(catalog) == ["repository-sync", "embeddings", "workspace-aggregation", "extra"]


def test_the_builtin_catalog_is_without_fault() -> None:
    catalog, found = read_catalog(None)
    assert not found
    assert {name: (e.event, e.for_each, e.after) for name, e in catalog.items()} == {
        "repository-sync": ("capture/repository.sync", "repo", ()),
        "embeddings": ("embeddings/process.workspace", "workspace", ("repository-sync",)),
        "workspace-aggregation": (
            "workspace/aggregate",
            "workspace",
            ("repository-sync", "embeddings"),
        ),
    }


BROKEN = [
    *("", "5", "[]", "a: b: c", "\xff"),
    "apiVersion: backfill/v1\nkind: BackfillPlan\ncatalog: {}\n",
    "apiVersion: backfill/v1\nkind: BackfillPlan\ncatalog: nowhere.yaml\n",
    "apiVersion: backfill/v2\nkind: BackfillPlan\ncatalog: 5\n",
]


@pytest.mark.parametrize("text", BROKEN)
def test_the_catalog_of_a_broken_plan_is_told_without_a_traceback(
    tmp_path: Path, text: str
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(text, encoding="latin-1")
    assert isinstance(read_catalog(str(plan)), tuple)


def test_problems_come_first_to_last_and_errors_before_warnings(tmp_path: Path) -> None:
    body = (
        "batch_size: 1000\nrepos: [o/r, bad]\noperations:\n  - {use: a, dealy: 1s}\n  - nothing\n"
        "order_by: [1]\n"
    )
    found = problems(tmp_path, body)
    assert [p.severity for p in found] == ["error"] * 4 + ["warning"]
    assert [p.line for p in found[:4]] == [6, 8, 9, 10]
    assert found[4].line == 5


def test_thousands_of_faults_are_told_in_part_and_soon(tmp_path: Path) -> None:
    rows = "".join(f"  - {{repo: o/r{n}, priority: urgent}}\n" for n in range(3000))
    found = problems(tmp_path, f"repos:\n{rows}operations: [a]\n")
    assert len(found) == 101
    assert sum("there are more" in p.message for p in found) == 1


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("operations: [a]\ndelay: {between: [1s, 2s, 3s]}", (6, 18)),
        ("operations: [a]\ndelay: {between: [1s, 5]}", (6, 23)),
        ("operations: [{use: a, delay: {between: [1s, x]}}]", (5, 45)),
        ("operations: [a]\nfilter: {age: {of: a-b, newer_than: 1d}}", (6, 20)),
        ("operations: [a]\nfilter: {repo: x/*, age: {of: at, newer_than: 1}}", (6, 47)),
        ("operations: [a]\norder_by: [1, 2]", (6, 12)),
        ("operations: [a]\norder_by: [[], {}, priority]", (6, 12)),
        ("operations: [a]\nfilter: {repo: [1, 2, x/*]}", (6, 17)),
        ("operations: [a]\nworkspaces: [[], {}, {query: 1}]", (6, 14)),
    ],
)
def test_a_value_that_is_wrong_in_part_is_a_problem_at_its_place_and_no_crash(
    tmp_path: Path, body: str, place: tuple[int, int]
) -> None:
    """Later checks rely on none of it, however many of its members are wrong."""
    found = problems(tmp_path, f"{body}\nrepos: [x/y]\n")
    assert (found[0].line, found[0].column) == place
    assert all(one.severity == "error" for one in found)
