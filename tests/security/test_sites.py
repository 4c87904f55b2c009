"""Every place where a template may be: any fault in it is a problem there, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.errors import InvalidPlan
from runner.model import Json, Query, Table
from runner.planning.build import build_execution_plan
from runner.planning.facts import gather
from runner.spec.load import load_plan
from tests.depth import crossed

ROOT = Path(__file__).parents[2] / "runner"
COMPILERS = {
    *("compile_payload", "compile_value", "compile_condition", "compile_when", "compile_repeat"),
}
HEAD = "apiVersion: backfill/v1\nkind: {}\nmetadata: {{name: sites}}\n"
USE = "catalog: catalog.yaml\nrepos: [acme/x]\noperations: [sync]\n"
SYNC = "operations:\n  sync:\n    event: a/sync\n    for_each: repo\n"
ROWS = "operations:\n  sync:\n    event: a/sync\n    for_each:\n      query: select 1\n"

# By the function that compiles the template: a plan and a catalog with HOLE in its place.
SITES: dict[str, list[tuple[str, str]]] = {
    "spec/catalog.py:_entry": [
        (USE, SYNC + "    payload:\n      x: HOLE\n"),
        (USE, SYNC + "    payload:\n      x: {y: [1, HOLE]}\n"),
        (USE, SYNC + "    when: HOLE\n"),
    ],
    "spec/operations.py:build_operation": [
        (USE.replace("[sync]", "\n  - use: sync\n    with:\n      x: HOLE"), SYNC),
        (USE.replace("[sync]", "\n  - use: sync\n    with:\n      x: 'text HOLE'"), SYNC),
    ],
    "spec/operations.py:_condition": [
        (USE.replace("[sync]", "\n  - use: sync\n    when: HOLE"), SYNC),
    ],
    "spec/operations.py:_repeat": [
        (USE, SYNC + "    repeat: HOLE\n"),
        (USE.replace("[sync]", "\n  - use: sync\n    repeat: HOLE"), SYNC),
    ],
    "spec/questions.py:question": [
        (USE.replace("[acme/x]", "\n  - query: 'select :a'\n    params:\n      a: HOLE"), SYNC),
        (
            USE + "checks:\n  - name: c\n    query: 'select :a'\n    params:\n      a: HOLE\n"
            "    expect: {column: n, at_least: 1}\n",
            SYNC,
        ),
        (
            USE + "coverage:\n  c:\n    query: 'select :a'\n    params:\n      a: HOLE\n",
            SYNC,
        ),
        (USE, ROWS + "      params:\n        a: HOLE\n      item: '{{ row.id }}'\n"),
        (
            USE,
            "lookups:\n  l:\n    query: 'select :keys, :a'\n    key: repo\n    params:\n"
            "      a: HOLE\n" + SYNC,
        ),
        (
            USE,
            SYNC + "    until:\n      query: 'select :a'\n      params:\n        a: HOLE\n"
            "      expect: {column: n, at_most: 0}\n",
        ),
    ],
    "spec/questions.py:item": [(USE, ROWS + "      item: HOLE\n")],
    "spec/own.py:_naming": [
        (
            (
                "catalog: catalog.yaml\ncollections:\n  users:\n    query: select 1\n"
                "    item: HOLE\noperations: [sync]\n"
            ),
            SYNC.replace("for_each: repo", "for_each: users"),
        ),
    ],
    "spec/own.py:_windows": [
        (
            (
                "catalog: catalog.yaml\ncollections:\n  days:\n    dates:\n      from: HOLE\n"
                "      to: '2026-01-03'\n      every: 1d\noperations: [sync]\n"
            ),
            SYNC.replace("for_each: repo", "for_each: days"),
        ),
    ],
    "spec/catalog.py:advice": [
        (USE, SYNC + "    warn:\n      w:\n        if: HOLE\n        message: m\n"),
    ],
    "spec/operations.py:_throttle": [
        (USE, SYNC + "    throttle:\n      limit: 1\n      per: 1m\n      key: HOLE\n"),
    ],
    "spec/operations.py:_own_of_events": [
        (USE, SYNC + "    id: HOLE\n"),
        (USE, SYNC + "    at: HOLE\n"),
    ],
    "spec/questions.py:expect": [
        (
            USE + "checks:\n  - name: c\n    query: select 1\n    expect:\n      column: n\n"
            "      at_least: HOLE\n",
            SYNC,
        ),
    ],
}
# Where those functions are defined; tests of the policy cover a project's rules.
INNER = {"spec/payload.py", "spec/templates.py", "spec/project.py"}

FAULTS = {
    "typo": "{{ vars.nothing }}",
    "name": "{{ nothing }}",
    "syntax": "{{ 1 + }}",
    "filter": "{{ 1 | uper }}",
    "null": "{{ none ~ nothing }}",
    "division": "{{ 1 / 0 }}",
    "types": "{{ 1 + [] }}",
    "overflow": "{{ 10 ** 10000 }}",
    "infinity": "{{ 1e308 * 10 }}",
    "digits": "{{ 2 ** 65 }}",
    "nesting": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "encoding": '{{ "\\ud800" }}',
    "work": '{{ ["x"] * 100000 == ["x"] * 100000 and [["x"] * 500] * 9000 == 1 }}',
    "call": "{{ vars.update() }}",
}


class Answers:
    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:  # noqa: ARG002
        return Table(("id", "repo", "n"), ((1, "acme/x", 1),))


def test_every_place_that_compiles_a_template_is_listed() -> None:
    found = set()
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        source = path.read_text("utf-8")
        if name in INNER or not any(compiler in source for compiler in COMPILERS):
            continue
        for function in ast.walk(ast.parse(source)):
            if isinstance(function, ast.FunctionDef):
                calls = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
                if COMPILERS & {getattr(call, "id", getattr(call, "attr", "")) for call in calls}:
                    found.add(f"{name}:{function.name}")
    assert found == set(SITES)


@pytest.mark.parametrize(
    ("site", "fault"), crossed([parts for site in SITES.values() for parts in site], FAULTS)
)
def test_a_fault_of_a_template_is_a_problem_at_its_place(
    site: tuple[str, str], fault: str, tmp_path: Path
) -> None:
    plan, catalog = site
    template = FAULTS[fault].replace("'", "''")
    texts = {
        "plan.yaml": HEAD.format("BackfillPlan") + plan,
        "catalog.yaml": HEAD.format("OperationCatalog") + catalog,
    }
    ((name, line),) = (
        (name, number)
        for name, text in texts.items()
        for number, written in enumerate(text.split("\n"), 1)
        if "HOLE" in written
    )
    for file, text in texts.items():
        quoted = text.replace("'text HOLE'", f"'text {template}'")
        tmp_path.joinpath(file).write_text(quoted.replace("HOLE", f"'{template}'"), "utf-8")
    with pytest.raises(InvalidPlan) as caught:
        build_execution_plan(
            gather(load_plan(str(tmp_path / "plan.yaml")), Answers(), datetime.now(UTC))
        )
    places = {(Path(problem.path).name, problem.line) for problem in caught.value.problems}
    assert (name, line) in places, caught.value.problems
