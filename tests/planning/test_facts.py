"""What a plan asks before it can be built, and how the answers are used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InvalidPlan
from runner.model import BackfillPlan, ExecutionPlan, Json, Query, QueryRefused, Table
from runner.planning import facts
from runner.planning.build import build_execution_plan, stage_as_of_now
from runner.planning.facts import asks, gather, gather_again
from runner.planning.items import remembered, to_remember
from runner.spec.load import load_plan
from runner.spec.rendering import BUDGET
from tests.support import write_plan

NOW = datetime(2026, 11, 24, tzinfo=UTC)
HEAD = "apiVersion: backfill/v1\nkind: OperationCatalog\n"
SELECT = "repos: [{query: select repos}]\n"
SYNC = (
    HEAD + "operations: {sync: {event: a/sync, for_each: repo, payload: {r: '{{ repo.repo }}'}}}\n"
)
LOOKUP = (
    HEAD
    + """\
lookups:
  ids: {query: "select ids where repo in :keys", key: repo, required: %s}
operations:
  sync: {event: a/sync, for_each: repo, payload: {id: "{{ repo.id | default('none') }}"}}
"""
)


@dataclass
class Fake:
    """Answers by the second word of a query, with rows as dictionaries; refuses anything else."""

    answers: Mapping[str, list[dict[str, Json]] | QueryRefused]
    asked: list[tuple[str, Mapping[str, Json]]] = field(default_factory=list)

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        assert isinstance(query.ask, str)
        name = query.ask.split()[1]
        self.asked.append((name, parameters))
        if name not in self.answers:
            raise QueryRefused(f"nobody expects {name}")
        rows = self.answers[name]
        if isinstance(rows, QueryRefused):
            raise rows
        if "keys" in parameters:
            rows = [row for row in rows if row.get("repo") in (None, *parameters["keys"])]
        columns = tuple(dict.fromkeys(c for row in rows for c in row)) or ("repo", "id")
        return Table(columns, tuple(tuple(row.get(c) for c in columns) for row in rows))


def load(folder: Path, body: str, catalog: str = SYNC) -> BackfillPlan:
    return load_plan(str(write_plan(folder, body, catalog=catalog)))


def built(folder: Path, body: str, database: Fake, catalog: str = SYNC) -> ExecutionPlan:
    return build_execution_plan(gather(load(folder, body, catalog), database, NOW))


def sent(plan: ExecutionPlan) -> list[tuple[str, dict[str, Any]]]:
    return [(planned.item, planned.event.data) for planned in plan.planned()]


def items(plan: ExecutionPlan) -> list[str]:
    return [item for item, _ in sent(plan)]


def said(folder: Path, body: str, database: Fake, catalog: str = SYNC) -> list[str]:
    with pytest.raises(InvalidPlan) as invalid:
        built(folder, body, database, catalog)
    return [f"{problem.message} ({problem.hint})" for problem in invalid.value.problems]


def repos(*names: str, **attributes: Json) -> list[dict[str, Json]]:
    return [{"repo": name, **attributes} for name in names]


def test_rows_become_repositories_with_their_columns_as_attributes(tmp_path: Path) -> None:
    catalog = SYNC.replace("'{{ repo.repo }}'", "'{{ repo.velocity }}'")
    rows = [{"repo": "o/a", "velocity": 1}, {"repo": "o/b", "velocity": 2}]
    body = SELECT + "operations: [sync]\norder_by: [-velocity]\n"
    plan = built(tmp_path, body, Fake({"repos": rows}), catalog)
    assert sent(plan) == [("o/b", {"r": 2}), ("o/a", {"r": 1})]
    assert [(fact.name, fact.rows) for fact in plan.facts] == [("repositories", 2)]


def test_what_is_written_goes_over_what_is_selected_and_each_comes_once(tmp_path: Path) -> None:
    body = "repos: [{query: select repos}, {repo: o/b, skip: [sync]}, o/c]\noperations: [sync]\n"
    plan = built(tmp_path, body, Fake({"repos": repos("o/a", "o/b", "o/a")}))
    assert items(plan) == ["o/a", "o/c"]
    assert [entry.item for entry in plan.skipped] == ["o/b"]


@pytest.mark.parametrize(
    ("listed", "name", "called"),
    [("repos", "o/a", "repository"), ("workspaces", "w", "workspace")],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_several_rows_of_an_item_with_different_values_are_no_answer(
    tmp_path: Path, listed: str, name: str, called: str, earlier: bool
) -> None:
    """As of a repository in two workspaces: the second one would get no event, without a word."""
    body = (
        f"{listed}: [{f'{name}, ' if earlier else ''}{{query: select them}}]\noperations: [sync]\n"
    )
    column = {"repos": "repo"}.get(listed, called)
    catalog = SYNC.replace("for_each: repo", f"for_each: {column}").replace(
        "repo.repo", "plan.name"
    )
    rows: list[dict[str, Json]] = [{column: name, "x": 1}, {column: name, "x": 1}]
    assert len(items(built(tmp_path, body, Fake({"them": [*rows]}), catalog))) == 1
    (message,) = said(tmp_path, body, Fake({"them": [*rows, {column: name, "x": 2}]}), catalog)
    assert f"the query gives several rows for `{name}`, with different values" in message
    assert f"one row for each {called}" in message


@pytest.mark.parametrize(
    ("listed", "refused"),
    [
        ("{workspace: v}, {workspace: w}", True),
        ("{workspace: v}, {workspace: v}", False),
        ("{query: select them}, {workspace: w}", True),
        ("{query: select them}, {workspace: u}", False),
        ("{workspace: v}, {repo: o/a, workspace: w}, {workspace: w}", False),
    ],
)
def test_a_repository_that_is_found_in_two_workspaces_is_refused(
    tmp_path: Path, listed: str, refused: bool
) -> None:
    """The second one would get no event, without a word; what is written decides."""
    catalog = SYNC.replace("operations:", "workspace_repos: {query: select repos}\noperations:")
    database = Fake({"repos": repos("o/a"), "them": repos("o/a", workspace="u")})
    body = f"repos: [{listed}]\noperations: [sync]\n"
    assert items(built(tmp_path, body, database, catalog)) == ["o/a"], "no other gets fewer events"
    aggregate = "{aggregate: {event: a/b, for_each: workspace, payload: {}}, sync:"
    catalog = catalog.replace("{sync:", aggregate)
    body = body.replace("[sync]", "[sync, aggregate]")
    if not refused:
        assert items(built(tmp_path, body, database, catalog))[:1] == ["o/a"]
        return
    (message,) = said(tmp_path, body, database, catalog)
    assert "`o/a` is in the workspaces" in message


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"name": "o/a"}], "the query gives a row that is not a repository"),
        ([{"repo": "not-a-name"}], "the query gives a row that is not a repository"),
        (QueryRefused("no such table: repos", "look"), "refuses the query: no such table: repos"),
    ],
)
def test_a_selection_that_gives_no_repositories_is_a_problem_at_its_query(
    tmp_path: Path, rows: Any, words: str
) -> None:
    with pytest.raises(InvalidPlan) as invalid:
        built(tmp_path, SELECT + "operations: [sync]\n", Fake({"repos": rows}))
    (problem,) = invalid.value.problems
    assert words in problem.message
    assert (Path(problem.path).name, problem.line) == ("plan.yaml", 5)


@pytest.mark.parametrize("value", [[], ["o/a"], {}, {"name": "o/a"}])
@pytest.mark.parametrize("required", ["true", "false"])
def test_a_lookup_goes_by_one_value_and_no_list_or_mapping(
    tmp_path: Path, required: str, value: Json
) -> None:
    answers = Fake({"ids": [{"repo": None, "id": 1}, {"repo": None, "id": value}]})
    catalog = (LOOKUP % required).replace("key: repo", "key: id")
    body = "repos: [{repo: o/a, id: 1}]\noperations: [sync]\n"
    (message,) = said(tmp_path, body, answers, catalog)
    assert "the lookup's key `id` is" in message
    body = f"repos: [{{repo: o/a, tags: {json.dumps(value)}}}]\noperations: [sync]\n"
    catalog = catalog.replace("key: id", "key: tags")
    (message,) = said(tmp_path, body, Fake({"ids": [{"tags": 1}]}), catalog)
    assert "`ids` goes by `tags`, which is a list or a mapping of o/a" in message


@pytest.mark.parametrize("value", [True, "", ["w"], {"w": 1}, "w" * 10_001])
def test_a_workspace_is_called_by_text_or_by_a_number(tmp_path: Path, value: Json) -> None:
    body = "workspaces: [{query: select w}]\noperations: [team]\n"
    catalog = HEAD + "operations: {team: {event: app/team, for_each: workspace}}\n"
    with pytest.raises(InvalidPlan) as invalid:
        built(tmp_path, body, Fake({"w": [{"workspace": value}]}), catalog)
    (problem,) = invalid.value.problems
    assert "the query gives a row that is not a workspace: `workspace` " in problem.message
    for name in (7, "7"):
        plan = built(tmp_path, body, Fake({"w": [{"workspace": name}]}), catalog)
        assert items(plan) == ["7"]


@pytest.mark.parametrize(
    ("column", "value", "hint"),
    [
        ("repo", 7, "cast it: `cast(COLUMN as text)`"),
        ("workspace", 7, "cast it: `cast(COLUMN as text)`"),
        ("workspace", ["w"], "leave the row out, or select another value"),
        ("priority", "hgih", "did you mean `high`?"),
        ("repo", None, "name the column that has owner/name: `select full_name as repo`"),
    ],
)
def test_a_row_that_is_no_repository_is_mended_in_its_query(
    tmp_path: Path, column: str, value: Json, hint: str
) -> None:
    rows = [{"repo": "o/a", column: value}]
    with pytest.raises(InvalidPlan) as invalid:
        built(tmp_path, SELECT + "operations: [sync]\n", Fake({"repos": rows}))
    assert [problem.hint for problem in invalid.value.problems] == [hint]


@pytest.mark.parametrize("accept", ["", "accept: {no-rows: often so}\n"])
def test_a_query_without_rows_warns_at_its_place_and_leaves_nothing_to_do(
    tmp_path: Path, accept: str
) -> None:
    plan = built(tmp_path, SELECT + "operations: [sync]\n" + accept, Fake({"repos": []}))
    assert plan.events == 0
    rows, empty = plan.warnings
    assert (rows.rule, Path(rows.path).name, rows.line) == ("no-rows", "plan.yaml", 5)
    assert rows.message == "the query gives no rows: select repos"
    assert (empty.rule, empty.accepted) == ("empty", None)
    assert rows.accepted == ("often so" if accept else None)


def test_the_repositories_of_a_workspace_are_found_by_the_catalogs_query(tmp_path: Path) -> None:
    body = "repos: [{workspace: w1}]\noperations: [sync]\n"
    catalog = SYNC + "workspace_repos: {query: 'select members where w = :workspace'}\n"
    database = Fake({"members": repos("o/a")})
    assert items(built(tmp_path, body, database, catalog)) == ["o/a"]
    assert database.asked == [("members", {"workspace": "w1"})]
    (message,) = said(tmp_path, body, Fake({}))
    assert "add `workspace_repos: {query: ...}` to the catalog" in message


def test_globs_keep_some_repositories_and_say_which_they_leave_out(tmp_path: Path) -> None:
    body = SELECT + "operations: [sync]\nfilter: {repo: ['o/*', '!o/old*']}\n"
    plan = built(tmp_path, body, Fake({"repos": repos("o/a", "o/old-1", "p/b")}))
    assert items(plan) == ["o/a"]
    assert [(entry.item, entry.reason) for entry in plan.skipped] == [
        ("o/old-1", "skipped by `filter`"),
        ("p/b", "skipped by `filter`"),
    ]


AGE = "operations: [sync]\nfilter: {age: {of: updated_at, newer_than: 30d}}\n"


def test_age_is_told_by_an_attribute_and_one_without_it_is_a_problem(tmp_path: Path) -> None:
    rows = [
        {"repo": "o/new", "updated_at": "2026-11-01T00:00:00+00:00"},
        {"repo": "o/old", "updated_at": "2026-01-01T00:00:00+00:00"},
    ]
    assert items(built(tmp_path, SELECT + AGE, Fake({"repos": rows}))) == ["o/new"]
    rows.append({"repo": "o/never", "updated_at": None})  # type: ignore[dict-item]
    (message,) = said(tmp_path, SELECT + AGE, Fake({"repos": rows}))
    assert "o/never has no `updated_at`, so its age is not known" in message
    rows[-1] = {"repo": "o/ever", "updated_at": "infinity"}
    (message,) = said(tmp_path, SELECT + AGE, Fake({"repos": rows}))
    assert "the age of o/ever is not known: `infinity` is not a time" in message


def test_a_lookup_is_one_query_for_all_items(tmp_path: Path) -> None:
    names = [f"o/r{number}" for number in range(500)]
    listed = ", ".join(names)
    database = Fake({"ids": [{"repo": name, "id": name.upper()} for name in names]})
    plan = built(tmp_path, f"repos: [{listed}]\noperations: [sync]\n", database, LOOKUP % "true")
    assert sent(plan)[7] == ("o/r7", {"id": "O/R7"})
    assert [name for name, _ in database.asked] == ["ids"]
    assert database.asked[0][1] == {"keys": names}


def test_many_items_are_asked_for_ten_thousand_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert facts.KEYS == 10_000
    monkeypatch.setattr(facts, "KEYS", 100)
    names = [f"o/r{number}" for number in range(101)]
    (tmp_path / "r.csv").write_text("\n".join(["repo", *names]), encoding="utf-8")
    database = Fake({"ids": repos(*names, id=1)})
    built(tmp_path, "repos: [{file: r.csv}]\noperations: [sync]\n", database, LOOKUP % "false")
    assert [len(given["keys"]) for _, given in database.asked] == [100, 1]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (repos("o/a", id=1), "`ids` finds nothing for o/b, o/c: `sync` needs it"),
        (
            [*repos("o/a", id=1), *repos("o/b", "o/c", id=None)],
            "`ids` finds no `id` (it is NULL) for o/b, o/c: `sync` needs it",
        ),
        (repos("o/a", "o/b", "o/b", "o/c", id=1), "`ids` finds more than one row for o/b"),
        ([], "(it finds nothing at all: may this role read the table?"),
        ([{"id": 1}], "the lookup's query gives no column `repo`, its key"),
    ],
)
def test_what_a_required_lookup_lacks_is_named_item_by_item(
    tmp_path: Path, rows: list[dict[str, Json]], words: str
) -> None:
    body = "repos: [o/a, o/b, o/c]\noperations: [sync]\n"
    assert any(words in m for m in said(tmp_path, body, Fake({"ids": rows}), LOOKUP % "true"))


def test_no_item_has_an_attribute_of_which_its_lookup_finds_several(tmp_path: Path) -> None:
    """Not even for an operation that does not need the lookup: which row would it be?"""
    sync = "{event: a/sync, for_each: repo, payload: {id: \"{{ repo.id | default('none')}}\"}"
    catalog = (LOOKUP % "true") + f"  other: {sync}, lookups: []}}\n"
    body = "repos: [o/a, {repo: o/b, skip: [sync]}]\noperations: [sync, other]\n"
    database = Fake({"ids": [*repos("o/a", id=1), *repos("o/b", id=2), *repos("o/b", id=3)]})
    found = sent(built(tmp_path, body, database, catalog))
    assert found == [("o/a", {"id": 1}), ("o/a", {"id": 1}), ("o/b", {"id": "none"})]
    (message,) = said(tmp_path, "repos: [o/b]\noperations: [sync]\n", database, catalog)
    assert "finds more than one row for o/b" in message
    assert "this role" not in message


def test_a_key_that_is_no_attribute_of_the_items_is_said(tmp_path: Path) -> None:
    catalog = (LOOKUP % "true").replace("key: repo", "key: full_name")
    body = "repos: [o/a]\noperations: [sync]\n"
    (message,) = said(tmp_path, body, Fake({"ids": []}), catalog)
    assert "`ids` goes by `full_name`, which is missing for o/a" in message
    assert "`key` must be an attribute of the items" in message


def test_an_optional_lookup_may_find_nothing_and_written_attributes_win(tmp_path: Path) -> None:
    body = "repos: [o/a, {repo: o/b, id: written}]\noperations: [sync]\n"
    plan = built(tmp_path, body, Fake({"ids": repos("o/b", id=7)}), LOOKUP % "false")
    assert sent(plan) == [("o/a", {"id": "none"}), ("o/b", {"id": "written"})]


def test_rows_are_items_with_a_name_of_their_own(tmp_path: Path) -> None:
    catalog = (
        HEAD
        + """\
