"""Retries by a session, in process."""

from __future__ import annotations

from pathlib import Path

import pytest

import runner
from tests.support import CATALOG

PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: one}
catalog: catalog.yaml
repos: [o/a, o/b]
operations: [fire]
handlers: {app/fire: "jobs:fire"}
"""
JOBS = """\
def fire(event):
    if event["data"]["repo"] == "o/b":
        raise ValueError("not this one")
"""


def test_without_an_outcome_nothing_is_retried_and_by_default_what_failed_is(
    tmp_path: Path,
) -> None:
    for name, text in {"catalog.yaml": CATALOG, "jobs.py": JOBS, "plan.yaml": PLAN}.items():
        (tmp_path / name).write_text(text)
    with runner.Session(str(tmp_path / "state.db")) as session:
        failed = session.run(session.plan(tmp_path / "plan.yaml", target="embedded"))
        with pytest.raises(runner.PreflightRefused, match="has nothing to retry"):
            session.retry(failed.run_id, outcomes=())
        with pytest.raises(
            runner.PreflightRefused, match="nothing to retry that matches --item o/z"
        ) as none:
            session.retry(failed.run_id, items=("o/z",))
        assert none.value.hint == "its items are named like o/b"
        assert len(session.runs()) == 1
        again = session.retry(failed.run_id)
        assert [event.item for event in session.events(again.run_id)] == ["o/b"]
