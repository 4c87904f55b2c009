"""stdout and stderr that may be closed, full, or read by somebody who leaves.

What is lost on stderr is talk, and ends nothing. A lost stdout ends the command: with 141 where its
reader has left, as a shell says it of a program that SIGPIPE has ended. Of a command that carries a
run, the run's own outcome decides instead, and what cannot be printed is let go.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any

import click

READER_LEFT = 141  # 128 + SIGPIPE


class StdoutLost(Exception):
    """No OSError: those who print have their own ideas of a broken pipe."""


class _Stream(io.FileIO):
    """Raises once, if at all: what is printed afterwards goes nowhere."""

    lost: OSError | None = None
    raises = False

    def write(self, raw: Any) -> int:
        if self.lost is None:
            try:
                return super().write(raw) or 0
            except OSError as error:
                self.lost = error
                if self.raises:
                    raise StdoutLost from None
        return memoryview(raw).nbytes


_stdout: _Stream | None = None
_replaced: list[Any] = []  # kept: one that nobody has any more closes its descriptor


def install() -> None:
    """Take over the process's own streams; a test's stand-ins are left alone."""
    global _stdout
    _fill()
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            if not _is(stream, number):
                stream.reconfigure(errors="replace")
                continue
            stream.flush()
            _replaced.append(stream)
        raw = _Stream(number, "w", closefd=False)
        # An arrow must not break a latin-1 terminal.
        text = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=getattr(stream, "encoding", None) or "utf-8",
            errors="replace",
            line_buffering=number == 2 or raw.isatty(),
        )
        setattr(sys, name, text)
        if number == 1:
            raw.raises = True
            _stdout = raw


def outcome_decides() -> None:
    """From here on the command's own end is its exit status, whoever reads along."""
    if _stdout:
        _stdout.raises = False


def flushed(status: int, lost: int) -> int:
    """The exit status of a command that ended with `status`: all of it printed, or `lost`."""
    with suppress(StdoutLost):
        sys.stdout.flush()
    if _stdout is None or _stdout.lost is None:
        return status
    left = _stdout.lost.errno in (errno.EPIPE, errno.ECONNRESET)
    if not left:
        click.echo(f"error: stdout cannot be written: {_stdout.lost.strerror}", err=True)
        click.echo("hint: what was printed is incomplete: print it elsewhere", err=True)
    if status or not _stdout.raises:
        return status
    return READER_LEFT if left else lost


def _fill() -> None:
    """A closed one would be the number of the next file that is opened, and be printed into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _is(stream: io.TextIOWrapper, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False