operations:
  fix:
    event: a/fix
    for_each: {query: "select prs where repo in :repos", item: "{{ row.repo }}#{{ row.n }}"}
    payload: {number: "{{ row.n }}"}
"""
    )
    database = Fake({"prs": [{"repo": "o/a", "n": 3}, {"repo": "o/a", "n": 5}]})
    plan = built(tmp_path, "repos: [o/a]\noperations: [fix]\n", database, catalog)
    assert sent(plan) == [("o/a#3", {"number": 3}), ("o/a#5", {"number": 5})]
    assert database.asked == [("prs", {"repos": ["o/a"]})]


REPEAT = LOOKUP.replace("for_each: repo,", "for_each: repo, repeat: (repo.id / 100) | ceil,")


def test_an_event_is_sent_as_often_as_the_backlog_asks_for(tmp_path: Path) -> None:
    body = "repos: [o/a, o/b]\noperations: [sync]\n"
    rows = [*repos("o/a", id=250), *repos("o/b", id=0)]
    plan = built(tmp_path, body, Fake({"ids": rows}), REPEAT % "true")
    assert items(plan) == ["o/a"] * 3
    assert [entry.item for entry in plan.skipped] == ["o/b"]


def test_a_deferred_operation_is_asked_again_and_nothing_else_is(tmp_path: Path) -> None:
    catalog = (LOOKUP % "true").replace("for_each: repo,", "for_each: repo, resolve: stage,")
    body = SELECT + AGE
    aged = repos("o/a", "o/b", updated_at="2026-11-20T00:00:00Z")
    database = Fake({"repos": aged, "ids": repos("o/a", "o/b", id=1)})
    known = gather(load(tmp_path, body, catalog), database, NOW)
    plan = build_execution_plan(known)
    (stage,) = plan.stages
    assert stage.deferred
    later = Fake({"ids": repos("o/a", "o/b", id=2)})
    now = stage_as_of_now(gather_again(known, known.operations[0], later, NOW), stage)
    assert [event.data for _, event in now.items.events()] == [{"id": 2}, {"id": 2}]
    assert [name for name, _ in later.asked] == ["ids"]


OWN = """\
operations:
  sync: {event: a/sync, for_each: %s, resolve: stage, payload: {x: "{{ row.x | default(0) }}"}}
