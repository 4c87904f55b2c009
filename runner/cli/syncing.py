"""The loop of `backfill sync`: look, decide, apply in a process of its own, write down."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import click

from runner.adapters.git import GitFailed
from runner.adapters.git_mirror import Mirror
from runner.adapters.journal.store import Store
from runner.errors import (
    BackfillError,
    Incomplete,
    Interrupted,
    PreflightRefused,
    StalePlan,
    TargetError,
    UsageError,
)
from runner.model import SyncRecord
from runner.output.escape import visible
from runner.spec.secrets import redact

_TELLING = re.compile(r"(error|changed|applying|carrying on|run \S+ is with)\b|.*:\d+:\d+: error: ")


class _Stopped(BaseException):
    """A signal, while nothing is under way that would have to end first."""


@dataclass(frozen=True, slots=True)
class Following:
    """What is followed, and what its commits must be."""

    mirror: Mirror
    path: str
    signed: bool
    allowed_signers: str | None
    allow_force_push: bool

    def commit(self, seen: str | None) -> str:
        """The commit that the branch is at, which goes on from the one seen before.

        Raises `TargetError`, `StalePlan` and `PreflightRefused`.
        """
        try:
            found = self.mirror.fetch()
        except GitFailed as error:
            hint = "are its address, the branch and git's own credentials right?"
            raise TargetError(f"{self.mirror.repository}: {error}", hint=hint) from None
        if seen and not self.allow_force_push and not self.mirror.leads_to(seen, found):
            message = (
                f"{self.mirror.branch} was rewritten: it was at {seen[:12]}, and {found[:12]} does "
                "not go on from there"
            )
            hint = "--allow-force-push takes it as it is; plans that were applied stay applied"
            raise StalePlan(message, hint=hint)
        if self.signed:
            self.mirror.refuse_unsigned(found, self.allowed_signers)
        return found

    def plans(self, commit: str) -> Path:
        """The folder of plans, as it is in the commit. Raises `UsageError`."""
        tree = self.mirror.check_out(commit).resolve()
        folder = (tree / self.path).resolve()
        if not folder.is_relative_to(tree) or not folder.exists():
            raise UsageError(f"there is no {self.path} in {commit[:12]} of {self.mirror.branch}")
        return folder


@dataclass
class Syncing:
    """`record` says what came of the last look; every change of it is kept in the store."""

    following: Following
    store: Store
    state: str  # its URL, which may hold a password: the environment hands it on
    record: SyncRecord
    arguments: list[str]
    wanted: signal.Signals | None = None
    applying: bool = False
    child: subprocess.Popen[str] | None = None
    said: list[str] = field(default_factory=list)

    def run(self, *, once: bool) -> int:
        """Until a signal ends it; the exit status. With `once`, that of the one look."""
        before = {one.id: one for one in self.store.syncs()}.get(self.record.id)
        if before:
            self.record = replace(
                self.record,
                seen=before.seen,
                applied=before.applied,
                applied_at=before.applied_at,
            )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        status = 0
        try:
            while True:
                status = self._look(once=once)
                if once or self.wanted:
                    break
                time.sleep(self.record.every)
        except _Stopped:
            status = 0
        self.applying = True  # a second signal has nothing left to end
        self._keep(ended_at=time.time())
        return Interrupted.exit_status if self.wanted is signal.SIGINT else status

    def _look(self, *, once: bool) -> int:
        try:
            commit = self.following.commit(self.record.seen)
            if commit == self.record.applied:
                self._keep(outcome="applied", message=None)
                if once:
                    click.echo(f"nothing is pending: {commit[:12]} is applied")
                return 0
            folder = self.following.plans(commit)
        except BackfillError as error:
            refused = isinstance(error, (StalePlan, PreflightRefused, UsageError))
            self._keep(outcome="refused" if refused else "unreachable", message=_text(error))
            if once:
                raise
            self._say(error)
            return error.exit_status
        self._keep(outcome="applying", message=None, seen=commit)
        click.echo(f"{commit[:12]}: applying {visible(self.record.path)}", err=True)
        status = self._apply(folder)
        if status == 0:
            self._keep(outcome="applied", message=None, applied=commit, applied_at=time.time())
        elif status == Incomplete.exit_status and "--detach" in self.arguments:
            self._keep(message=self.said[-1] if self.said else None)  # the workers are at it
        else:
            said = self.said[-1] if self.said else "`backfill status` shows its run"
            self._keep(outcome="failed", message=f"apply has ended with {status}: {said}")
        return status

    def _apply(self, folder: Path) -> int:
        """In a process of its own, which is told of signals and then ends its run in order."""
        self.applying = True
        command = [sys.executable, "-m", "runner", "apply", str(folder), *self.arguments]
        self.said.clear()
        self.child = subprocess.Popen(  # noqa: S603 - no shell
            command,
            env={**os.environ, "BACKFILL_STATE": self.state},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self.child.stderr  # noqa: S101 - it is a pipe
        hearing = threading.Thread(target=self._hear, args=(self.child.stderr,))
        hearing.start()
        if self.wanted:
            self.child.send_signal(self.wanted)
        while True:
            try:
                status = self.child.wait(self.record.every)
                break
            except subprocess.TimeoutExpired:
                self._keep()
        hearing.join()
        self.applying, self.child = False, None
        return status if status >= 0 else Incomplete.exit_status

    def _hear(self, stream: TextIO) -> None:
        """Hand on what it says, and remember what went wrong: in whose run, or in which line."""
        for line in stream:
            sys.stderr.write(line)
            if _TELLING.match(line):
                self.said.append(line.strip())

    def _keep(self, **changes: Any) -> None:
        self.record = replace(self.record, checked_at=time.time(), **changes)
        try:
            self.store.keep_sync(self.record)
        except TargetError as error:  # what applies will refuse by itself; this goes on looking
            click.echo(f"note: {_text(error)}", err=True)

    def _say(self, error: BackfillError) -> None:
        """Once, as long as it stays the same."""
        text = _text(error)
        if self.said != [text]:
            self.said[:] = [text]
            click.echo(f"error: {text}", err=True)
            if error.hint:
                click.echo(f"hint: {visible(redact(error.hint))}", err=True)

    def _signalled(self, number: int, _frame: object) -> None:
        self.wanted = signal.Signals(number)
        if not self.applying:
            raise _Stopped
        if self.child:
            self.child.send_signal(number)


def _text(error: BackfillError) -> str:
    return visible(redact(str(error)))
