"""`run` and `resume` as processes: on the embedded target, and against a server on loopback."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import COMMAND, Start, served, until
from tests.support import repos, write_plan
from tests.types import Backfill

SYNC = "operations: [sync]\n"
KEYS = {"INNGEST_EVENT_KEY": "event-key-of-the-test", "INNGEST_SIGNING_KEY": "abcdef012345"}


def test_the_quickstart_runs_to_its_end(backfill: Backfill, quickstart: Path) -> None:
    result = backfill("run", quickstart)
    assert result.status == 0
    assert "COMPLETED  quickstart → embedded" in result.out
    assert "5 of 5 events accepted, 5 jobs, 5 completed" in result.out
    assert (quickstart.parent / "quickstart.db").exists(), "the worker did its work"
    assert "3. workspace-aggregation: 1/1 sent, 1 completed; done" in result.err


def test_the_summary_as_json_is_all_that_is_on_stdout(backfill: Backfill, quickstart: Path) -> None:
    summary = json.loads(backfill("run", quickstart, "--format", "json").out)
    assert summary["status"] == "completed"
    assert summary["failures"] == []
    assert summary["totals"] == {
        "planned": 5,
        "accepted": 5,
        "deduplicated": 0,
        "rejected": 0,
        "jobs": 5,
        "completed": 5,
        "failed": 0,
        "cancelled": 0,
        "timed_out": 0,
        "dropped": 0,
        "no_job": 0,
        "unknown": 0,
    }
    assert len(summary["run_id"]) == 26


def test_a_second_run_is_not_a_duplicate_of_the_first(backfill: Backfill, quickstart: Path) -> None:
    for _ in range(2):
        summary = json.loads(backfill("run", quickstart, "--format", "json").out)
        assert summary["totals"]["completed"] == 5


def test_a_failing_job_fails_the_run_with_its_message(backfill: Backfill, quickstart: Path) -> None:
    text = quickstart.read_text(encoding="utf-8").replace("vercel/ai", "nobody/nothing")
    quickstart.write_text(text, encoding="utf-8")
    result = backfill("run", quickstart)
    assert result.status == 1
    assert "FAILED" in result.out
    assert "nobody/nothing" in result.out
    assert "ValueError: " in result.out
    assert "2 events were not sent, since the plan stops on a failure" in result.out


def test_an_event_that_nothing_listens_to_fails_the_run(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(2) + SYNC)
    result = backfill("run", plan)
    assert result.status == 1
    assert "no function listens to `app/sync`: no job started" in result.out
    assert "2 started no job" in result.out
    assert "the embedded target has no handler for `app/sync`" in result.err


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        ("nowhere:sync", "there is no module `nowhere`"),
        ("worker:snyc", "did you mean `sync`?"),
        ("broken:sync", "cannot be imported: ZeroDivisionError"),
        ("worker:number", "is not a function: int"),
    ],
)
def test_a_handler_that_cannot_be_loaded_stops_the_run_before_anything_is_sent(
    backfill: Backfill, tmp_path: Path, handler: str, words: str
) -> None:
    (tmp_path / "worker.py").write_text("def sync(event): ...\nnumber = 3\n", encoding="utf-8")
    (tmp_path / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    plan = write_plan(tmp_path, repos(1) + SYNC + f"handlers: {{app/sync: '{handler}'}}\n")
    result = backfill("run", plan)
    assert result.status == 4
    assert words in result.err


class Received:
    """A handler that counts, and can block the jobs."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.enough = threading.Event()
        self.wanted = 1

    def __call__(self, event: Mapping[str, Any]) -> None:
        self.ids.append(event["id"])
        if len(self.ids) >= self.wanted:
            self.enough.set()


def test_a_run_against_a_server_with_keys(backfill: Backfill, tmp_path: Path) -> None:
    received = Received()
    app = create_app(
        {"app/sync": received},
        event_key=KEYS["INNGEST_EVENT_KEY"],
        signing_key=KEYS["INNGEST_SIGNING_KEY"],
    )
    plan = write_plan(tmp_path, repos(7) + SYNC + "batch_size: 3\ndelay: 10ms\n")
    with served(app) as url:
        result = backfill("run", plan, "--target", url, "--format", "json", env=KEYS)
    assert result.status == 0
    assert len(received.ids) == len(set(received.ids)) == 7
    assert json.loads(result.out)["links"][0].startswith(f"{url}/run?runID=")


