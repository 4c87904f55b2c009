"""What a live server's load and limits do to a run: a throttle, and a thousand jobs of others."""

from __future__ import annotations

import datetime
import json
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import COMMAND
from tests.contract.conftest import LIVE_URL
from tests.contract.target import COMPLETES, unique
from tests.depth import depth
from tests.support import repos, write_plan

pytestmark = pytest.mark.skipif(
    not LIVE_URL, reason="BACKFILL_TEST_INNGEST_URL names no Inngest server"
)
APP = "backfill-closed-loop"
THROTTLED, OURS = "contract/throttled", "contract/ours"


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    """The server, with an app of this module's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import inngest

        from tests.contract.sdk_app import _limited, _served

    from inngest._internal.comm_lib import CommHandler
    from inngest._internal.server_lib import Framework

    client = inngest.Inngest(
        app_id=APP,
        api_base_url=LIVE_URL,
        event_api_base_url=LIVE_URL,
        is_production=False,
    )
    throttle = inngest.Throttle(limit=1, period=datetime.timedelta(seconds=2))
    functions = [
        _limited(client, "throttled", THROTTLED, throttle=throttle),
        _limited(client, "ours", OURS),
    ]
    handler = CommHandler(
        client=client,
        enable_unauthed_sync=None,
        framework=Framework.FAST_API,
        functions=functions,
        streaming=inngest.Streaming.DISABLE,
    )
    with closing(client._http_client._http_client_sync), _served(handler):
        yield LIVE_URL


def run(folder: Path, event: str, events: int, more: str = "") -> tuple[dict[str, Any], str]:
    operation = f'  do: {{event: {event}, for_each: repo, payload: {{test: "{unique()}"}}}}\n'
    head = "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n"
    body = repos(events) + "operations: [{use: do, wait: completed}]\n" + more
    plan = write_plan(folder, body, catalog=head + operation)
    state = f"sqlite:///{folder / 'state.db'}"
    command = [*COMMAND, "run", str(plan), "--target", "dev", "--format", "json", "--state", state]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout), done.stderr


def test_a_throttle_is_reported_with_both_figures_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str
) -> None:
    monkeypatch.setenv("INNGEST_DEV", app)
    summary, said = run(tmp_path, THROTTLED, 4)
    assert summary["totals"]["completed"] == 4
    assert summary["duration_s"] > 4, "one starts in two seconds"
    assert "its throttle is 1 in 2s; the plan sends 4 at once" in said


def test_a_thousand_jobs_of_others_cost_and_change_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    app: str,
    live_url: str,
    record_property: Any,
) -> None:
    monkeypatch.setenv("INNGEST_DEV", app)
    others = depth(100, 1_000)  # beside a busy machine's own work, a thousand take a minute
    events = [{"name": COMPLETES, "data": {"test": unique()}} for _ in range(others)]
    with httpx.Client(base_url=live_url, timeout=60) as client:
        assert client.post("/e/key", json=events).status_code == 200
        summary, _ = run(tmp_path, OURS, 20, "max_in_flight: 8\non_failure: continue\n")
        lists = client.get("/v2/runs", params={"appId": APP, "functionId": "ours", "limit": 100})
    totals = summary["totals"]
    # A server of which a thousand things are asked may lose an event: then it has no job, indeed.
    assert totals["completed"] + totals["no_job"] == 20, summary
    assert totals["completed"] == totals["jobs"] > 15
    of = {one["function"]["id"] for one in lists.json()["data"]}
    assert of == {"ours"}, "a list of a function's jobs has no others"
    record_property("busy server: others' jobs, ours, seconds", (others, 20, summary["duration_s"]))
