"""A run as others see it: status, runs, events and logs, while another process drives it."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from pathlib import Path
from urllib.parse import urljoin
from xml.etree import ElementTree

import pytest

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import Jobs, Start, served, until
from tests.support import repos, write_plan
from tests.types import Backfill

SYNC = "operations: [sync]\non_failure: continue\n"
SLOWLY = "operations: [fire]\nbatch_size: 1\ndelay: 100ms\n"
HELD = "operations: [sync]\nbatch_size: 2\ndelay: 100ms\n"


def state_of(backfill: Backfill, *arguments: str) -> dict[str, object]:
    done = backfill("status", *arguments, "--format", "json")
    assert done.status == 0, done.err
    found: dict[str, object] = json.loads(done.out)
    return found


def test_a_run_in_another_process_is_seen_while_it_goes_on_and_afterwards(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs(held=["o/r1"])
    with served(create_app({"app/sync": jobs})) as url:
        plan = write_plan(tmp_path, repos(4) + HELD)
        process = start("run", plan, "--target", url, "--format", "json")
        jobs.wait_for(4)

        def three_are_done() -> bool:
            stages = state_of(backfill)["stages"]
            assert isinstance(stages, list)
            return bool(stages[0]["completed"] == 3)

        until(three_are_done)
        now = state_of(backfill)
        assert (now["state"], now["status"]) == ("running", "running")
        assert str(process.pid) in str(now["driven_by"])
        stage = now["stages"][0]  # type: ignore[index]
        assert (stage["sent"], stage["running"], stage["batches"]) == (4, 1, 2)
        assert stage["waiting"] == "for its jobs to end"
        said = backfill("status").out
        assert said.startswith("RUNNING  test → http://127.0.0.1:")
        assert "1. sync: 4/4 sent, 1 running, 3 completed; waiting: for its jobs to end" in said
        assert "running" in backfill("runs", "--state-is", "running").out
        assert backfill("runs", "--state-is", "dead").err == "no runs\n"
        assert said.partition("; waiting")[2].splitlines()[0] in backfill("runs").out
        process.kill()
        process.wait()
        dead = backfill("runs", "--state-is", "dead").out
        assert " dead " in dead
        assert "  no process drives it: backfill resume " in dead
        assert backfill("runs", "--state-is", "running").err == "no runs\n"
        suites = ElementTree.fromstring(backfill("report", "--format", "junit").out)  # noqa: S314
        failures = [one.get("message") for one in suites.iter("failure")]
        assert failures == ["the run is dead"], "skipped tests alone leave a CI system green"
        assert (suites.get("tests"), suites.get("failures")) == ("5", "1")
        dead = backfill("status").out
        assert dead.startswith("DEAD  test")
        assert "no process drives it: backfill resume" in dead
        assert backfill("status", "--watch").status == 7
        story = backfill("logs", "--follow")
        assert (story.status, "no process drives it: backfill resume" in story.err) == (7, True)


def test_watching_goes_on_until_the_run_ends_and_exits_as_it_did(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs(failing=["o/r0"])
    with served(create_app({"app/sync": jobs})) as url:
        plan = write_plan(tmp_path, repos(6) + SYNC + "batch_size: 1\ndelay: 300ms\n")
        process = start("run", plan, "--target", url)
        jobs.wait_for(1)
        watched = backfill("status", "--watch")
        assert process.wait(30) == watched.status == 1
    assert watched.out.startswith("FAILED  test")
    assert "1. sync: 6/6 sent, 5 completed, 1 failed; done" in watched.err
    assert "ValueError: o/r0 is broken" in watched.out
    assert "backfill retry" in watched.out


def test_the_time_left_is_told_with_its_basis(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs()
    with served(create_app({"app/fire": jobs})) as url:
        body = repos(50) + "operations: [fire]\nbatch_size: 1\ndelay: 10s\n"
        start("run", write_plan(tmp_path, body), "--target", url)
        jobs.wait_for(1)
        until(lambda: state_of(backfill)["left"] is not None)
        left = state_of(backfill)["left"]
        assert left == {"seconds": 490.0, "basis": "by the pacing"}
        assert "time left: about 8m10s (by the pacing)" in backfill("status").out


@pytest.mark.parametrize(
    "command",
    [
        *("status", "runs --state .backfill/state.db", "events", "logs", "report"),
        *("tune latest --delay 1s", "pause latest", "resume latest", "resume latest --detach"),
        *("resume --target dev", "cancel latest", "cancel latest --jobs", "retry latest --yes"),
    ],
)
def test_what_is_about_a_run_that_is_there_makes_no_state(backfill: Backfill, command: str) -> None:
    """A mistyped --state is an error, not an empty list of runs."""
    done = backfill(*command.split())
    assert done.status == 2
    assert "there is no state in .backfill/state.db, so there are no runs" in done.err
    assert not (Path.cwd() / ".backfill").exists()


def test_before_the_first_run_there_are_no_runs(backfill: Backfill) -> None:
    done = backfill("runs", "--format", "json")
    assert (done.status, json.loads(done.out)["runs"]) == (0, [])
    assert not (Path.cwd() / ".backfill").exists()


class TestAfterwards:
    """A run that has ended, with failures."""

    @pytest.fixture(autouse=True)
    def run(self, backfill: Backfill, tmp_path: Path) -> None:
        jobs = Jobs(failing=["o/r1", "o/r3"])
        with served(create_app({"app/sync": jobs})) as self.url:
            body = repos(5) + SYNC + "batch_size: 2\ndelay: 100ms\n"
            self.plan = write_plan(tmp_path, body)
            assert backfill("run", self.plan, "--target", self.url).status == 1

    def test_each_event_is_told_with_its_ids_jobs_and_outcome(self, backfill: Backfill) -> None:
        lines = backfill("events", "--format", "jsonl").out.splitlines()
        events = [json.loads(line) for line in lines]
        assert [event["item"] for event in events] == [f"o/r{n}" for n in range(5)]
        assert [event["batch"] for event in events] == [1, 1, 2, 2, 3]
        assert events == json.loads(backfill("events", "--format", "json").out)["events"]
        first, second = events[:2]
        assert (first["outcome"], first["message"]) == ("completed", None)
        assert (second["outcome"], second["message"]) == ("failed", "ValueError: o/r1 is broken")
        assert second["event_id"].endswith(":sync:o/r1")
        assert len(second["internal_id"]) == 26
        assert second["jobs"][0]["status"] == "Failed"
        assert second["sent_at"] <= second["ended_at"]

    def test_events_are_filtered(self, backfill: Backfill) -> None:
        failed = backfill("events", "--failed", "--format", "csv").out
        rows = list(csv.DictReader(io.StringIO(failed)))
        assert [row["item"] for row in rows] == ["o/r1", "o/r3"]
        some = backfill("events", "--item", "*r[01]", "--outcome", "completed").out
        head, first, *_ = some.splitlines()
        assert head.split() == ["outcome", "operation", "item", "job", "message"]
        assert first.split()[:3] == ["completed", "sync", "o/r0"]
        none = backfill("events", "--item", "[")
        assert (none.status, none.out, none.err) == (0, "", "no events\n")
        both = backfill("events", "--failed", "--outcome", "completed")
        assert (both.status, "exclude each other" in both.err) == (2, True)
        unknown = backfill("events", "--operation", "sing")
        assert unknown.status == 2
        assert "has no operation `sing`" in unknown.err

    def test_failures_that_differ_in_the_item_alone_are_one(self, backfill: Backfill) -> None:
        said = backfill("status").out
        assert "sync: ValueError: {item} is broken\n    2 events: o/r1, o/r3" in said

    def test_the_story_tells_of_waits_and_their_reasons(self, backfill: Backfill) -> None:
        story = backfill("logs").out
        assert "started: test → http" in story
        assert "sync: waiting 100ms between batches (" in story
        assert "sync: batch 1: " in story
        assert "sync: o/r1 failed: ValueError: o/r1 is broken" in story
        assert "sync: 3 completed, 2 failed" in story
        assert story.splitlines()[-1].endswith("ended: failed")

    def test_runs_are_listed_and_filtered(self, backfill: Backfill) -> None:
        found = json.loads(backfill("runs", "--format", "json").out)["runs"]
        assert [(run["plan"], run["state"], run["failed"]) for run in found] == [
            ("test", "failed", 2)
        ]
        assert "test" in backfill("runs", "--plan", "te*", "--state-is", "failed").out
        assert backfill("runs", "--plan", "te*", "--state-is", "completed").err == "no runs\n"
        assert backfill("runs", "--state-is", "running", "--state-is", "dead").err == "no runs\n"
        assert backfill("runs", "--since", "1h", "--target", "elsewhere").out == ""

    @pytest.mark.parametrize("form", ["markdown", "json", "junit"])
    def test_a_report_is_written_in_every_form(self, backfill: Backfill, form: str) -> None:
        report = backfill("report", "--format", form).out
        assert "broken" in report
        if form == "junit":
            suite = ElementTree.fromstring(report)[0]  # noqa: S314 - our own
            assert (suite.get("tests"), suite.get("failures")) == ("5", "2")
            assert [case.get("name") for case in suite if len(case)] == ["o/r1", "o/r3"]


def test_a_retry_and_its_run_name_each_other(backfill: Backfill, tmp_path: Path) -> None:
    jobs = Jobs(failing=["o/r1"])
    with served(create_app({"app/sync": jobs})) as url:
        plan = write_plan(tmp_path, repos(3) + SYNC)
        assert backfill("run", plan, "--target", url).status == 1
        first = str(state_of(backfill)["run_id"])
        jobs.failing.clear()
        assert backfill("retry", first).status == 0
    retry = str(state_of(backfill)["run_id"])
    listed = backfill("runs").out.splitlines()
    assert listed[1].endswith(f"retries {first}")
    assert listed[2].endswith(f"retried by {retry}")
    cut, whole = backfill("runs", "--limit", "1"), backfill("runs", "--limit", "2")
    assert cut.err == "these are the latest 1; --limit lists more\n"
    assert whole.err == ""
    told = [json.loads(backfill("runs", "--limit", n, "--format", "json").out) for n in "12"]
    assert [one["more"] for one in told] == [True, False]
    again, original = json.loads(backfill("runs", "--format", "json").out)["runs"]
    assert (again["parent"], original["retries"]) == (first, [retry])
    assert f"it retries run {first}" in backfill("status", retry).out
    assert f"retried by {retry}" in backfill("status", first).out


def test_a_retry_that_failed_names_the_run_whose_rest_is_open(
    backfill: Backfill, tmp_path: Path
) -> None:
    with served(create_app({"app/sync": Jobs(failing=["o/r1"])})) as url:
        plan = write_plan(tmp_path, repos(3) + SYNC)
        backfill("run", plan, "--target", url)
        first = str(state_of(backfill)["run_id"])
        assert backfill("retry", first).status == 1
    assert f"it retries run {first}: `backfill status {first}` says" in backfill("status").out


def test_a_summary_is_added_to_the_file_where_ci_looks(backfill: Backfill, tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("# what another step wrote\n", encoding="utf-8")
    with served(create_app({"app/sync": Jobs()})) as url:
        plan = write_plan(tmp_path, repos(2) + SYNC)
        done = backfill("run", plan, "--target", url, "--summary-file", file)
    assert done.status == 0
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# what another step wrote\n\n### ")
    assert "| 1 | sync | 2 | 2 | 2 | 0 |" in text


def test_the_next_run_is_told_how_long_its_jobs_take_and_so_is_its_preview(
    backfill: Backfill, tmp_path: Path
) -> None:
    plan = write_plan(tmp_path, repos(4) + SYNC + "batch_size: 2\ndelay: 200ms\n")
    before = backfill("plan", plan)
    assert "time: about" not in before.err
    with served(create_app({"app/sync": Jobs()})) as url:
        assert "time: about" not in backfill("run", plan, "--target", url).err
        run_id = str(state_of(backfill)["run_id"])
        again = backfill("run", plan, "--target", url).err
    said = f"time: about 1s (its pacing and its jobs as in run {run_id})"
    assert said in again
    preview = backfill("plan", plan)
    assert "time: about 1s (its pacing and its jobs as in run" in preview.err
    assert preview.out == before.out, "the same plan prints the same"


def test_a_preview_reads_no_state_that_is_not_a_file_here(
    backfill: Backfill, tmp_path: Path
) -> None:
    """A dry run connects to nothing."""
    plan = write_plan(tmp_path, repos(4) + SYNC)
    done = backfill("plan", plan, env={"BACKFILL_STATE": "postgresql://127.0.0.1:1/none"})
    assert done.status == 0
    assert not (Path.cwd() / ".backfill").exists(), "nor does it make one"


def test_a_summary_that_github_would_drop_is_not_written(
    backfill: Backfill, tmp_path: Path
) -> None:
    file = tmp_path / "summary.md"
    file.write_text("x" * 1024 * 1024, encoding="utf-8")
    with served(create_app({"app/sync": Jobs()})) as url:
        plan = write_plan(tmp_path, repos(2) + SYNC)
        done = backfill("run", plan, "--target", url, "--summary-file", file)
    assert done.status == 0
    assert "is full: GitHub accepts no summary larger than 1 MiB" in done.err
    assert file.stat().st_size == 1024 * 1024


def test_waits_that_follow_each_other_take_one_line_of_the_story(
    backfill: Backfill, tmp_path: Path
) -> None:
    """A batch under `max_in_flight` waits before each of its requests."""
    with served(create_app({"app/sync": Jobs()})) as url:
        plan = write_plan(tmp_path, repos(6) + SYNC + "max_in_flight: 1\nbatch_size: 6\n")
        assert backfill("run", plan, "--target", url).status == 0
    lines = [line for line in backfill("logs").out.splitlines() if "1 job is in flight" in line]
    assert len(lines) <= 2
    assert any(line.endswith(" times)") for line in lines)


def test_the_story_is_followed_to_its_end_and_names_who_did_what(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs(failing=["o/r1"])
    with served(create_app({"app/sync": jobs})) as url:
        plan = write_plan(tmp_path, repos(6) + SYNC + "batch_size: 1\ndelay: 300ms\n")
        process = start("run", plan, "--target", url)
        jobs.wait_for(1)
        assert backfill("tune", "latest:test", "--delay", "200ms").status == 0
        assert backfill("pause", "latest:test").status == 0
        assert backfill("resume", "latest:test").status == 0
        story = backfill("logs", "latest:test", "--follow")
        assert story.status == 1
        assert process.wait(30) == 1
    lines = [line[21:] for line in story.out.splitlines()]
    assert lines[0].startswith("started: test")
    assert lines[-1] == "ended: failed"
    assert [f"sync: batch {n}: 1 event sent" for n in range(1, 7)] == [
        line for line in lines if ": batch " in line
    ]
    assert any(line.startswith("sync: o/r1 failed: ") for line in lines)
    pace = "another pace requested: delay 200ms"
    for what in (pace, "pause requested", "end of the pause requested"):
        assert any(line.startswith(f"{what}, by ") and "(process " in line for line in lines), what
    refused = backfill("logs", "--follow", "--format", "json")
    assert (refused.status, "--follow prints text" in refused.err) == (2, True)


def test_every_surface_says_who_started_resumed_and_retried_a_run(
    backfill: Backfill, tmp_path: Path
) -> None:
    """In CI it is the user that the job runs for."""
    env = {"GITHUB_ACTOR": "octocat"}
    jobs = Jobs(failing=["o/r1"])
    with served(create_app({"app/sync": jobs})) as url:
        plan = write_plan(tmp_path, repos(2) + SYNC)
        backfill("run", plan, "--target", url, "--no-wait", env=env)
        first = json.loads(backfill("status", "--format", "json").out)["run_id"]
        backfill("resume", "latest", env={"GITHUB_ACTOR": "", "GITLAB_USER_LOGIN": "hubot"})
        jobs.failing.clear()
        assert backfill("retry", "latest", env=env).status == 0
    entries = json.loads(backfill("logs", first, "--format", "json").out)["entries"]
    did = {one["message"]: one["who"] for one in entries if one["who"]}
    retry = json.loads(backfill("status", "--format", "json").out)
    assert list(did) == [
        entries[0]["message"], "resumed", f"retried as run {retry['run_id']}",
    ]  # fmt: skip
    assert [who.partition("@")[0] for who in did.values()] == ["octocat", "hubot", "octocat"]
    assert all("(process " in who for who in did.values())
    assert retry["parent"] == first
    started_by = retry["started_by"]
    assert started_by.startswith("octocat@")
    assert f"which retries {first}, by {started_by}\n" in backfill("logs").out
    backfill("report", "--html", "run.html")
    for told in (
        backfill("status").out,
        backfill("report", "--format", "markdown").out,
        backfill("runs", "--format", "json").out,
        Path("run.html").read_text("utf-8"),
    ):
        assert "octocat" in told


def test_a_suite_of_junit_is_called_as_its_stage(
    backfill: Backfill, tmp_path: Path, url: str, jobs: Jobs
) -> None:
    operations = "  {name}: {event: app/sync, for_each: repo, payload: {repo: '{{ repo.repo }}'}}\n"
    catalog = "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n" + "".join(
        operations.replace("{name}", name) for name in ("one", "two")
    )
    body = repos(2) + "operations: [one, two]\nflow: items\n"
    backfill("run", write_plan(tmp_path, body, catalog=catalog), "--target", url)
    assert len(jobs.items) == 4
    suites = ElementTree.fromstring(backfill("report", "--format", "junit").out)  # noqa: S314
    assert [suite.get("name") for suite in suites] == ["one + two"]
    assert [case.get("classname") for case in suites[0]] == ["one", "two"] * 2


@pytest.mark.parametrize("name", ["a #1?%20.html", "a:b.html"])
def test_a_report_links_to_its_events_whatever_its_name(
    backfill: Backfill, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """`#`, `?` and `%` are more than letters in a link; `a:` would be a scheme."""
    monkeypatch.setattr("runner.output.page.MAX_ROWS", 1)
    plan = write_plan(tmp_path, repos(2) + "operations: [sync]\n")
    assert backfill("run", plan, "--target", url).status == 0
    page = tmp_path / name
    assert backfill("report", "--html", page).status == 0
    (href,) = re.findall(r'<a href="([^"]+)">all events as CSV', page.read_text("utf-8"))
    assert urljoin(page.as_uri(), html.unescape(href)) == Path(f"{page}.csv").as_uri()
    assert Path(f"{page}.csv").is_file()
