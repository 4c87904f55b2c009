"""Filters, orders and skips that change nothing, or less than they seem to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.errors import InvalidPlan
from runner.model import Problem, Table
from runner.planning.estimate import before
from tests.planning.test_collections import Answers, built, plan_of

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: repo, payload: {repo: "{{ repo.repo }}"}}
  embed: {event: app/embed, for_each: workspace, payload: {id: "{{ workspace.id }}"}}
  greet: {event: app/greet, for_each: users, payload: {id: "{{ row.id }}"}}
  fix:
    event: app/fix
    for_each: {query: select id from jobs, item: "{{ row.id }}"}
    payload: {id: "{{ row.id }}", note: "{{ row.note }}"}
  tell:
    event: app/tell
    for_each: users
    group: 2
    payload: {team: "{{ row.team }}", number: "{{ rows | length }}"}
  later: {event: app/later, for_each: users, payload: {}, id: "u-{{ row.id }}", at: "{{ row.at }}"}
"""
JOBS = Table(("id", "note", "rank"), ((1, None, 2), (2, "x", 9), (3, "y", None)))


def warnings(folder: Path, body: str, rule: str) -> list[Problem]:
    plan = built(plan_of(folder, body, catalog=CATALOG), Answers(jobs=JOBS, people=JOBS))
    return [one for one in plan.warnings if one.rule == rule]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("{repo: o/*}", "`filter` keeps all of the repositories"),
        ("{repo: [o/*, '!*/z']}", "`filter`: `!*/z` matches none of the repositories"),
        ("{repo: [o/a, o/c]}", "`filter`: `o/c` matches none of the repositories"),
        ("{users: '*'}", "`filter` keeps all of the items"),
    ],
)
def test_a_filter_that_changes_nothing_is_reported_at_its_place(
    tmp_path: Path, written: str, words: str
) -> None:
    body = "repos: [o/a, o/b]\ncollections: {users: [{id: 1}]}\noperations: [sync, greet]\n"
    (found,) = warnings(tmp_path, f"{body}filter: {written}\n", "filter")
    assert (found.message, found.column) == (words, 10)


@pytest.mark.parametrize("repos", ["", "repos: [{query: select people}]\n"])
@pytest.mark.parametrize("written", ["{repo: '*/a'}", "{age: {of: id, newer_than: 1d}}"])
def test_a_filter_of_repositories_is_reported_where_there_can_be_none(
    tmp_path: Path, written: str, repos: str
) -> None:
    body = f"{repos}collections: {{users: [{{id: 1}}]}}\noperations: [greet]\n"
    plan = plan_of(tmp_path, f"{body}filter: {written}\n", catalog=CATALOG)
    found = [one for one in plan.warnings if one.rule == "filter"]
    assert len(found) == (not repos)
    assert all(one.message.endswith("but the plan has none") for one in found)


@pytest.mark.parametrize("written", ["{repo: '*/a'}", "{users: 'u*'}", "{repo: ['!*/b']}"])
def test_one_that_may_change_something_is_not(tmp_path: Path, written: str) -> None:
    """A query may give other rows tomorrow."""
    users = "users: {query: select id from people, item: 'u{{ row.id }}'}"
    body = f"repos: [o/a, o/b]\ncollections: {{{users}}}\noperations: [sync, greet]\n"
    assert not warnings(tmp_path, f"{body}filter: {written}\n", "filter")


def test_a_skip_that_others_of_the_workspace_overrule_is_reported(tmp_path: Path) -> None:
    repos = [
        "{repo: o/a, workspace: w1, skip: [embed]}",
        "{repo: o/b, workspace: w1}",
        "{repo: o/c, workspace: w2, skip: [embed]}",
    ]
    body = f"repos: [{', '.join(repos)}]\noperations: [sync, embed]\n"
    (found,) = warnings(tmp_path, body, "shared-workspace")
    assert found.message.startswith("a repository skips `embed`, but its workspace runs it anyway")
    assert found.line is not None
    alone = body.replace(", {repo: o/b, workspace: w1}", "")
    assert not warnings(tmp_path, alone, "shared-workspace")


