"""A question is asked about the items that its operation runs for, and no others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import InvalidPlan
from runner.model import BoundQuestion, Data, ExecutionPlan, Json, Query, Stage, Table
from runner.planning.build import build_execution_plan
from runner.planning.facts import gather
from runner.planning.parts import subset
from runner.planning.serialize import dump_head, load_plan
from runner.spec.load import load_plan as read_plan
from tests.depth import depth
from tests.support import make_plan, write_plan

NOW = datetime(2026, 11, 24, tzinfo=UTC)
OPERATIONS = ("sync", "deep", "rank", "rows", "drain", "tidy")
QUERY = "select full_name as repo, id as workspace_id, 1 as item, n from r where full_name"
CATALOG = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync:
    event: a/sync
    for_each: repo
    payload: {{}}
    checks: [{{name: sync, query: "{QUERY} in :repos", expect: {{column: n, at_least: 1}}}}]
  deep:
    event: a/deep
    for_each: repo
    when: repo.deep | default(true)
    payload: {{}}
    checks: [{{name: deep, query: "{QUERY} in :repos", expect: {{column: n, at_least: 1}}}}]
  rank:
    event: a/rank
    for_each: workspace
    payload: {{}}
    checks:
      - {{name: rank, query: "{QUERY} in :workspaces", expect: {{column: n, at_least: 1}}}}
      - {{name: members, query: "{QUERY} in :repos", key: repo, expect: {{column: n, at_least: 1}}}}
  rows:
    event: a/rows
    for_each: {{query: "select n as item from r where x in :repos", item: "{{{{ row.item }}}}"}}
    payload: {{}}
    checks: [{{name: rows, each: true, query: "select item, n from r", expect: {{rows: 1}}}}]
  drain:
    event: a/drain
    for_each: repo
    when: repo.deep | default(true)
    payload: {{}}
    until: {{query: "select 1 as n where x in :repos", expect: {{column: n, at_most: 0}}}}
  tidy: {{event: a/tidy, for_each: once, payload: {{}}}}
coverage:
  all: {{query: "select full_name as item, 1 as total, 1 as done from r where x in :repos"}}
  homes: {{query: "select id as item, 1 as total, 1 as done from r where x in :workspaces"}}
"""


class Rows:
    """Answers with a row for each repository that it is asked about."""

    def __init__(self) -> None:
        self.repos: list[str] = []

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        assert "select n as item" in str(query.ask)
        self.repos = list(parameters["repos"])
        return Table(("item",), tuple((f"row of {repo}",) for repo in self.repos))


REPOSITORIES = st.lists(
    st.fixed_dictionaries(
        {
            "skip": st.lists(st.sampled_from(OPERATIONS[:5]), unique=True),
            "workspace": st.sampled_from(["w1", "w2", "w3"]),
            "deep": st.booleans(),
            "positive": st.booleans(),  # write `only` in place of `skip`
        }
    ),
    min_size=1,
    max_size=6,
)


def as_written(row: Mapping[str, Json]) -> dict[str, Json]:
    """Return the row, with `only` in place of `skip` if it is `positive`."""
    written = {key: value for key, value in row.items() if key != "positive"}
    if row["positive"]:
        skip = written.pop("skip")
        written["only"] = [name for name in OPERATIONS if name not in skip]
    return written