def test_keys_appear_nowhere(backfill: Backfill, tmp_path: Path) -> None:
    """Not on stdout, not on stderr, not in the journal, even if a key is refused."""
    plan = write_plan(tmp_path, repos(2) + SYNC)
    for right in (True, False):
        key = KEYS["INNGEST_EVENT_KEY"] if right else "another"
        app = create_app({"app/sync": Received()}, event_key=key)
        with served(app) as url:
            result = backfill("run", plan, "--target", url, env=KEYS)
        assert result.status == (0 if right else 6)
        state = b"".join(path.read_bytes() for path in Path(".backfill").iterdir())
        for value in KEYS.values():
            assert value not in result.out + result.err
            assert value.encode() not in state


def test_a_refused_event_key_exits_6_with_the_mend(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(2) + SYNC)
    with served(create_app({"app/sync": lambda _: None}, event_key="right")) as url:
        result = backfill("run", plan, "--target", url, env={"INNGEST_EVENT_KEY": "wrong"})
    assert result.status == 6
    assert "refuses the event key (401)" in result.err
    assert "INNGEST_EVENT_KEY" in result.err


@pytest.mark.parametrize(("env", "status"), [({}, 4), ({"INNGEST_SIGNING_KEY": "wrong"}, 6)])
def test_following_must_work_before_anything_is_sent(
    backfill: Backfill, tmp_path: Path, env: dict[str, str], status: int
) -> None:
    received = Received()
    app = create_app({"app/sync": received}, signing_key="abcdef")
    plan = write_plan(tmp_path, repos(2) + SYNC)
    with served(app) as url:
        result = backfill("run", plan, "--target", url, env=env)
        assert result.status == status
        assert "signing key (401)" in result.err
        assert received.ids == []
        assert "there is no run" in backfill("resume", "latest").err, "nothing is left behind"
        sent = backfill("run", plan, "--target", url, "--no-wait", env=env)
        until(lambda: len(received.ids) == 2)  # the run did not wait for its jobs
    assert sent.status == 0
    assert "is not known" in sent.out


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, "needs an event key"),
        ({"INNGEST_EVENT_KEY": "k"}, "`sync` waits for its jobs to complete"),
        (KEYS, "there is no terminal to ask"),
    ],
)
def test_cloud_is_refused_before_the_first_event(
    backfill: Backfill, tmp_path: Path, env: dict[str, str], words: str
) -> None:
    plan = write_plan(tmp_path, repos(2) + SYNC)
    result = backfill("run", plan, "--target", "cloud", env=env)
    assert result.status == 4
    assert words in result.err
    assert not Path(".backfill").exists()


def test_cloud_sends_with_the_production_key(backfill: Backfill, tmp_path: Path) -> None:
    received = Received()
    app = create_app({"app/sync": received}, event_key="production", signing_key="abcdef")
    plan = write_plan(tmp_path, repos(2) + SYNC)
    with served(app) as url:
        env = {
            "INNGEST_EVENT_KEY": "branch",
            "INNGEST_PRODUCTION_EVENT_KEY": "production",
            "INNGEST_SIGNING_KEY": "abcdef",
            "INNGEST_BASE_URL": url,
        }
        result = backfill("run", plan, "--target", "cloud", "--yes", env=env)
    assert result.status == 0
    assert len(received.ids) == 2


def test_an_unreachable_server_exits_6(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(2) + SYNC)
    result = backfill("run", plan, "--target", "http://127.0.0.1:9")
    assert result.status == 6
    assert "no connection" in result.err


def test_a_broken_state_is_said_before_anything_is_sent(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(2) + SYNC)
    result = backfill("run", plan, "--state", "/proc/nowhere/state.db")
    assert result.status == 6
    assert "cannot be created" in result.err