def test_an_operations_own_query_is_ordered_and_its_nulls_are_missing(tmp_path: Path) -> None:
    plan = built(
        plan_of(tmp_path, "operations: [fix]\norder_by: [-rank]\n", catalog=CATALOG),
        Answers(jobs=JOBS),
    )
    sent = [(one.item, one.event.data) for one in plan.planned()]
    assert sent == [("2", {"id": 2, "note": "x"}), ("1", {"id": 1}), ("3", {"id": 3, "note": "y"})]


def test_an_estimate_lasts_until_the_last_event_may_start(tmp_path: Path) -> None:
    users = "[{id: 1, at: '2027-01-01T01:00:00Z'}, {id: 2, at: '2027-01-01T00:00:09Z'}]"
    body = f"collections: {{users: {users}}}\noperations: [later]\n"
    plan = built(plan_of(tmp_path, body, catalog=CATALOG))
    begin = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    found = before(plan, {}, begin + 600)
    assert found.seconds == 3000.0
    assert "`later` goes by the start times of its events" in found.basis
    assert before(plan, {}, begin + 7200).seconds == 0.0


@pytest.mark.parametrize(
    ("teams", "order", "says"),
    [("xyxy", "", True), ("xyxy", "order_by: team\n", False), ("xyy", "", False), ("x", "", False)],
)
def test_groups_of_one_alone_are_reported(
    tmp_path: Path, teams: str, order: str, *, says: bool
) -> None:
    users = ", ".join(f"{{id: u{number}, team: {team}}}" for number, team in enumerate(teams))
    body = f"collections: {{users: [{users}]}}\noperations: [tell]\n{order}"
    found = warnings(tmp_path, body, "group")
    assert bool(found) == says
    assert all(one.path.endswith("catalog.yaml") for one in found)


@pytest.mark.parametrize("written", ["{{ row.team }}", "{{ row['team'] }}"])
def test_no_group_is_of_items_that_differ_in_what_stands_beside_its_rows(
    tmp_path: Path, written: str
) -> None:
    users = ", ".join(f"{{id: u{number}, team: {team}}}" for number, team in enumerate("xxy"))
    use = f'{{use: tell, with: {{team: "{written}: {{{{ rows | length }}}}"}}}}'
    body = f"collections: {{users: [{users}]}}\noperations: [{use}]\n"
    plan = built(plan_of(tmp_path, body, catalog=CATALOG))
    assert [one.event.data["team"] for one in plan.planned()] == ["x: 2", "y: 1"]


@pytest.mark.parametrize(
    "written",
    ["row . team", "(row).team", "row [ 'team' ]", "row['te' ~ 'am']", "([row] | first).team"],
)
def test_however_a_template_reads_the_item_beside_its_rows_it_is_alike_in_a_group(
    tmp_path: Path, written: str
) -> None:
    users = "{id: a, team: x}, {id: b, team: y}"
    use = f'{{use: tell, with: {{team: "{{{{ {written} }}}}: {{{{ rows | length }}}}"}}}}'
    body = f"collections: {{users: [{users}]}}\noperations: [{use}]\n"
    plan = built(plan_of(tmp_path, body, catalog=CATALOG))
    assert [one.event.data["team"] for one in plan.planned()] == ["x: 1", "y: 1"]


def test_the_word_row_in_a_text_keeps_no_items_apart(tmp_path: Path) -> None:
    use = "{use: tell, with: {team: \"each row: {{ rows | length }} {{ 'row' }}\"}}"
    body = f"collections: {{users: [{{id: a}}, {{id: b}}]}}\noperations: [{use}]\n"
    plan = built(plan_of(tmp_path, body, catalog=CATALOG))
    assert [one.event.data["team"] for one in plan.planned()] == ["each row: 2 row"]


def test_a_null_and_a_missing_value_beside_the_rows_are_not_alike(tmp_path: Path) -> None:
    team = "{{ [row.team | default('none'), rows | length] }}"
    users = "{id: a, team: null}, {id: b}, {id: c}"
    use = f'{{use: tell, with: {{team: "{team}"}}}}'
    body = f"collections: {{users: [{users}]}}\noperations: [{use}]\n"
    plan = built(plan_of(tmp_path, body, catalog=CATALOG))
    assert [one.event.data["team"] for one in plan.planned()] == [[None, 1], ["none", 2]]