@settings(deadline=None, max_examples=depth(10, 25))
@given(REPOSITORIES)
def test_an_operations_questions_are_about_exactly_what_it_sends(
    written: list[dict[str, Json]],
) -> None:
    rows = [{"repo": f"o/r{number}", **row} for number, row in enumerate(written)]
    database = Rows()
    with TemporaryDirectory() as folder:
        lines = "".join(f"  - {json.dumps(as_written(row))}\n" for row in rows)
        body = f"repos:\n{lines}operations: [{', '.join(OPERATIONS)}]\n"
        plan = read_plan(str(write_plan(Path(folder), body, catalog=CATALOG)))
        built = build_execution_plan(gather(plan, database, NOW))

    def skipped(row: Mapping[str, Json], operation: str) -> bool:
        return operation in row["skip"]

    sent = {stage.operation: {item for item, _ in stage.items.raw()} for stage in built.stages}
    checks = {check.name: check for check in built.checks}
    assert set(checks) >= {name for name in ("sync", "deep", "rank", "rows") if name in sent}
    for name in ("sync", "deep", "rank", "rows"):
        if name in checks:
            assert set(checks[name].question.items) == sent[name]
    for name in ("sync", "deep"):
        if name in checks:
            assert checks[name].question.parameters["repos"] == list(checks[name].question.items)
    if "members" in checks:
        members = [row["repo"] for row in rows if not skipped(row, "rank")]
        assert checks["members"].question.parameters["repos"] == members
    assert database.repos == [row["repo"] for row in rows if not skipped(row, "rows")]
    for stage in built.stages:
        if stage.until:  # it looks nothing up: what it skips today it skips later, too
            goal = [row["repo"] for row in rows if row["deep"] and not skipped(row, "drain")]
            assert stage.until.question.parameters == {"repos": goal}
    of_repos = {"sync", "deep", "drain"}
    any_of_them = [row["repo"] for row in rows if not of_repos <= set(row["skip"])]
    assert list(built.coverage[0].question.items) == any_of_them
    homes = [row["workspace"] for row in rows if not skipped(row, "rank")]
    assert list(built.coverage[1].question.items) == list(dict.fromkeys(homes))
    bodies = {stage.number: stage.items.blocks for stage in built.stages}  # type: ignore[attr-defined]
    again = load_plan(dump_head(built), bodies)
    assert (again.checks, again.coverage) == (built.checks, built.coverage)


@pytest.mark.parametrize(
    ("runs", "skip", "repos", "workspaces"),
    [
        ("rank, tidy", "rank", ["o/b"], ["w2"]),  # the repositories are those of the workspaces
        ("sync, tidy", "sync", ["o/b"], ["w2"]),  # and the workspaces those of the repositories
        ("sync, rank", "rank", ["o/a", "o/b"], ["w2"]),
        ("sync, rank", "sync", ["o/b"], ["w1", "w2"]),
    ],
)
def test_what_is_asked_for_a_plan_is_not_about_what_its_operations_skip(
    tmp_path: Path, runs: str, skip: str, repos: list[str], workspaces: list[str]
) -> None:
    body = f"""\
repos: [{{repo: o/a, workspace: w1, skip: [{skip}]}}, {{repo: o/b, workspace: w2}}]
operations: [{runs}]
"""
    built = make_plan(tmp_path, body, catalog=CATALOG)
    assert [list(one.question.items) for one in built.coverage] == [repos, workspaces]


@pytest.mark.parametrize("by", ["skip: [sync], deep: true", "deep: false", "deep: true"])
def test_a_question_by_workspaces_is_about_those_of_the_repositories_that_are_sent(
    tmp_path: Path, by: str
) -> None:
    catalog = CATALOG.replace(" in :repos", " in :workspaces").replace("  deep:", "  deeper:")
    catalog = catalog.replace("  sync:\n", "  sync:\n    when: repo.deep\n")
    rows = f"[{{repo: o/a, workspace: w1, {by}}}, {{repo: o/b, workspace: w2, deep: true}}]"
    body = f"repos: {rows}\noperations: [sync, rank]\n"
    check, *_ = make_plan(tmp_path, body, catalog=catalog).checks
    assert check.name == "sync"
    assert check.question.items == (("w1", "w2") if by == "deep: true" else ("w2",))


