"""`backfill test`: a plan's events for given rows, without a database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.app.plan_tests import files_of, run_tests, update_tests
from runner.app.session import Session
from runner.errors import InvalidPlan, UsageError
from tests.cli.conftest import ROOT, Result

PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: stale}
vars: {days: 30}
workspace: w1
catalog: catalog.yaml
repos:
  - {query: "select repo from r where age > :days", params: {days: "{{ vars.days }}"}}
  - {repo: acme/fixed, skip: [other]}
operations: [sync, other]
"""
CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync:
    event: app/sync
    for_each: repo
    payload: {repo: "{{ repo.repo }}", days: "{{ vars.days }}"}
  other: {event: app/other, for_each: repo, payload: {repo: "{{ repo.repo }}"}, after: [sync]}
"""
HEAD = "apiVersion: backfill/v1\nkind: BackfillTest\nplan: stale.yaml\n"
_HEAD = PLAN.partition("vars:")[0] + "catalog: catalog.yaml\n"
X = {"repos": [{"repo": "acme/x"}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stale.yaml").write_text(PLAN, encoding="utf-8")
    (tmp_path / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    return tmp_path


def differences(folder: Path, **test: Any) -> list[str]:
    """Return the differences that a test file with one case has."""
    written = HEAD + yaml.safe_dump(test)
    (folder / "stale.test.yaml").write_text(written, encoding="utf-8")
    with Session(environ={}) as session:
        (tested,) = run_tests(session, files_of([str(folder)]))
    return list(tested.differences)


def lines(*pairs: str) -> list[dict[str, str]]:
    return [dict(zip(("operation", "item"), pair.split(), strict=True)) for pair in pairs]


ALL = lines("sync acme/x", "sync acme/fixed", "other acme/x")


def test_a_case_may_be_of_a_part_of_the_plan(folder: Path) -> None:
    part = {"only": ["sync"], "item": ["acme/*", "!*/fixed"], "given": X}
    assert differences(folder, **part, expect={"events": lines("sync acme/x")}) == []
    with pytest.raises(InvalidPlan) as invalid:
        differences(folder, item=["acme/z"], given=X, expect={"events": []})
    (problem,) = invalid.value.problems
    assert problem.message == "--item acme/z matches no item of the plan"
    written = (folder / "stale.test.yaml").read_text().splitlines()
    assert problem.line == written.index("- acme/z") + 1


@pytest.mark.parametrize(
    ("expect", "wrong"),
    [
        ({"events": ALL}, []),
        ({"events": ALL[:2]}, ["not expected: event other acme/x"]),
        ({"events": [*ALL, *lines("other acme/fixed")]}, ["no event like"]),
        (
            {"events": [ALL[1], ALL[0], ALL[2]]},
            ["not expected: event sync acme/x", "no event like"],
        ),
        ({"events": {"any_order": ALL[::-1]}}, []),
        ({"events": {"any_order": ALL[1:]}}, ["not expected: event sync acme/x"]),
        ({"events": {"some": ALL[2:]}}, []),
        ({"events": {"some": [ALL[0], ALL[0]]}}, ["no event like"]),
        ({"events": {"count": 3}}, []),
        ({"events": {"count": 2, "some": ALL[1:]}}, ["2 events expected, 3 came"]),
        ({"skipped": lines("other acme/fixed")}, []),
        ({"skipped": lines("other acme/x")}, ["no skipped item like"]),
        ({"skipped": {"count": 1}}, []),
        ({"skipped": []}, ["not expected: skipped item other acme/fixed"]),
        ({"skipped": [{"item": "acme/fixed", "reason": "skip"}]}, []),
        ({"problems": [{"severity": "error"}]}, ["no problem like"]),
        ({}, []),
    ],
)
def test_only_what_is_expected_is_compared(
    folder: Path, expect: dict[str, Any], wrong: list[str]
) -> None:
    test = {"given": X} | ({"expect": expect} if expect else {})
    found = differences(folder, **test)
    assert len(found) == len(wrong)
    assert all(part in one for part, one in zip(wrong, found, strict=True))


def test_data_is_compared_whole_and_the_rest_in_part(folder: Path) -> None:
    whole = {"repo": "acme/x", "days": 7}
    for data, holds in ((whole, True), ({"repo": "acme/x"}, False), (whole | {"days": 8}, False)):
        event = {"operation": "sync", "item": "acme/x", "event": {"data": data}}
        found = differences(folder, given=X, vars={"days": 7}, expect={"events": {"some": [event]}})
        assert (found == []) is holds
    wrong = {"operation": "sync", "item": "acme/x", "event": {"data": whole | {"days": 8}}}
    (first, *_) = differences(folder, given=X, vars={"days": 7}, expect={"events": [wrong]})
    assert first.startswith("event sync acme/x: `event.data` is ")


def test_an_error_is_expected_or_fails_the_case(folder: Path) -> None:
    given = {"repos": [{"repo": "nonsense"}]}
    (wrong,) = differences(folder, given=given)
    assert "stale.yaml:8:13: error: " in wrong
    expect = {"problems": [{"severity": "error", "message": "nonsense", "path": "stale.yaml"}]}
    assert differences(folder, given=given, expect=expect) == []
    expect = {"problems": [{"message": "something else"}]}
    assert len(differences(folder, given=given, expect=expect)) == 2


def test_a_query_without_rows_is_no_empty_answer(folder: Path) -> None:
    (wrong,) = differences(folder, expect={"problems": []})
    assert "the test gives no rows for `repos[0]`" in wrong
    expect = {"problems": [{"severity": "error"}]}  # of the plan, and this is one of the test
    missing, wrong = differences(folder, expect=expect)
    assert missing.startswith("no problem like")
    assert "the test gives no rows for `repos[0]`" in wrong
    with Session(environ={}) as session:
        tested = list(run_tests(session, files_of([str(folder)])))
    with pytest.raises(InvalidPlan, match="the test gives no rows") as refused:
        update_tests(tested)
    (lacking,) = refused.value.problems
    written = (folder / "stale.test.yaml").read_text(encoding="utf-8")
    assert "no rows" not in written, "it is not what is expected from now on"
    assert lacking.hint == 'add given: {"repos[0]": [...]} to the test', "valid YAML"


def test_a_facts_file_answers_too(folder: Path) -> None:
    answer = {
        "query": "select repo from r where age > :days",
        "database": None,
        "timezone": None,
        "parameters": {"days": 30},
        "columns": ["repo"],
        "rows": [["acme/x"]],
    }
    facts = {"apiVersion": "backfill/v1", "kind": "BackfillFacts", "answers": [answer]}
    facts["recorded_at"] = "2026-11-01T00:00:00Z"
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    assert differences(folder, given="facts.json", expect={"events": ALL}) == []
    assert len(differences(folder, given="facts.json", vars={"days": 7})) == 1


@pytest.mark.parametrize(
    ("now", "kept"),
    [
        (None, "acme/old"),
        ("2026-01-02T00:00:00Z", None),
        ("2028-01-01T00:00:00Z", "acme/old acme/new"),
    ],
)
@pytest.mark.parametrize("source", ["rows", "facts"])
def test_a_case_with_a_time_of_its_own_is_of_that_time(
    folder: Path, source: str, now: str | None, kept: str | None
) -> None:
    query = "select repo, at from r"
    (folder / "stale.yaml").write_text(
        f"{_HEAD}operations: [other]\n"
        f"repos: [{{query: '{query}'}}]\nfilter: {{age: {{of: at, older_than: 30d}}}}\n"
    )
    columns, rows = ["repo", "at"], [["acme/old", "2026-01-01"], ["acme/new", "2026-10-30"]]
    answer: dict[str, Any] = {"query": query, "database": None, "timezone": None, "parameters": {}}
    facts: dict[str, Any] = {"apiVersion": "backfill/v1", "kind": "BackfillFacts"}
    facts |= {"recorded_at": "2026-11-01T00:00:00Z", "answers": [answer]}
    answer |= {"columns": columns, "rows": rows}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    given = {"repos": [dict(zip(columns, row, strict=True)) for row in rows]}
    if source == "rows" and now is None:
        now = "2026-11-01T00:00:00Z"
    written = {"given": "facts.json" if source == "facts" else given} | (
        {"now": now} if now else {}
    )
    expected = [{"item": item} for item in (kept or "").split()]
    assert differences(folder, **written, expect={"events": expected}) == []


_LOOKUP = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync:
    event: app/sync
    for_each: repo
    lookups: [stars]
    payload: {repo: "{{ repo.repo }}", stars: "{{ repo.stars }}"}
lookups: {stars: {key: repo, query: QUERY}}
"""


