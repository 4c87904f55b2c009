"""Warnings have names, and a plan may accept one with its reason; it may also take back a catalog's
setting."""

from __future__ import annotations

import ast
from collections.abc import Iterator
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


# A plan for each warning that a plan by itself can have.
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
    """An accepted warning is shown with the reason, and does not fail `--strict`."""
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


def test_every_warning_in_the_code_is_in_the_table_and_every_name_of_it_in_the_code() -> None:
    found = {name for path in (ROOT / "runner").rglob("*.py") for name in _warnings_of(path)}
    assert found == set(WARNINGS)


def _warnings_of(path: Path) -> Iterator[str]:
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)) if "warning" in source else ():
        if isinstance(node, ast.Call):
            given = {one.arg: getattr(one.value, "value", None) for one in node.keywords}
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if isinstance(given.get("rule"), str) and (
                called == "warning" or given.get("severity") == "warning"
            ):
                yield str(given["rule"])
            elif called == "_warning":
                yield str(getattr(node.args[-1], "value", ""))


@pytest.mark.parametrize(
    ("body", "rule", "words"),
    [
        ("repos: [{repo: o/a, tier: 1}, {repo: o/b, tier: 2}]\n", "unused-attribute",
         "the attribute `tier` of the repository (and for 1 other item too)"),
        ("order_by: [-velocity]\nrepos: [{repo: o/a, velocity: 1, priority: low}]\n",
         "unused-attribute", "nothing reads the attribute `priority` of the repository"),
        ("workspace: w\nrepos: [{repo: o/a, workspace: v}]\n", "unused-workspace",
         "no repository uses this workspace"),
        ("repos: [{repo: o/a, velocity: 1}]\nvars: {dayz: 1}\n", "unused-variable",
         "nothing reads the variable `dayz`"),
    ],
)  # fmt: skip
def test_what_nothing_reads_is_a_warning(tmp_path: Path, body: str, rule: str, words: str) -> None:
    found = {w.rule: w.message for w in built(tmp_path, body + "operations: [sync]\n").warnings}
    assert words in found[rule]


_SQL = "select full_name as repo from r where age < :most"
_TABLE = '{table: r, columns: ["full_name as repo"], where: {age: ":most"}}'


@pytest.mark.parametrize(
    ("query", "read"),
    [
        (_SQL, True),
        (f'"{_SQL}"', True),
        (f"'{_SQL}'", True),
        (f">-\n      {_SQL}", True),
        (f"{_SQL}  # it's quoted nowhere", True),
        (_TABLE, True),
        ("select full_name as repo from r where age < ':most'", False),
        ("select full_name as repo from r  # :most", False),
    ],
)
def test_a_parameter_reads_a_variable_however_the_query_is_written(
    tmp_path: Path, query: str, read: bool
) -> None:
    body = f"# it's\nvars: {{most: 1}}\nrepos:\n  - query: {query}\noperations: [sync]\n"
    found = [one.rule for one in load_plan(str(write_plan(tmp_path, body))).warnings]
    assert found == ([] if read else ["unused-variable"])


_OF_ALL_KINDS = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  ofrepo: {event: a/r, for_each: repo, payload: {}}
  ofworkspace: {event: a/w, for_each: workspace, payload: {}}
  ofplan: {event: a/o, for_each: once, payload: {}}
  ofusers: {event: a/u, for_each: users, payload: {}}
  ofcells: {event: a/c, for_each: cells, payload: {}}
