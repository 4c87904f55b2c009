"""Environments of the project file tie a target to its database, variables and keys."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.app.session import Session
from runner.errors import PreflightRefused, UsageError
from tests.cli.conftest import Result, served

Backfill = Callable[..., Result]

PROJECT = """\
apiVersion: backfill/v1
kind: BackfillProject
default_environment: staging
environments:
  staging: {target: dev, database: STAGING_URL, event_key: STAGING_KEY, vars: {days: 7, other: 1}}
  production: {target: cloud, inngest_env: main, database: PRODUCTION_URL, vars: {days: 30}}
  bare: {}
databases: {analytics: ANALYTICS_URL}
"""
PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: stale}
vars: {days: 1}
repos:
  - query: "select repo from r where age <= :days"
    params: {days: "{{ vars.days }}"}
    workspace: w
operations: [repository-sync]
"""


WEEK = ["staging/r1", "staging/r7"]
MONTH = ["production/r1", "production/r7", "production/r30"]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "backfill.yaml").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    return tmp_path / "plan.yaml"


@pytest.fixture
def databases(tmp_path: Path) -> dict[str, str]:
    """Give each database a repository of each age, named after the database."""
    found = {}
    for name in ("staging", "production"):
        with sqlite3.connect(tmp_path / f"{name}.db") as connection:
            connection.execute("create table r (repo text, age integer)")
            rows = [(f"{name}/r{age}", age) for age in (1, 7, 30)]
            connection.executemany("insert into r values (?, ?)", rows)
        connection.close()
        found[f"{name.upper()}_URL"] = f"sqlite:///{tmp_path / name}.db"
    return found


@pytest.mark.parametrize(
    ("arguments", "environ", "target", "items"),
    [
        ([], {}, "staging: dev", WEEK),
        (["--env", "production"], {}, "production: cloud", MONTH),
        ([], {"BACKFILL_ENV": "production"}, "production: cloud", MONTH),
        (["--env", "staging"], {"BACKFILL_ENV": "production"}, "staging: dev", WEEK),
        (["--var", "days=1"], {}, "staging: dev", ["staging/r1"]),
        (["--target", "embedded"], {}, "staging: embedded", WEEK),
    ],
)
def test_the_chosen_environment_gives_target_database_and_variables(
    backfill: Backfill,
    plan: Path,
    databases: dict[str, str],
    arguments: list[str],
    environ: dict[str, str],
    target: str,
    items: list[str],
) -> None:
    done = backfill("plan", plan, "--format", "json", *arguments, env={**databases, **environ})
    shown = json.loads(done.out)
    assert shown["target"].startswith(target)
    assert [one["item"] for one in shown["stages"][0]["items"]] == items


def test_keys_and_inngests_environment_are_the_environments(plan: Path) -> None:
    environ = {"STAGING_KEY": "s", "INNGEST_EVENT_KEY": "p", "INNGEST_ENV": "elsewhere"}
    staging = Session(environ=environ).target(None, str(plan))
    assert (staging.event_key, staging.kind) == ("s", "dev")
    production = Session(environ=environ, environment="production").target(None, str(plan))
    assert (production.event_key, production.environment) == ("p", "main")


OWN_KEYS = """\
apiVersion: backfill/v1
kind: BackfillProject
environments:
  own: {event_key: OWN_EVENT_KEY, signing_key: OWN_SIGNING_KEY, api_key: OWN_API_KEY,
    database: OWN_URL}
"""
OWN = ("OWN_EVENT_KEY", "OWN_SIGNING_KEY", "OWN_API_KEY")
USUAL = ("INNGEST_EVENT_KEY", "INNGEST_SIGNING_KEY", "INNGEST_API_KEY")
GUARDED = (
    PLAN.split("repos:")[0]
    + """\
repos: [a/b]
operations: [repository-sync]
guards: [{sql: {query: select 1, at_most: 1}}]
"""
)


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    """A server that refuses every key."""
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("named", [(), ("--env", "own")], ids=["no environment", "an environment"])
@pytest.mark.parametrize("values", ["", "a b", "unknown"], ids=["missing", "malformed", "refused"])
@pytest.mark.parametrize("command", ["doctor", "run"])
def test_a_key_is_called_by_the_variable_that_it_is_read_from(
    backfill: Backfill, tmp_path: Path, named: tuple[str, ...], values: str, command: str
) -> None:
    """In an environment that names its own variable, setting the usual one would change nothing."""
    (tmp_path / "backfill.yaml").write_text(OWN_KEYS, encoding="utf-8")
    (tmp_path / "plan.yaml").write_text(GUARDED, encoding="utf-8")
    environ = dict.fromkeys((*OWN, *USUAL), values)
    arguments = [command, tmp_path / "plan.yaml", *named, *(["--yes"] if command == "run" else [])]
    with served(refusing) as url:
        target = url if values else "cloud"
        done = backfill(*arguments, "--target", target, env=environ)
    assert done.status in (2, 4, 6), done.err
    said = done.out + done.err
    assert any(name in said for name in (OWN if named else USUAL))
    assert not any(name in said for name in (USUAL if named else OWN))
    if command == "doctor" and values != "a b":
        assert ("OWN_URL" in said, "BACKFILL_DATABASE_URL" in said) == (bool(named), not named)


def test_a_plan_cannot_reach_the_database_of_another_environment(plan: Path) -> None:
    project = plan.parent / "backfill.yaml"
    shared = PROJECT.replace("analytics: ANALYTICS_URL", "analytics: PRODUCTION_URL")
    project.write_text(shared, encoding="utf-8")
    environ = {"PRODUCTION_URL": "sqlite:///p.db", "BACKFILL_DATABASE_URL": "sqlite:///usual.db"}
    for environment, named in (("staging", "analytics"), ("staging", None), ("bare", "analytics")):
        with Session(environ=environ, environment=environment) as session:
            databases = session.databases(str(plan))
            with pytest.raises(PreflightRefused):
                databases.connection(named)
            assert "PRODUCTION_URL" not in session.environ_in(str(plan))
    with Session(environ=environ, environment="production") as session:
        guards = session.environ_in(str(plan))
        assert guards["BACKFILL_DATABASE_URL"] == "sqlite:///p.db"


def test_an_environment_that_is_not_there_is_named_with_those_that_are(plan: Path) -> None:
    with pytest.raises(UsageError, match="no environment `stagin` in") as caught:
        Session(environ={}, environment="stagin").target(None, str(plan))
    assert caught.value.hint == "did you mean `staging`?"
    with pytest.raises(UsageError, match=r"no environment `x` here: no .* was found"):
        Session(environ={"BACKFILL_ENV": "x"}).target(None, str(plan.parent.parent / "p.yaml"))


def test_a_run_keeps_its_environment_when_it_is_retried(
    backfill: Backfill, plan: Path, databases: dict[str, str]
) -> None:
    """`retry` and `resume` use the run's environment, whichever is selected by then."""
    text = PROJECT.replace("target: cloud", "target: embedded")
    (plan.parent / "backfill.yaml").write_text(text, encoding="utf-8")
    run = ("run", plan, "--env", "production", "--skip-preflight", "--yes", "--format", "json")
    first = backfill(*run, env=databases)
    assert json.loads(first.out)["target"].startswith("production: embedded")
    again = backfill(
        "retry",
        "latest",
        "--no-job",
        "--format",
        "json",
        env={**databases, "BACKFILL_ENV": "staging"},
    )
    assert json.loads(again.out)["target"].startswith("production: embedded")
