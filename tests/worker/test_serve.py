"""`backfill serve` as processes: killed, several, stopped; and submitting with `run --detach`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from ulid import ULID

from runner.adapters.embedded.server import create_app
from runner.adapters.extras import how_to_install
from runner.adapters.journal.store import Store
from runner.adapters.worker.request import EVENT, app_of
from runner.app.worker import StepRequest
from tests.cli.conftest import Result, served, until
from tests.depth import depth
from tests.ports import free_port
from tests.support import EVENT_KEY, SIGNING_KEY, repos, write_plan
from tests.warm import Forked
from tests.worker.engine import Engine, Ran, RealClock, recorded

ROOT = Path(__file__).parents[2]
Backfill = Callable[..., Result]


class Site:
    """A server that counts which events take effect, an engine, and `serve` processes."""

    def __init__(self, folder: Path, stack: ExitStack, warm: str, state: str | None = None) -> None:
        self.folder, self.stack, self.warm = folder, stack, warm
        self.effects: Counter[str] = Counter()
        self.order: list[str] = []
        self.engine = Engine([], RealClock(), patience=0.2)
        handlers = {"app/sync": self._job, EVENT: self.engine.receive}
        self.failing: set[str] = set()
        self.hold: threading.Event | None = None  # if set, jobs run until the event is set
        self.requests: list[int] = []  # how many events each request had
        self.url = stack.enter_context(served(recorded(create_app(handlers), self._noted)))
        self.state = state or f"sqlite:///{folder / 'state.db'}"
        self.env = {
            "INNGEST_BASE_URL": self.url,
            "INNGEST_SIGNING_KEY": SIGNING_KEY,
            "INNGEST_EVENT_KEY": EVENT_KEY,
            "BACKFILL_STATE": self.state,
        }
        self.processes: list[Forked] = []

    def _noted(self, events: list[dict[str, Any]]) -> None:
        if events[0]["name"] != EVENT:
            self.requests.append(len(events))

    async def _job(self, event: Mapping[str, Any]) -> None:
        self.effects[event["id"]] += 1
        self.order.append(event["data"]["repo"])
        if self.hold:
            await asyncio.to_thread(self.hold.wait, 30)
        if self.order[-1] in self.failing:
            raise ValueError("broken")

    def start(self, *arguments: object, stderr: IO[str] | int = subprocess.DEVNULL) -> Forked:
        env = {**os.environ, **self.env}
        return Forked(self.warm, *arguments, env=env, stdout=subprocess.DEVNULL, stderr=stderr)

    def serve(self, *options: str, ready: bool = True) -> Forked:
        port = free_port()
        log = self.stack.enter_context((self.folder / f"serve-{port}.log").open("w"))
        process = self.start("serve", "--port", port, *options, stderr=log)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        self.processes.append(process)
        client = self.stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        )
        until(lambda: _answers(client, "/readyz" if ready else "/healthz"))
        self.engine.clients.append(client)
        with Store(self.state) as store:
            self.engine.app = app_of(store.identity)
        return process


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def site(tmp_path: Path, warm: str) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack, warm)


def submit(backfill: Backfill, site: Site, plan: Path, *options: str) -> str:
    asked = ("run", "--detach", plan, "--target", site.url, "--format", "json", *options)
    done = backfill(*asked, env=site.env)
    assert done.status == 0, done.err
    until(lambda: bool(site.engine.events))
    return str(json.loads(done.out)["run_id"])


def at(moment: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Start a thread that acts once `moment` is true."""

    def wait() -> None:
        until(moment)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("state", ["sqlite", "postgresql"])
def test_killed_in_its_middle_a_worker_loses_and_doubles_nothing(
    state: str, tmp_path: Path, warm: str, backfill: Backfill, request: pytest.FixtureRequest
) -> None:
    """The worker gets SIGKILL during a step; another process continues the run."""
    shared = request.getfixturevalue("new_schema")("state") if state == "postgresql" else None
    plan = write_plan(tmp_path, repos(30) + "operations: [sync]\nbatch_size: 3\ndelay: 100ms\n")
    with ExitStack() as stack:
        site = Site(tmp_path, stack, warm, shared)
        victim = site.serve()
        site.serve()
        run_id = submit(backfill, site, plan)
        watcher = at(lambda: len(site.order) >= 7, victim.kill)
        (ran,) = site.engine.run_all()
        watcher.join()
        assert victim.wait() == -signal.SIGKILL
        shown = backfill("status", run_id, "--format", "json", env=site.env)
    assert ran.output == {"run": run_id, "status": "completed"}, ran.error
    assert site.order == [f"o/r{number}" for number in range(30)]
    assert set(site.effects.values()) == {1}
    assert json.loads(shown.out)["status"] == "completed"


