"""Workspaces and their repositories, what they skip, their attributes, and their order."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InvalidPlan
from runner.model import ExecutionPlan, Json, Narrowing, Table
from runner.planning.build import build_execution_plan
from runner.planning.facts import gather
from runner.planning.rows import fits_age
from runner.spec.load import load_plan
from tests.planning.test_collections import Answers
from tests.planning.test_facts import NOW, Fake
from tests.support import make_plan, write_plan

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
lookups:
  teams: {for: workspace, query: "select teams", key: workspace, required: [team]}
operations:
  sync: {event: a/sync, for_each: repo, payload: {repo: "{{ repo.repo }}"}}
  embed:
    {event: a/embed, for_each: workspace, lookups: [], payload: {repos: "{{ workspace.repos }}"}}
  rank: {event: a/rank, for_each: workspace, lookups: [], payload: {id: "{{ workspace.id }}"}}
  team:
    event: a/team
    for_each: workspace
    lookups: [teams]
    payload: {team: "{{ workspace.team }}"}
"""
OTHERS = "anyway, for other repositories"
SHARED = """\
repos:
  - {repo: o/a, workspace: w1, skip: [embed, sync]}
  - {repo: o/b, workspace: w1}
  - {repo: o/c, workspace: w2, skip: [embed, rank]}
  - {repo: o/d, workspace: w2, only: [sync, rank]}
  - {repo: o/e, workspace: w2}
  - {repo: o/f, workspace: w3, skip: [embed]}
"""


def made(folder: Path, body: str) -> ExecutionPlan:
    return make_plan(folder, body, catalog=CATALOG)


def told(plan: ExecutionPlan, rule: str) -> list[tuple[str, int | None]]:
    return [(one.message, one.line) for one in plan.warnings if one.rule == rule]


def test_a_workspace_runs_what_only_some_of_its_repositories_skip_and_that_is_told(
    tmp_path: Path,
) -> None:
    plan = made(tmp_path, SHARED + "operations: [sync, embed, rank]\n")
    sent = {(one.operation, one.item): one.event.data for one in plan.planned()}
    assert [item for operation, item in sent if operation == "embed"] == ["w1", "w2"]
    assert sent["embed", "w2"] == {"repos": ["o/c", "o/d", "o/e"]}
    assert [item for operation, item in sent if operation == "rank"] == ["w1", "w2", "w3"]
    assert told(plan, "shared-workspace") == [
        (f"3 repositories skip `embed`, but their workspaces run it {OTHERS}", 6),
        (f"a repository skips `rank`, but its workspace runs it {OTHERS}", 8),
    ]


@pytest.mark.parametrize(
    ("repos", "message"),
    [
        ("[{repo: o/a, workspace: w}]", None),
        ("[{repo: o/a, workspace: w}, o/b]",
         "a repository belongs to no workspace, so no workspace operation covers it"),
        ("[o/c, {repo: o/a, workspace: w}, o/b]",
         "2 repositories belong to no workspace, so no workspace operation covers them"),
    ],
)  # fmt: skip
def test_repositories_without_a_workspace_are_told_where_that_leaves_them_out(
    tmp_path: Path, repos: str, message: str | None
) -> None:
    plan = made(tmp_path, f"repos: {repos}\noperations: [sync, rank]\n")
    assert [words for words, _ in told(plan, "no-workspace")] == ([message] if message else [])
    assert told(made(tmp_path, f"repos: {repos}\noperations: [sync]\n"), "no-workspace") == []


def test_workspaces_that_are_listed_come_after_those_of_repositories(tmp_path: Path) -> None:
    body = "workspaces: [w9, w1]\nrepos: [{repo: o/a, workspace: w2}, {repo: o/b, workspace: w1}]\n"
    plan = made(tmp_path, body + "operations: [rank]\n")
    assert [one.item for one in plan.planned()] == ["w2", "w1", "w9"]


TEAMS: list[dict[str, Json]] = [{"workspace": "w1", "team": "a"}, {"workspace": "w3", "team": None}]