def _anew(*arguments: object) -> subprocess.Popen[str]:
    """Start a new process: a fork of the warm one does not wait for threads when it ends."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 7), (signal.SIGKILL, -9)]
)
def test_a_stopped_run_says_how_to_go_on_and_loses_and_doubles_nothing(
    backfill: Backfill, start: Start, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    received = Received()
    received.wanted = 4
    plan = write_plan(
        tmp_path, repos(9) + "operations: [sync, embed]\nbatch_size: 2\ndelay: 300ms\n"
    )
    app = create_app({"app/sync": received, "app/embed": received})
    with served(app) as url:
        process = start("run", plan, "--target", url, "--format", "json")
        assert received.enough.wait(30)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == status
        assert "Traceback" not in err
        if number != signal.SIGKILL:
            summary = json.loads(out)
            assert summary["status"] == "incomplete"
            assert "stopping after the request in flight" in err
        done = json.loads(backfill("resume", "latest", "--format", "json").out)
    assert done["status"] == "completed"
    assert done["totals"]["accepted"] == done["totals"]["completed"] == 18
    assert set(Counter(received.ids).values()) == {1}
    assert len(received.ids) == 18


def test_resume_refuses_a_changed_plan(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(2) + SYNC)
    backfill("run", plan)
    path = write_plan(tmp_path, repos(2) + SYNC)
    path.write_text(path.read_text().replace("o/r1", "o/x1"), encoding="utf-8")
    result = backfill("resume", "latest")
    assert result.status == 5
    assert "event 2 of the plan, `sync` of o/r1, is now that of o/x1" in result.err
    assert "--from-journal" in result.err


def test_resume_of_a_completed_run_says_so(backfill: Backfill, quickstart: Path) -> None:
    backfill("run", quickstart)
    result = backfill("resume", "latest")
    assert result.status == 0
    assert "there is nothing to resume" in result.err


def test_resume_of_an_unknown_run_is_a_usage_error(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(1) + "operations: [sync]\n")
    for words in ("there is no state", "there is no run 01NOWHERE"):
        result = backfill("resume", "01NOWHERE")
        assert result.status == 2
        assert words in result.err
        backfill("run", plan, "--target", "embedded", "--yes")


def test_resume_on_the_embedded_target_starts_the_jobs_again_that_died_with_it(
    backfill: Backfill, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "worker.py").write_text(
        "import pathlib, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "def sync(event):\n"
        "    with (folder / 'log').open('a') as log: log.write(event['data']['repo'] + '\\n')\n"
        "    if event['data']['repo'] == 'o/r1' and not (folder / 'go').exists():\n"
        "        (folder / 'stuck').touch()\n"
        "        while not (folder / 'go').exists(): time.sleep(0.01)\n",
        encoding="utf-8",
    )
    plan = write_plan(tmp_path, repos(2) + SYNC + "handlers: {app/sync: 'worker:sync'}\n")
    process = start("run", plan, "--target", "embedded", "--format", "json")
    for _ in range(3000):
        if (tmp_path / "stuck").exists():
            break
        threading.Event().wait(0.01)
    process.kill()
    process.communicate(timeout=30)
    (tmp_path / "go").touch()
    done = json.loads(backfill("resume", "latest", "--format", "json").out)
    assert done["status"] == "completed"
    assert done["totals"]["completed"] == 2
    assert (tmp_path / "log").read_text("utf-8").split().count("o/r1") == 2


def test_what_handlers_leave_for_the_end_of_the_process_is_done(
    backfill: Backfill, tmp_path: Path
) -> None:
    """Such as sending error reports and traces, although the process ends without cleaning up."""
    (tmp_path / "worker.py").write_text(
        "import atexit, sys\n"
        "def sync(event): atexit.register(lambda: print('sent', event['data']['repo']))\n",
        encoding="utf-8",
    )
    plan = write_plan(tmp_path, repos(1) + SYNC + "handlers: {app/sync: 'worker:sync'}\n")
    result = backfill("run", plan, env={"PYTHONUNBUFFERED": ""})
    assert result.status == 0
    assert result.out.endswith("sent o/r0\n")


def test_no_wait_on_the_embedded_target_is_refused(backfill: Backfill, quickstart: Path) -> None:
    """Its jobs end with the process: events that are not followed would be lost."""
    result = backfill("run", quickstart, "--no-wait")
    assert result.status == 4
    assert "jobs that are not followed" in result.err


def test_resume_goes_where_the_run_was_started(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(2) + "operations: [{use: sync, timeout: 1s}]\n")
    with served(create_app({"app/sync": Received()})) as url:
        first = backfill(
            "run", plan, "--target", "dev", "--grace", "10ms", env={"INNGEST_DEV": url}
        )
    assert first.status in (0, 1)
    with sqlite3.connect(".backfill/state.db") as connection:
        connection.execute("UPDATE runs SET status = 'incomplete'")
    connection.close()
    result = backfill("resume", "latest", env={"INNGEST_DEV": "http://127.0.0.1:9"})
    assert result.status == 5
    assert f"was started on {url}, and `dev` is now http://127.0.0.1:9\n" in result.err


def test_an_interrupt_does_not_wait_for_a_handler_that_is_at_work(
    backfill: Backfill, tmp_path: Path
) -> None:
    (tmp_path / "worker.py").write_text(
        "import pathlib, time\n"
        "def sync(event):\n"
        f"    pathlib.Path({str(tmp_path / 'at-work')!r}).touch()\n"
        "    time.sleep(600)\n",
        encoding="utf-8",
    )
    plan = write_plan(tmp_path, repos(1) + SYNC + "handlers: {app/sync: 'worker:sync'}\n")
    process = _anew("run", plan, "--target", "embedded", "--format", "json")
    while not (tmp_path / "at-work").exists() and process.poll() is None:
        threading.Event().wait(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["status"] == "incomplete"
    assert "Traceback" not in err
