"""The guard that runs a program, with real programs."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.adapters.guards import Command
from runner.execution.ports import GuardUnanswered, Hold
from runner.model import CommandGuard


def ask(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None, limit: float = 30.0
) -> Hold | None:
    guard = Command(CommandGuard(arguments), folder, os.environ if env is None else env, limit)
    return asyncio.run(guard.ask())


def sh(folder: Path, script: str, limit: float = 30.0) -> Hold | None:
    return ask(folder, "/bin/sh", "-c", script, limit=limit)


def ended(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("status", [1, 2, 125])
def test_an_exit_status_up_to_125_holds_for_five_seconds(tmp_path: Path, status: int) -> None:
    assert sh(tmp_path, f"exit {status}") == Hold(f"`command sh` exits with {status}", 5.0)


@pytest.mark.parametrize("status", [126, 127, 130, 255])
def test_a_higher_one_is_a_program_that_did_not_answer(tmp_path: Path, status: int) -> None:
    with pytest.raises(GuardUnanswered, match=f"^it ended with {status}$"):
        sh(tmp_path, f"exit {status}")


def test_a_signal_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(GuardUnanswered, match=r"^it was ended by signal 15$"):
        sh(tmp_path, "kill -TERM $$")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("./not-there",), "No such file or directory"),
        (("no-such-program-of-ours",), "No such file or directory"),
        (("./not-executable",), "Permission denied"),
        (("/bin/sh", "-c", "\0"), "it cannot be started"),
    ],
)
def test_a_program_that_cannot_be_started_is_no_answer(
    tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "not-executable").touch(0o600)
    with pytest.raises(GuardUnanswered, match=f"^{reason}$"):
        ask(tmp_path, *arguments)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo first; echo last", ": last"),
        ("echo out; echo err >&2", ": err"),
        ("printf 'no line end'", ": no line end"),
        ("printf 'last\\n\\n  \\n'", ": last"),
        ("printf '50%%\\r99%%'", ": 99%"),
        ("printf 'red \\033[31m'", ": red ?[31m"),
        ("printf '\\377'", ": \N{REPLACEMENT CHARACTER}"),
        ("echo me at postgres://me:s3cretpassword@host/db", ": me at postgres://***@host/db"),
        ("printf 'x%.0s' $(seq 300)", ": " + "x" * 200),
        ("seq 100000", ": 100000"),
        (":", ""),
    ],
)
def test_the_reason_ends_with_the_last_line_of_the_output(
    tmp_path: Path, script: str, words: str
) -> None:
    assert sh(tmp_path, f"{script}; exit 3") == Hold(f"`command sh` exits with 3{words}", 5.0)


def test_no_shell_reads_the_arguments_and_nothing_can_be_typed_in(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "assert sys.argv[1:] == ['$HOME', '*', '; exit 0'], sys.argv\n"
        "assert sys.stdin.read() == ''\n"
    )
    assert ask(tmp_path, sys.executable, "-c", code, "$HOME", "*", "; exit 0") is None


def test_a_relative_program_is_the_one_in_the_plans_folder(tmp_path: Path) -> None:
    program = tmp_path / "may-send.sh"
    program.write_text('#!/bin/sh\ntest "$(pwd -P)" = "$1"\n')
    program.chmod(0o700)
    assert ask(tmp_path, "./may-send.sh", str(tmp_path.resolve())) is None
    hold = ask(tmp_path, "./may-send.sh", "/elsewhere")
    assert hold == Hold("`command may-send.sh` exits with 1", 5.0)


def test_its_environment_is_the_users_without_what_opens_the_target_or_the_state(
    tmp_path: Path,
) -> None:
    kept = {"PATH": "/bin", "INNGEST_DEV": "1", "GITHUB_TOKEN": "t", "SUPABASE_URL": "u"}
    keys = {
        "INNGEST_EVENT_KEY": "k",
        "INNGEST_PRODUCTION_EVENT_KEY": "k",
        "INNGEST_SIGNING_KEY": "k",
        "INNGEST_SIGNING_KEY_FALLBACK": "k",
        "SUPABASE_SERVICE_ROLE_KEY": "k",
        "BACKFILL_STATE": "postgresql://s",
        "STAGING_SIGNING_KEY": "k",
    }
    guard = Command(CommandGuard(("/usr/bin/env",)), tmp_path, {})
    assert "s3cret" not in repr(Command(guard.spec, tmp_path, {"A": "s3cret"}))
    assert ask(tmp_path, "/bin/sh", "-c", "env > seen", env=kept | keys) is None
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())
    for of_the_shell in ("PWD", "SHLVL", "_", "OLDPWD"):
        seen.pop(of_the_shell, None)
    assert seen == kept


def test_what_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    """Both hold a pipe open: its end shows that both are gone."""
    os.mkfifo(tmp_path / "alive")
    pipe = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(GuardUnanswered, match=r"^it has not ended after 2s$"):
            sh(tmp_path, "trap '' TERM; exec 3>alive; sleep 600 & echo up >&3; wait", limit=2)
        assert os.read(pipe, 100) == b"up\n"
        assert select.select([pipe], [], [], 60)[0]
        assert os.read(pipe, 100) == b""
    finally:
        os.close(pipe)


def test_what_it_leaves_running_does_not_keep_its_answer_back(tmp_path: Path) -> None:
    try:
        hold = sh(tmp_path, "sleep 600 & echo $! > child; echo busy; exit 3", limit=20)
        assert hold == Hold("`command sh` exits with 3: busy", 5.0)
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_run_that_is_interrupted_leaves_no_program_behind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "started")

    async def main() -> int:
        arguments = ("/bin/sh", "-c", "echo $$ > started; exec sleep 600")
        guard = Command(CommandGuard(arguments), tmp_path, os.environ)
        asking = asyncio.create_task(guard.ask())
        process = int(await asyncio.to_thread((tmp_path / "started").read_text))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return process

    assert ended(asyncio.run(main()))