"""
_KINDS = ("repo", "workspace", "plan", "users", "cells")


@pytest.mark.parametrize("key", ["skip", "only"])
@pytest.mark.parametrize("named", _KINDS)
@pytest.mark.parametrize(
    ("item", "concerned"),
    [("repo", {"repo", "workspace", "cells"}), ("users", {"users", "cells"})],
)
def test_leaving_out_what_does_not_run_for_the_item_is_a_warning(
    tmp_path: Path, key: str, named: str, item: str, concerned: set[str]
) -> None:
    """A repository's `skip` or `only` also covers its workspace, and each item's covers what is
    made of it."""
    said = {item: f", {key}: [of{named}]"}
    body = (
        f"workspace: w\nrepos: [o/a, {{repo: o/b{said.get('repo', '')}}}]\n"
        f"collections:\n  users: [{{id: 1}}, {{id: 2{said.get('users', '')}}}]\n"
        "  cells: {matrix: {user: users, repo: repos}}\n"
        f"operations: [{', '.join(f'of{one}' for one in _KINDS)}]\n"
    )
    path = write_plan(tmp_path, body, catalog=_OF_ALL_KINDS)
    found = [one for one in load_plan(str(path)).warnings if one.rule == "unused-attribute"]
    assert len(found) == (named not in concerned)
    assert all(f"`{key}` of the" in one.message and f"`of{named}`" in one.message for one in found)


def test_what_a_query_goes_by_is_left_out_for_any_operation(tmp_path: Path) -> None:
    check = (
        "checks: [{name: c, query: 'select 1 where 1 in :repos', each: false, expect: {rows: 0}}]\n"
    )
    body = f"repos: [o/a, {{repo: o/b, skip: [ofplan]}}]\noperations: [ofrepo, ofplan]\n{check}"
    path = write_plan(tmp_path, body, catalog=_OF_ALL_KINDS)
    assert "unused-attribute" not in [one.rule for one in load_plan(str(path)).warnings]


@pytest.mark.parametrize(
    "reads",
    [
        "operations: [{use: sync, with: {t: '{{ repo.tier }}'}}]\n",
        "operations: [{use: sync, with: {t: '{{ repo[\"tier\"] | upper }}'}}]\n",
        "operations: [{use: sync, with: {t: '{{ repo }}'}}]\n",
        "operations: [{use: sync, when: repo.tier > 0}]\n",
        "operations: [sync]\norder_by: [-tier]\n",
        "operations: [sync]\nfilter: {age: {of: tier, newer_than: 1d}}\n",
        "operations: [sync]\nlookups: {l: {query: select 1 as tier, key: tier}}\n",
    ],
)
def test_an_attribute_that_something_reads_is_none(tmp_path: Path, reads: str) -> None:
    path = write_plan(tmp_path, "repos: [{repo: o/a, tier: 5}]\n" + reads, catalog=CATALOG)
    rules = [warning.rule for warning in load_plan(str(path)).warnings]
    assert "unused-attribute" not in rules


@pytest.mark.parametrize(
    ("reads", "unread"),
    [
        ("row.user", {"deep"}),
        ("row.pair.user", {"deep"}),
        ("row.pair", set()),
        ("row['user'] | tojson", {"deep"}),
        ("row.user.tier", {"deep", "more"}),
        ("row.of.deep", {"tier", "more"}),
    ],
)
def test_the_mapping_of_a_part_of_a_product_is_read_as_a_whole(
    tmp_path: Path, reads: str, unread: set[str]
) -> None:
    body = (
        "collections:\n  users: [{name: u, tier: 1, more: 2}]\n  others: [{name: o, deep: 1}]\n"
        "  pairs: {matrix: {user: users, of: others}}\n"
        "  cells: {matrix: {user: users, of: others, pair: pairs}}\n"
        f'operations: [{{use: ofcells, with: {{x: "{{{{ {reads} }}}}"}}}}]\n'
    )
    found = load_plan(str(write_plan(tmp_path, body, catalog=_OF_ALL_KINDS))).warnings
    assert {one.message.split("`")[1] for one in found if one.rule == "unused-attribute"} == unread


def test_a_data_file_may_have_columns_for_others(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("repo,tier,onyl\no/a,1,x\n", "utf-8")
    plan = built(tmp_path, "repos: [{file: r.csv}]\noperations: [{use: sync, when: false}]\n")
    assert [warning.rule for warning in plan.warnings] == []


def test_an_order_of_one_workspace_whose_repositories_nobody_reads_is_a_warning(
    tmp_path: Path,
) -> None:
    catalog = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  embed: {event: app/embed, for_each: workspace, payload: {id: "{{ workspace.id }}"}}
  list: {event: app/list, for_each: workspace, payload: {repos: "{{ workspace.repos }}"}}
"""
    head = "order_by: [-velocity]\nworkspace: w\nrepos: [{repo: o/a, velocity: 1}, o/b]\n"

    def rules(body: str) -> list[str]:
        path = str(write_plan(tmp_path, head + body, catalog=catalog))
        return [warning.rule for warning in build_execution_plan(load_plan(path)).warnings]

    assert rules("operations: [embed]\n") == ["order-by"]
    assert rules("operations: [embed, list]\n") == []
    assert rules("operations: [embed]\nworkspaces: [v]\n") == []


SHIPPED = [
    path
    for path in sorted((ROOT / "plans").rglob("*.yaml"))
    if "\nkind: BackfillPlan\n" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_plan_passes_strict(path: Path) -> None:
    """Its warnings are accepted, with a reason."""
    plan = load_plan(str(path), strict=True)
    assert all(warning.accepted for warning in plan.warnings)
