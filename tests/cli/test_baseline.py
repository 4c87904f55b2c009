"""`apply --baseline`: plans that were carried out before there was a ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Result

Backfill = Callable[..., Result]

PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: NAME}
workspace: w
repos: [o/a]
operations: [repository-sync]
handlers: {capture/repository.sync: "json:dumps"}
"""


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    folder = tmp_path / "plans"
    folder.mkdir()
    for name in ("old", "new"):
        (folder / f"{name}.yaml").write_text(PLAN.replace("NAME", name), encoding="utf-8")
    return folder


def test_a_baseline_counts_as_applied_and_sends_nothing(backfill: Backfill, plans: Path) -> None:
    done = backfill("apply", plans, "--baseline", "old", "--reason", "by hand in 2025")
    assert (done.status, "\napplied  old" in done.out) == (0, True)
    listed = backfill("apply", plans, "--dry-run", "--all").out
    assert "baseline of " in listed
    assert "by hand in 2025" in listed
    (entry,) = json.loads(backfill("apply", plans, "--dry-run", "--format", "json").out)["plans"]
    assert (entry["name"], entry["state"]) == ("new", "pending")
    (line,) = json.loads(backfill("runs", "--format", "json").out)["runs"]
    found = (line["plan"], line["state"], line["baseline"], line["planned"], line["sent"])
    assert found == ("old", "baseline", "by hand in 2025", 0, 0)
    assert "baseline" in backfill("runs").out
    for state, runs in (("baseline", 1), ("completed", 0), ("failed", 0)):
        listed = json.loads(backfill("runs", "--state-is", state, "--format", "json").out)
        assert len(listed["runs"]) == runs, state
    suites = ElementTree.fromstring(backfill("report", "--format", "junit").out)  # noqa: S314
    assert [suites.get(key) for key in ("tests", "failures")] == ["1", "0"]
    (skipped,) = suites.iter("skipped")
    assert "by hand in 2025" in str(skipped.get("message"))
    summary = plans.parent / "summary.md"
    applied = backfill("apply", plans, "--yes", "--summary-file", summary)
    assert "| old | applied | baseline of " in summary.read_text(encoding="utf-8")
    assert (applied.status, "applying old" in applied.err) == (0, False)
    (plans / "old.yaml").write_text(PLAN.replace("NAME", "old") + "delay: 1s\n", encoding="utf-8")
    assert backfill("apply", plans, "--yes").status == 5


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--baseline", "old"], 2, "needs --reason"),
        (["--baseline", "old", "--reason", " "], 2, "needs --reason"),
        (["--reason", "x"], 2, "--reason does nothing without --baseline"),
        (["--baseline", "odl", "--reason", "x"], 2, "did you mean `old`?"),
        (["--baseline", "old", "--reason", "x", "--dry-run"], 2, "does nothing with"),
        (["--baseline", "old", "--reason", "x", "--detach"], 2, "does nothing with --baseline"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    backfill: Backfill, plans: Path, options: list[str], status: int, words: str
) -> None:
    done = backfill("apply", plans, *options)
    assert (done.status, words in done.err) == (status, True), done.err


def test_what_is_applied_needs_no_baseline(backfill: Backfill, plans: Path) -> None:
    assert backfill("apply", plans, "--yes").status == 0
    done = backfill("apply", plans, "--baseline", "old", "--reason", "x")
    assert (done.status, "old is applied already" in done.err) == (5, True)