@pytest.mark.parametrize("skips", ["when: repo.n > 1", 'repeat: "{{ repo.n - 1 }}"'])
@pytest.mark.parametrize(
    ("kinds", "repos", "workspaces"),
    [
        (("repo",), ["o/b"], ["w2"]),
        (("repo", "repo"), ["o/a", "o/b"], ["w1", "w2"]),
        (("repo", "workspace"), ["o/b"], ["w1", "w2"]),
    ],
)
def test_a_check_of_the_plan_is_not_about_what_all_of_its_operations_skip(
    tmp_path: Path, skips: str, kinds: Sequence[str], repos: list[str], workspaces: list[str]
) -> None:
    """What needs nothing today is covered and counted all the same, or a plan that has done all its
    work would have nothing to show."""
    catalog = "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n"
    for number, kind in enumerate(kinds):
        own = f", {skips}" if number == 0 else ""
        catalog += f"  o{number}: {{event: a/{number}, for_each: {kind}, payload: {{}}{own}}}\n"
    questions = {
        "repos": "select full_name as item, 1 as total, 1 as done from r where x in :repos",
        "workspaces": "select id as item, 1 as total, 1 as done from w where x in :workspaces",
    }
    body = "repos: [{repo: o/a, workspace: w1, n: 1}, {repo: o/b, workspace: w2, n: 2}]\n"
    body += f"operations: [{', '.join(f'o{number}' for number, _ in enumerate(kinds))}]\nchecks:\n"
    for name, query in questions.items():
        body += f"  - {{name: {name}, key: item, query: {query!r}, expect: {{rows: 1}}}}\n"
        body += f"  - {{name: all {name}, each: false, query: {query!r}, expect: {{rows: 2}}}}\n"
    body += "coverage:\n"
    body += "".join(f"  {name}: {{query: {query!r}}}\n" for name, query in questions.items())
    built = make_plan(tmp_path, body, catalog=catalog)
    found = {check.name: list(check.question.items) for check in built.checks}
    every_one = {"all repos": ["o/a", "o/b"], "all workspaces": ["w1", "w2"]}
    assert found == {"repos": repos, "workspaces": workspaces, **every_one}
    every = [list(one.question.items) for one in built.coverage]
    assert every == [["o/a", "o/b"], ["w1", "w2"]]


@pytest.mark.parametrize(("also", "tenants"), [("", ["b"]), (", whole", ["a", "b"])])
def test_a_question_by_a_part_of_a_product_is_about_the_parts_of_what_is_sent(
    tmp_path: Path, also: str, tenants: list[str]
) -> None:
    """A check failed over a tenant for whom nothing was sent. Coverage is of all of them."""
    query = "select name as item, 1 as total, 1 as done from t where name in :tenants"
    check = f'{{name: NAME, query: "{query}", expect: {{rows: 1}}}}'
    catalog = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  cell:
    event: a/cell
    for_each: cells
    when: row.tenant != 'a'
    payload: {{}}
    checks: [{check.replace("NAME", "of cell")}]
  whole: {{event: a/whole, for_each: cells, payload: {{}}}}
"""
    body = f"""\
