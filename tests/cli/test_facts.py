"""`plan --record` and `--facts`: preview a plan that queries a database where there is none."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Result

Backfill = Callable[..., Result]

PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: stale}
vars: {days: 30}
repos:
  - query: "select repo from stale where age > :days"
    params: {days: "{{ vars.days }}"}
    workspace: w1
operations: [repository-sync]
"""


@pytest.fixture
def database(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has access to the database."""
    with sqlite3.connect(tmp_path / "app.db") as connection:
        connection.execute("create table stale (repo text, age integer, token text)")
        rows = [("o/a", 10), ("o/b", 40), ("o/c", 50)]
        connection.executemany("insert into stale (repo, age) values (?, ?)", rows)
    connection.close()
    return {"BACKFILL_DATABASE_URL": f"sqlite:///{tmp_path / 'app.db'}"}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN, encoding="utf-8")
    return path


@pytest.fixture
def facts(backfill: Backfill, plan: Path, database: dict[str, str], tmp_path: Path) -> Path:
    path = tmp_path / "facts.json"
    done = backfill("plan", plan, "--record", path, env=database)
    assert (done.status, "1 answer in " in done.err) == (0, True)
    return path


def edited(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def test_facts_give_the_events_that_the_database_gives_byte_for_byte(
    backfill: Backfill, plan: Path, database: dict[str, str], facts: Path
) -> None:
    asked = backfill("plan", plan, "--format", "jsonl", env=database)
    answered = backfill("plan", plan, "--format", "jsonl", "--facts", facts)
    assert answered.out == asked.out
    assert answered.out.count("\n") == 2
    by_each = [
        json.loads(backfill("plan", plan, "--format", "json", *one, env=environment).out)
        for one, environment in (((), database), (("--facts", facts), {}))
    ]
    at = by_each[1].pop("facts_recorded_at")
    assert at == json.loads(facts.read_bytes())["recorded_at"]
    assert by_each[0] == by_each[1]


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_a_preview_says_of_what_day_its_answers_are(
    backfill: Backfill, plan: Path, facts: Path, form: str
) -> None:
    edited(facts, lambda value: value.update(recorded_at="2026-11-01T12:00:00+02:00"))
    shown = backfill("plan", plan, "--facts", facts, "--format", form)
    assert "from answers of 2026-11-01 10:00:00 UTC" in shown.out


def test_what_the_facts_do_not_answer_is_refused_at_its_place(
    backfill: Backfill, plan: Path, facts: Path
) -> None:
    for arguments in (["plan", plan], ["validate", plan], ["diff", plan, plan]):
        done = backfill(*arguments, "--facts", facts, "--var", "days=20")
        assert done.status == 3
        said = done.out + done.err
        assert "plan.yaml:6:12: error: repositories: the facts have no answer to this" in said
        assert "--record" in said


def test_validate_checks_the_events_that_facts_give(
    backfill: Backfill, plan: Path, facts: Path
) -> None:
    edited(facts, lambda value: value["answers"][0]["rows"].append(["no repository"]))
    done = backfill("validate", plan, "--facts", facts)
    assert done.status == 3
    assert "no repository" in done.out


@pytest.mark.parametrize("column", ["token", "note"])
def test_an_answer_with_a_key_is_not_written_down(
    backfill: Backfill, plan: Path, database: dict[str, str], tmp_path: Path, column: str
) -> None:
    key = "s3kr1tS3kr1tS3kr1t" if column == "token" else "ghp_" + "a1B2" * 9
    with sqlite3.connect(tmp_path / "app.db") as connection:
        connection.execute("update stale set token = ?", (key,))
    connection.close()
    wanted = PLAN.replace("select repo from", f"select repo, token as {column} from")
    plan.write_text(wanted, encoding="utf-8")
    done = backfill("plan", plan, "--record", tmp_path / "f.json", env=database)
    assert done.status == 4
    assert f"column `{column}` of this query looks like a key or token" in done.err
    assert key not in done.err
    assert not (tmp_path / "f.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("recorded_at"),
        lambda value: value.update(recorded_at="yesterday"),
        lambda value: value.update(recorded_at="2026-11-01T12:00:00"),
        lambda value: value.update(recorded_at="9999-12-31T23:59:59-14:00"),
        lambda value: value.update(kind="SavedPlan"),
        lambda value: value["answers"][0]["rows"].append(["o/d", 1]),
        lambda value: value["answers"][0].update(columns="repo"),
    ],
)
def test_another_file_is_refused(
    backfill: Backfill, plan: Path, facts: Path, change: Callable[[Any], object]
) -> None:
    edited(facts, change)
    done = backfill("plan", plan, "--facts", facts)
    assert done.status == 3
    assert "facts.json" in done.err
    assert "this is not a facts file" in done.err


def test_facts_are_for_previews_only(
    backfill: Backfill, plan: Path, database: dict[str, str], facts: Path, tmp_path: Path
) -> None:
    for option in ("--out", "--record"):
        done = backfill("plan", plan, "--facts", facts, option, tmp_path / "x.json")
        assert done.status == 2
    saved = tmp_path / "saved.json"
    assert backfill("plan", plan, "--out", saved, env=database).status == 0
    done = backfill("plan", saved, "--facts", facts)
    assert (done.status, "--facts does nothing for a saved plan" in done.err) == (2, True)
    bare = (
        PLAN.partition("repos:")[0] + "repos: [o/a]\nworkspace: w\noperations: [repository-sync]\n"
    )
    plan.write_text(bare, encoding="utf-8")
    assert "--facts has no effect" in backfill("plan", plan, "--facts", facts).err
