"""Each JSON document that a command prints has a published schema, which allows no other keys."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runner.spec.schema import DOCUMENTS, published
from tests.cli.conftest import Jobs
from tests.documents import expect_form, schemas
from tests.support import repos, write_plan
from tests.types import Backfill

ROOT = Path(__file__).parents[2]
SYNC = "operations: [sync]\n"


def test_every_document_of_every_command_is_of_its_form(
    backfill: Backfill, tmp_path: Path, url: str, jobs: Jobs
) -> None:
    """Documents of drains, checks, retries, workers and git are validated in their own tests."""
    jobs.failing = {"o/r1"}
    plan = write_plan(tmp_path, repos(3) + SYNC + 'schedule: {cron: "0 3 * * *"}\n')
    (tmp_path / "other").mkdir()
    other = write_plan(tmp_path / "other", repos(2) + SYNC)
    to = ("--target", url)
    invalid = tmp_path / "invalid.yaml"
    invalid.write_text("kind: nothing\n", "utf-8")
    asked = [
        ("plan", plan, "ExecutionPlan"),
        ("plan", plan, other, "ExecutionPlanList"),
        ("runs", "RunList"),
        ("run", plan, *to, "RunSummary"),
        ("retry", "latest", "RunSummary"),
        ("retry", "latest", "--dry-run", "ExecutionPlan"),
        ("status", "RunStatus"),
        ("report", "RunReport"),
        ("report", "--compare-with", plan, "Rehearsal"),
        ("runs", "RunList"),
        ("events", "EventList"),
        ("events", "--item", "nobody/*", "EventList"),
        ("logs", "RunLog"),
        ("apply", plan, "--dry-run", "--all", *to, "Ledger"),
        ("doctor", plan, *to, "Findings"),
        ("diff", plan, other, "PlanDifference"),
        ("validate", plan, "Validation"),
        ("validate", invalid, "Validation"),
        ("operations", "OperationList"),
        ("operations", plan, "OperationList"),
        ("serve", "--list", plan, "ScheduleList"),
    ]
    for *arguments, kind in asked:
        printed = backfill(*arguments, "--format", "json")
        assert expect_form(printed.out) == kind, (arguments, printed)


def test_no_schema_of_a_document_admits_another_key() -> None:
    for name in DOCUMENTS:
        assert list(_open(published(name))) == [], name


def test_the_documentation_names_each_document_and_its_schema() -> None:
    page = (ROOT / "docs/reference/json.md").read_text("utf-8")
    listed = dict(re.findall(r"\| (\w+) \| `([\w-]+)` \|", page))
    assert {kind: f"{name}.v1" for kind, name in listed.items()} == schemas()


@pytest.mark.parametrize("key", ["apiVersion", "kind"])
def test_a_document_names_its_form(key: str) -> None:
    for name in DOCUMENTS:
        assert key in published(name)["required"]


def _open(schema: object, path: str = "") -> list[str]:
    """Find objects with named keys that allow others too; a payload's keys belong to the plan."""
    found = []
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("additionalProperties") is not False:
            found.append(path)
        for key, value in schema.items():
            found += _open(value, f"{path}/{key}")
    if isinstance(schema, list):
        for value in schema:
            found += _open(value, path)
    return found


def test_json_lines_are_the_members_of_the_document(
    backfill: Backfill, tmp_path: Path, url: str
) -> None:
    plan = write_plan(tmp_path, repos(2) + SYNC)
    assert backfill("run", plan, "--target", url).status == 0
    lines = backfill("events", "--format", "jsonl").out.splitlines()
    whole = json.loads(backfill("events", "--format", "json").out)
    assert list(map(json.loads, lines)) == whole["events"]
