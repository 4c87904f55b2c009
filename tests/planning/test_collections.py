"""A plan's own collections: what each form gives, and that everything works as for repositories."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import InvalidPlan
from runner.model import BackfillPlan, ExecutionPlan, Json, Query, Table
from runner.planning.build import build_execution_plan
from runner.planning.facts import gather
from runner.planning.items import remembered, to_remember
from runner.spec.load import load_plan
from runner.spec.own import windows
from runner.spec.units import Faulty
from tests.support import write_plan

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  greet: {event: users/greet, for_each: users, payload: {row: "{{ row }}"}}
  count: {event: users/count, for_each: users, payload: {id: "{{ row.id }}"}}
  close: {event: users/close, for_each: once, payload: {}}
"""


class Answers:
    """Answers a query that contains the word with these rows."""

    def __init__(self, **tables: Table) -> None:
        self.tables, self.given = tables, dict[str, Json]()

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        self.given |= parameters
        return next(table for word, table in self.tables.items() if word in query.text)


def plan_of(
    folder: Path, body: str, *, catalog: str = CATALOG, replaced: Mapping[str, str] | None = None
) -> BackfillPlan:
    return load_plan(str(write_plan(folder, body, catalog=catalog)), replaced=replaced)


def built(plan: BackfillPlan, database: Answers | None = None) -> ExecutionPlan:
    return build_execution_plan(gather(plan, database or Answers(), NOW))


def sent(folder: Path, body: str, database: Answers | None = None) -> list[tuple[str, Json]]:
    plan = built(plan_of(folder, f"{body}\noperations: [greet]\n"), database)
    return [(one.item, one.event.data["row"]) for one in plan.planned()]


def test_a_list_has_names_or_mappings(tmp_path: Path) -> None:
    body = "collections: {users: [acme, {id: 7, tier: gold}, {name: x, id: 8}, {item: y, id: 9}]}"
    assert sent(tmp_path, body) == [
        ("acme", {"name": "acme"}),
        ("7", {"id": 7, "tier": "gold"}),
        ("x", {"name": "x", "id": 8}),
        ("y", {"item": "y", "id": 9}),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("users.csv", "id,tier\n7,gold\n8,\n"),
        ("users.jsonl", '{"id": 7, "tier": "gold"}\n{"id": 8}\n'),
        ("users.yaml", "- {id: 7, tier: gold}\n- {id: 8}\n"),
    ],
)
def test_a_file_has_any_columns(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    body = f'collections: {{users: {{file: {name}, item: "u{{{{ row.id }}}}"}}}}'
    assert sent(tmp_path, body) == [("u7", {"id": 7, "tier": "gold"}), ("u8", {"id": 8})]


def test_a_query_gives_items_without_its_nulls(tmp_path: Path) -> None:
    body = 'collections: {users: {query: "select id from users", item: "{{ row.id }}"}}'
    answers = Answers(users=Table(("id", "tier"), ((7, "gold"), (8, None))))
    assert sent(tmp_path, body, answers) == [("7", {"id": 7, "tier": "gold"}), ("8", {"id": 8})]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (((7,), (8,), (7,)), "`7` is listed twice (first in another row)"),
        (((7,), (None,)), "the item has no name: row 2 has none of `item`, `name`, `id`"),
        (((7,), ("",)), "the item of row 2 is empty"),
        (((7,), ("a\0",)), "the item of row 2 is text with a zero byte in it"),
    ],
)
def test_an_item_of_a_query_that_is_empty_or_twice_is_an_error(
    tmp_path: Path, rows: tuple[tuple[Json]], words: str
) -> None:
    with pytest.raises(InvalidPlan) as caught:
        sent(
            tmp_path,
            "collections: {users: {query: select id from users}}",
            Answers(users=Table(("id",), rows)),
        )
    assert [problem.message.startswith(words) for problem in caught.value.problems] == [True]
    assert caught.value.problems[0].line