@pytest.mark.parametrize(
    "query",
    [
        "'select repo, stars from s'",
        "'select \"repo\", sum(n) as stars from s'",
        "{table: s, columns: [repo, n as stars]}",
    ],
)
def test_an_answer_without_rows_has_the_columns_that_its_query_names(
    folder: Path, query: str
) -> None:
    (folder / "catalog.yaml").write_text(_LOOKUP.replace("QUERY", query), encoding="utf-8")
    (folder / "stale.yaml").write_text(f"{_HEAD}repos: [a/b]\noperations: [sync]\n")
    expect = {"events": [{"event": {"data": {"repo": "a/b"}}}]}
    assert differences(folder, given={"stars": []}, expect=expect) == []


@pytest.mark.parametrize("text", ["{}", "no JSON", ""])
def test_what_is_no_facts_file_is_no_error_that_a_case_may_expect(folder: Path, text: str) -> None:
    (folder / "facts.json").write_text(text, encoding="utf-8")
    expect = {"problems": [{"severity": "error"}]}
    with pytest.raises(InvalidPlan) as invalid:
        differences(folder, given="facts.json", expect=expect)
    (problem,) = invalid.value.problems
    assert problem.path.endswith("stale.test.yaml")
    assert "facts.json: this is not a facts file" in problem.message