collections: {{tenants: [a, b], days: [x, y], cells: {{matrix: {{tenant: tenants, day: days}}}}}}
operations: [cell{also}]
checks: [{check.replace("NAME", "of the plan")}]
coverage: {{all: {{query: "{query}"}}}}
"""
    built = make_plan(tmp_path, body, catalog=catalog)
    found = {check.name: list(check.question.items) for check in built.checks}
    assert found == {"of the plan": tenants, "of cell": ["b"]}
    assert [list(one.question.items) for one in built.coverage] == [["a", "b"]]


def test_without_an_operation_for_repositories_a_check_is_about_those_of_workspaces_that_are_sent(
    tmp_path: Path,
) -> None:
    catalog = (
        "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n  rank: {event: a/rank, "
        "for_each: workspace, payload: {}, when: workspace.id != 'w1'}\n"
    )
    body = (
        "repos: [{repo: o/a, workspace: w1}, {repo: o/b, workspace: w2}]\noperations: [rank]\n"
        'checks: [{name: c, query: "select repo, n from r where x in :repos", '
        "expect: {column: n, at_least: 1}}]\n"
    )
    (check,) = make_plan(tmp_path, body, catalog=catalog).checks
    assert check.question.items == ("o/b",)


def _only(stage: Stage, item: str) -> int:
    return next(index for index, (name, _) in enumerate(stage.items.raw()) if name == item)


def test_a_retry_proves_what_it_sends_again(tmp_path: Path) -> None:
    body = "repos: [o/a, {repo: o/b, skip: [deep]}, o/c]\noperations: [sync, deep]\n"
    plan = make_plan(tmp_path, body, catalog=CATALOG)
    again = subset(plan, [_only(plan.stages[0], "o/b"), plan.stages[0].total])
    items = {check.name: check.question.items for check in again.checks}
    assert items == {"sync": ("o/b",), "deep": ("o/a",)}


BOUND = "where x in :repos"
REFUSED: list[tuple[dict[str, Json], str, str]] = [
    ({"query": f"select n from r {BOUND}"}, "repository", "repo"),
    ({"query": f"select count(*) as n from r {BOUND}"}, "repository", "repo"),
    ({"query": f"select repository as it, n from r {BOUND}"}, "repository", "repo"),
    ({"query": "select n from r where id = any(:ids)"}, "repository", "repo"),
    ({"query": "select n from r where id in :workspaces"}, "workspace", "workspace_id"),
    ({"query": {"table": "r", "columns": ["n"], "where": {"x": ":repos"}}}, "repository", "repo"),
    ({"query": f"select repo, n from r {BOUND}", "key": "name"}, "repository", "name"),
    ({"query": "select n from r", "each": True}, "repository", "repo"),
    ({"query": f"with repo as (select 1 as repo) select n from r {BOUND}"}, "repository", "repo"),
    ({"query": f"select 'repo' as x, n -- repo\nfrom r {BOUND}"}, "repository", "repo"),
]


def built(folder: Path, check: Mapping[str, Json]) -> ExecutionPlan:
    written = json.dumps({"name": "c", "expect": {"column": "n", "at_least": 1}, **check})
    head = "repos: [{repo: o/a, id: 7, workspace: w}]\noperations: [sync]\n"
    return make_plan(folder, f"{head}checks:\n  - {written}\n")


@pytest.mark.parametrize(("check", "each", "key"), REFUSED)
def test_a_check_of_items_without_a_column_that_names_them_is_refused_at_its_line(
    tmp_path: Path, check: dict[str, Json], each: str, key: str
) -> None:
    with pytest.raises(InvalidPlan) as refused:
        built(tmp_path, check)
    (problem,) = refused.value.problems
    words = f"the check is for each {each}, but its query gives no column `{key}`"
    assert problem.message.startswith(words)
    assert problem.line == 8
    whole = {"query": check["query"], "each": False}
    assert built(tmp_path, whole).checks[0].question.key is None


@pytest.mark.parametrize(
    ("check", "key", "items", "ids"),
    [
        ({"query": f"select repo, n from r {BOUND}"}, "repo", ("o/a",), (7,)),
        ({"query": f"select r.name as Repo, n from r {BOUND}"}, "repo", ("o/a",), (7,)),
        ({"query": f"select * from r {BOUND}"}, "repo", ("o/a",), (7,)),
        ({"query": f"select name, n from r {BOUND}", "key": "name"}, "name", ("o/a",), (7,)),
        ({"query": "select id, n from r where id in :ids", "key": "id"}, "id", ("o/a",), (7,)),
        (
            {"query": "select workspace_id, n from r where id in :workspaces"},
            "workspace_id",
            ("w",),
            (),
        ),
        ({"query": "select repo, n from r", "each": True}, "repo", ("o/a",), (7,)),
        ({"query": f"select x as item, n from r {BOUND}", "key": "item"}, "item", ("o/a",), (7,)),
        ({"query": "select x as item, n from r", "key": "item"}, "item", ("o/a",), (7,)),
        (
            {"query": "select w as item, n from r where w in :workspaces", "key": "item"},
            "item",
            ("w",),
            (),
        ),
        ({"query": "select n from r"}, None, (), ()),
        ({"query": f"select repo, n from r {BOUND}", "each": False}, None, ("o/a",), ()),
    ],
)
def test_the_column_with_the_item_is_found_or_named(
    tmp_path: Path,
    check: dict[str, Json],
    key: str | None,
    items: tuple[str, ...],
    ids: tuple[Json, ...],
) -> None:
    question = built(tmp_path, check).checks[0].question
    assert (question.key, question.items, question.ids) == (key, items, ids)


@pytest.mark.parametrize("name", ["tidy", "sync", "user"])
@pytest.mark.parametrize("at", ["after: NAME, ", ""])
@pytest.mark.parametrize("key", ["", "key: item, "])
def test_a_check_may_be_for_the_items_of_any_collection(
    tmp_path: Path, name: str, at: str, key: str
) -> None:
    """Whatever the preceding operation runs for, as with repositories."""
    catalog = CATALOG.partition("operations:")[0] + (
        "operations:\n  user: {event: a/user, for_each: users, payload: {}}\n"
        "  sync: {event: a/sync, for_each: repo, payload: {}}\n"
        "  tidy: {event: a/tidy, for_each: once, payload: {}}\n"
    )
    body = (
        f"repos: [o/a]\ncollections: {{users: [u1, u2, {{name: u3, skip: [{name}]}}]}}\n"
        f"operations: [user, sync, tidy]\nchecks: [{{name: c, {at.replace('NAME', name)}{key}"
        'query: "select item, n from r where x in :users", expect: {column: n, at_least: 1}}]\n'
    )
    (check,) = make_plan(tmp_path, body, catalog=catalog).checks
    items = ["u1", "u2"] if at or name == "user" else ["u1", "u2", "u3"]
    assert check.question.items == tuple(items)
    assert check.question.parameters == {"users": items}


def test_a_question_that_goes_by_ids_speaks_of_no_repository_without_one(tmp_path: Path) -> None:
    body = (
        "repos: [{repo: o/a, id: 1}, o/b, {repo: o/c, skip: [sync]}]\n"
        "operations: [sync, embed]\nchecks:\n"
        '  - {name: c, after: sync, query: "select repo, n from r where id in :ids", '
        "expect: {rows: 1}}\n"
    )
    with pytest.raises(InvalidPlan) as refused:
        make_plan(tmp_path, body)
    (problem,) = refused.value.problems
    assert problem.message == "the query goes by :ids, but there is no `id` of `o/b`"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"key": "repo", "each": False}, "`key` has no effect with `each: false`"),
        ({"timezone": "Europe/Berlin"}, "`timezone` has no effect: no time is compared here"),
        ({"timezone": "Europe/Berlim"}, "there is no time zone `Europe/Berlim`"),
        (
            {"expect": {"column": "n", "at_most": 1, "maximum": 5}},
            "`maximum` has no effect without `at_least`",
        ),
    ],
)
def test_keys_without_effect_are_errors(tmp_path: Path, more: dict[str, Json], words: str) -> None:
    with pytest.raises(InvalidPlan) as refused:
        built(tmp_path, {"query": "select repo, n from r", **more})
    assert words in [problem.message for problem in refused.value.problems]


@pytest.mark.parametrize(("count", "more"), [(5, ""), (6, " and 1 more"), (8, " and 3 more")])
def test_of_many_repositories_without_an_id_the_first_are_named(
    tmp_path: Path, count: int, more: str
) -> None:
    names = [f"o/r{number}" for number in range(count)]
    check = "{name: c, query: select repo from r where id in :ids, expect: {rows: 1}}"
    body = f"repos: [{{repo: o/a, id: 1}}, {', '.join(names)}]\noperations: [sync]\n"
    with pytest.raises(InvalidPlan) as refused:
        make_plan(tmp_path, f"{body}checks: [{check}]\n")
    (problem,) = refused.value.problems
    named = ", ".join(f"`{name}`" for name in names[:5])
    assert problem.message == (f"the query goes by :ids, but there is no `id` of {named}{more}")


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"expect": {"column": "n", "at_least": "{{ vars.word }}"}},
         "`at_least` gives `many`, which is not a number"),
        ({"expect": {"column": "n", "at_most": "{{ vars.flag }}"}},
         "`at_most` gives `true`, which is not a number"),
        *(
            ({"expect": {"column": "n", key: f"{{{{ vars.{given} }}}}"}},
             f"`{key}` gives {shown}, which is not {what}")
            for key, given, shown, what in [
                ("at_least", "none", "`null`", "a number"),
                ("equals", "none", "`null`", "text, a number, true or false"),
                ("equals", "list", "`[1]`", "text, a number, true or false"),
                ("newer_than", "none", "`null`", "a time in ISO 8601"),
                ("newer_than", "word", "`many`", "a time in ISO 8601"),
                ("newer_than", "number", "`7`", "a time in ISO 8601"),
            ]
        ),
        ({"expect": {"column": "{{ vars.none }}", "at_least": 1}},
         "`column` gives `null`, which is not a column's name"),
        ({"expect": {"column": "n", "newer_than": "2026-13-01"}},
         "`newer_than` is `2026-13-01`, which is not a time in ISO 8601"),
        ({"expect": {"column": "n", "at_least": "{{ vars.word | date }}"}},
         "`at_least` cannot be rendered for the check: `many` is not a time in ISO 8601"),
        ({"expect": {"column": "n", "at_least": "{{ 9 if vars.number == 1 }}"}},
         ("`at_least` cannot be rendered for the check: the expression has no value: an `if` "
          "without `else`?")),
        ({"query": "select n from r where x = :x", "params": {"x": "{{ vars.word | date }}"}},
         "`x` cannot be rendered for the query: `many` is not a time in ISO 8601"),
        ({"expect": {"column": "n", "at_least": "{{ vars.number }}", "at_most": 6}},
         "`at_least: 7` and `at_most: 6` contradict each other: no figure meets both"),
        ({"expect": {"column": "n", "at_least": "{{ vars.number }}"}}, None),
    ],
)  # fmt: skip
def test_what_a_check_is_given_is_rendered_when_it_is_planned(
    tmp_path: Path, check: dict[str, Json], message: str | None
) -> None:
    known = {"name": "c", "query": "select n from r", "expect": {"column": "n", "at_least": 1}}
    body = (
        "repos: [o/a]\noperations: [sync]\n"
        "vars: {word: many, flag: true, number: 7, none: null, list: [1]}\n"
        f"checks:\n  - {json.dumps({**known, **check})}\n"
    )
    if message is None:
        assert make_plan(tmp_path, body).checks[0].expect.at_least == 7
        return
    with pytest.raises(InvalidPlan) as refused:
        make_plan(tmp_path, body)
    assert message in [one.message for one in refused.value.problems]


@pytest.mark.parametrize(
    ("for_each", "goal", "check", "wrong"),
    [
        ("days", "repos", "days", ["repos"]),
        ("days", "days", "repos", ["repos"]),
        ("days", "workspaces", "ids", ["workspaces", "ids"]),
        ("days", "ids", "days", []),  # of the days themselves
        ("once", "ids", "days", ["ids"]),
        ("workspace", "workspaces", "repos", ["repos"]),
    ],
)
def test_a_goal_or_check_of_items_that_the_plan_has_none_of_is_refused(
    tmp_path: Path, for_each: str, goal: str, check: str, wrong: list[str]
) -> None:
    """Of no items, a backlog is 0: the drain would be done before it began."""
    catalog = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  drain:
    event: a/drain
    for_each: {for_each}
    payload: {{}}
    until: {{query: "select 0 as n where x in :{goal}", expect: {{column: n, at_most: 0}}}}
  daily: {{event: a/daily, for_each: days, payload: {{}}}}
"""
    body = f"""\
workspaces: [w]
collections: {{days: [monday]}}
operations: [drain, daily]
checks:
  - name: rest
    query: select 0 as n where x in :{check}
    expect: {{column: n, at_most: 0}}
    each: false
"""
    if for_each != "workspace":
        body = body.removeprefix("workspaces: [w]\n")
    covered = f"coverage: {{all: {{query: select item where x in :{check}}}}}\n"
    path = str(write_plan(tmp_path, body, catalog=catalog + covered))
    if not wrong:
        read_plan(path)
        return
    with pytest.raises(InvalidPlan) as refused:
        read_plan(path)
    found = len(refused.value.problems)
    assert found == len(wrong), "a catalog's coverage is for other plans, too"
    path = str(write_plan(tmp_path, body + covered, catalog=catalog))
    with pytest.raises(InvalidPlan) as refused:
        read_plan(path)
    assert len(refused.value.problems) == found + (check != "days")
    for name in wrong:
        message = f"the query goes by :{name}, and the plan has no "
        assert any(one.message.startswith(message) for one in refused.value.problems)