def test_windows_of_one_name_are_rows_of_no_query(tmp_path: Path) -> None:
    dates = '{from: "2026-01-01", to: "2026-01-03", every: 1d}'
    with pytest.raises(InvalidPlan) as caught:
        sent(tmp_path, f"collections: {{users: {{dates: {dates}, item: x}}}}")
    (problem,) = caught.value.problems
    assert problem.message == "`x` is listed twice (first in another row)"
    assert problem.hint == "name its rows apart with `item`, or let each occur once"


def test_a_collection_that_no_plan_defines_is_told_where_to_define_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlan) as caught:
        sent(tmp_path, "repos: [o/r]")
    hints = [problem.hint or "" for problem in caught.value.problems]
    assert any(hint.startswith("define it under `collections` of the plan") for hint in hints)


@pytest.mark.parametrize(
    ("begins", "ends", "every", "expected"),
    [
        ("2026-01-30", "2026-02-02", "1d", ["2026-01-30", "2026-01-31", "2026-02-01"]),
        ("2026-01-01", "2026-01-04", "2d", ["2026-01-01", "2026-01-03"]),
        ("2026-01-01", "2026-01-02", "12h", ["2026-01-01T00:00:00Z", "2026-01-01T12:00:00Z"]),
        ("2026-03-29T01:00:00+02:00", "2026-03-29T00:00:00Z", "1h", ["2026-03-28T23:00:00Z"]),
        ("9999-12-30", "9999-12-31", "3d", ["9999-12-30"]),
        ("0001-01-01", "0001-01-02", "999999999d", ["0001-01-01"]),
    ],
)
def test_windows_are_days_where_they_are_whole_days(
    begins: str, ends: str, every: str, expected: list[str]
) -> None:
    assert [row["from"] for row in windows(begins, ends, every)] == expected


@given(st.datetimes(), st.datetimes(), st.floats(0.3, 2e14))
def test_windows_anywhere_in_the_calendar_come_to_their_end(
    one: datetime, other: datetime, every: float
) -> None:
    """`every` is in microseconds."""
    begins, ends = (f"{time.isoformat()}Z" for time in sorted((one, other)))
    try:
        rows = windows(begins, ends, f"{every / 1e6:.9f}s")
    except Faulty:  # too many windows, or none
        return
    first, last = rows[0], rows[len(rows) - 1]
    assert rows.days or (first["from"], last["to"]) == (begins, ends)
    assert all(row["from"] < row["to"] for row in (first, last))


@pytest.mark.parametrize("begins", ["2026-01-01T00:00:00.5Z", "2026-01-01T00:00:01Z"])
def test_a_part_of_a_day_is_refused_where_windows_are_days(begins: str) -> None:
    with pytest.raises(Faulty, match="is not a whole day"):
        windows(begins, "2026-01-03", "1d")


@pytest.mark.parametrize("begins", [None, "", 0, False, True, [1], {"a": 1}, 1.5])
def test_a_variable_that_is_no_time_makes_no_windows_and_says_so(
    tmp_path: Path, begins: Json
) -> None:
    """A value that Python takes for false is a wrong one, too."""
    dates = '{from: "{{ vars.x }}", to: "2026-01-03", every: 1d}'
    body = f"collections: {{users: {{dates: {dates}}}}}\nvars: {{x: {json.dumps(begins)}}}"
    with pytest.raises(InvalidPlan) as caught:
        sent(tmp_path, body)
    shown = begins if isinstance(begins, str) else json.dumps(begins)
    assert [one.message.partition(";")[0] for one in caught.value.problems] == [
        f"`{shown}` is not a day or a time"
    ]


