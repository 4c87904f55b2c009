"""A program of the user's: it exits with 0 where sending is fine."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runner.execution.ports import GuardUnanswered, Hold
from runner.model import CommandGuard

_AGAIN = 5.0  # seconds
_LIMIT = 30.0  # seconds
_CANNOT_RUN = 126  # a shell's word for a program that it found and cannot start; 127: not found
_MESSAGE = 200


@dataclass(frozen=True, slots=True)
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
            process = await asyncio.create_subprocess_exec(
                *self.spec.arguments,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                cwd=self.folder,
                env=without_keys(self.env),
                start_new_session=True,
            )
        except OSError as error:
            raise GuardUnanswered(error.strerror or "it cannot be started") from None
        try:
            said, _ = await asyncio.wait_for(process.communicate(), self.limit)
        except TimeoutError:
            raise GuardUnanswered(f"it has not ended after {self.limit:g}s") from None
        finally:
            await _end(process)
        status = process.returncode or 0
        if status < 0 or status >= _CANNOT_RUN:
            raise GuardUnanswered(f"it ended with {status}")
        if status == 0:
            return None
        lines = said.decode(errors="replace").strip().splitlines()
        words = f": {lines[-1][:_MESSAGE]}" if lines else ""
        return Hold(f"`{self.name}` exits with {status}{words}", _AGAIN)


def without_keys(env: Mapping[str, str]) -> dict[str, str]:
    """A guard has no use for what opens the target or the state."""
    return {
        name: value
        for name, value in env.items()
        if not (name.startswith("INNGEST_") and "KEY" in name)
        and name not in ("SUPABASE_SERVICE_ROLE_KEY", "BACKFILL_STATE")
    }


async def _end(process: Process) -> None:
    """What hangs is ended with its children."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
