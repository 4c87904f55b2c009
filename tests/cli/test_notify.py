"""`notify:` in the project file: who is notified of a run, whatever becomes of the notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from runner.app.notify import Outbox
from tests.cli.conftest import Jobs, Start, served, until
from tests.documents import expect_form
from tests.git import Git
from tests.hooks import Hook, listening
from tests.support import repos, write_plan
from tests.types import Backfill

SYNC = "operations: [sync]\n"
SLOWLY = "operations: [fire]\nbatch_size: 1\ndelay: 100ms\n"


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening(Hook()) as found:
        yield found


def write_project(folder: Path, *hooks: str) -> None:
    lines = "".join(f"  - {one}\n" for one in hooks)
    head = "apiVersion: backfill/v1\nkind: BackfillProject\nenvironments: {prod: {}}\nnotify:\n"
    (folder / "backfill.yaml").write_text(head + lines, encoding="utf-8")


def test_a_run_tells_of_its_start_its_first_failure_and_its_end(
    backfill: Backfill, tmp_path: Path, url: str, hook: Hook, jobs: Jobs
) -> None:
    write_project(tmp_path, "{kind: webhook, url: HOOK}")
    jobs.failing = {"o/r1", "o/r2"}
    plan = write_plan(tmp_path, repos(5) + SYNC)
    done = backfill("run", plan, "--target", url, "--env", "prod", env={"HOOK": hook.url})
    assert done.status == 1, done.err
    assert hook.events == ["started", "failed", "ended"]
    for body in hook.told:
        assert expect_form(json.dumps(body)) == "Notification"
        assert (body["plan"], body["target"], body["environment"]) == ("test", url, "prod")
        assert body["run_id"] in done.out + done.err
    started, failed, ended = hook.told
    assert (started["status"], started["totals"]["planned"]) == ("running", 5)
    assert started["link"] == f"{url}/runs"
    assert failed["failure"]["message"].endswith("is broken")
    assert failed["link"].startswith(f"{url}/run?runID=")
    assert (ended["status"], ended["totals"]["completed"], ended["totals"]["failed"]) == (
        *("failed", 3),
        2,
    )


def test_each_hook_is_told_of_what_it_asks_for_and_slack_in_its_own_form(
    backfill: Backfill, tmp_path: Path, url: str, hook: Hook
) -> None:
    write_project(tmp_path, "{kind: slack, url: HOOK, on: [ended]}")
    done = backfill(
        "run", write_plan(tmp_path, repos(2) + SYNC), "--target", url, env={"HOOK": hook.url}
    )
    assert done.status == 0
    (body,) = hook.told
    assert body["text"] == f"Backfill test → {url}: completed"
    section, context = body["blocks"]
    assert "2 planned, 2 accepted, 2 completed" in section["text"]["text"]
    assert f"<{url}/runs|look at it>" in context["elements"][0]["text"]


def test_a_refusal_is_noted_once_while_a_run_is_driven_and_at_its_end(
    backfill: Backfill, tmp_path: Path, url: str, hook: Hook
) -> None:
    write_project(tmp_path, "{kind: webhook, url: HOOK}")
    hook.refusals = [404] * 20
    plan = write_plan(tmp_path, repos(1) + SYNC)
    done = backfill("run", plan, "--target", url, env={"HOOK": hook.url})
    assert done.status == 0
    assert hook.tries > 1
    assert done.err.count("notify: HOOK: it answers 404") == 1


@pytest.mark.parametrize("command", ["resume", "retry", "apply"])
def test_whatever_drives_a_run_tells_of_it(
    command: str, backfill: Backfill, tmp_path: Path, url: str, hook: Hook, jobs: Jobs
) -> None:
    write_project(tmp_path, "{kind: webhook, url: HOOK}")
    plan = write_plan(tmp_path, repos(3) + SYNC)
    env = {"HOOK": hook.url}
    if command == "apply":
        assert backfill("apply", plan, "--target", url, env=env).status == 0
        assert hook.events == ["started", "ended"]
        return
    jobs.failing = {"o/r1"}
    assert backfill("run", plan, "--target", url, env=env).status == 1
    hook.told.clear()
    jobs.failing = set()
    done = backfill(command, "latest", env=env)
    if command == "resume":  # it ends once more
        assert (done.status, hook.events) == (1, ["ended"])
    else:
        assert (done.status, hook.events) == (0, ["started", "ended"])


def test_a_run_that_follows_from_a_commit_is_told_of_as_the_commit_says(
    backfill: Backfill, tmp_path: Path, url: str, hook: Hook, jobs: Jobs
) -> None:
    """The next commit names another hook, to notify only of failures."""
    remote = Git.init(tmp_path / "remote")
    write_plan(remote.folder, repos(2) + SYNC)
    write_project(remote.folder, "{kind: webhook, url: HOOK}")
    remote.commit()
    with listening(Hook()) as other:
        env = {"HOOK": hook.url, "OTHER": other.url}

        def sync() -> int:
            options = ("--path", ".", "--target", url, "--env", "prod", "--once")
            return backfill("sync", "--repo", remote.folder, *options, env=env).status

        assert sync() == 0
        assert hook.events == ["started", "ended"]
        assert {(body["plan"], body["environment"]) for body in hook.told} == {("test", "prod")}
        assert sync() == 0, "nothing is pending"
        jobs.failing = {"o/r2"}
        plan = write_plan(remote.folder, repos(3) + SYNC)
        plan.write_text(plan.read_text().replace("name: test", "name: next"))
        write_project(remote.folder, "{kind: webhook, url: OTHER, on: [failed]}")
        remote.commit()
        assert sync() == 1
    assert (hook.events, other.events) == (["started", "ended"], ["failed"])


@pytest.mark.parametrize(
    ("broken", "note"),
    [
        ("http://127.0.0.1:9/services/a-secret-path", "HOOK: it does not answer"),
        ("a-secret-path", "HOOK is not a URL"),
        ("", "HOOK is not set"),
    ],
)
def test_a_hook_that_is_not_there_changes_nothing_and_its_url_is_nowhere(
    broken: str, note: str, backfill: Backfill, tmp_path: Path, url: str
) -> None:
    write_project(tmp_path, "{kind: slack, url: HOOK}")
    plan = write_plan(tmp_path, repos(2) + SYNC)
    env = {"HOOK": broken, "BACKFILL_STATE": str(tmp_path / "state.db")}
    done = backfill("run", plan, "--target", url, "--format", "json", env=env)
    assert done.status == 0
    assert json.loads(done.out)["status"] == "completed"
    assert note in done.err
    logs = backfill("logs", "latest", env=env)
    doctor = backfill("doctor", plan, "--target", url, env=env)
    assert ("is not a URL" in doctor.out) == (broken == "a-secret-path")
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("state.db*"))
    told = done.out + done.err + logs.out + doctor.out + doctor.err + kept.decode("latin-1")
    assert "a-secret-path" not in told


def test_a_hook_that_hangs_is_in_the_way_of_no_send(
    backfill: Backfill, tmp_path: Path, url: str, jobs: Jobs
) -> None:
    with listening(Hook(hangs=True)) as hook:
        write_project(tmp_path, "{kind: webhook, url: HOOK}")
        began = time.monotonic()
        plan = write_plan(tmp_path, repos(20) + SYNC)
        env = {"HOOK": hook.url}
        done = backfill("run", plan, "--target", url, "--format", "json", env=env)
        assert done.status == 0, done.err
        summary = json.loads(done.out)
        took = time.monotonic() - began
    assert summary["status"] == "completed"
    assert summary["duration_s"] < 5, "no send waits for the hook"
    assert took < 15, "all of it has 5 s"
    assert hook.tries > 0


def test_a_refusal_that_may_pass_is_tried_again_and_one_that_may_not_is_not(
    tmp_path: Path, backfill: Backfill, url: str
) -> None:
    with listening(Hook(refusals=[503])) as busy, listening(Hook(refusals=[404] * 9)) as gone:
        write_project(
            tmp_path,
            "{kind: webhook, url: BUSY, on: [ended]}",
            "{kind: webhook, url: GONE, on: [ended]}",
        )
        plan = write_plan(tmp_path, repos(1) + SYNC)
        env = {"BUSY": busy.url, "GONE": gone.url}
        done = backfill("run", plan, "--target", url, env=env)
    assert done.status == 0
    assert (busy.events, busy.tries) == (["ended"], 2)
    assert (gone.events, gone.tries) == ([], 1)
    assert "GONE: it answers 404" in done.err


async def huge(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a gigabyte."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(1_024):
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})


async def moved(scope: Scope, receive: Receive, send: Send) -> None:
    """Redirect to an address that nobody configured."""
    elsewhere = [(b"location", b"http://127.0.0.1:9/another-secret-path")]
    await send({"type": "http.response.start", "status": 307, "headers": elsewhere})
    await send({"type": "http.response.body", "body": b"see http://a-secret-path"})


@pytest.mark.parametrize(("answers", "note"), [(huge, None), (moved, "HOOK: it answers 307")])
def test_an_answer_is_neither_read_nor_followed(
    answers: Any, note: str | None, backfill: Backfill, tmp_path: Path, url: str
) -> None:
    write_project(tmp_path, "{kind: slack, url: HOOK, on: [ended]}")
    plan = write_plan(tmp_path, repos(1) + SYNC)
    with served(answers) as hook:
        began = time.monotonic()
        env = {"HOOK": f"{hook}/services/T0/a-secret-path"}
        done = backfill("run", plan, "--target", url, env=env)
        logs = backfill("logs", "latest")
    assert done.status == 0, done.err
    assert time.monotonic() - began < 10
    assert ("HOOK: " in done.err) == bool(note)
    assert note is None or note in done.err
    assert "secret-path" not in done.out + done.err + logs.out


def test_held_for_longer_than_is_allowed_a_run_tells_why_and_since_when(
    backfill: Backfill, start: Start, tmp_path: Path, url: str, hook: Hook
) -> None:
    write_project(tmp_path, "{kind: webhook, url: HOOK, on: [held], held_after: 200ms}")
    plan = write_plan(tmp_path, repos(40) + "operations: [sync]\nbatch_size: 1\ndelay: 100ms\n")
    run = start("run", plan, "--target", url, env={**os.environ, "HOOK": hook.url})
    until(lambda: backfill("pause", "latest").status == 0)
    until(lambda: hook.events == ["held"])
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    (body,) = hook.told
    assert body["reason"] == "paused by an operator"
    assert body["since"] < body["at"]
    assert body["status"] == "running"


def test_what_was_not_delivered_before_a_kill_is_delivered_by_whoever_goes_on(
    tmp_path: Path, backfill: Backfill, url: str, hook: Hook, start: Start, jobs: Jobs
) -> None:
    """The process is killed while the hook hangs: the notice is in the journal."""
    write_project(tmp_path, "{kind: webhook, url: HOOK}")
    plan = write_plan(tmp_path, repos(30) + "operations: [sync]\nbatch_size: 1\ndelay: 100ms\n")
    hook.hangs = True
    run = start("run", plan, "--target", url, env={**os.environ, "HOOK": hook.url})
    jobs.wait_for(2)
    until(lambda: hook.tries > 0)
    run.kill()
    run.communicate(timeout=60)
    hook.hangs = False
    with (
        closing(sqlite3.connect(".backfill/state.db")) as state,
        state,
    ):  # otherwise the next attempt would take a while
        state.execute("UPDATE notices SET due = 0")
    assert backfill("resume", "latest", env={"HOOK": hook.url}).status == 0
    assert hook.events == ["started", "ended"]


def test_a_state_that_fails_ends_no_run(tmp_path: Path) -> None:
    """Whatever goes wrong with the notices, nothing is raised."""

    class Lost:
        def hooks(self, _run: str) -> list[Any]:
            raise RuntimeError("anything")

    lost: Any = Lost()
    asyncio.run(Outbox(lost, "RUN1", {}, print).keep())


def test_an_url_in_the_place_of_a_variable_is_refused_and_not_echoed(
    backfill: Backfill, tmp_path: Path
) -> None:
    write_project(tmp_path, '{kind: slack, url: "https://hooks.slack.com/services/T1/B1/s3cr3t"}')
    done = backfill("validate", write_plan(tmp_path, repos(1) + SYNC))
    assert done.status == 3
    assert "backfill.yaml:5" in done.out + done.err
    assert "s3cr3t" not in done.out + done.err