def test_items_of_a_product_that_have_one_name_can_be_told_apart_as_the_hint_says(
    tmp_path: Path,
) -> None:
    body = """\
collections:
  a: [x, x/y]
  b: [y/z, z]
  users: {matrix: {a: a, b: b}}"""
    with pytest.raises(InvalidPlan) as caught:
        sent(tmp_path, body)
    (problem,) = caught.value.problems
    assert problem.message.startswith("`x/y/z` is listed twice")
    hinted = (problem.hint or "").split("`")[1]
    assert len(sent(tmp_path, body.replace("b: b}}", f"b: b}}, {hinted}}}"))) == 4


@given(st.integers(1, 40), st.integers(1, 9))
def test_windows_follow_each_other_and_the_last_is_cut_at_the_end(days: int, every: int) -> None:
    ends = (date(2026, 1, 1) + timedelta(days=days)).isoformat()
    rows = list(windows("2026-01-01", ends, f"{every}d"))
    assert rows[0]["from"] == "2026-01-01"
    assert rows[-1]["to"] == ends
    assert [one["to"] for one in rows[:-1]] == [one["from"] for one in rows[1:]]
    assert len(rows) == -(-days // every)


def test_a_product_varies_its_first_part_slowest(tmp_path: Path) -> None:
    body = """\
collections:
  tenants: [acme, globex]
  tiers: [{name: gold, rank: 1}]
  days: {dates: {from: "2026-01-01", to: "{{ vars.to }}", every: 1d}}
  users: {matrix: {tenant: tenants, day: days, tier: tiers, repo: repos}}
vars: {to: "2026-01-03"}
repos: [a/b]"""
    rows = sent(tmp_path, body)
    assert [item for item, _ in rows] == [
        "acme/2026-01-01/gold/a/b",
        "acme/2026-01-02/gold/a/b",
        "globex/2026-01-01/gold/a/b",
        "globex/2026-01-02/gold/a/b",
    ]
    assert rows[1][1] == {
        "tenant": "acme",
        "day": {"from": "2026-01-02", "to": "2026-01-03"},
        "tier": {"name": "gold", "rank": 1},
        "repo": {"repo": "a/b", "owner": "a", "name": "b"},
    }


@pytest.mark.parametrize(
    ("users", "payloads"),
    [
        ("[{id: 1, tier: x}, {id: 2}]", [{"id": 1, "tier": "x"}, {"id": 2}]),
        (
            "[{id: 1, tier: x}, {id: 2, tier: null}]",
            [{"id": 1, "tier": "x"}, {"id": 2, "tier": None}],
        ),
        ("[{id: 1, tier: x}, y]", [{"id": 1, "tier": "x"}, {}]),
        ("{file: users.csv}", [{"id": 1, "tier": "x"}, {"id": 2}]),
        ("[{id: 1}, {id: 2}]", "`row.user` has no `tier`"),
        ("[{id: 1, tier: x, z: 3}, {id: 2}]\nfilter: {users: '2'}", [{"id": 2}]),
    ],
)
def test_what_only_other_items_of_a_products_part_have_is_missing_and_no_error(
    tmp_path: Path, users: str, payloads: list[Json] | str
) -> None:
    (tmp_path / "users.csv").write_text("id,tier\n1,x\n2,\n")
    keys = '{id: "{{ row.user.id }}", tier: "{{ row.user.tier }}"}'
    body = f"""\
operations: [{{use: greet, for_each: cells, without: [row], with: {keys}}}]
collections: {{cells: {{matrix: {{user: users, day: days}}}}, days: [d], users: {users}"""
    first, more, rest = body.partition("\nfilter")
    plan = plan_of(tmp_path, f"{first}}}{more}{rest}\n")
    if isinstance(payloads, str):
        with pytest.raises(InvalidPlan) as caught:
            built(plan)
        assert payloads in caught.value.problems[0].message
        return
    assert [one.event.data for one in built(plan).planned()] == payloads


def test_products_of_products_are_only_so_deep(tmp_path: Path) -> None:
    """Their rows are nested as deep, and no event holds values that are nested deeper."""
    for deep in (60, 65):
        chain = "".join(f"  m{n}: {{matrix: {{a: m{n - 1}}}}}\n" for n in range(1, deep))
        body = f"collections:\n  m0: [x]\n{chain}  users: {{matrix: {{a: m{deep - 1}}}}}"
        if deep == 60:
            assert [item for item, _ in sent(tmp_path, body)] == ["x"]
            continue
        with pytest.raises(InvalidPlan) as caught:
            sent(tmp_path, body)
        assert [one.message for one in caught.value.problems] == [
            "the product is one of products, more than 64 levels deep"
        ]


def test_a_product_follows_what_its_parts_are_asked_and_filtered(tmp_path: Path) -> None:
    body = """\
collections:
  users: {matrix: {a: asked, b: others}}
  asked: {query: select id from users}
  others: [x, y]
filter: {others: "x*"}"""
    answers = Answers(users=Table(("id",), ((1,), (2,))))
    assert [item for item, _ in sent(tmp_path, body, answers)] == ["1/x", "2/x"]


@pytest.mark.parametrize(
    ("said", "skips"),
    [("greet", True), ("count; greet", True), ("count", False), ("", False), (["greet"], True)],
)
def test_a_queried_row_says_what_it_skips_as_a_cell_does(
    tmp_path: Path, said: Json, *, skips: bool
) -> None:
    body = "collections:\n  users: {query: select id from users}\noperations: [greet, count]\n"
    answers = Answers(users=Table(("id", "skip"), ((1, said), (2, None))))
    plan = built(plan_of(tmp_path, body), answers)
    assert [one.item for one in plan.planned() if one.operation == "greet"] == ["1", "2"][skips:]


@pytest.mark.parametrize("said", ['["greet"]', "greet,count", True, 1])
def test_a_queried_row_that_says_it_otherwise_is_refused(tmp_path: Path, said: Json) -> None:
    body = "collections:\n  users: {query: select id from users}\noperations: [greet, count]\n"
    with pytest.raises(InvalidPlan) as caught:
        built(plan_of(tmp_path, body), Answers(users=Table(("id", "skip"), ((1, said),))))
    assert "expected a list of operations" in caught.value.problems[0].message


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("skip: [greet]", "b"),
        ("only: [count]", "b"),
        ("skip: [count]", "ab"),
        ("only: [greet]", "ab"),
    ],
)
@pytest.mark.parametrize("of", ["repos", "inner"])
def test_what_an_item_skips_is_skipped_for_what_is_made_of_it(
    tmp_path: Path, said: str, kept: str, of: str
) -> None:
    body = f"""\
collections:
  inner: {{matrix: {{repo: repos}}}}
  days: [x, y]
  users: {{matrix: {{of: {of}, day: days}}}}
repos: [{{repo: o/a, {said}}}, o/b]
operations: [greet, {{use: count, for_each: repo, without: [id]}}]
"""
    plan = built(plan_of(tmp_path, body))
    events = [one.item for one in plan.planned() if one.operation == "greet"]
    assert events == [f"o/{name}/{day}" for name in kept for day in "xy"]
    skipped = [one.item for one in plan.skipped if one.operation == "greet"]
    assert skipped == ([] if "a" in kept else ["o/a/x", "o/a/y"])
    assert not [one for one in plan.warnings if one.rule == "unused-attribute"]


