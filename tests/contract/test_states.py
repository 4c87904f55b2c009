"""Workers on one live server: of two states, and of one state with different plans."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.adapters.journal.store import Store
from runner.adapters.worker.request import app_of
from tests.cli.conftest import backfill, until
from tests.contract.conftest import LIVE_URL
from tests.contract.test_worker import CATALOG, Workers
from tests.support import write_plan

__all__ = ["backfill"]  # a fixture of the command line

pytestmark = pytest.mark.skipif(
    not LIVE_URL, reason="BACKFILL_TEST_INNGEST_URL names no Inngest server"
)
BODY = "repos: [o/a, o/b]\noperations: [{use: echo, wait: completed}]\n"
PROJECTS = ("one", "two")


@pytest.mark.usefixtures("live_url")
def test_two_states_share_a_server(
    tmp_path: Path, backfill: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNGEST_DEV", LIVE_URL)
    with ExitStack() as stack:
        runs, identities = dict[str, str](), list[str]()
        for name in PROJECTS:
            folder = tmp_path / name
            folder.mkdir()
            monkeypatch.setenv("BACKFILL_STATE", f"sqlite:///{folder / 'state.db'}")
            Workers(folder, stack).start()
            plan = write_plan(folder, BODY, catalog=CATALOG)
            done = backfill("run", "--detach", plan, "--target", "dev", "--format", "json")
            assert done.status == 0, done.err
            with Store(f"sqlite:///{folder / 'state.db'}") as store:
                identities.append(store.identity)
            assert f"backfill-{identities[-1]}-run" in done.err
            assert not any(f"backfill-{one}-run" in done.err for one in identities[:-1])
            runs[name] = json.loads(done.out)["run_id"]
        for name in PROJECTS:
            monkeypatch.setenv("BACKFILL_STATE", f"sqlite:///{tmp_path / name / 'state.db'}")
            shown = backfill("status", runs[name], "--watch", "--format", "json")
            assert shown.status == 0, shown.out
            log = "".join(file.read_text() for file in (tmp_path / name).glob("serve-*.log"))
            assert runs[name] in log or "completed" in log
            other = next(run for there, run in runs.items() if there != name)
            assert other not in log
            assert "there is no run" not in log


@pytest.mark.usefixtures("live_url")
def test_two_that_serve_one_state_with_different_plans_keep_their_schedules(
    tmp_path: Path, backfill: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each plan is due every minute, and the worker that has it starts and drives it."""
    monkeypatch.setenv("INNGEST_DEV", LIVE_URL)
    monkeypatch.setenv("BACKFILL_STATE", f"sqlite:///{tmp_path / 'state.db'}")

    def runs() -> dict[str, str]:
        found = json.loads(backfill("runs", "--format", "json").out)["runs"]
        return {run["run_id"]: run["plan"] for run in found if run["status"] == "completed"}

    def slugs() -> list[str]:
        """Return the slugs of the functions of this state's apps."""
        with Store(f"sqlite:///{tmp_path / 'state.db'}") as store:
            ours = f"{app_of(store.identity)}-"
        query = {"query": "{functions{slug}}"}
        found = httpx.get(f"{LIVE_URL}/v0/gql", params=query).json()["data"]["functions"]
        return [one["slug"] for one in found if one["slug"].startswith(ours)]

    with ExitStack() as stack:
        served: list[Workers] = []
        for name in PROJECTS:
            folder = tmp_path / name
            folder.mkdir()
            plan = write_plan(folder, BODY + 'schedule: {cron: "* * * * *"}\n', catalog=CATALOG)
            plan.write_text(plan.read_text().replace("name: test", f"name: {name}"))
            served.append(Workers(folder, stack))
            served[-1].start(str(folder))
        until(lambda: set(runs().values()) == set(PROJECTS), seconds=200)
        completed = runs()
        for one in served:
            one.restart()  # without its plan, at the same URL
        assert not any("scheduled-" in slug for slug in slugs())
    for name in PROJECTS:
        log = "".join(file.read_text() for file in (tmp_path / name).glob("serve-*.log"))
        driven = {completed[run] for run in re.findall("[0-9A-Z]{26}", log) if run in completed}
        assert driven == {name}
