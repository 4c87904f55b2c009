"""The server, the state and the user's database are away in mid-run: nothing is lost, the run goes
on, and it shows what it waits for."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.cli.conftest import Jobs, Start, until
from tests.depth import depth
from tests.support import repos, write_plan
from tests.types import Backfill

AWAY = depth(1, 60)  # seconds
BATCHES = "operations: [sync]\nbatch_size: 1\ndelay: 150ms\n"


class Proxy:
    """Sits in front of a server; while it is closed, connections break and are refused."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.folder = parse_qs(parts.query).get("host", [""])[0]
        self.place = (parts.hostname or "localhost", parts.port or 5432)
        self.query = parts.query
        self.user = parts.username or "postgres"
        self.password = parts.password
        self.port, self._open = 0, list[socket.socket]()
        self._listening: socket.socket | None = None
        self.listen()

    @property
    def address(self) -> str:
        """The address of a web server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL of a PostgreSQL server."""
        options = "&".join(part for part in self.query.split("&") if not part.startswith("host="))
        user = f"{self.user}:{quote(self.password)}" if self.password else self.user
        return f"postgresql://{user}@127.0.0.1:{self.port}/postgres?sslmode=disable&{options}"

    def listen(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, args=[self._listening], daemon=True).start()

    def close(self) -> None:
        if self._listening is not None:
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        while self._open:
            one = self._open.pop()
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def away(self, seconds: float = AWAY) -> None:
        self.close()
        time.sleep(seconds)
        self.listen()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                server = self._reach()
                self._open += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=_pump, args=[source, sink], daemon=True).start()

    def _reach(self) -> socket.socket:
        if self.folder:
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self.folder}/.s.PGSQL.5432")
            return server
        return socket.create_connection(self.place)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while received := source.recv(65_536):
            sink.sendall(received)
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(new_schema: Callable[[str], str]) -> Iterator[Proxy]:
    made = Proxy(new_schema("outages"))
    yield made
    made.close()


def _ended(process: Any) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60 + AWAY)
    return process.wait(), out, err


def test_a_server_that_is_away_in_mid_run_is_waited_for_and_shown_on_every_surface(
    tmp_path: Path, start: Start, url: str, jobs: Jobs, backfill: Backfill
) -> None:
    proxy, state = Proxy(url), f"sqlite:///{tmp_path / 'state.db'}"
    plan = write_plan(tmp_path, repos(12) + BATCHES)
    process = start("run", plan, "--target", proxy.address, "--state", state)
    jobs.wait_for(3)
    began = time.monotonic()
    proxy.close()
    until(lambda: "(try 3)" in backfill("status", "--state", state).out)
    text = backfill("status", "--state", state).out
    assert re.search(r"does not answer .*: trying again in \d+s \(try \d+\), for \d+m", text)
    assert "time left" not in text
    stage: dict[str, Any] = {}

    def is_tried() -> bool:
        """Sender and follower retry independently."""
        shown = backfill("status", "--format", "json", "--state", state).out
        stage.update(json.loads(shown)["stages"][0])
        return bool((stage["wait"] or {}).get("tries", 0) >= 3)

    until(is_tried)
    assert stage["wait"]["kind"] == "away"
    assert f"(try {stage['wait']['tries']})" in stage["waiting"]
    page = tmp_path / "page.html"
    assert backfill("report", "--html", page, "--state", state).status == 0
    assert re.search(r"trying again in \S+ \(try \d+\)", page.read_text())
    time.sleep(max(0.0, AWAY - (time.monotonic() - began)))
    proxy.listen()
    status, _, err = _ended(process)
    proxy.close()
    assert status == 0, err
    assert re.search(r"; trying again in [\d.]+s \(try 2, for ", err)
    assert sorted(jobs.items) == sorted(f"o/r{n}" for n in range(12)), "each once"
    shown = backfill("status", "--state", state).out
    assert "12/12 sent, 12 completed" in shown
    assert "try " not in shown


def test_a_state_that_is_away_in_mid_run_is_waited_for(
    tmp_path: Path, start: Start, url: str, jobs: Jobs, proxy: Proxy, backfill: Backfill
) -> None:
    plan = write_plan(tmp_path, repos(12) + BATCHES)
    process = start("run", plan, "--target", url, "--state", proxy.url)
    jobs.wait_for(3)
    proxy.away()
    status, _, err = _ended(process)
    assert status == 0, err
    assert sorted(jobs.items) == sorted(f"o/r{n}" for n in range(12)), "each once"
    assert re.search(r"the state in \S+ is away \(.*\); trying again in [\d.]+s \(try 2, for", err)
    shown = backfill("status", "--state", proxy.url)
    assert "COMPLETED" in shown.out
    assert "12/12 sent, 12 completed" in shown.out


def test_a_state_that_stays_away_ends_the_run_and_it_can_be_resumed(
    tmp_path: Path, start: Start, url: str, jobs: Jobs, proxy: Proxy, backfill: Backfill
) -> None:
    plan = write_plan(tmp_path, repos(6) + BATCHES + "give_up_after: 500ms\n")
    process = start("run", plan, "--target", url, "--state", proxy.url)
    jobs.wait_for(2)
    proxy.close()
    status, _, err = _ended(process)
    assert status == 6, err
    assert "cannot be used" in err
    proxy.listen()
    until(lambda: backfill("resume", "latest", "--state", proxy.url).status == 0)
    assert sorted(jobs.items) == sorted(f"o/r{n}" for n in range(6)), "each once"


def test_a_users_database_that_is_away_as_it_is_asked_is_asked_again(
    tmp_path: Path, start: Start, url: str, jobs: Jobs, proxy: Proxy, monkeypatch: Any
) -> None:
    monkeypatch.setenv("BACKFILL_DATABASE_URL", proxy.url)
    check = "{name: there, query: SELECT 1 AS n, unchanged: allow, "
    check = f"checks: [{check}expect: {{column: n, at_least: 1}}}}]\n"
    plan = write_plan(tmp_path, repos(4) + BATCHES + check)
    process = start("run", plan, "--target", url)
    jobs.wait_for(2)
    proxy.close()
    jobs.wait_for(4)
    time.sleep(AWAY)
    proxy.listen()
    status, out, err = _ended(process)
    assert status == 0, err
    assert "asking the database: " in err
    assert "holds  there" in out