def test_order_priority_skip_and_filter_work_on_any_collection(tmp_path: Path) -> None:
    body = """\
collections:
  users:
    - {id: a, rank: 1}
    - {id: b, rank: 3, skip: [greet]}
    - {id: c, rank: 2, priority: high}
    - {id: d, rank: 9, seen: "2026-01-01"}
    - {id: e, rank: 9}
order_by: [priority, -rank]
filter: {users: ["*", "!e"]}
operations: [greet, count]
"""
    plan = built(plan_of(tmp_path, body))
    assert [(one.operation, one.item) for one in plan.planned()] == [
        *(("greet", item) for item in "cda"),
        *(("count", item) for item in "cdba"),
    ]
    assert {(one.operation, one.item, one.reason) for one in plan.skipped} == {
        ("greet", "b", "skipped by the item"),
        ("greet", "e", "skipped by `filter`"),
        ("count", "e", "skipped by `filter`"),
    }


def test_lookups_checks_and_coverage_are_about_a_collections_items(tmp_path: Path) -> None:
    body = """\
collections:
  users: [{id: 7}, {id: 8, skip: [greet, count]}, {id: 9}]
lookups: {tier: {for: users, key: id, query: "select id, tier from tiers where id in :keys"}}
filter: {users: {age: {of: seen, older_than: 1d}}}
checks:
  - name: greeted
    after: greet
    query: select id as item, n from greeted where id in :users
    expect: {column: n, at_least: 1}
coverage: {all: {query: "select id as item, 1 as total, 1 as done from u where id in :users"}}
operations: [greet, count, close]
"""
    seen = "2026-01-01"
    rows = tuple((id_, "gold", seen) for id_ in (7, 8, 9))
    answers = Answers(tiers=Table(("id", "tier", "seen"), rows))
    plan = built(plan_of(tmp_path, body), answers)
    assert answers.given["keys"] == [7, 8, 9]
    assert [one.event.data["row"]["tier"] for one in plan.stages[0].planned()] == ["gold", "gold"]
    (check,) = plan.checks
    assert (check.question.of, check.question.key) == ("users", "item")
    assert check.question.items == ("7", "9")
    assert check.question.parameters["users"] == ["7", "9"]
    assert plan.coverage[0].question.items == ("7", "9")


