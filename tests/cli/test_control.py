"""Controlling runs from another terminal: real processes that share a state."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import Jobs, Start, served, until
from tests.support import repos, write_plan
from tests.types import Backfill

SLOWLY = "operations: [fire]\nbatch_size: 1\ndelay: 100ms\n"


def _run(plan: Path, url: str) -> tuple[str, ...]:
    return ("run", str(plan), "--target", url, "--format", "json")


def _hurried(backfill: Backfill) -> None:
    """Set the delay of the run's remaining batches to zero."""
    assert backfill("tune", "latest", "--delay", "0s").status == 0


def test_a_paused_run_sends_nothing_until_it_is_resumed_and_then_the_rest(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs()
    with served(create_app({"app/fire": jobs})) as url:
        process = start(*_run(write_plan(tmp_path, repos(60) + SLOWLY), url))
        jobs.wait_for(3)
        paused = backfill("pause", "latest")
        assert paused.status == 0
        assert "is paused after the request in flight" in paused.out
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting: paused by an operator" in line:
                break
        before = len(jobs.items)
        assert before < 60
        time.sleep(0.5)  # time for five batches: a run that went on would have sent them
        assert len(jobs.items) == before
        _hurried(backfill)
        resumed = backfill("resume", "latest")
        assert resumed.status == 0
        assert "continues" in resumed.err
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert sorted(jobs.items) == sorted(f"o/r{n}" for n in range(60))


def test_a_cancelled_run_ends_within_a_request_and_stays_ended(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs()
    with served(create_app({"app/fire": jobs})) as url:
        process = start(*_run(write_plan(tmp_path, repos(200) + SLOWLY), url))
        jobs.wait_for(3)
        cancelled = backfill("cancel", "latest")
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 7
        summary = json.loads(out)
        assert summary["status"] == "cancelled"
        assert cancelled.status == 0
        assert f"{summary['totals']['accepted']} of 200 events were sent" in cancelled.out
        again = backfill("resume", "latest")
    assert again.status == 2
    assert "was cancelled and cannot be resumed" in again.err
    assert len(jobs.items) < 200


def test_cancel_ends_the_jobs_that_go_on_and_says_what_had_run_anyway(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs(held=["o/r1", "o/r3"])
    with served(create_app({"app/sync": jobs})) as url:
        process = start(*_run(write_plan(tmp_path, repos(4) + "operations: [sync]\n"), url))
        jobs.wait_for(4)
        done = backfill("cancel", "latest", "--jobs")
        process.communicate(timeout=30)
        assert done.status == 0, done.err
        assert "2 jobs cancelled" in done.out
        second = backfill("cancel", "latest", "--jobs")
    assert "0 jobs cancelled" in second.out
    assert process.returncode == 7


def test_what_a_cancelled_run_has_left_alone_is_neither_running_nor_left_to_do(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs(held=[f"o/r{number}" for number in range(1, 60)])
    body = repos(60) + "operations: [sync]\nbatch_size: 1\ndelay: 100ms\n"
    with served(create_app({"app/sync": jobs})) as url:
        process = start(*_run(write_plan(tmp_path, body), url))
        jobs.wait_for(4)
        until(lambda: "1 completed" in backfill("status").out)
        backfill("cancel", "latest")
        process.communicate(timeout=30)
    told = json.loads(backfill("status", "--format", "json").out)
    (stage,) = told["stages"]
    open_ = stage["sent"] - stage["completed"]
    assert open_ >= 3
    assert (stage["running"], stage["not_followed"], told["left"]) == (0, open_, None)
    assert told["reason"] == "cancelled by an operator"
    words = f"{stage['sent']}/60 sent, {open_} not followed to the end, 1 completed"
    assert f"1. sync: {words}\n" in backfill("status").out
    backfill("report", "--html", "run.html")
    page = Path("run.html").read_text("utf-8")
    assert f"{open_} not followed to the end" in page
    assert f"{open_} running" not in page
    stage_line, *notes = backfill("status", "--watch").err.splitlines()
    assert stage_line == f"1. sync: {stage['sent']}/60 sent, 1 completed"
    assert [note.partition(", by ")[0] for note in notes] == ["note: cancel requested"]


def test_cancel_ends_the_jobs_of_a_run_whose_process_was_killed(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs(held=["o/r1", "o/r3"])
    with served(create_app({"app/sync": jobs})) as url:
        process = start(*_run(write_plan(tmp_path, repos(4) + "operations: [sync]\n"), url))
        jobs.wait_for(4)
        # An event that is not acknowledged yet may not be recorded as sent.
        until(lambda: json.loads(backfill("status", "--format", "json").out)["stages"][0]["sent"])
        process.kill()
        process.communicate(timeout=30)
        done = backfill("cancel", "latest", "--jobs")
    assert done.status == 0, done.err
    assert "2 jobs cancelled" in done.out


def _refusing(app: ASGIApp, ended: Callable[[], None]) -> ASGIApp:
    """A server without DELETE: it calls `ended`, then answers 404 for every job."""

    async def without(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "DELETE":
            ended()
            body = {"error": "Unable to load function run", "data": None, "status": 404}
            await JSONResponse(body, 404)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return without


@pytest.mark.parametrize("ends", [False, True], ids=["it goes on", "it has ended meanwhile"])
def test_a_job_that_the_server_does_not_cancel_has_ended_only_where_it_has(
    backfill: Backfill, start: Start, tmp_path: Path, ends: bool
) -> None:
    """A real server was observed to answer 404 for jobs that it listed as running."""
    engine = create_app({"app/sync": (jobs := Jobs(held=["o/r0"]))})

    def end() -> None:
        for run in engine.state.engine.runs_of(sent[0]) if ends else ():
            engine.state.engine.cancel(run)

    with served(_refusing(engine, end)) as url:
        process = start(*_run(write_plan(tmp_path, repos(1) + "operations: [sync]\n"), url))
        jobs.wait_for(1)
        backfill("cancel", "latest")
        process.communicate(timeout=30)
        listed = backfill("events", "latest", "--format", "jsonl").out
        sent = [json.loads(listed)["internal_id"]]
        done = backfill("cancel", "latest", "--jobs")
    if ends:
        assert done.status == 0, done.err
        assert "0 jobs cancelled; 1 had ended already" in done.out
    else:
        assert done.status == 7
        assert "0 jobs cancelled; 0 had ended already" in done.out
        assert "1 job is still running: the server did not cancel it (404)" in done.err


def test_a_tuned_run_takes_the_new_pace_from_its_next_batch_on(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs()
    body = repos(60) + "operations: [fire]\nbatch_size: 1\ndelay: 400ms\n"
    with served(create_app({"app/fire": jobs})) as url:
        process = start(*_run(write_plan(tmp_path, body), url))
        jobs.wait_for(2)
        tuned = backfill("tune", "latest", "--batch-size", "50", "--delay", "10ms")
        _, err = process.communicate(timeout=20)  # 24 s at the old delay
    assert tuned.status == 0
    assert process.returncode == 0
    assert "batches of 50, 0s apart: tuned by an operator" in err or "tuned by an operator" in err


def test_a_target_is_held_for_every_run_with_the_reason_until_it_is_let_go(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs()
    with served(create_app({"app/fire": jobs})) as url:
        held = backfill("pause", "--target", url, "--reason", "incident 42", "--for", "4h")
        assert (held.status, "is held: incident 42" in held.out) == (0, True)
        process = start(*_run(write_plan(tmp_path, repos(3) + SLOWLY), url))
        assert process.stderr is not None
        for line in process.stderr:
            if "is held: incident 42" in line:
                break
        assert jobs.items == []
        assert backfill("resume", "--target", url).status == 0
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(jobs.items) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause",),
        ("pause", "--target", "dev"),
        ("pause", "latest", "--target", "dev", "--reason", "x"),
        ("pause", "--target", "dev", "--reason", " "),
        ("pause", "latest", "--reason", "x"),
        ("resume",),
        ("resume", "--target", "dev"),
        ("resume", "--target", "dev", "--from-journal"),
    ],
)
def test_a_hold_that_says_too_little_or_too_much_is_a_usage_error(
    backfill: Backfill, arguments: tuple[str, ...]
) -> None:
    assert backfill(*arguments).status == 2


def test_a_cap_that_would_count_nothing_is_refused(backfill: Backfill, tmp_path: Path) -> None:
    """Nothing accepted is without effect."""
    with served(create_app({"app/fire": Jobs(), "app/sync": Jobs()})) as url:
        plan = write_plan(tmp_path, repos(2) + "operations: [fire]\n")
        assert backfill("run", plan, "--target", url).status == 0
        for command in (("tune", "latest", "--max-in-flight", "2"), ("pause", "latest")):
            refused = backfill(*command)
            assert refused.status == 2
            assert "is not under way: it is completed" in refused.err
            assert "hint: `backfill status " in refused.err
        assert backfill("run", plan, "--target", url, "--no-wait").status == 0
        tuned = backfill("tune", "latest", "--max-in-flight", "2")
        capped = write_plan(tmp_path, repos(2) + "operations: [sync]\nmax_in_flight: 1\n")
        unfollowed = backfill("run", capped, "--target", url, "--no-wait")
    assert tuned.status == unfollowed.status == 2
    assert "max_in_flight` of `sync` limits the jobs that are running" in unfollowed.err


@pytest.mark.parametrize(
    ("body", "arguments", "message"),
    [
        ("", ["--no-wait"], "has sent all of its events"),
        ("pacing: scheduled\n", [], "has no pauses to change"),
    ],
    ids=["sent", "scheduled"],
)
@pytest.mark.parametrize("pace", [["--batch-size", "2"], ["--delay", "1s"]])
def test_a_pace_that_would_change_nothing_is_refused(
    backfill: Backfill,
    tmp_path: Path,
    body: str,
    arguments: list[str],
    message: str,
    pace: list[str],
) -> None:
    with served(create_app({"app/sync": Jobs()})) as url:
        plan = write_plan(tmp_path, repos(2) + f"operations: [sync]\n{body}")
        assert backfill("run", plan, "--target", url, "--yes", *arguments).status == 0
        tuned = backfill("tune", "latest", *pace)
    assert tuned.status == 2
    assert message in tuned.err


def test_nothing_is_tuned_of_a_run_that_has_sent_all(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    """`--max-in-flight` said "from the next batch on", and there was none."""
    jobs = Jobs(held=["o/r0"])
    with served(create_app({"app/sync": jobs})) as url:
        plan = write_plan(tmp_path, repos(2) + "operations: [sync]\n")
        process = start("run", plan, "--target", url, "--yes")
        jobs.wait_for(2)
        until(lambda: "2/2 sent" in backfill("status").out)
        for pace in (["--batch-size", "2"], ["--delay", "1s"], ["--max-in-flight", "1"]):
            tuned = backfill("tune", "latest", *pace)
            assert (tuned.status, "has sent all of its events" in tuned.err) == (2, True)
        assert backfill("cancel", "latest", "--jobs", "--yes").status == 0
        process.communicate(timeout=30)


@pytest.mark.parametrize(("arguments", "state"), [([], "completed"), (["--no-wait"], "sent")])
def test_cancel_says_how_a_run_has_ended_whose_jobs_alone_it_cancels(
    backfill: Backfill, tmp_path: Path, arguments: list[str], state: str
) -> None:
    """It used to say "cancelled" while all else told the run's real status, and to count outcomes
    before it looked at the jobs."""
    with served(create_app({"app/sync": Jobs()})) as url:
        plan = write_plan(tmp_path, repos(2) + "operations: [sync]\n")
        assert backfill("run", plan, "--target", url, "--yes", *arguments).status == 0
        cancelled = backfill("cancel", "latest", "--jobs", "--yes")
        status = backfill("status", "latest")
    assert cancelled.status == 0, cancelled.err
    assert f" is {state}: 2 of 2 events were sent; 2 completed\n" in cancelled.out
    assert "without an outcome" not in cancelled.out
    assert status.out.startswith(state.upper())
    assert "2/2 sent, 2 completed\n" in status.out


def test_a_second_start_of_a_plan_is_refused_and_can_wait(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs()
    plan = write_plan(tmp_path, repos(200) + SLOWLY)
    (tmp_path / "short").mkdir()
    short = write_plan(tmp_path / "short", repos(2) + SLOWLY)  # a plan of the same name
    with served(create_app({"app/fire": jobs})) as url:
        first = start(*_run(plan, url))
        jobs.wait_for(2)
        second = backfill(*_run(short, url))
        assert second.status == 5
        assert "of this plan is under way" in second.err
        assert f"(process {first.pid})" in second.err
        third = start(*_run(short, url), "--wait-lock", "1m")
        assert third.stderr is not None
        for line in third.stderr:
            if "waiting for the lock" in line:
                break
        first.send_signal(signal.SIGTERM)
        out, err = third.communicate(timeout=30)
    assert third.returncode == 0, err
    assert json.loads(out)["totals"]["accepted"] == 2


def test_a_resume_of_a_run_that_is_alive_is_refused(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs()
    with served(create_app({"app/fire": jobs})) as url:
        process = start(*_run(write_plan(tmp_path, repos(60) + SLOWLY), url))
        jobs.wait_for(2)
        resumed = backfill("resume", "latest")
        _hurried(backfill)
        process.communicate(timeout=30)
    assert resumed.status == 5
    assert len(jobs.items) == 60


def test_the_lock_of_a_killed_process_is_taken_over_by_a_new_run(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs()
    plan = write_plan(tmp_path, repos(10) + SLOWLY)
    with served(create_app({"app/fire": jobs})) as url:
        process = start(*_run(plan, url))
        jobs.wait_for(2)
        process.kill()
        process.communicate()
        write_plan(tmp_path, repos(10) + SLOWLY.replace("100ms", "0s"))
        again = backfill(*_run(plan, url))
    assert again.status == 0
    assert "has not ended" in again.err
    assert "sends everything again" in again.err


@pytest.mark.parametrize("loop", [False, True])
def test_a_pause_file_holds_the_run_until_it_is_gone(
    start: Start, tmp_path: Path, loop: bool
) -> None:
    """`loop`: it is a link to itself."""
    jobs, flag = Jobs(), tmp_path / "hold"
    flag.symlink_to(flag) if loop else flag.touch()
    with served(create_app({"app/fire": jobs})) as url:
        plan = write_plan(tmp_path, repos(3) + SLOWLY)
        process = start(*_run(plan, url), "--pause-file", flag)
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting: " in line:
                break
        assert jobs.items == []
        flag.unlink()
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert len(jobs.items) == 3


def test_a_hangup_ends_the_run_cleanly(backfill: Backfill, start: Start, tmp_path: Path) -> None:
    jobs = Jobs()
    with served(create_app({"app/fire": jobs})) as url:
        process = start(*_run(write_plan(tmp_path, repos(60) + SLOWLY), url))
        jobs.wait_for(2)
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 7
        assert json.loads(out)["status"] == "incomplete"
        _hurried(backfill)
        assert backfill("resume", "latest").status == 0
    assert sorted(jobs.items) == sorted(f"o/r{n}" for n in range(60))


def test_retry_sends_what_failed_with_fresh_ids_and_adds_up(
    backfill: Backfill, tmp_path: Path
) -> None:
    jobs = Jobs(failing=["o/r1", "o/r3", "o/r4"])
    body = repos(6) + "operations: [sync]\non_failure: continue\n"
    with served(create_app({"app/sync": jobs})) as url:
        first = json.loads(backfill(*_run(write_plan(tmp_path, body), url)).out)
        assert first["totals"]["failed"] == 3
        jobs.failing = {"o/r4"}
        second = json.loads(backfill("retry", first["run_id"], "--format", "json").out)
        assert second["totals"]["planned"] == 3
        assert second["chain"]["outstanding"] == 1
        assert second["chain"]["totals"]["completed"] == 5
        jobs.failing = set()
        third = backfill("retry", first["run_id"], "--item", "o/r[14]", "--format", "json")
        assert json.loads(third.out)["totals"]["planned"] == 1, "o/r1 was done by the retry before"
        assert json.loads(third.out)["chain"]["outstanding"] == 0
        nothing = backfill("retry", first["run_id"])
    assert nothing.status == 4
    junit = backfill("report", first["run_id"], "--format", "junit").out
    assert ' failures="0">' in junit, "later attempts have done the work"
    assert sorted(jobs.items[6:]) == ["o/r1", "o/r3", "o/r4", "o/r4"]


def test_a_canary_that_a_retry_has_made_good_lets_the_others_go(
    backfill: Backfill, tmp_path: Path
) -> None:
    plan = write_plan(tmp_path, repos(3) + "operations: [fire]\ncanary: 1\nmax_failures: 3\n")
    jobs = Jobs(failing=["o/r0"])
    with served(create_app({"app/fire": jobs})) as url:
        first = backfill(*_run(plan, url))
        assert first.status == 1
        run = json.loads(first.out)["run_id"]
        goes_on = f"backfill resume {run} --past-failures"
        again = backfill("resume", run)
        applied = backfill("apply", plan, "--target", url)
        assert applied.status == 1
        surfaces = again.out, applied.err, backfill("status", run).out
        for said in (*surfaces, backfill("report", run).out):
            assert goes_on in said
        jobs.failing.clear()
        assert backfill("retry", run).status == 0
        assert "--past-failures" not in backfill("status", run).out
        assert backfill("resume", run).status == 0
    assert sorted(jobs.items) == ["o/r0", "o/r0", "o/r1", "o/r2"]


def test_every_surface_says_how_what_a_failure_has_kept_back_is_sent(
    backfill: Backfill, tmp_path: Path
) -> None:
    plan = write_plan(tmp_path, repos(3) + "operations: [fire]\ncanary: 1\n")
    jobs, page = Jobs(failing=["o/r0"]), tmp_path / "page.html"

    def surfaces(run: str) -> list[str]:
        assert backfill("report", run, "--html", page).status == 0
        said = (backfill("status", run).out, backfill("report", run).out, page.read_text("utf-8"))
        assert all("o send the 2 events that it has not sent" in one for one in said)
        return list(said)

    with served(create_app({"app/fire": jobs})) as url:
        run = json.loads(backfill(*_run(plan, url)).out)["run_id"]
        resume = f"backfill resume {run}"
        assert all(f"{resume} --past-failures" in one for one in surfaces(run))
        jobs.failing.clear()
        assert backfill("retry", run).status == 0
        assert all(resume in one and "--past-failures" not in one for one in surfaces(run))
        assert backfill("resume", run).status == 0


def test_resume_from_the_journal_sends_what_was_reviewed_then(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs()
    plan = write_plan(tmp_path, repos(40) + SLOWLY)
    with served(create_app({"app/fire": jobs})) as url:
        process = start(*_run(plan, url))
        jobs.wait_for(3)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        plan.write_text("no plan any more", encoding="utf-8")
        refused = backfill("resume", "latest")
        assert refused.status == 3
        plan.unlink()
        gone = backfill("resume", "latest")
        assert gone.status == 5
        assert "--from-journal" in gone.err
        _hurried(backfill)
        assert backfill("resume", "latest", "--from-journal").status == 0
    assert sorted(jobs.items) == sorted(f"o/r{n}" for n in range(40))


def test_resume_goes_on_with_a_plan_that_has_changed_only_after_what_was_sent(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    jobs = Jobs()
    plan = write_plan(tmp_path, repos(40) + SLOWLY)
    with served(create_app({"app/fire": jobs})) as url:
        process = start(*_run(plan, url))
        jobs.wait_for(2)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        write_plan(tmp_path, repos(42) + SLOWLY)
        _hurried(backfill)
        resumed = backfill("resume", "latest", "--format", "json")
    assert resumed.status == 0
    assert "the plan has changed after what was sent" in resumed.err
    assert json.loads(resumed.out)["totals"]["planned"] == 42
    assert sorted(jobs.items) == sorted(f"o/r{n}" for n in range(42))
