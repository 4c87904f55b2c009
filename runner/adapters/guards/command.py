"""A program of the user's: it exits with 0 where sending is fine."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from runner.execution.ports import GuardUnanswered, Hold
from runner.model import CommandGuard, frozen
from runner.spec.secrets import redact

_AGAIN = 5.0  # seconds
_LIMIT = 30.0  # seconds
_CANNOT_RUN = 126  # a shell's word for a program that it found and cannot start; 127: not found
_MESSAGE = 200
_TAIL = 4096  # bytes of its output that are looked at


@frozen
class Command:
    spec: CommandGuard
    folder: Path
    env: Mapping[str, str] = field(repr=False)
    limit: float = _LIMIT

    @property
    def name(self) -> str:
        return f"command {Path(self.spec.arguments[0]).name}"

    async def ask(self) -> Hold | None:
        try:
            # No pipe: what the program leaves running would keep it open.
            with TemporaryFile() as output:
                status = await self._run(output)
                words = _last_line(output)
        except OSError as error:
            raise GuardUnanswered(error.strerror or "it cannot be started") from None
        except ValueError:  # a zero byte in an argument
            raise GuardUnanswered("it cannot be started") from None
        if status < 0:
            raise GuardUnanswered(f"it was ended by signal {-status}")
        if status >= _CANNOT_RUN:
            raise GuardUnanswered(f"it ended with {status}")
        if status == 0:
            return None
        printed = f": {words}" if words else ""
        return Hold(f"`{self.name}` exits with {status}{printed}", _AGAIN)

    async def _run(self, output: IO[bytes]) -> int:
        process = await asyncio.create_subprocess_exec(
            *self.spec.arguments,
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            cwd=self.folder,
            env=without_keys(self.env),
            start_new_session=True,
        )
        try:
            return await asyncio.wait_for(process.wait(), self.limit)
        except TimeoutError:
            raise GuardUnanswered(f"it has not ended after {self.limit:g}s") from None
        finally:
            await _end(process)


def without_keys(env: Mapping[str, str]) -> dict[str, str]:
    """A guard has no use for what opens the target or the state."""
    return {name: value for name, value in env.items() if not _is_key(name)}


def _is_key(name: str) -> bool:
    inngest = name.startswith("INNGEST_") and "KEY" in name.removeprefix("INNGEST_")
    kept_back = name in ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY", "BACKFILL_STATE")
    return inngest or kept_back or name.endswith("_SIGNING_KEY")


def _last_line(output: IO[bytes]) -> str:
    """Without what could move a terminal's cursor, and without keys."""
    file = output.fileno()
    tail = os.pread(file, _TAIL, max(0, os.fstat(file).st_size - _TAIL))
    lines = tail.decode(errors="replace").strip().splitlines()
    line = redact(lines[-1]) if lines else ""
    return "".join(c if c.isprintable() else "?" for c in line)[:_MESSAGE]


async def _end(process: Process) -> None:
    """What hangs is ended with its children."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
