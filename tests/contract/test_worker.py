"""A submitted run on the live Inngest server at BACKFILL_TEST_INNGEST_URL, by a `serve` process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import COMMAND, backfill, until
from tests.contract.conftest import LIVE_URL
from tests.contract.target import COMPLETES
from tests.support import write_plan

__all__ = ["backfill"]  # a fixture of the command line

pytestmark = pytest.mark.skipif(
    not LIVE_URL, reason="BACKFILL_TEST_INNGEST_URL names no Inngest server"
)
CATALOG = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  echo: {{event: {COMPLETES}, for_each: repo, payload: {{repo: "{{{{ repo.repo }}}}"}}}}
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("INNGEST_DEV", LIVE_URL)
    monkeypatch.setenv("BACKFILL_STATE", f"sqlite:///{tmp_path / 'state.db'}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path / "serve.log").open("w+") as log:
        process = subprocess.Popen([*COMMAND, "serve", "--port", str(port)], stderr=log)
        try:
            until(lambda: "the server knows" in (tmp_path / "serve.log").read_text())
            yield
        finally:
            process.terminate()
            process.wait()


@pytest.mark.usefixtures("worker", "live_url")
def test_the_engine_waits_and_the_run_completes(
    tmp_path: Path, backfill: Callable[..., Any]
) -> None:
    body = "repos: [o/a, o/b, o/c]\noperations: [{use: echo, wait: completed}]\n"
    plan = write_plan(tmp_path, body + "batch_size: 1\ndelay: 4s\n", catalog=CATALOG)
    done = backfill("submit", plan, "--target", "dev", "--format", "json", "--yes")
    assert done.status == 0, done.err
    run_id = json.loads(done.out)["run_id"]
    shown = backfill("status", run_id, "--watch", "--format", "json", env=dict(os.environ))
    assert shown.status == 0, shown.out
    stages = json.loads(shown.out)["stages"]
    assert [stage["completed"] for stage in stages] == [3]
    waits = backfill("logs", run_id).out.count("waiting 4s between batches")
    assert waits == 2