@pytest.mark.parametrize("found", ["item", "name", "label"])
@pytest.mark.parametrize(
    "written",
    [
        "[{id: 7}, {id: 8}]",
        '{query: "select people"}',
        "{file: users.csv}",
        '{file: users.csv, item: "{{ row.label | default(row.id) }}"}',
    ],
)
def test_an_item_is_called_by_what_is_written_whatever_lookups_find(
    tmp_path: Path, written: str, found: str
) -> None:
    """Two people with one name are two items, and their events have different ids."""
    (tmp_path / "users.csv").write_text("id\n7\n8\n")
    body = f"""\
collections: {{users: {written}}}
lookups: {{l: {{for: users, key: id, query: "select names where id in :keys"}}}}
operations: [greet, count]
"""
    names = Table(("id", found), ((7, "Bob"), (8, "Bob")))
    answers = Answers(names=names, people=Table(("id",), ((7,), (8,))))
    plan = built(plan_of(tmp_path, body), answers)
    assert [one.item for one in plan.planned()] == ["7", "8", "7", "8"]
    assert [one.event.data["row"] for one in plan.stages[0].planned()] == [
        {found: "Bob", "id": 7},
        {found: "Bob", "id": 8},
    ]


@pytest.mark.parametrize(
    ("key", "answered", "fits"),
    [
        ("7", 7, True),
        ("'7'", 7, True),
        ("7", "7", True),
        ("7.0", 7, True),
        ("'07'", 7, False),
        ("true", True, True),
        ("true", 1, False),
        ("1", True, False),
        ("null", None, False),
    ],
)
def test_a_row_is_found_by_its_key_in_text(
    tmp_path: Path, key: str, answered: Json, fits: bool
) -> None:
    """A database may answer a text key with a number; true is not 1, and NULL matches nothing."""
    body = f"""\
collections: {{users: [{{id: x, key: {key}}}]}}
lookups: {{l: {{for: users, key: key, query: "select tiers where key in :keys"}}}}
"""
    answers = Answers(tiers=Table(("key", "tier"), ((answered, "gold"),)))
    ((_, row),) = sent(tmp_path, body, answers)
    assert row.get("tier") == ("gold" if fits else None)