@pytest.mark.parametrize(
    "more",
    [
        "checks: [{name: NAME, query: 'select n from c', expect: {column: n, at_least: 1}}]\n",
        "coverage: {NAME: {query: 'select 1 as item, 1 as total, 1 as done'}}\n",
    ],
)
@pytest.mark.parametrize("name", ["stars", "odd"])
def test_a_check_may_have_the_name_of_what_a_test_gives(folder: Path, name: str, more: str) -> None:
    catalog = _LOOKUP.replace("QUERY", "'select repo, stars from s'")
    (folder / "catalog.yaml").write_text(catalog)
    written = f"{_HEAD}repos: [a/b]\n{ODD}operations: [sync]\n" + more.replace("NAME", name)
    (folder / "stale.yaml").write_text(written)
    given = {"stars": [{"repo": "a/b", "stars": 3}], "odd": []}
    expect = {"events": [{"event": {"data": {"repo": "a/b", "stars": 3}}}]}
    assert differences(folder, given=given, expect=expect) == []


def test_a_lookup_with_the_name_of_a_collection_has_no_rows_of_its_own(folder: Path) -> None:
    catalog = _LOOKUP.replace("QUERY", "'select repo, stars from s'").replace("stars", "odd")
    (folder / "catalog.yaml").write_text(catalog)
    (folder / "stale.yaml").write_text(f"{_HEAD}repos: [a/b]\n{ODD}operations: [sync]\n")
    with pytest.raises(InvalidPlan) as invalid:
        differences(folder, given={"odd": []})
    (problem,) = invalid.value.problems
    assert problem.hint == "rename one of them in the plan"


@pytest.mark.parametrize("star", ["*", "s.*"])
def test_a_query_that_does_not_name_its_columns_may_give_no_rows(folder: Path, star: str) -> None:
    catalog = _LOOKUP.replace("QUERY", f"'select {star} from s'")
    catalog = catalog.replace(', stars: "{{ repo.stars }}"', "")
    (folder / "catalog.yaml").write_text(catalog, encoding="utf-8")
    (folder / "stale.yaml").write_text(f"{_HEAD}repos: [a/b]\noperations: [sync]\n")
    assert differences(folder, given={"stars": []}, expect={"events": {"count": 1}}) == []


def test_an_empty_answer_of_a_query_without_the_lookups_key_is_a_fault(folder: Path) -> None:
    catalog = _LOOKUP.replace("QUERY", "'select name, stars from s'")
    (folder / "catalog.yaml").write_text(catalog, encoding="utf-8")
    (folder / "stale.yaml").write_text(f"{_HEAD}repos: [a/b]\noperations: [sync]\n")
    (wrong,) = differences(folder, given={"stars": []}, expect={"problems": []})
    assert "gives no column `repo`, its key" in wrong


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("given: {repoz: []}\n", "no query of the plan asks for `repoz`"),
        ("given: {'repos[1]': []}\n", "no query of the plan asks for `repos[1]`"),
        ("given: none.json\n", "none.json cannot be read"),
        ("given: ../../etc/passwd\n", "cannot be read"),
        ("expect: {evnts: []}\n", "unknown key `evnts`"),
        ("expect: {events: {some: []}}\n", "`some` is empty"),
        ("cases: [{name: a}, {name: a}]\n", "there is a case `a` already"),
        ("cases: [{given: {}}]\n", "`name` is missing"),
        ("now: yesterday\n", "not a time with a time zone"),
        ("now: '2026-11-01T00:00:00'\n", "not a time with a time zone"),
    ],
)
def test_a_file_that_is_no_test_of_its_plan_is_refused_at_its_place(
    folder: Path, text: str, words: str
) -> None:
    (folder / "stale.test.yaml").write_text(HEAD + text, encoding="utf-8")
    with Session(environ={}) as session, pytest.raises(InvalidPlan) as caught:
        list(run_tests(session, files_of([str(folder)])))
    (problem,) = caught.value.problems
    assert words in problem.message
    assert problem.line == 4