@pytest.mark.parametrize("of", ["after: count, ", ""])
@pytest.mark.parametrize(
    ("query", "items", "parameters"),
    [
        (
            "select name as item, n from t where name in :things and day in :days",
            ["a", "b"],
            {"things": ["a", "b"], "days": ["mon"]},
        ),
        ("select name as item, n from t where name in :days", ["mon"], {"days": ["mon"]}),
        (
            "select name as item, n from t where name in :cells and day in :days",
            ["a/mon", "b/mon"],
            {"days": ["mon"], "cells": ["a/mon", "b/mon"]},
        ),
        ("select n from t where day in :days and name in :things", None, ["days", "things"]),
    ],
)
def test_a_question_may_be_about_the_items_of_several_collections(
    tmp_path: Path, query: str, items: list[str] | None, parameters: Any, of: str
) -> None:
    """A check of each item is for those that its query goes by; the operation's own come first."""
    catalog = "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n"
    catalog += "  count: {event: a/count, for_each: cells, payload: {}}\n"
    each = "" if items else "each: false, "
    body = f"""\
collections:
  things: [a, b]
  days: [mon]
  cells: {{matrix: {{thing: things, day: days}}}}
operations: [count]
checks:
  - {{name: c, {of}{each}query: "{query}", expect: {{column: n, at_least: 1}}}}
"""
    (check,) = make_plan(tmp_path, body, catalog=catalog).checks
    assert items is None or list(check.question.items) == items
    given = check.question.parameters
    assert (list(given) if items is None else given) == parameters


@pytest.mark.parametrize(
    ("then", "names", "bound"),
    [
        ({"left": ["a", "b"], "days": 1}, "ab", {"left": ["a", "b"], "days": 2}),
        ({"ids": [1, 2], "days": 1}, "abc", {"left": ["b", "c"], "days": 2}),
    ],
)
def test_a_question_of_now_may_be_about_the_items_of_one_before(
    then: Data, names: str, bound: Data
) -> None:
    """If that called them otherwise, it is about all: what is not known is not left out."""
    given = {"left": ["b", "c"], "days": 2}
    now = BoundQuestion(Query("q"), given, "left", "item", ("b", "c"), (2, 3))
    before = BoundQuestion(Query("p"), then, "left", "item", ("a", "b"))
    found = now.about_those_of(before)
    assert (found.query, "".join(found.items), found.parameters) == (now.query, names, bound)
    assert found.ids == (), "that of `a` is not known"
    of_all = now.about_those_of(replace(before, items=("b",)))
    assert of_all.by_key().items() >= {"b": "b", "2": "b"}.items()