"""
THEIRS = """\
collections:
  left: {query: select left, item: "{{ row.name }}"}
  days: [mon]
  cells: {matrix: {left: left, day: days}}
operations: [sync]
"""
FOR_LEFT = "{query: 'select more where name in :keys', key: name, for: left}"


@pytest.mark.parametrize(
    ("for_each", "more", "found"),
    [
        ("left", "", ["a", "b", "c", "d"]),
        ("left", "filter: {left: ['!b']}\n", ["a", "c", "d"]),
        ("left", "filter: {left: ['!x']}\n", ["a", "b", "c", "d"]),
        ("left", "filter: {left: {age: {of: at, newer_than: 30d}}}\n", ["a", "c"]),
        ("left", f"lookups: {{more: {FOR_LEFT}}}\n", ["a", "b", "c", "d"]),
        ("cells", "", ["a/mon", "b/mon", "c/mon", "d/mon"]),
        ("cells", "filter: {cells: ['!b/*']}\n", ["a/mon", "c/mon", "d/mon"]),
        ("cells", "filter: {left: ['!b']}\n", ["a/mon", "c/mon", "d/mon"]),
        (
            "cells",
            "filter: {left: {age: {of: at, newer_than: 30d}}, cells: ['!x/*']}\n",
            ["a/mon", "c/mon"],
        ),
    ],
)
def test_a_deferred_operation_finds_new_items_whatever_filters_and_joins_them(
    tmp_path: Path, for_each: str, more: str, found: list[str]
) -> None:
    catalog = HEAD + OWN % for_each
    new, old = "2026-11-20T00:00:00Z", "2026-01-01T00:00:00Z"
    first = [{"name": "a", "at": new}, {"name": "b", "at": old}]
    then = [*first, {"name": "c", "at": new}, {"name": "d", "at": old}]
    rows: list[dict[str, Json]] = [{"name": name, "x": 7} for name in "abcd"]
    known = gather(
        load(tmp_path, THEIRS + more, catalog), Fake({"left": [*first], "more": rows}), NOW
    )
    (stage,) = build_execution_plan(known).stages
    assert [item for item, _ in stage.items.raw()] == [one for one in found if one[0] in "ab"]
    later = Fake({"left": [*then], "more": rows})
    now = stage_as_of_now(gather_again(known, known.operations[0], later, NOW), stage)
    assert [item for item, _ in now.items.raw()] == found
    looked_up = 7 if "lookups" in more else 0
    assert {event.data["x"] for _, event in now.items.events()} == {looked_up}


@pytest.mark.parametrize(
    ("repos_of_it", "more"),
    [
        ("[{query: select repos}]", ""),
        ("[{file: none.csv}]", ""),
        ("[o/a]", "filter: {repo: '!o/a'}\n"),
        ("[{repo: o/a, at: '2026-01-01'}]", "filter: {age: {of: at, newer_than: 30d}}\n"),
    ],
)
def test_the_plans_workspace_is_not_meant_where_none_of_its_repositories_is_left(
    tmp_path: Path, repos_of_it: str, more: str
) -> None:
    (tmp_path / "none.csv").write_text("repo\n")
    body = f"workspace: w\nrepos: {repos_of_it}\n{more}operations: [count, sync]\n"
    catalog = HEAD + (
        "operations:\n"
        "  count: {event: a/count, for_each: workspace, payload: {c: 1}}\n"
        "  sync: {event: a/sync, for_each: repo, payload: {c: 1}}\n"
    )
    assert built(tmp_path, body, Fake({"repos": []}), catalog).stages == ()


@pytest.mark.parametrize(("parts", "item"), [("left", "a"), ("workspaces", "w")])
def test_a_stage_sees_no_more_of_a_products_parts_than_its_preview(
    tmp_path: Path, parts: str, item: str
) -> None:
    """What lookups add is not in them: they are asked when the product is known."""
    of = {"left": "left", "workspaces": "workspace"}[parts]
    catalog = (HEAD + OWN % "cells").replace("row.x", "row.part.x") + (
        f"  count: {{event: a/count, for_each: {of}, payload: {{c: 1}}}}\n"
        f"lookups: {{more: {FOR_LEFT}}}\n".replace("for: left", f"for: {of}")
    )
    body = f"""\