def test_what_is_left_out_is_no_error_where_another_key_is_one(tmp_path: Path) -> None:
    use = '{use: greet, with: {team: "{{ row.team }}", list: ["{{ row.team }}"]}}'
    body = f"collections: {{users: [{{id: a, team: x}}, {{id: b}}]}}\noperations: [{use}]\n"
    with pytest.raises(InvalidPlan) as refused:
        built(plan_of(tmp_path, body, catalog=CATALOG))
    (problem,) = refused.value.problems
    assert problem.message.startswith("`list` cannot be rendered for b")


@pytest.mark.parametrize("reads", ["{% if row.team == vars.best %}1{% else %}2{% endif %}"])
def test_what_a_statement_of_a_template_reads_is_read(tmp_path: Path, reads: str) -> None:
    use = f'{{use: greet, with: {{who: "{reads}"}}}}'
    body = f"vars: {{best: x}}\ncollections: {{users: [{{id: a, team: x}}]}}\noperations: [{use}]\n"
    for rule in ("unused-attribute", "unused-variable"):
        assert not warnings(tmp_path, body, rule)


@pytest.mark.parametrize(
    ("users", "uses", "named"),
    [
        ("[]", "greet, sync", ["greet"]),
        ("{file: none.csv}", "greet, later, sync", ["greet", "later"]),
        ("{file: none.csv}", "greet", []),  # nothing at all is the warning `empty`
        ("[{id: 1}]", "greet, sync", []),
        (
            "[{id: 1, at: '2020-01-01'}]\nfilter: {users: {age: {of: at, newer_than: 1d}}}",
            "greet, sync",
            [],
        ),
    ],
)
def test_an_operation_without_items_among_others_is_named(
    tmp_path: Path, users: str, uses: str, named: list[str]
) -> None:
    (tmp_path / "none.csv").write_text("id,at\n")
    more, _, rest = users.partition("\n")
    body = f"repos: [o/a]\ncollections: {{users: {more}}}\noperations: [{uses}]\n{rest}\n"
    found = warnings(tmp_path, body, "no-rows")
    assert [one.message.split("`")[1] for one in found] == named


def test_an_item_that_is_called_as_a_group_is_not_taken_for_it(tmp_path: Path) -> None:
    """Otherwise their events would have the same id."""
    users = "{id: a, team: x}, {id: b, team: x}, {id: a +1, team: y}"
    body = f"collections: {{users: [{users}]}}\noperations: [tell]\n"
    plan = built(plan_of(tmp_path, body, catalog=CATALOG))
    assert [one.item for one in plan.planned()] == ["a +1", "a +1 +0"]


@pytest.mark.parametrize("more", ["filter: {users: '!a'}\n", ""])
def test_an_attribute_that_only_an_item_has_which_is_filtered_out_is_missing_and_no_error(
    tmp_path: Path, more: str
) -> None:
    use = '{use: greet, with: {team: "{{ row.team }}"}}'
    users = "{id: a, team: x}, {id: b}"
    body = f"collections: {{users: [{users}]}}\noperations: [{use}]\n{more}"
    plan = built(plan_of(tmp_path, body, catalog=CATALOG))
    assert [one.event.data for one in plan.planned() if one.item == "b"] == [{"id": "b"}]


@pytest.mark.parametrize(
    ("made", "read"),
    [
        ("rows | map(attribute='team') | list", True),
        ("rows | sum(attribute='team')", True),
        ("rows | map(attribute='team.name', default=1) | list", True),
        ("rows[0].team", True),
        ("rows | tojson", True),
        ("rows", True),
        ("[rows | length, rows | list]", True),
        ("rows | length", False),
        ("rows | map(attribute='id') | join(',')", False),
    ],
)
def test_what_is_read_of_the_items_of_a_group_is_read(
    tmp_path: Path, made: str, *, read: bool
) -> None:
    use = f'{{use: tell, without: [team], with: {{number: "{{{{ {made} }}}}"}}}}'
    body = f"collections: {{users: [{{id: a, team: 1}}]}}\noperations: [{use}]\n"
    catalog = CATALOG.replace("row.team", "row.id")
    plan = built(plan_of(tmp_path, body, catalog=catalog))
    assert read != any(one.rule == "unused-attribute" for one in plan.warnings)
