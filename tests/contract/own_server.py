"""A self-hosted Inngest server that a test may stop: BACKFILL_TEST_INNGEST_BIN names the binary."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.cli.conftest import until
from tests.ports import free_port

BINARY = os.environ.get("BACKFILL_TEST_INNGEST_BIN", "")
EVENT_KEY, SIGNING_KEY = "own-event-key", "0123456789abcdef" * 4
_PORTS = (
    "--port",
    "--connect-gateway-port",
    "--connect-gateway-grpc-port",
    "--connect-executor-grpc-port",
)


class OwnServer:
    """A server that keeps its data in a folder, so that it goes on after a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = [free_port() for _ in _PORTS]
        self.url = f"http://127.0.0.1:{self._ports[0]}"
        self.env = {
            "INNGEST_BASE_URL": self.url,
            "INNGEST_EVENT_KEY": EVENT_KEY,
            "INNGEST_SIGNING_KEY": SIGNING_KEY,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        keys = ["--event-key", EVENT_KEY, "--signing-key", SIGNING_KEY]
        ports = [str(one) for pair in zip(_PORTS, self._ports, strict=True) for one in pair]
        command = [BINARY, "start", "--sqlite-dir", str(self.folder), *keys, *ports]
        env = {**os.environ, "TEST_MODE": "true"}  # this gives it a route for `pause`
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=env
            )
        until(self._answers, seconds=60)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def pause(self, function: str) -> None:
        query = {"query": "{functions{id slug}}"}
        found = httpx.get(f"{self.url}/v0/gql", params=query).json()["data"]["functions"]
        (id_,) = [one["id"] for one in found if one["slug"] == function]
        httpx.post(f"{self.url}/test/function/pause", params={"fnId": id_}).raise_for_status()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health").is_success
        except httpx.TransportError:
            return False


@contextmanager
def own_server(folder: Path) -> Iterator[OwnServer]:
    server = OwnServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
