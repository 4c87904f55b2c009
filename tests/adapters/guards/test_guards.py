"""Each guard holds for its own reason, lets go otherwise, and says where it cannot be asked."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest

from runner.adapters.guards.command import Command, without_keys
from runner.adapters.guards.github import Github
from runner.adapters.guards.http import Http
from runner.adapters.guards.open import open_guards
from runner.errors import PreflightRefused, UsageError
from runner.execution.ports import GuardUnanswered, Hold
from runner.model import CommandGuard, FileGuard, GithubGuard, GuardSpec, HttpGuard, SqlGuard

Handler = Callable[[httpx.Request], httpx.Response]


def ask(spec: GuardSpec, folder: Path, env: Mapping[str, str] | None = None) -> Hold | None:
    async def main() -> Hold | None:
        async with open_guards([spec], env or {}, folder) as (guard,):
            return await guard.ask()

    return asyncio.run(main())


def ask_github(handler: Handler, now: float = 1_000.0) -> Hold | None:
    async def main() -> Hold | None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
            guard = Github(GithubGuard(500), client, "https://gh.test", "tok", lambda: now)
            return await guard.ask()

    return asyncio.run(main())


def ask_http(handler: Handler) -> Hold | None:
    async def main() -> Hold | None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
            return await Http(HttpGuard("https://x.test/ready?token=1"), client).ask()

    return asyncio.run(main())


def _limit(remaining: int, reset: int = 1_060) -> Handler:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.method == "GET"
        assert str(request.url) == "https://gh.test/rate_limit"
        assert request.headers["authorization"] == "Bearer tok"
        core = {"limit": 5000, "remaining": remaining, "reset": reset}
        return httpx.Response(200, json={"resources": {"core": core}})

    return handle


def test_github_holds_until_the_reset_while_too_few_points_are_left() -> None:
    hold = ask_github(_limit(499))
    assert hold is not None
    assert hold.seconds == 61
    assert hold.reason == "GitHub has 499 of 5,000 points left (needs 500) until 00:17 UTC"


def test_github_lets_go_with_enough_points() -> None:
    assert ask_github(_limit(500)) is None


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401),
        httpx.Response(302, headers={"location": "https://elsewhere.test"}),
        httpx.Response(200, json={"resources": {}}),
        httpx.Response(200, text="<html>"),
    ],
)
def test_an_answer_that_is_none_is_no_permission(answer: httpx.Response) -> None:
    with pytest.raises(GuardUnanswered) as error:
        ask_github(lambda _request: answer)
    assert "tok" not in str(error.value)


def test_an_endpoint_holds_unless_it_answers_2xx() -> None:
    assert ask_http(lambda _request: httpx.Response(204)) is None
    hold = ask_http(lambda _request: httpx.Response(503, headers={"retry-after": "7"}))
    assert hold == Hold("http x.test/ready answers 503", 7.0)


def test_an_endpoint_that_is_away_is_no_permission() -> None:
    def away(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(GuardUnanswered, match="no answer"):
        ask_http(away)


@pytest.fixture
def database(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "db.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE waiting (n INTEGER)")
        connection.execute("INSERT INTO waiting VALUES (12)")
    connection.close()
    return {"BACKFILL_DATABASE_URL": f"sqlite:///{path}"}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (SqlGuard("select n from waiting", at_most=12), None),
        (SqlGuard("select n from waiting", at_most=11), "the guard's query gives 12, above 11"),
        (SqlGuard("select n from waiting", at_least=13), "the guard's query gives 12, below 13"),
        (SqlGuard("select n = 12 from waiting"), None),
        (SqlGuard("select n = 13 from waiting"), "the guard's query says no"),
    ],
)
def test_a_query_holds_outside_its_bounds(
    tmp_path: Path, database: dict[str, str], spec: SqlGuard, reason: str | None
) -> None:
    hold = ask(spec, tmp_path, database)
    assert (hold and hold.reason) == reason


@pytest.mark.parametrize(
    "query",
    [
        "select * from nowhere",
        "select n from waiting where n > 99",
        "select null",
        "select 'x'",
        "select 1, 2",
    ],
)
def test_a_query_without_one_value_is_no_permission(
    tmp_path: Path, database: dict[str, str], query: str
) -> None:
    with pytest.raises(GuardUnanswered):
        ask(SqlGuard(query, at_most=1), tmp_path, database)


def test_a_query_on_postgresql_cannot_change_anything(tmp_path: Path, database_url: str) -> None:
    env = {"SUPABASE_DB_URL": database_url}
    assert ask(SqlGuard("select 1 < 2"), tmp_path, env) is None
    with pytest.raises(GuardUnanswered, match="read-only"):
        ask(SqlGuard("create table guard_was_here as select 1"), tmp_path, env)


def _python(code: str) -> CommandGuard:
    return CommandGuard((sys.executable, "-c", code))


def test_a_program_holds_by_its_exit_status_and_says_why(tmp_path: Path) -> None:
    assert ask(_python("pass"), tmp_path) is None
    hold = ask(_python("print('a'); print('disk is busy'); raise SystemExit(3)"), tmp_path)
    assert hold is not None
    assert hold.reason.endswith("exits with 3: disk is busy")


@pytest.mark.parametrize(
    "spec",
    [
        CommandGuard(("./nowhere",)),
        _python("import os; os.kill(os.getpid(), 9)"),
        _python("raise SystemExit(127)"),
    ],
)
def test_a_program_that_did_not_run_is_no_permission(tmp_path: Path, spec: CommandGuard) -> None:
    with pytest.raises(GuardUnanswered):
        ask(spec, tmp_path)


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "child").touch()
    code = (
        "import subprocess, sys, pathlib\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path('child').write_text(str(p.pid))\n"
        "p.wait()"
    )
    guard = Command(_python(code), tmp_path, {}, limit=1.0)
    with pytest.raises(GuardUnanswered, match="has not ended after 1s"):
        asyncio.run(guard.ask())
    child = int((tmp_path / "child").read_text())
    status = Path(f"/proc/{child}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_a_program_runs_in_the_plans_folder_without_the_targets_keys(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    assert ask(_python("import pathlib; pathlib.Path('here').stat()"), tmp_path) is None
    env = {"INNGEST_EVENT_KEY": "k", "INNGEST_DEV": "1", "PATH": "/bin", "BACKFILL_STATE": "s"}
    assert without_keys(env) == {"INNGEST_DEV": "1", "PATH": "/bin"}


def test_a_file_holds_while_it_exists(tmp_path: Path) -> None:
    assert ask(FileGuard("hold.flag"), tmp_path) is None
    (tmp_path / "hold.flag").touch()
    assert ask(FileGuard("hold.flag"), tmp_path) == Hold("`hold.flag` exists", 1.0)
    with pytest.raises(GuardUnanswered):
        ask(FileGuard("hold.flag/deeper"), tmp_path)


@pytest.mark.parametrize(
    ("spec", "named"),
    [(GithubGuard(1), "GITHUB_TOKEN"), (SqlGuard("select 1"), "BACKFILL_DATABASE_URL")],
)
def test_a_guard_without_its_key_is_refused_before_anything_is_sent(
    tmp_path: Path, spec: GuardSpec, named: str
) -> None:
    with pytest.raises(PreflightRefused) as error:
        ask(spec, tmp_path)
    assert named in str(error.value.hint)


def test_a_database_url_that_is_none_is_not_echoed(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        ask(SqlGuard("select 1"), tmp_path, {"BACKFILL_DATABASE_URL": "s3cret://///"})
    assert "s3cret:///" not in str(error.value)
