"""What a live server's limits do to a run: a throttle delays it, and drops nothing."""

from __future__ import annotations

import datetime
import json
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import COMMAND
from tests.contract.conftest import LIVE_URL
from tests.contract.target import unique
from tests.support import repos, write_plan

pytestmark = pytest.mark.skipif(
    not LIVE_URL, reason="BACKFILL_TEST_INNGEST_URL names no Inngest server"
)
APP = "backfill-closed-loop"
THROTTLED = "contract/throttled"


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
    functions = [_limited(client, "throttled", THROTTLED, throttle=throttle)]
    handler = CommHandler(
        client=client,
        enable_unauthed_sync=None,
        framework=Framework.FAST_API,
        functions=functions,
        streaming=inngest.Streaming.DISABLE,
    )
    with closing(client._http_client._http_client_sync), _served(handler):
        yield LIVE_URL


def run(folder: Path, event: str, events: int) -> tuple[dict[str, Any], str]:
    operation = f'  do: {{event: {event}, for_each: repo, payload: {{test: "{unique()}"}}}}\n'
    head = "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n"
    body = repos(events) + "operations: [{use: do, wait: completed}]\n"
    plan = write_plan(folder, body, catalog=head + operation)
    state = f"sqlite:///{folder / 'state.db'}"
    command = [*COMMAND, "run", str(plan), "--target", "dev", "--format", "json", "--state", state]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_a_throttle_is_reported_with_both_figures_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str
) -> None:
    monkeypatch.setenv("INNGEST_DEV", app)
    summary, said = run(tmp_path, THROTTLED, 4)
    assert summary["totals"]["completed"] == 4
    assert summary["duration_s"] > 4, "one starts in two seconds"
    assert "its throttle is 1 in 2s; the plan sends 4 at once" in said
