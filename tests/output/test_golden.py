"""The whole output for reviewers and machines: a change to these files is a change for them.

`BACKFILL_TEST_GOLDEN=write pytest tests/output/test_golden.py` rewrites them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runner.errors import InvalidPlan
from runner.model import Problem, Verdict
from runner.output.problems import sarif
from runner.output.review import (
    difference_markdown,
    reviews_markdown,
    write_difference,
    write_reviews,
)
from runner.planning.compare import Review, compare, review
from runner.spec.load import load_plan
from tests.support import make_plan

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = Path(__file__).parents[1] / "examples" / "invalid"
BASE = "repos: [o/r0, o/r1, o/r2]\noperations: [sync, embed]\nbatch_size: 2\ndelay: 5s\n"


def held(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("BACKFILL_TEST_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.fixture
def reviews(tmp_path: Path) -> list[Review]:
    old = make_plan(tmp_path, BASE)
    new = make_plan(
        tmp_path,
        "repos: [o/r2, {repo: o/r0, skip: [embed]}, o/r3]\noperations: [sync, embed, fire]\n"
        "batch_size: 1\ndelay: 1m\non_failure: continue\n",
    )
    problems = (Problem("`x` is not a repository", "plans/bad.yaml", 1, 9, "repos: [x]", "write"),)
    about = {"name": "test", "owner": "data-platform", "reason": "migration 20261120"}
    gated = make_plan(
        tmp_path,
        BASE + "checks:\n  - {name: done, query: select 1 as n, expect: {column: n, equals: 1},"
        ' each: false, migration: "20261120"}\n',
    )
    verdict = Verdict("small", "advisory", False, "totals.events <= 5", "split it", problems[0])
    owned = replace(
        new,
        metadata=about,
        checks=gated.checks,
        verdicts=(verdict,),
        answered_at="2026-11-01T12:00:00Z",
    )
    changed = review("plans/changed.yaml", old, owned, was="plans/earlier.yaml")
    return [
        replace(changed, target="staging: dev", applied="01JDAAAAAAAAAAAAAAAAAAAAAA"),
        review("plans/added.yaml", None, replace(new, path="plans/added.yaml")),
        review("plans/removed.yaml", old, None),
        review("plans/same.yaml", old, old),
        Review("plans/bad.yaml", "invalid", problems=problems),
    ]


def test_a_review_in_markdown(reviews: list[Review]) -> None:
    held("review.md", reviews_markdown(reviews))


def test_a_review_as_text(reviews: list[Review]) -> None:
    out = io.StringIO()
    write_reviews(reviews, out, color=False)
    held("review.txt", out.getvalue())


def test_a_diff(reviews: list[Review]) -> None:
    found = reviews[0].difference
    assert found
    out = io.StringIO()
    write_difference(found, out, color=False)
    held("diff.txt", out.getvalue())
    held("diff.md", difference_markdown(found, "main:plans/changed.yaml", "plans/changed.yaml"))


def test_names_that_would_be_markup_are_text_in_a_diff(tmp_path: Path) -> None:
    catalog = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: workspace, payload: {id: "{{ workspace.id }}"}}
"""
    names = "['a', '<img src=x> @me #1 `x` |', '</details>']"
    old, new = (
        make_plan(tmp_path, f"workspaces: {names}\noperations: [sync]\n", catalog=catalog)
        for names in ("[a]", names)
    )
    held("hostile.md", reviews_markdown([review("plans/`<b>.yaml", old, new)]))
    assert compare(old, new).changes


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    found: list[Problem] = []
    with contextlib.chdir(EXAMPLES):
        for path in sorted(Path().glob("*.yaml")):
            try:
                load_plan(str(path))
            except InvalidPlan as error:
                found += [replace(one, path=Path(one.path).name) for one in error.problems]
    return found


def test_sarif_is_of_its_form(problems: list[Problem]) -> None:
    """Validated by our own schema for the part of SARIF that we write: no package has the whole."""
    schema: Any = json.loads((GOLDEN / "sarif.schema.json").read_text("utf-8"))
    log: Any = sarif(problems)
    assert len(log["runs"][0]["results"]) > 100
    jsonschema.Draft7Validator(schema).validate(log)
    rules = [rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]]
    assert all(rules[one["ruleIndex"]] == one["ruleId"] for one in log["runs"][0]["results"])


def test_sarif(problems: list[Problem]) -> None:
    few = [one for one in problems if one.path.startswith(("several-faults", "schema-names"))]
    held("problems.sarif", json.dumps(sarif(few), indent=1) + "\n")


def test_sarif_stays_within_what_github_takes(problems: list[Problem]) -> None:
    many = (problems * (30_000 // len(problems) + 1))[:30_000]
    log: Any = sarif(many)
    assert len(log["runs"][0]["results"]) == 25_000
    assert len(json.dumps(log)) < 10_000_000