def test_many_events_by_two_workers_of_which_one_is_killed_half_way(
    tmp_path: Path, site: Site, backfill: Backfill, record_property: Any
) -> None:
    count = depth(1_000, 10_000)
    body = f"{repos(count)}operations: [sync]\nbatch_size: {count // 10}\ndelay: 350ms\n"
    plan = write_plan(tmp_path, body)
    victim = site.serve()
    site.serve()
    submit(backfill, site, plan)
    watcher = at(lambda: len(site.order) >= count // 2, victim.kill)
    (ran,) = site.engine.run_all()
    watcher.join()
    lost = count - len(site.effects)
    doubled = sum(count - 1 for count in site.effects.values())
    record_property("workers: events, lost, doubled, steps", (count, lost, doubled, len(ran.steps)))
    assert ran.output["status"] == "completed", ran.error
    assert (lost, doubled) == (0, 0)
    assert len(ran.steps) <= 30  # 10 batches, and the waits for jobs


def test_stopped_a_worker_ends_after_the_request_in_flight_and_another_goes_on(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    plan = write_plan(tmp_path, repos(12) + "operations: [sync]\nbatch_size: 1\ndelay: 150ms\n")
    first = site.serve()
    run_id = submit(backfill, site, plan)
    stopping = at(lambda: len(site.order) >= 3, first.terminate)

    def replace_it(ran: Ran) -> None:
        if first.poll() is not None and len(site.processes) == 1:
            site.serve()

    site.engine.between = replace_it
    (ran,) = site.engine.run_all()
    stopping.join()
    assert first.wait() in (0, -signal.SIGTERM)
    logs = [log.read_text() for log in tmp_path.glob("serve-*.log")]
    assert sum("info stopped: no request is in flight" in log for log in logs) == 1
    assert ran.output == {"run": run_id, "status": "completed"}, ran.error
    assert site.order == [f"o/r{number}" for number in range(12)]
    assert set(site.effects.values()) == {1}


def test_a_submitted_run_is_shown_held_and_ended_before_a_worker_has_it(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    plan = write_plan(tmp_path, repos(2) + "operations: [sync]\n")
    run_id = submit(backfill, site, plan)
    shown = backfill("status", run_id, env=site.env)
    assert "RUNNING" in shown.out
    assert "it waits for a worker" in shown.out
    again = backfill("run", "--detach", plan, "--target", site.url, env=site.env)
    assert again.status == 5
    assert run_id in again.err
    resumed = backfill("resume", run_id, env=site.env)
    assert resumed.status == 5
    assert "is under way" in resumed.err
    assert backfill("pause", run_id, env=site.env).status == 0
    assert "PAUSED" in backfill("status", run_id, env=site.env).out
    assert backfill("resume", run_id, env=site.env).status == 0
    assert backfill("cancel", run_id, env=site.env).status == 0
    assert "CANCELLED" in backfill("status", run_id, env=site.env).out
    assert site.order == []


def test_a_saved_plan_is_submitted_once(tmp_path: Path, site: Site, backfill: Backfill) -> None:
    plan, saved = write_plan(tmp_path, repos(2) + "operations: [sync]\n"), tmp_path / "plan.json"
    made = backfill("plan", plan, "--target", site.url, "--out", saved, env=site.env)
    assert made.status == 0, made.err
    run_id = submit(backfill, site, saved)
    assert run_id in made.err
    assert site.engine.events[0]["id"] == f"backfill:{run_id}:0:0"  # the id depends on the run only
    site.serve()
    (ran,) = site.engine.run_all()
    assert ran.output["status"] == "completed"
    again = backfill("run", "--detach", saved, env=site.env)
    assert again.status == 5
    assert "was run already" in again.err


def test_how_a_run_is_to_be_sent_goes_with_it_to_the_workers(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    """Requests are as small as requested, in each step, and no job is waited for."""
    plan = write_plan(
        tmp_path,
        repos(9) + "operations: [{use: sync, wait: completed}]\nbatch_size: 3\ndelay: 350ms\n",
    )
    site.serve()
    submit(backfill, site, plan, "--no-wait", "--request-events", "2")
    (ran,) = site.engine.run_all()
    assert ran.output["status"] == "sent", ran.error
    assert "step 2" in ran.steps
    assert site.requests == [2, 1] * 3
    shown = backfill("status", "--format", "json", env=site.env)
    assert json.loads(shown.out)["stages"][0]["running"] is None, "its jobs are not followed"


def _accepted(site: Site) -> int:
    with Store(site.state) as store:
        return store.reading(store.find("latest")).totals().accepted


def test_handed_over_once_more_it_is_sent_as_was_said_then(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    plan = write_plan(tmp_path, repos(6) + "operations: [sync]\nbatch_size: 3\ndelay: 1h\n")
    run = ("run", plan, "--target", site.url, "--request-events", "3")
    with site.start(*run) as process:
        until(lambda: len(site.order) >= 3 and _accepted(site) == 3)  # else it is sent again
        process.send_signal(signal.SIGINT)
    assert backfill("tune", "latest", "--delay", "350ms", env=site.env).status == 0
    again = ("resume", "latest", "--detach", "--request-bytes", "1")
    refused = backfill(*again, "--pause-file", "hold", env=site.env)
    assert refused.status == 2
    assert "--pause-file does nothing with --detach" in refused.err
    assert backfill(*again, env=site.env).status == 0
    site.serve()
    until(lambda: bool(site.engine.events))
    (ran,) = site.engine.run_all()
    assert ran.output["status"] == "completed", ran.error
    assert site.requests == [3, 1, 1, 1]


def test_what_is_open_has_its_time_anew_where_a_run_is_handed_over_once_more(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    """A timed-out job is waited for again from then on, as with `resume`; the workers read
    everything in the event."""
    plan = write_plan(tmp_path, repos(1) + "operations: [{use: sync, timeout: 1s}]\n")
    site.serve()
    site.hold = threading.Event()
    submit(backfill, site, plan)
    site.engine.run_all()
    assert "1 timed out" in backfill("status", env=site.env).out
    assert backfill("resume", "latest", "--detach", env=site.env).status == 0
    until(lambda: bool(site.engine.events))
    read = {"plan", "address", "app"} | {one.name for one in fields(StepRequest)}
    assert site.engine.events[0]["data"].keys() <= read
    threading.Timer(0.4, site.hold.set).start()
    (ran,) = site.engine.run_all()
    assert ran.output["status"] == "completed", ran.error


def test_stopped_by_hand_a_run_goes_to_the_workers(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    """`resume --detach`: workers go on with what a process has begun."""
    plan = write_plan(tmp_path, repos(12) + "operations: [sync]\nbatch_size: 2\ndelay: 200ms\n")
    with site.start("run", plan, "--target", site.url) as process:
        until(lambda: len(site.order) >= 4)
        process.send_signal(signal.SIGINT)
    site.serve()
    handed = backfill("resume", "latest", "--detach", env=site.env)
    assert handed.status == 0, handed.err
    until(lambda: bool(site.engine.events))
    (ran,) = site.engine.run_all()
    assert ran.output["status"] == "completed", ran.error
    assert site.order == [f"o/r{number}" for number in range(12)]
    assert set(site.effects.values()) == {1}


def test_apply_detached_hands_over_one_plan_after_the_other(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    plans = tmp_path / "plans"
    plans.mkdir()
    first = write_plan(plans, repos(2) + "operations: [sync]\n")
    text = first.read_text()
    first.rename(plans / "1.yaml")
    (plans / "2.yaml").write_text(text.replace("name: test", "name: two"))
    apply = ("apply", plans, "--target", site.url, "--detach")
    site.serve()
    for _ in range(2):
        done = backfill(*apply, env=site.env)
        assert done.status == 7, done.err
        assert backfill(*apply, env=site.env).status == 7  # it has not ended yet
        until(lambda: bool(site.engine.events))
        site.engine.run_all()
    assert backfill(*apply, env=site.env).status == 0
    assert len(site.order) == 4


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("run", "--detach", "plan.yaml"), 4, "the embedded target ends with its process"),
        (("serve",), 4, "set INNGEST_SIGNING_KEY"),
        (("resume", "latest", "--detach"), 2, "there is no state in"),
    ],
)
def test_what_cannot_work_is_refused_in_words(
    backfill: Backfill, arguments: tuple[str, ...], status: int, words: str
) -> None:
    write_plan(Path.cwd(), repos(1) + "operations: [sync]\n")
    done = backfill(*arguments)
    assert done.status == status, done.err
    assert words in done.err
    assert "hint: " in done.err


def test_without_the_sdk_it_says_what_to_install(tmp_path: Path, backfill: Backfill) -> None:
    (tmp_path / "inngest.py").write_text("raise ImportError('not installed')")
    path = f"{tmp_path}:{ROOT}"
    done = backfill("serve", env={"PYTHONPATH": path, "INNGEST_DEV": "1"})
    assert done.status == 4
    assert f"hint: {how_to_install('inngest')}" in done.err


def test_where_the_server_tells_that_no_worker_listens_nothing_is_submitted(
    tmp_path: Path, backfill: Backfill
) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    async def functions(_: Request) -> Response:
        return JSONResponse({"data": {"apps": []}})

    async def accept(request: Request) -> Response:
        assert await request.json() == []
        return JSONResponse({"ids": [""], "status": 200})

    plan = write_plan(tmp_path, repos(1) + "operations: [sync]\n")
    routes = [Route("/v0/gql", functions), Route("/e/{key}", accept, methods=["POST"])]
    with served(Starlette(routes=routes)) as url:
        state = tmp_path / "state.db"
        done = backfill("run", "--detach", plan, "--target", url, "--state", state)
    assert done.status == 4
    assert f"no worker listens for {EVENT}" in done.err
    assert not state.exists()


@pytest.mark.parametrize("paused", [set(), {"west"}, {"east", "west"}])
def test_a_run_that_is_handed_over_says_which_workers_listen(
    tmp_path: Path, backfill: Backfill, paused: set[str]
) -> None:
    """Those of this server, as it lists them; if all of them are paused, the run is refused."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    received: list[Any] = []

    def function(name: str, event: str) -> dict[str, Any]:
        trigger = {"type": "FUNCTION_TRIGGER_TYPE_EVENT", "value": event}
        return {"id": name, "slug": name, "isPaused": name in paused, "triggers": [trigger]}

    async def apps(_: Request) -> Response:
        return JSONResponse({"data": [{"id": "ours"}], "page": {}})

    async def functions(_: Request) -> Response:
        data = [function("east", EVENT), function("west", EVENT), function("sync", "app/sync")]
        return JSONResponse({"data": data, "page": {}})

    async def accept(request: Request) -> Response:
        received.extend(events := await request.json())
        ids = [str(ULID()) for _ in events]
        return JSONResponse({"ids": ids or [""], "status": 200})

    plan = write_plan(tmp_path, repos(1) + "operations: [sync]\n")
    routes = [
        Route("/v2/apps", apps),
        Route("/v2/apps/{app}/functions", functions),
        Route("/e/{key}", accept, methods=["POST"]),
    ]
    with served(Starlette(routes=routes)) as url:
        state = tmp_path / "state.db"
        done = backfill("run", "--detach", plan, "--target", url, "--state", state)
    if paused == {"east", "west"}:
        assert done.status == 4
        assert f"no worker listens for {EVENT} on {url}; paused: ours-east, ours-west" in done.err
        assert (received, state.exists()) == ([], False)
        return
    assert done.status == 0, done.err
    assert f"workers of {url} that listen for {EVENT}: " in done.err
    (told,) = [line for line in done.err.splitlines() if "that listen for" in line]
    listening, _, held = told.partition("; paused: ")
    assert [name in listening for name in ("east", "west", "sync")] == [
        True,
        "west" not in paused,
        False,
    ]
    assert held == ", ".join(f"ours-{name}" for name in sorted(paused))
    assert [event["name"] for event in received] == [EVENT]


def test_where_the_server_is_away_nothing_is_written_down(
    tmp_path: Path, backfill: Backfill
) -> None:
    """Otherwise there would be a run that nobody was asked to drive."""
    plan, state = write_plan(tmp_path, repos(1) + "operations: [sync]\n"), tmp_path / "state.db"
    with served(create_app({})) as url:
        pass
    done = backfill("run", "--detach", plan, "--target", url, "--state", state)
    assert done.status == 6
    assert f"{url} cannot be reached" in done.err
    assert not state.exists()


def test_its_log_is_json_for_who_wants_that(tmp_path: Path, site: Site, backfill: Backfill) -> None:
    plan = write_plan(tmp_path, repos(2) + "operations: [sync]\n")
    site.serve("--log-format", "json")
    run_id = submit(backfill, site, plan)
    site.engine.run_all()
    (log,) = tmp_path.glob("serve-*.log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"time", "level", "run", "message"} <= set(lines[-1])
    assert lines[-1]["run"] == run_id
    assert SIGNING_KEY not in log.read_text()


def test_submit_says_which_state_the_workers_must_have(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    plan = write_plan(tmp_path, repos(1) + "operations: [sync]\n")
    done = backfill("run", "--detach", plan, "--target", site.url, "--yes", env=site.env)
    assert done.status == 0, done.err
    assert f"it is in {tmp_path / 'state.db'}: workers must have the same state" in done.out


def test_the_times_of_a_schedule_are_logged_as_the_plan_has_them(
    tmp_path: Path, site: Site
) -> None:
    schedule = 'schedule: {cron: "0 3 * * *", timezone: Europe/Berlin}\n'
    site.serve(str(write_plan(tmp_path, repos(1) + "operations: [sync]\n" + schedule)))
    (log,) = tmp_path.glob("serve-*.log")
    assert "test is started at 0 3 * * *, Europe/Berlin" in log.read_text()