def test_a_plan_says_what_an_operation_runs_for(tmp_path: Path) -> None:
    body = """\
collections: {users: [a], others: [b]}
operations: [greet, {use: count, for_each: others, with: {id: "{{ row.name }}"}}]
"""
    plan = built(plan_of(tmp_path, body))
    assert [(one.for_each, next(iter(one.planned())).item) for one in plan.stages] == [
        ("users", "a"),
        ("others", "b"),
    ]


def test_a_file_goes_in_place_of_a_collection_and_is_pinned(tmp_path: Path) -> None:
    body = "collections: {users: [a, b]}\nrepos: [o/r]\noperations: [greet]\n"
    given_rows = tmp_path / "given"
    digests = set()
    for text in ('{"id": 1}\n', "id\n1\n", "id\n2\n"):
        given_rows.write_text(text)
        plan = plan_of(tmp_path, body, replaced={"users": str(given_rows)})
        execution_plan = built(plan)
        digests.add(execution_plan.digest)
        (event,) = execution_plan.planned()
        assert event.item in text
    assert len(digests) == 3
    with pytest.raises(InvalidPlan) as caught:
        plan_of(tmp_path, body, replaced={"user": str(given_rows)})
    assert "no collection `user`" in caught.value.problems[0].message


@pytest.mark.parametrize(
    "written",
    [
        "[a, b]",
        "{file: users.csv}",
        '{query: "select people"}',
        '{dates: {from: "2026-01-01", to: "2026-01-03", every: 1d}}',
        "{matrix: {a: others, b: others}}",
    ],
)
def test_a_collection_of_any_form_is_replaced_or_that_is_refused(
    tmp_path: Path, written: str
) -> None:
    (tmp_path / "users.csv").write_text("id\na\nb\n")
    (tmp_path / "given").write_text("id,from\n1,x\n")
    body = f"collections: {{users: {written}, others: [c]}}\noperations: [greet]\n"
    replaced = {"users": str(tmp_path / "given")}
    if "matrix" not in written:
        (event,) = built(plan_of(tmp_path, body, replaced=replaced)).planned()
        assert event.event.data["row"] == {"id": 1, "from": "x"}
        return
    with pytest.raises(InvalidPlan) as caught:
        plan_of(tmp_path, body, replaced=replaced)
    assert "`users` is a product" in caught.value.problems[0].message


def test_a_run_goes_on_with_the_items_that_a_file_gave(tmp_path: Path) -> None:
    (tmp_path / "given.csv").write_text("id\n1\n2\n")
    body = "collections: {users: [a]}\noperations: [{use: greet, resolve: stage}]\n"
    plan = gather(
        plan_of(tmp_path, body, replaced={"users": f"{tmp_path}/given.csv"}), Answers(), NOW
    )
    again = gather(remembered(plan_of(tmp_path, body), to_remember(plan)), Answers(), NOW)
    items = [one.item for one in build_execution_plan(again).planned()]
    assert items == ["1", "2"]


@pytest.mark.parametrize("written", ["", "repos: []\n", "repos: [o/a]\n"])
def test_a_file_without_repositories_does_not_mean_the_plans_workspace(
    tmp_path: Path, written: str
) -> None:
    (tmp_path / "given.csv").write_text("repo\n")
    body = f"workspace: w\n{written}operations: [count]\n"
    count = "{event: a/count, for_each: workspace, resolve: stage, payload: {}}"
    catalog = f"apiVersion: backfill/v1\nkind: OperationCatalog\noperations: {{count: {count}}}\n"
    replaced = {"repos": f"{tmp_path}/given.csv"}
    plan = gather(plan_of(tmp_path, body, catalog=catalog, replaced=replaced), Answers(), NOW)
    known = remembered(plan_of(tmp_path, body, catalog=catalog), to_remember(plan))
    for one in (plan, gather(known, Answers(), NOW)):
        assert build_execution_plan(one).events == 0
