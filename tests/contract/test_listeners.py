"""Outcomes by the configuration of functions, on the live Inngest server at
BACKFILL_TEST_INNGEST_URL."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import backfill
from tests.contract.conftest import LIVE_URL
from tests.contract.target import OWN, unique
from tests.support import repos, write_plan

__all__ = ["backfill"]  # a fixture of the command line

pytestmark = pytest.mark.skipif(
    not LIVE_URL, reason="BACKFILL_TEST_INNGEST_URL names no Inngest server"
)


@pytest.mark.usefixtures("live_url")
@pytest.mark.parametrize(
    ("kind", "expected", "says"),
    [
        ("debounced", {"completed": 1, "dropped": 3}, "its debounce (4s: the latest event counts)"),
        ("batched", {"completed": 4}, None),
        ("limited", {"completed": 1, "dropped": 3}, "its rate limit (1 in 1h of each"),
        ("singleton", {"completed": 1, "dropped": 3}, "singleton"),
        ("filtered", {"completed": 1, "dropped": 3}, "its filter (event.data.repo == 'o/r0')"),
        ("two", {"failed": 1, "dropped": 3}, "its debounce"),
        ("starts.two", {"completed": 4}, None),
        ("unheard", {"no_job": 4}, "no function listens to"),
    ],
)
def test_four_events_come_to_what_their_function_does_with_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backfill: Callable[..., Any],
    kind: str,
    expected: dict[str, int],
    says: str | None,
) -> None:
    monkeypatch.setenv("INNGEST_DEV", LIVE_URL)
    payload = f'{{repo: "{{{{ repo.repo }}}}", test: {unique()}}}'
    operation = f"  do: {{event: {OWN}/{kind}, for_each: repo, payload: {payload}}}\n"
    head = "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n"
    body = repos(4) + "operations: [{use: do, wait: completed}]\non_failure: continue\n"
    plan = write_plan(tmp_path, body, catalog=head + operation)
    state = f"sqlite:///{tmp_path / 'state.db'}"
    options = ("--target", "dev", "--yes", "--skip-preflight", "--format", "json")
    done = backfill("run", plan, *options, "--state", state, "--grace", "6s")
    summary = json.loads(done.out)
    totals = {name: number for name, number in summary["totals"].items() if number}
    outcomes = {k: n for k, n in totals.items() if k not in {"planned", "accepted", "jobs"}}
    assert outcomes == expected, summary
    assert Counter(f["outcome"] for f in summary["failures"]) + Counter(
        completed=expected.get("completed", 0)
    ) == Counter(expected)
    assert says is None or any(says in failure["message"] for failure in summary["failures"])
