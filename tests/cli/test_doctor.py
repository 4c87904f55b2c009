"""`backfill doctor`, and the same before a run: each fault with its hint, and nothing sent."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import served
from tests.support import repos, write_plan
from tests.types import Backfill

SYNC = "operations: [sync]\n"
KEYS = {"INNGEST_EVENT_KEY": "event-key-of-the-test", "INNGEST_SIGNING_KEY": "abcdef012345"}


@dataclass
class Server:
    """The part of Inngest's open-source server that a doctor sees, with recorded answers.

    `functions`: the event of each function; None: the server does not tell (Cloud, or --no-ui).
    """

    functions: dict[str, str] | None
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)

    @contextmanager
    def up(self, handler: Callable[..., Any] = lambda _event: None) -> Iterator[str]:
        inner = create_app(
            {"app/sync": handler},
            event_key=KEYS["INNGEST_EVENT_KEY"],
            signing_key=KEYS["INNGEST_SIGNING_KEY"],
        )
        routes = [
            Route("/v0/gql", self._gql, methods=["GET"]),
            Route("/dev", self._dev, methods=["GET"]),
            Route("/e/{key}", self._post, methods=["POST"]),
            Route("/v2/apps", _not_there, methods=["GET"]),
            Mount("/", inner),
        ]
        with served(Starlette(routes=routes)) as url:
            yield url

    async def _gql(self, request: Request) -> Response:
        self.requests.append(("GET", "/v0/gql", b""))
        assert request.query_params["query"].startswith("{apps{")
        if self.functions is None:
            return PlainTextResponse("404 page not found", 404)
        functions = [
            {"slug": name, "triggers": [{"type": "EVENT", "value": event}]}
            for name, event in self.functions.items()
        ]
        crons = {"slug": "nightly", "triggers": [{"type": "CRON", "value": "0 0 * * *"}]}
        return JSONResponse({"data": {"apps": [{"functions": [*functions, crons]}]}})

    async def _dev(self, _request: Request) -> Response:
        return JSONResponse({"version": "1.12.1", "functions": []})

    async def _post(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append(("POST", "/e/", body))
        assert body == b"[]", "an event was sent"
        if request.path_params["key"] == KEYS["INNGEST_EVENT_KEY"]:
            return PlainTextResponse('{"ids":[""],"status":200}')
        return PlainTextResponse('{"status":401,"message":"","error":"Event key not found"}', 401)


async def _not_there(_request: Request) -> Response:
    """Answer as servers did before they listed functions."""
    return PlainTextResponse("404 page not found", 404)


def findings(result: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(result.out)["findings"]:
        found.setdefault(finding["about"], []).append(finding)
    return found


def test_a_server_that_is_well_and_a_plan_that_it_listens_to(
    backfill: Backfill, tmp_path: Path
) -> None:
    server = Server({"my-app-sync": "app/sync"})
    plan = write_plan(tmp_path, repos(3) + SYNC + "batch_size: 3\n")
    with server.up() as url:
        result = backfill("doctor", plan, "--target", url, env=KEYS)
    assert result.status == 0, result.out
    assert " ✓ plan         test: 3 events, 1 stage; every payload meets its contract" in result.out
    assert f" ✓ target       {url} answers, version 1.12.1" in result.out
    assert " ✓ event key    accepted (asked without an event)" in result.out
    assert " ✓ signing key  jobs can be followed" in result.out
    assert " ✓ listeners    `app/sync` starts my-app-sync" in result.out
    assert result.out.endswith("\nFit to run.\n")
    assert [body for method, _, body in server.requests if method == "POST"] == [b"[]"]
    assert not Path(".backfill").exists(), "looking makes no state"


def test_wrong_keys_are_told_apart_and_never_shown(backfill: Backfill) -> None:
    wrong = {"INNGEST_EVENT_KEY": "wrong-event-key", "INNGEST_SIGNING_KEY": "wrong-signing-key"}
    with Server({}).up() as url:
        result = backfill("doctor", "--target", url, "--format", "json", env=wrong)
    assert result.status == 6
    found = findings(result)
    assert found["event key"][0]["level"] == found["signing key"][0]["level"] == "fail"
    assert "INNGEST_EVENT_KEY" in found["event key"][0]["hint"]
    for key in wrong.values():
        assert key not in result.out + result.err


def test_keys_that_cannot_be_right_are_known_without_asking(backfill: Backfill) -> None:
    """No request is made: an unreachable target would be reported, since tests have no network."""
    same = {"INNGEST_EVENT_KEY": "same", "INNGEST_SIGNING_KEY": "same"}
    result = backfill("doctor", "--target", "cloud", "--format", "json", env=same)
    assert result.status == 4
    assert "it is the event key" in result.out
    assert "reached" not in result.out


def test_a_target_that_is_not_there_has_one_fault_and_its_mend(
    backfill: Backfill, tmp_path: Path
) -> None:
    """It ends with 6, as other commands that only ask; but an invalid plan takes precedence."""
    target = ("--target", "http://127.0.0.1:1")
    result = backfill("doctor", *target)
    assert result.status == 6
    assert "✗ target  http://127.0.0.1:1 cannot be reached" in result.out
    assert "→ check that it is running and that its address is right" in result.out
    plan = write_plan(tmp_path, "repos: [o/r]\noperations: [synk]\n")
    assert backfill("doctor", plan, *target).status == 4


@pytest.mark.parametrize("command", ["doctor", "run"])
def test_an_event_that_no_function_listens_to_is_a_fault_and_refuses_the_run(
    backfill: Backfill, tmp_path: Path, command: str
) -> None:
    server = Server({"f": "app/synk"})
    plan = write_plan(tmp_path, repos(1) + SYNC)
    with server.up() as url:
        result = backfill(command, plan, "--target", url, env=KEYS)
    assert result.status == 4
    said = result.out if command == "doctor" else result.err
    assert (
        "no function listens to `app/sync`: the server would accept it, but nothing would run"
        in said
    )
    assert "did you mean `app/synk`?" in said
    assert all(body in (b"[]", b"") for _, _, body in server.requests), "nothing was sent"
    assert not Path(".backfill").exists()


def test_a_server_that_does_not_tell_is_known_from_the_last_run(
    backfill: Backfill, tmp_path: Path
) -> None:
    """At first nothing is known; after a run the journal knows that jobs came of the event."""
    plan = write_plan(tmp_path, repos(1) + SYNC)
    app = create_app({"app/sync": lambda _event: None}, event_key=KEYS["INNGEST_EVENT_KEY"])
    routes = [Route("/v2/apps", _not_there), Mount("/", app)]
    with served(Starlette(routes=routes)) as url:
        before = findings(backfill("doctor", plan, "--target", url, "--format", "json", env=KEYS))[
            "listeners"
        ]
        assert backfill("run", plan, "--target", url, env=KEYS).status == 0
        after = findings(backfill("doctor", plan, "--target", url, "--format", "json", env=KEYS))[
            "listeners"
        ]
    assert (before[0]["level"], after[0]["level"]) == ("warn", "ok")
    assert "`app/sync` started jobs in run " in after[0]["message"]


def test_skip_preflight_sends_all_the_same_and_is_written_down(
    backfill: Backfill, tmp_path: Path
) -> None:
    plan = write_plan(tmp_path, repos(1) + SYNC)
    app = create_app({"app/sync": lambda _event: None}, event_key=KEYS["INNGEST_EVENT_KEY"])
    deaf = JSONResponse({"data": {"apps": []}})
    told = [Route("/v2/apps", _not_there), Route("/v0/gql", lambda _request: deaf)]
    routes = [*told, Mount("/", app)]
    with served(Starlette(routes=routes)) as url:
        assert backfill("run", plan, "--target", url, env=KEYS).status == 4
        result = backfill("run", plan, "--target", url, "--skip-preflight", env=KEYS)
    assert result.status == 0
    with closing(sqlite3.connect(".backfill/state.db")) as db:
        notes = [row[0] for row in db.execute("SELECT message FROM notes")]
    assert notes == ["the preflight was skipped (--skip-preflight)"]


def test_a_retry_says_what_keeps_its_events_from_starting_jobs_before_it_sends_them(
    backfill: Backfill, tmp_path: Path
) -> None:
    """Whoever retries knows what failed: the retry reports it and is not refused."""
    plan = write_plan(tmp_path, repos(1) + SYNC)

    def fails(_event: Any) -> None:
        raise ValueError("broken")

    app = create_app({"app/sync": fails}, event_key=KEYS["INNGEST_EVENT_KEY"])
    deaf = JSONResponse({"data": {"apps": []}})
    told = [Route("/v2/apps", _not_there), Route("/v0/gql", lambda _request: deaf)]
    with served(Starlette(routes=[*told, Mount("/", app)])) as url:
        assert backfill("run", plan, "--target", url, "--skip-preflight", env=KEYS).status == 1
        result = backfill("retry", "latest", env=KEYS)
    assert result.status == 1
    told_first, sent = result.err.index("no function listens"), result.err.index("1/1 sent")
    assert told_first < sent


def test_an_invalid_plan_is_a_fault_beside_the_others(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(1) + "operations: [snyc]\ndealy: 5s\n")
    result = backfill("doctor", plan, "--target", "http://127.0.0.1:1", "--format", "json")
    assert result.status == 4
    found = findings(result)
    assert len(found["plan"]) == 2
    assert "plan.yaml:6: unknown operation `snyc`" in found["plan"][0]["message"]
    assert found["target"][0]["level"] == "fail"


def test_the_rate_limit_of_github_is_compared_with_what_the_plan_takes(
    backfill: Backfill, tmp_path: Path
) -> None:
    catalog = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: repo, needs: {github_points: 100, usd: 0.5}, done: sent}
"""
    limit = {"resources": {"core": {"remaining": 250, "limit": 5000, "reset": 1_750_000_000}}}
    with served(Starlette(routes=[Route("/rate_limit", lambda _r: JSONResponse(limit))])) as url:
        env = {"GITHUB_TOKEN": "ghp_notone", "GITHUB_API_URL": url}
        plan = write_plan(tmp_path, repos(3) + SYNC, catalog=catalog)
        result = backfill("doctor", plan, env=env)
        assert result.status == 4
        assert "the plan takes about 300 GitHub points, $1.50" in result.out
        assert "250 of 5,000 points are left" in result.out
        guarded = repos(3) + SYNC + "guards: [{github: {remaining: 10}}]\n"
        plan = write_plan(tmp_path, guarded, catalog=catalog)
        assert "its guard waits for more" in backfill("doctor", plan, env=env).out
    assert "takes about 300 GitHub points, $1.50" in backfill("plan", plan).out
    totals = json.loads(backfill("plan", plan, "--format", "json").out)["totals"]
    assert totals["needs"] == {"github_points": 300, "usd": 1.5, "seconds": 0}


def test_variables_without_a_plan_to_read_them_are_refused(
    backfill: Backfill, tmp_path: Path
) -> None:
    (tmp_path / "vars.yaml").write_text("days: 3\n", encoding="utf-8")
    for given in (("--var", "days=3"), ("--var-file", tmp_path / "vars.yaml")):
        refused = backfill("doctor", *given)
        assert (refused.status, refused.out) == (2, "")
        assert "--var does nothing without a plan" in refused.err