@pytest.mark.parametrize(
    ("workspaces", "rows", "message", "hint"),
    [
        (["w1"], TEAMS, None, ""),
        (["w2", "w4"], TEAMS, "the lookup `teams` finds nothing for w2, w4: `team` needs it",
         "names are compared exactly"),
        (["w2", "w4", "w5", "w6"], TEAMS,
         "the lookup `teams` finds nothing for w2, w4 and 2 more: `team` needs it",
         "names are compared exactly"),
        (["w1", "w3"], TEAMS,
         "the lookup `teams` finds no `team` (it is NULL) for w3: `team` needs it",
         "fill in the data"),
        (["w1"], [{"workspace": "w1", "name": "a"}],
         "the lookup `teams` gives no column `team` for w1: `team` needs it",
         "add it to the query"),
        (["w1"], [*TEAMS, *TEAMS],
         "the lookup `teams` finds more than one row for w1: `team` needs it",
         "make the query give one row for each key"),
    ],
)  # fmt: skip
def test_what_a_lookup_does_not_find_is_named_with_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workspaces: list[str],
    rows: list[dict[str, Json]],
    message: str | None,
    hint: str,
) -> None:
    monkeypatch.setattr("runner.planning.items._NAMED", 2)
    body = f"workspaces: [{', '.join(workspaces)}]\noperations: [team]\n"
    plan = load_plan(str(write_plan(tmp_path, body, catalog=CATALOG)))
    known = gather(plan, Fake({"teams": rows}), NOW)
    if message is None:
        assert [one.event.data for one in build_execution_plan(known).planned()] == [{"team": "a"}]
        return
    with pytest.raises(InvalidPlan) as invalid:
        build_execution_plan(known)
    (problem,) = (one for one in invalid.value.problems if one.severity == "error")
    assert problem.message == message
    assert (problem.hint or "").startswith(hint)


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        ("{size: '{{ repo.size }}'}", [{}, {"size": 5}]),
        ("{size: '{{ repo.sise }}'}", None),
        ("{size: '{{ row.size }}'}", None),
    ],
)
def test_a_key_is_left_out_where_its_item_has_no_value_and_another_has_one(
    tmp_path: Path, payload: str, sent: Any
) -> None:
    uses = f"operations: [{{use: sync, with: {payload}}}]\n"
    body = f"repos: [o/a, {{repo: o/b, size: 5}}]\n{uses}"
    catalog = CATALOG.replace('repo: "{{ repo.repo }}"', "")
    if sent is None:
        with pytest.raises(InvalidPlan, match="`size` cannot be rendered"):
            make_plan(tmp_path, body, catalog=catalog)
    else:
        plan = make_plan(tmp_path, body, catalog=catalog)
        assert [one.event.data for one in plan.planned()] == sent


@pytest.mark.parametrize(
    ("order", "told_of"),
    [("size", []), ("weight", []), ("priority", []), ("sise", ["sise"])],
)
def test_an_order_is_of_what_repositories_or_items_have(
    tmp_path: Path, order: str, told_of: list[str]
) -> None:
    catalog = f"{CATALOG}  count: {{event: a/count, for_each: things, payload: {{}}}}\n"
    body = (
        "repos: [{repo: o/a, size: 1}, {repo: o/b, size: 2}]\n"
        "collections: {things: [{name: x, weight: 1}, {name: y, weight: 2}]}\n"
        f"operations: [sync, count]\norder_by: [-{order}]\n"
    )
    plan = make_plan(tmp_path, body, catalog=catalog)
    named = [f"`order_by` names `{name}`, which no item has" for name in told_of]
    assert [message for message, _ in told(plan, "order-by")] == named
    items = [one.item for one in plan.planned()]
    assert items[:2] == (["o/b", "o/a"] if order == "size" else ["o/a", "o/b"])
    assert items[2:] == (["y", "x"] if order == "weight" else ["x", "y"])


