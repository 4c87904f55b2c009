"""Serving over TCP: quiet, and with a clear error if it cannot listen."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from runner.adapters.door import Door, serve
from runner.adapters.embedded.server import create_app
from runner.errors import TargetError

SERVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
from runner.adapters.door import Door
from runner.adapters.embedded.server import create_app
from runner.adapters.door import serve
app = create_app({"app/x": lambda event: event["data"]})
try:
    serve(app, "127.0.0.1", int(sys.argv[1]), Door(1_000_000))
except KeyboardInterrupt:
    sys.exit(130)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def get_runs(client: httpx.Client, internal_id: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = client.get(f"/v1/events/{internal_id}/runs").json()["data"]
    return found


@pytest.mark.parametrize(
    ("signals", "statuses"),
    [
        ([signal.SIGTERM], {-signal.SIGTERM}),
        ([signal.SIGINT], {130}),
        ([signal.SIGINT, signal.SIGINT], {130}),
        # Which of two kinds a process that is busy handles first is not said.
        ([signal.SIGTERM, signal.SIGINT, signal.SIGINT], {130, -signal.SIGTERM}),
    ],
    ids=["asked to end", "^C", "^C twice", "both"],
)
def test_a_served_app_runs_handlers_and_prints_nothing(
    signals: list[signal.Signals], statuses: set[int]
) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        transport = httpx.HTTPTransport(retries=8)  # waits until the server is up
        with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
            answer = client.post("/e/key", json=[{"name": "app/x", "data": {"n": 1}}])
            (internal_id,) = answer.json()["ids"]
            until = time.monotonic() + 10
            while not get_runs(client, internal_id)[0]["ended_at"] and time.monotonic() < until:
                time.sleep(0.001)
            assert get_runs(client, internal_id)[0]["output"] == {"n": 1}
            for each in signals:  # a connection is open: the first signal waits for its end
                process.send_signal(each)
                time.sleep(0.02)
    finally:
        if process.poll() is None and sys.exc_info()[0]:
            process.kill()
        output = process.communicate(timeout=10)
    assert output == (b"", b"")
    assert process.returncode in statuses


def test_a_taken_port_is_an_error_with_a_mend_and_nothing_is_said_to_be_served() -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        door = Door(1)
        with pytest.raises(TargetError, match=r"cannot listen on .* in use") as raised:
            serve(
                create_app({}), "127.0.0.1", port, door, on_listening=lambda: said.append("serving")
            )
    assert raised.value.hint == "choose another with --port"
    assert not said
