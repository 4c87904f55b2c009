"""Warnings have names, and a plan may accept one with its reason; a catalog's word can be taken
back."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import InvalidPlan
from runner.model import ExecutionPlan, Problem
from runner.planning.build import build_execution_plan
from runner.spec.load import load_plan
from runner.spec.warnings import WARNINGS
from tests.support import write_plan

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
coverage: {issues: {query: "select 1 as item, 1 as total, 1 as done"}}
operations:
  sync:
    event: app/sync
    for_each: repo
    payload: {repo: "{{ repo.repo }}", days: "{{ vars.days | default(7) }}", force: true}
    when: repo.velocity | default(0) > 10
    repeat: 2
    min_delay: 800ms
    warn:
      clamped: {if: "vars.days | default(7) > 30", message: days are clamped to 30, hint: take 30}
      slow: {if: "repo.velocity | default(0) > 50", message: it is slow}
    checks:
      - {name: fresh, query: "select pct from fresh", expect: {column: pct, at_least: 1}}
      - {name: done, query: "select pct from done", expect: {column: pct, at_least: 1}}
  drain:
    event: app/drain
    for_each: once
    payload: {}
    until: {query: "select count(*) as n from t", expect: {column: n, at_most: 0}}
"""
REPOS = "repos: [{repo: o/a, velocity: 20}, {repo: o/b, velocity: 60}, o/c]\n"
ROOT = Path(__file__).parents[2]


def built(folder: Path, body: str, *, strict: bool = False) -> ExecutionPlan:
    path = str(write_plan(folder, body, catalog=CATALOG))
    return build_execution_plan(load_plan(path, strict=strict), strict=strict)


def problems(folder: Path, body: str, *, strict: bool = False) -> tuple[Problem, ...]:
    with pytest.raises(InvalidPlan) as invalid:
        built(folder, body, strict=strict)
    return invalid.value.problems


# Of each warning that a plan alone can have, a plan with it.
OF_A_PLAN = {
    "large-batch": REPOS + "operations: [sync]\nbatch_size: 1000\ndelay: 5s\n",
    "short-delay": REPOS + "operations: [sync]\ndelay: 900ms\n",
    "min-delay": REPOS + "operations: [sync]\ndelay: 500ms\n",
    "clamped": REPOS + "operations: [sync]\nvars: {days: 90}\n",
    "slow": REPOS + "operations: [sync]\n",
    "empty": "repos: [o/c]\noperations: [sync]\n",
    "order-by": REPOS + "operations: [sync]\norder_by: [stars]\n",
    "unused-handler": REPOS + "operations: [sync]\nhandlers: {app/nothing: m:f}\n",
}


@pytest.mark.parametrize("name", OF_A_PLAN)
def test_a_warning_has_its_name_and_is_accepted_by_it(tmp_path: Path, name: str) -> None:
    """Accepted, it is shown with the reason, and is none for `--strict`."""
    body = OF_A_PLAN[name]
    names = {warning.rule for warning in built(tmp_path, body).warnings}
    assert name in names
    assert {problem.rule for problem in problems(tmp_path, body, strict=True)} & names
    accept = "".join(f"  {other}: it is known\n" for other in names)
    plan = built(tmp_path, f"{body}accept:\n{accept}", strict=True)
    assert {warning.rule for warning in plan.warnings} == names
    assert {warning.accepted for warning in plan.warnings} == {"it is known"}
    assert {warning.severity for warning in plan.warnings} == {"warning"}


def test_a_catalogs_warning_is_shown_once_with_the_number_of_items(tmp_path: Path) -> None:
    body = REPOS + "operations: [{use: sync, when: false}]\nvars: {days: 90}\n"
    found = {w.rule: w for w in built(tmp_path, body).warnings if w.rule in ("clamped", "slow")}
    assert found["clamped"].message == "`sync`: days are clamped to 30 (3 items)"
    assert (found["clamped"].hint, found["clamped"].line) == ("take 30", 13)


def test_accepting_what_does_not_occur_is_a_warning_at_its_place(tmp_path: Path) -> None:
    body = REPOS + "operations: [sync]\naccept: {slow: known, large-batch: because}\n"
    (warning,) = [w for w in built(tmp_path, body).warnings if not w.accepted]
    assert (warning.rule, warning.line, warning.column) == ("unused-accept", 7, 23)
    assert "`large-batch`, which does not occur" in warning.message


def test_what_the_catalog_says_can_be_taken_back(tmp_path: Path) -> None:
    use = "{use: sync, when: false, repeat: false, without: [days, force], checks: {fresh: false}}"
    more = "{use: drain, until: false}"
    body = f"{REPOS}operations:\n  - {use}\n  - {more}\ncoverage: {{issues: false}}\n"
    plan = built(tmp_path, body)
    assert [(planned.item, planned.event.data) for planned in plan.stages[0].planned()] == [
        (name, {"repo": name}) for name in ("o/a", "o/b", "o/c")
    ]
    assert [check.name for check in plan.checks] == ["done"]
    assert plan.coverage == ()
    assert [stage.until for stage in plan.stages] == [None, None]
    assert not plan.deferred


def test_the_documentation_lists_every_warning_with_what_it_means() -> None:
    page = (ROOT / "docs/reference/warnings.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}` | {meaning} |" for name, meaning in sorted(WARNINGS.items())]


def test_every_warning_in_the_code_is_in_the_table() -> None:
    """A rule is written beside `warning`, so that each can be found."""
    import re

    found = set()
    for path in (ROOT / "runner").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "warning" in text:
            found |= set(re.findall(r'rule="([a-z-]+)"', text))
    errors = {"query", "payload", "repository", "unknown-operation", "unknown-key", "lookup"}
    assert found - errors >= set(WARNINGS) - {"empty", "order-by", "no-workspace", "selects-all"}