@pytest.mark.parametrize(
    ("repos", "globs", "kept", "message"),
    [
        ("[o/a, o/b]", "[o/a]", ["o/a"], None),
        ("[o/a, o/b]", "['o/*']", ["o/a", "o/b"], "`filter` keeps all of the repositories"),
        ("[o/a, o/b]", "[o/a, 'x/*', y/z]", ["o/a"],
         "`filter`: `x/*`, `y/z` matches none of the repositories"),
        ("[o/a, {query: select more}]", "['x/*', 'o/*']", ["o/a", "o/c"], None),
    ],
)  # fmt: skip
def test_a_filter_that_changes_nothing_is_told_where_that_is_known(
    tmp_path: Path, repos: str, globs: str, kept: list[str], message: str | None
) -> None:
    body = f"repos: {repos}\nfilter: {{repo: {globs}}}\noperations: [sync]\n"
    loaded = load_plan(str(write_plan(tmp_path, body, catalog=CATALOG)))
    plan = build_execution_plan(gather(loaded, Fake({"more": [{"repo": "o/c"}]}), NOW))
    found = told(plan, "filter")
    assert found == ([(message, 6)] if message else [])
    assert [one.item for one in plan.planned()] == kept


@pytest.mark.parametrize("by", ["a query", "a lookup"])
def test_a_column_that_is_null_in_each_row_is_known_and_leaves_its_key_out(
    tmp_path: Path, by: str
) -> None:
    catalog = CATALOG.replace('{repo: "{{ repo.repo }}"}', '{size: "{{ repo.size }}"}')
    rows: list[dict[str, Json]] = [{"repo": "o/a", "size": None}]
    if by == "a query":
        body = "repos: [{query: select sizes}]\noperations: [sync]\n"
    else:
        body = "repos: [o/a]\noperations: [sync]\n"
        lookup = "lookups:\n  sizes: {query: select sizes, key: repo, required: false}\n"
        catalog = catalog.replace("lookups:\n", lookup)
    loaded = load_plan(str(write_plan(tmp_path, body, catalog=catalog)))
    plan = build_execution_plan(gather(loaded, Fake({"sizes": rows}), NOW))
    assert [one.event.data for one in plan.planned()] == [{}]


@pytest.mark.parametrize(
    ("age", "newer", "older", "fits"),
    [
        (60, 60.0, None, True),
        (61, 60.0, None, False),
        (60, None, 60.0, False),
        (61, None, 60.0, True),
        (61, 90.0, 60.0, True),
        (91, 90.0, 60.0, False),
    ],
)
def test_an_item_is_as_old_as_it_may_be_or_older_than_it_must_be(
    age: int, newer: float | None, older: float | None, fits: bool
) -> None:
    narrowing = Narrowing(column="at", newer_than=newer, older_than=older)
    row: dict[str, Json] = {"at": (NOW - timedelta(seconds=age)).isoformat()}
    assert fits_age(narrowing, "o/a", row, NOW) is fits


def test_what_a_query_gives_of_a_workspace_goes_over_what_is_looked_up(tmp_path: Path) -> None:
    body = "workspaces: [{query: select spaces}]\noperations: [team]\n"
    spaces: list[dict[str, Json]] = [
        {"workspace": "w1", "team": "written"},
        {"workspace": "w3", "team": None},
    ]
    found: list[dict[str, Json]] = [{"workspace": one, "team": "found"} for one in ("w1", "w3")]
    loaded = load_plan(str(write_plan(tmp_path, body, catalog=CATALOG)))
    plan = build_execution_plan(gather(loaded, Fake({"spaces": spaces, "teams": found}), NOW))
    assert [(one.item, one.event.data) for one in plan.planned()] == [
        ("w1", {"team": "written"}),
        ("w3", {"team": "found"}),
    ]