workspaces: [w]
collections:
  left: [{{name: a, t: 1}}]
  days: {{query: select days, item: "{{{{ row.name }}}}"}}
  cells: {{matrix: {{part: {parts}, day: days}}}}
operations: [sync, count]
"""
    answers = Fake({"days": [{"name": "mon"}], "more": [{"name": item, "x": 7}]})
    known = gather(load(tmp_path, body, catalog), answers, NOW)
    stage = next(one for one in build_execution_plan(known).stages if one.operation == "sync")
    now = stage_as_of_now(gather_again(known, known.operations[0], answers, NOW), stage)
    assert [*now.items.events()] == [*stage.items.events()]
    assert [event.data for _, event in stage.items.events()] == [{"x": 0}]


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("for_each", ["left", "cells"])
def test_what_is_not_queried_keeps_its_items_when_its_stage_starts(
    tmp_path: Path, for_each: str, resumed: bool
) -> None:
    """As it ages, it is still the same: the preview showed all of it."""
    query = '{query: select left, item: "{{ row.name }}"}'
    written = "[{name: a, at: '2026-11-20T00:00:00Z'}, {name: b, at: '2026-01-01T00:00:00Z'}]"
    body = THEIRS.replace(query, written) + "filter: {left: {age: {of: at, newer_than: 30d}}}\n"
    loaded = load(tmp_path, body, HEAD + OWN % for_each)
    known = gather(loaded, Fake({}), NOW)
    (stage,) = build_execution_plan(known).stages
    assert stage.total == 1
    later = NOW + timedelta(days=90)
    if resumed:
        kept = json.loads(json.dumps(to_remember(known)))
        known = gather(remembered(loaded, kept), Fake({}), later)
    now = stage_as_of_now(gather_again(known, known.operations[0], Fake({}), later), stage)
    assert [*now.items.raw()] == [*stage.items.raw()]


def test_a_run_that_goes_on_keeps_the_items_that_it_began_with(tmp_path: Path) -> None:
    loaded = load(tmp_path, SELECT + "operations: [sync]\n")
    kept = to_remember(gather(loaded, Fake({"repos": repos("o/a", pinned=True)}), NOW))
    again = Fake({})
    assert items(build_execution_plan(gather(remembered(loaded, kept), again, NOW))) == ["o/a"]
    assert again.asked == []


def test_only_plans_with_questions_of_their_own_need_a_database(tmp_path: Path) -> None:
    assert asks(load(tmp_path, SELECT + "operations: [sync]\n"))
    assert asks(load(tmp_path, "repos: [o/a]\noperations: [sync]\n", LOOKUP % "true"))
    assert not asks(load(tmp_path, "repos: [o/a]\noperations: [sync]\n"))


def test_the_digest_covers_what_the_database_said_and_nothing_of_this_process(
    tmp_path: Path,
) -> None:
    """Even an answer that changes no event changes the digest."""
    body = SELECT + "operations: [sync]\n"

    def digest(value: int) -> str:
        return built(tmp_path, body, Fake({"repos": repos("o/a", unused=value)})).digest

    assert digest(1) == digest(1) != digest(2)
    code = (
        "import sys; from pathlib import Path; from tests.planning.test_facts import *;"
        "print(built(Path(sys.argv[1]), SELECT + 'operations: [sync]\\n',"
        " Fake({'repos': repos('o/a', unused=1)})).digest)"
    )
    root = Path(__file__).parents[2]
    for seed in ("1", "2"):
        shown = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        assert shown == digest(1)


def test_rows_that_are_asked_by_ids_are_not_asked_where_one_is_missing(tmp_path: Path) -> None:
    catalog = HEAD + (
        "operations: {rows: {event: a/rows, payload: {}, for_each: "
        "{query: 'select rows where id in :ids', item: '{{ row.id }}'}}}\n"
    )
    database = Fake({"rows": [{"id": 1}]})
    body = "repos: [{repo: o/a, id: 1}, %s]\noperations: [rows]\n"
    assert items(built(tmp_path, body % "{repo: o/b, id: 2}", database, catalog)) == ["1"]
    assert database.asked == [("rows", {"ids": [1, 2]})]
    (message,) = said(tmp_path, body % "o/b", database, catalog)
    assert "there is no `id` of `o/b`" in message
    assert len(database.asked) == 1


def test_no_planning_pays_for_what_another_has_used_up(tmp_path: Path) -> None:
    catalog = (LOOKUP % "false").replace("key:", "params: {x: '{{ vars.x + 1 }}'}, key:")
    catalog = catalog.replace("in :keys", "in :keys and x = :x").replace(
        "'none'", "'none' ~ vars.x"
    )
    body = "repos: [o/a]\nvars: {x: 1}\noperations: [sync]\n"
    loaded, database = load(tmp_path, body, catalog), Fake({"ids": []})

    def anew(plan: Callable[[], Any]) -> Any:
        BUDGET.total = -1
        return plan()

    known = anew(lambda: gather(loaded, database, NOW))
    built = anew(lambda: build_execution_plan(known))
    again = anew(lambda: gather_again(known, known.operations[0], database, NOW))
    stage = anew(lambda: stage_as_of_now(again, built.stages[0]))
    assert sent(built) == [("o/a", {"id": "none1"})]
    assert stage == built.stages[0]
    assert [given["x"] for _, given in database.asked] == [2, 2]
