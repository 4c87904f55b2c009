"""After a kill, a resume and a retry, on a server and on the embedded target: each command gives
the figures of the run's events."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.embedded.server import create_app
from runner.model import OUTCOMES
from tests.cli.conftest import served
from tests.execution.test_surfaces import open_events
from tests.faults.conftest import Kill
from tests.support import repos, write_plan
from tests.types import Backfill

BODY = "operations: [sync]\nbatch_size: 2\ndelay: 0s\non_failure: continue\n"
HANDLERS = "handlers: {app/sync: 'jobs_of_surfaces:sync'}\n"
JOBS = """\
import pathlib

def sync(event):
    repo = event["data"]["repo"]
    if pathlib.Path(__file__).with_name("broken").exists() and repo in ("o/r1", "o/r4"):
        raise ValueError(repo)
"""
_KILLS = [
    ("chunk-record 3", "after"),
    ("job-record 1", "after"),
    ("run-end 1", "before"),
]


@pytest.mark.parametrize("on", ["server", "embedded"])
@pytest.mark.parametrize(("point", "when"), _KILLS)
def test_every_command_says_the_same_of_a_run_that_was_killed_resumed_and_retried(
    backfill: Backfill,
    killed: Kill,
    tmp_path: Path,
    on: str,
    point: str,
    when: str,
) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    (tmp_path / "jobs_of_surfaces.py").write_text(JOBS, encoding="utf-8")

    def sync(event: Mapping[str, Any]) -> None:
        if broken.exists() and event["data"]["repo"] in ("o/r1", "o/r4"):
            raise ValueError(event["data"]["repo"])

    plan = write_plan(tmp_path, repos(6) + BODY + (HANDLERS if on == "embedded" else ""))
    with served(create_app({"app/sync": sync})) as url:
        target = ("--target", url) if on == "server" else ()
        assert killed(point, when, "run", plan, *target) == -9
        seen = [_compared(backfill, "killed")]
        backfill("resume", "latest")
        seen.append(_compared(backfill, "resumed"))
        broken.unlink()
        retried = backfill("retry", "latest")
        seen.append(_compared(backfill, "retried"))
    runs = json.loads(backfill("runs", "--format", "json").out)["runs"]
    _compared(backfill, "afterwards", runs[-1]["run_id"])
    assert seen[1]["failed"] == 2, "the control: there was something to tell apart"
    assert len(runs) == 2, retried.err


def _compared(backfill: Backfill, moment: str, run: str = "latest") -> Mapping[str, int]:
    listed = backfill("events", run, "--format", "json")
    events = json.loads(listed.out)["events"]
    told = Counter(event["outcome"] for event in events)
    expected: dict[str, int] = {n: told[n] for n in (*OUTCOMES, "running", "unfollowed")}
    expected["sent"] = len(events) - told["unsent"] - told["sending"]
    for surface, figures in _surfaces(backfill, run):
        assert figures, (moment, surface)
        assert figures == {name: expected[name] for name in figures}, (moment, surface)
    return expected


def _surfaces(backfill: Backfill, run: str) -> Iterator[tuple[str, Mapping[str, int]]]:
    names = ("sent", *OUTCOMES)
    status = json.loads(backfill("status", run, "--format", "json").out)
    for surface, document in (
        ("status", status),
        ("report", json.loads(backfill("report", run, "--format", "json").out)),
    ):
        yield surface, {name: sum(one[name] for one in document["stages"]) for name in names}
        yield f"open in {surface}", open_events(document)
    runs = json.loads(backfill("runs", "--format", "json").out)["runs"]
    (line,) = [one for one in runs if one["run_id"] == status["run_id"]]
    yield "runs", {name: line[name] for name in names}
    text = backfill("status", run).out
    stages = "\n".join(re.findall(r"^  \d+\. .*", text, re.MULTILINE))
    yield "text", {"sent": sum(int(one) for one in re.findall(r"(\d+)/\d+", stages))}
    for name in ("completed", "failed"):
        yield "text", {name: sum(int(one) for one in re.findall(rf"(\d+) {name}\b", stages))}
    file = Path("page.html").resolve()  # in the test's own folder
    backfill("report", run, "--html", file)
    page = file.read_text(encoding="utf-8")
    (figures,) = re.findall(r'^<p class="figures">(.*)</p>$', page, re.MULTILINE)
    yield "page", {"sent": int(figures.split("/")[0])}
    for name in ("completed", "failed"):
        yield "page", {name: sum(int(one) for one in re.findall(rf"(\d+) {name}\b", figures))}