@pytest.mark.parametrize(
    ("skip", "repos", "expected"),
    [
        ("embed", "[{repo: o/a, workspace: w}]", {"rank": ["w", "v"], "embed": ["v"]}),
        (["embed"], "[{repo: o/a, workspace: w, skip: [rank]}]", {"rank": ["v"], "embed": ["v"]}),
        ("embed;rank", "[{repo: o/a, workspace: w}]", {"rank": ["v"], "embed": ["v"]}),
        (None, "[{repo: o/a, workspace: w, skip: [rank]}]",
         {"rank": ["v"], "embed": ["w", "v"]}),
    ],
)  # fmt: skip
def test_a_workspace_skips_what_it_says_and_what_all_of_its_repositories_skip(
    tmp_path: Path, skip: Json, repos: str, expected: dict[str, list[str]]
) -> None:
    body = f"repos: {repos}\nworkspaces: [{{query: select spaces}}]\n"
    uses = 'operations: [embed, {use: rank, with: {whole: "{{ workspace }}"}}]\n'
    path = write_plan(tmp_path, body + uses, catalog=CATALOG)
    database = Answers(spaces=Table(("workspace", "skip"), (("w", skip), ("v", None))))
    plan = build_execution_plan(gather(load_plan(str(path)), database, NOW))
    found: dict[str, list[str]] = {"rank": [], "embed": []}
    for one in plan.planned():
        found[one.operation].append(one.item)
        whole = one.event.data.get("whole", {})
        assert "skip" not in whole or (skip and one.item == "w")
    assert found == expected
    own = [one.reason for one in plan.skipped if one.item == "w" and one.operation == "embed"]
    assert own == (["skipped by the workspace"] if skip else [])
    assert not [one for one in plan.warnings if one.rule == "shared-workspace"]


def test_a_workspace_that_skips_what_is_no_list_is_refused(tmp_path: Path) -> None:
    body = "workspaces: [{query: select spaces}]\noperations: [rank]\n"
    path = write_plan(tmp_path, body, catalog=CATALOG)
    database = Answers(spaces=Table(("workspace", "skip"), (("w", "rank,embed"),)))
    with pytest.raises(InvalidPlan) as refused:
        build_execution_plan(gather(load_plan(str(path)), database, NOW))
    assert "`skip` is `rank,embed`" in refused.value.problems[0].message


@pytest.mark.parametrize(
    ("more", "order", "unknown"),
    [
        ("order_by: [-tier]\n", ["w2", "w3", "w1"], False),
        ("", ["w3", "w1", "w2"], False),  # by priority
        ("repos: [{repo: o/a, workspace: w1}]\norder_by: [-tier]\n", ["w1", "w2", "w3"], False),
        ("order_by: [nope]\n", ["w1", "w2", "w3"], True),
    ],
)
def test_workspaces_that_a_plan_lists_are_ordered_by_their_own_attributes(
    tmp_path: Path, more: str, order: list[str], *, unknown: bool
) -> None:
    """They follow the workspaces of repositories, which are ordered by their first repository."""
    uses = "[sync, rank]" if "repos" in more else "[rank]"
    body = f"workspaces: [{{query: select spaces}}]\noperations: {uses}\n{more}"
    rows = (("w1", 1, "low"), ("w2", 3, None), ("w3", 2, "high"))
    database = Answers(spaces=Table(("workspace", "tier", "priority"), rows))
    loaded = load_plan(str(write_plan(tmp_path, body, catalog=CATALOG)))
    plan = build_execution_plan(gather(loaded, database, NOW))
    assert [one.item for one in plan.planned() if one.operation == "rank"] == order
    assert any(one.rule == "order-by" for one in plan.warnings) == unknown


@pytest.mark.parametrize(
    ("scope", "item", "key"), [("repo", "repo", "repo"), ("workspace", "workspace", "workspace")]
)
@pytest.mark.parametrize("rows", [(), ((None, "x"),), (("other", "x"),)])
def test_what_a_lookup_finds_for_no_item_is_missing_and_no_error(
    tmp_path: Path, scope: str, item: str, key: str, rows: tuple[tuple[Json, ...], ...]
) -> None:
    lookup = f"lookups:\n  more: {{for: {scope}, query: select more, key: {key}}}\n"
    use = "sync" if scope == "repo" else "rank"
    with_it = f'{{use: {use}, lookups: [more], with: {{size: "{{{{ {item}.size }}}}"}}}}'
    body = f"repos: [{{repo: o/a, workspace: w}}]\n{lookup}operations: [{with_it}]\n"
    loaded = load_plan(str(write_plan(tmp_path, body, catalog=CATALOG)))
    database = Answers(more=Table((key, "size"), rows))
    (event,) = build_execution_plan(gather(loaded, database, NOW)).planned()
    assert "size" not in event.event.data
