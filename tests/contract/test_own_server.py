"""Tests that need a server of their own: it is stopped in the middle of a run, or pauses a
function."""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import COMMAND, backfill, until
from tests.contract.own_server import BINARY, SIGNING_KEY, OwnServer, own_server
from tests.support import repos, write_plan

__all__ = ["backfill"]  # a fixture of the command line

pytestmark = pytest.mark.skipif(
    not BINARY, reason="BACKFILL_TEST_INNGEST_BIN names no binary of an Inngest server"
)
EVENT = "own/sync"
CATALOG = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {{event: {EVENT}, for_each: repo, payload: {{repo: "{{{{ repo.repo }}}}"}}}}
"""
SYNC = "operations: [{use: sync, wait: completed}]\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnServer]:
    folder = tmp_path / "server"
    folder.mkdir()
    with own_server(folder) as found:
        yield found


@pytest.fixture
def ran(server: OwnServer) -> Iterator[Counter[str]]:
    """How often the server's function has run, by item."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import inngest

        from tests.contract.sdk_app import serving

    found: Counter[str] = Counter()

    def create(client: inngest.Inngest) -> list[inngest.Function[Any]]:
        @client.create_function(fn_id="sync", trigger=inngest.TriggerEvent(event=EVENT))
        async def sync(ctx: inngest.Context) -> str:
            found[str(ctx.event.data["repo"])] += 1
            return "done"

        return [sync]

    with serving(server.url, "backfill-own", create, SIGNING_KEY):
        yield found


def test_a_server_that_restarts_in_the_middle_of_a_run_is_waited_for_and_what_it_lost_is_named(
    tmp_path: Path, server: OwnServer, ran: Counter[str], backfill: Callable[..., Any]
) -> None:
    """It forgets events that it had accepted but not processed, and that some jobs have ended.
    Each outcome is what became of the event, nothing is doubled, and `retry` makes good what was
    lost."""
    sync = "operations: [{use: sync, wait: completed, timeout: 40s}]\n"
    body = repos(60) + sync + "batch_size: 3\ndelay: 400ms\nqueue_timeout: 30s\n"
    plan = write_plan(tmp_path, body, catalog=CATALOG)
    state = f"sqlite:///{tmp_path / 'state.db'}"
    options = ["--target", server.url, "--yes", "--format", "json", "--state", state]
    command = [*COMMAND, "run", str(plan), *options, "--grace", "10s"]
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **server.env},
        text=True,
    )
    try:
        until(lambda: len(ran) >= 15, seconds=90)
        server.stop()
        before = len(ran)
        assert run.poll() is None
        server.start()
        out, err = run.communicate(timeout=240)
    finally:
        run.kill()
        run.communicate()
    assert before < 60, "it was in the middle"
    summary = json.loads(out)
    totals, lost = summary["totals"], {one["item"] for one in summary["failures"]}
    assert totals["accepted"] == totals["completed"] + len(lost) == 60, err
    assert totals["no_job"] + totals["timed_out"] == len(lost)
    every = {f"o/r{number}" for number in range(60)}
    assert {item for item in every - lost if ran[item] != 1} == set()
    assert {item for item in lost if ran[item] > 1} == set()
    again = ("latest", "--yes", "--format", "json", "--state", state)
    done = backfill("retry", *again, env=server.env)
    assert done.status == (0 if lost else 4), done.err
    assert {item for item in every - lost if ran[item] != 1} == set()
    assert {item for item in lost if ran[item] not in (1, 2)} == set()


def test_jobs_of_a_function_that_is_paused_have_not_started_and_time_out_by_that_name(
    tmp_path: Path, server: OwnServer, ran: Counter[str], backfill: Callable[..., Any]
) -> None:
    """This server pauses a function only in its queue, and does not tell: `isPaused`, which the
    hosted service tells, is tested with our own servers."""
    server.pause("backfill-own-sync")
    body = repos(3) + SYNC + "queue_timeout: 8s\non_failure: continue\n"
    plan = write_plan(tmp_path, body, catalog=CATALOG)
    options = ("--target", server.url, "--yes", "--state", f"sqlite:///{tmp_path / 'state.db'}")
    done = backfill("run", plan, *options, "--format", "json", env=server.env)
    summary = json.loads(done.out)
    assert (done.status, ran) == (7, {})
    assert {(one["outcome"], one["message"]) for one in summary["failures"]} == {
        ("timed_out", "its job has not started after 8s")
    }
    assert summary["totals"]["jobs"] == summary["totals"]["timed_out"] == 3
