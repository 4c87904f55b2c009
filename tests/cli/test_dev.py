"""`backfill dev`, and what it shares with `serve` and `ui`: where they listen."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from runner.adapters.door import authority
from runner.output.text import visible
from tests.cli.conftest import Result

Backfill = Callable[..., Result]
SERVERS = ("dev", "ui", "serve")


@pytest.mark.parametrize("command", SERVERS)
def test_a_port_that_there_cannot_be_is_a_usage_error(command: str, backfill: Backfill) -> None:
    done = backfill(command, "--port", "99999", env={"INNGEST_DEV": "1"})
    assert done.status == 2, done.err
    assert "99999 is not in the range" in done.err


@pytest.mark.parametrize("command", SERVERS)
def test_a_taken_port_is_said_in_place_of_an_address(command: str, backfill: Backfill) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = backfill(command, "--port", str(port), env={"INNGEST_DEV": "1"})
    assert done.status == 6, done.err
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.err
    assert "hint: choose another with --port" in done.err
    assert "http://" not in done.err


@pytest.mark.parametrize("command", ["dev", "ui"])
@pytest.mark.parametrize(
    "name", ["x.test:8321", "http://x.test", "x.test/", "x test", "*", "ü.test"]
)
def test_what_no_request_can_be_for_is_no_name_that_a_server_has(
    command: str, name: str, backfill: Backfill
) -> None:
    done = backfill(command, "--allow-host", "x.test", "--allow-host", name)
    assert done.status == 2, done.err
    assert f"--allow-host: `{name}` is not a host name" in done.err
    assert "hint: write only the name" in done.err


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1", "a\u202eb"])
def test_an_address_that_this_machine_does_not_have_is_not_mended_by_another_port(
    host: str, backfill: Backfill
) -> None:
    done = backfill("dev", "--host", host)
    assert done.status == 6, done.err
    assert f"cannot listen on {visible(host)}:8288" in done.err
    assert "hint: name an address of this machine with --host" in done.err


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert authority("::1", 8288) == "[::1]:8288"
    assert authority("127.0.0.1", 8288) == "127.0.0.1:8288"