TWO = "[{query: select a, workspace: w}, {query: select b, workspace: w, max_rows: 2}]"
ODD = "collections: {odd: {query: select c, item: '{{ row.id }}'}}\n"


@pytest.mark.parametrize(
    ("repos", "given", "message", "hint"),
    [
        (TWO, "repoz", "no query of the plan asks for `repoz`", "did you mean `repos`?"),
        (TWO, "repos", "several queries give `repos`", "name one: repos[0], repos[1]"),
        ("[acme/x]", "zzz", "no query of the plan asks for `zzz`",
         "its queries ask for: none"),
        ("[acme/x]\n" + ODD, "zzz", "no query of the plan asks for `zzz`",
         "its queries ask for: odd"),
    ],
)  # fmt: skip
def test_rows_that_no_query_asks_for_are_refused_with_those_that_are(
    folder: Path, repos: str, given: str, message: str, hint: str
) -> None:
    head, _, _ = PLAN.partition("repos:")
    plan = f"{head}repos: {repos}\noperations: [{'sync, odd' if 'odd' in repos else 'sync'}]\n"
    (folder / "stale.yaml").write_text(plan, encoding="utf-8")
    catalog = f"{CATALOG}  odd: {{event: app/odd, for_each: odd, payload: {{}}}}\n"
    (folder / "catalog.yaml").write_text(catalog, encoding="utf-8")
    with pytest.raises(InvalidPlan) as invalid:
        differences(folder, given={given: []})
    (problem,) = invalid.value.problems
    assert (problem.message, problem.hint, problem.column) == (message, hint, 3)


def test_each_query_has_its_own_rows_and_no_more_than_it_takes(folder: Path) -> None:
    (folder / "stale.yaml").write_text(
        PLAN.partition("repos:")[0] + f"repos: {TWO}\noperations: [sync]\n", encoding="utf-8"
    )
    a, b = [{"repo": "acme/a"}], [{"repo": f"acme/b{number}"} for number in range(3)]
    expect = {"events": lines("sync acme/a", "sync acme/b0", "sync acme/b1")}
    assert differences(folder, given={"repos[0]": a, "repos[1]": b[:2]}, expect=expect) == []
    (wrong, *_) = differences(folder, given={"repos[0]": a, "repos[1]": b}, expect={"problems": []})
    assert "it gives more than 2 rows" in wrong


def test_the_repositories_of_workspaces_are_given_with_their_workspaces(folder: Path) -> None:
    catalog = f"{CATALOG}workspace_repos: {{query: 'select w where w = :workspace'}}\n"
    (folder / "catalog.yaml").write_text(catalog, encoding="utf-8")
    (folder / "stale.yaml").write_text(
        PLAN.partition("repos:")[0] + "repos: [{workspace: w2}]\noperations: [sync]\n",
        encoding="utf-8",
    )
    rows = [{"workspace": one, "repo": f"acme/{one}"} for one in ("w1", "w2")]
    expect = {"events": lines("sync acme/w2")}
    assert differences(folder, given={"workspace_repos": rows}, expect=expect) == []


def test_a_plan_that_is_not_there_is_named(folder: Path) -> None:
    text = HEAD.replace("stale.yaml", "gone.yaml")
    (folder / "stale.test.yaml").write_text(text, encoding="utf-8")
    with Session(environ={}) as session, pytest.raises(InvalidPlan) as caught:
        list(run_tests(session, files_of([str(folder)])))
    assert f"there is no plan {folder / 'gone.yaml'}" in caught.value.problems[0].message


def test_no_test_at_all_is_no_success(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no \*\.test\.yaml in"):
        files_of([str(folder)])


def test_a_test_that_is_named_in_several_ways_is_one(folder: Path) -> None:
    path = folder / "a.test.yaml"
    path.write_text(HEAD, encoding="utf-8")
    found = files_of([str(folder), str(path), f"{folder}/../{folder.name}/a.test.yaml"])
    assert found == [str(path)]


CASES = """\
given:
  repos: [{repo: acme/x}]   # as it was
expect: {events: {count: 3}}
cases:
  - name: as-above
  - {name: of-two, given: {repos: [{repo: acme/x}, {repo: acme/y}]}}
  # what is written stays
  - name: its-own
    expect:
      events:
        - {operation: sync, item: acme/z}
      skipped: []
"""


def test_a_case_goes_over_what_stands_above_it_and_update_writes_what_came(folder: Path) -> None:
    path = folder / "stale.test.yaml"
    path.write_text(HEAD + CASES, encoding="utf-8")
    with Session(environ={}) as session:
        tested = list(run_tests(session, [str(path)]))
        assert [bool(one.differences) for one in tested] == [False, True, True]
        assert update_tests(tested) == [str(path)]
        text = path.read_text("utf-8")
        assert not any(one.differences for one in run_tests(session, [str(path)]))
    assert "# as it was" in text
    assert "# what is written stays" in text
    assert "expect: {events: {count: 3}}\ncases:" in text
    cases = yaml.safe_load(text)["cases"]
    assert cases[1]["expect"] == {"events": {"count": 5}}
    assert [one["item"] for one in cases[2]["expect"]["events"]] == [
        "acme/x",
        "acme/fixed",
        "acme/x",
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_update_keeps_the_files_mark_and_its_line_ends(
    folder: Path, end: str, mark: str
) -> None:
    path = folder / "stale.test.yaml"
    one = "given: {repos: [{repo: acme/x}]}\nexpect: {events: [{item: z}]} # as it was\n"
    comma = CASES.replace("{repo: acme/y}]}}", "{repo: acme/y}]},  }")
    for text in (HEAD + CASES, HEAD + one, HEAD + comma):
        path.write_bytes((mark + text.replace("\n", end)).encode())
        with Session(environ={}) as session:
            update_tests(list(run_tests(session, [str(path)])))
            assert not any(one.differences for one in run_tests(session, [str(path)]))
        written = path.read_bytes().decode()
        assert written.startswith(mark + HEAD.replace("\n", end))
        assert "# as it was" in written
        assert set(re.findall("\r\n|\r|\n", written)) == {end}


@pytest.mark.parametrize(
    ("cases", "line"),
    [
        ("- {name: a, only: [sync], expect: &x {events: {count: 3}}}\n- {name: b, expect: *x}", 6),
        ("- {name: a, expect: {events: {count: 9}}}\n- name: b\n  ? expect\n  : {events: []}", 9),
        ("- {name: a, expect: {events: &x {count: 9}}}\n- {name: b, expect: {events: *x}}", None),
    ],
)
def test_an_update_that_would_break_the_file_is_refused_where_it_would(
    folder: Path, cases: str, line: int | None
) -> None:
    """An anchor whose alias stays must stay; of two that go, it may go."""
    path = folder / "stale.test.yaml"
    path.write_text(f"{HEAD}given: {{repos: [{{repo: acme/x}}]}}\ncases:\n{cases}\n", "utf-8")
    before = path.read_bytes()
    with Session(environ={}) as session:
        tested = list(run_tests(session, [str(path)]))
        assert any(one.differences for one in tested)
        if line is None:
            update_tests(tested)
            assert not any(one.differences for one in run_tests(session, [str(path)]))
            return
        with pytest.raises(InvalidPlan) as caught:
            update_tests(tested)
    assert [one.line for one in caught.value.problems] == [line]
    assert path.read_bytes() == before


def test_the_exit_status_says_how_it_went(
    backfill: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    path = folder / "deep" / "er" / "stale.test.yaml"
    path.parent.mkdir(parents=True)
    (folder / ".git").mkdir()  # one repository holds the plan and the test
    text = HEAD.replace("stale.yaml", "../../stale.yaml") + "given: {repos: [{repo: acme/x}]}\n"
    for expect, status in (("{events: {count: 3}}", 0), ("{events: {count: 9}}", 1), ("3", 3)):
        path.write_text(f"{text}expect: {expect}\n", encoding="utf-8")
        assert backfill("test").status == status
    path.write_text(f"{text}expect: {{events: {{count: 9}}}}\n", encoding="utf-8")
    junit = backfill("test", "--format", "junit")
    assert (junit.status, 'failures="1"' in junit.out) == (1, True)
    found = json.loads(backfill("test", "--format", "json").out)
    assert (found["ok"], found["cases"][0]["case"]) == (False, "stale")
    assert "9 events expected, 3 came" in backfill("test", "--format", "github").out
    assert backfill("test", "--update").status == 0
    assert backfill("test").status == 0
    assert backfill("validate", "deep/er").status == 2  # a test file is no plan


def test_the_shipped_plans_hold_their_tests() -> None:
    with Session(environ={}) as session:
        tested = list(run_tests(session, files_of([str(ROOT / "plans")])))
    assert {Path(one.file).parent.name for one in tested} >= {"plans", "contributor-info"}
    assert [one.differences for one in tested if one.differences] == []
