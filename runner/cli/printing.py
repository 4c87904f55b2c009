"""How commands print the results of use cases, and where."""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

import click
from click.core import ParameterSource

from runner.output.text import fitted, json_safe, visible

if TYPE_CHECKING:
    from runner.app.session import Session
    from runner.errors import BackfillError
    from runner.model import ExecutionPlan, Observer, Problem, Summary

DEFAULT_EVENTS = 3
# GitHub drops a larger step summary, and with it what other steps have written.
_MAX_SUMMARY = 1024 * 1024  # bytes


@dataclass(slots=True)
class Terminal:
    """Meets `runner.app.session.Reporter`. `events`: how many events per stage to show.

    `summary_file`: the file to which each run's summary is appended, in Markdown. `results`: print
    plans and summaries; else they are reported in another way. `quiet`: print no plan and no
    progress either.
    """

    session: Session
    form: str
    events: int | None = DEFAULT_EVENTS
    summary_file: str | None = None
    results: bool = True
    quiet: bool = False

    def note(self, message: str) -> None:
        self.say(f"note: {message}")

    def say(self, message: str) -> None:
        click.echo(visible(message), err=True)

    def planned(self, plan: ExecutionPlan, target: str) -> None:
        outcome_decides()
        if self.form == "text" and self.results and not self.quiet:
            show(plan, target, form=self.form, events=self.events)

    @contextmanager
    def driving(self) -> Iterator[Observer]:
        outcome_decides()
        gc.freeze()  # the plan stays in memory: scanning it again and again finds nothing
        with display(self.form, quiet=self.quiet) as observer:
            yield observer

    def ended(self, summary: Summary) -> None:
        from runner.output.summary import summary_json, write_summary_text

        if not self.results:
            pass
        elif self.form == "json":
            print_json(summary_json(summary))
        else:
            write_summary_text(summary, people(), color=wants_color(sys.stdout))
        if self.summary_file:
            from runner.app.queries import view_of
            from runner.output.run import run_markdown

            store = self.session.store
            text = run_markdown(view_of(store, store.find(summary.run_id)))
            elsewhere = f"`backfill report {summary.run_id}` prints the summary"
            append_summary(self.summary_file, text, elsewhere)


def print_json(value: object) -> None:
    """Print JSON on stdout, with nothing in it that a CI log takes for a command."""
    click.echo(json_safe(json.dumps(value, indent=2)))


def asker() -> Callable[[str], bool] | None:
    """Return a function that asks at the terminal; None if there is none."""
    if not all(stream and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return None  # a closed stream is None
    return lambda question: click.confirm(question, err=True)


def environment() -> Mapping[str, str]:
    """Return this process's environment; a session has its own."""
    return os.environ


def wants_color(stream: Any) -> bool:
    return bool(stream.isatty()) and not environment().get("NO_COLOR")


def width_of(stream: Any) -> int | None:
    """Return the terminal's width; None for a pipe or a file, which get whole lines."""
    if not stream.isatty():
        return None
    from shutil import get_terminal_size

    return get_terminal_size((120, 24)).columns


class _Fitted(io.TextIOBase):
    """Wraps lines to the terminal's width, except for words that are wider."""

    def __init__(self, stream: TextIO, width: int) -> None:
        self._stream, self._width, self._line = stream, width, ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._stream.writelines(f"{piece}\n" for piece in fitted(line, self._width))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return True


def people() -> TextIO:
    """Return stdout for whole lines of text, which are wrapped on a terminal only."""
    width = width_of(sys.stdout)
    return sys.stdout if width is None else cast(TextIO, _Fitted(sys.stdout, width))


@contextmanager
def display(form: str, *, quiet: bool = False) -> Iterator[Observer]:
    """Show progress: live on a terminal, else in plain lines; notes only if `quiet`."""
    from runner.output.progress import LiveDisplay, Notes, PlainLines

    if quiet:
        yield Notes(sys.stderr)
    elif sys.stderr.isatty() and form == "text" and environment().get("TERM") != "dumb":
        with LiveDisplay(sys.stderr) as live:
            yield live
    else:
        with PlainLines(sys.stderr) as lines:
            yield lines


def show(plan: ExecutionPlan, target: str, *, form: str, events: int | None) -> None:
    """Print the preview on stdout, and its warnings on stderr unless the format contains them."""
    from runner.output.preview import plan_markdown, write_json, write_jsonl, write_text

    out: Any = sys.stdout
    if form == "markdown":
        click.echo(plan_markdown(plan, target=target, events=events), nl=False)
        return
    if form == "json":
        write_json(plan, out, target=target)
    elif form == "jsonl":
        write_jsonl(plan, out)
    else:
        color, width = wants_color(out), width_of(out)
        write_text(plan, out, target=target, events=events, color=color, width=width)
    print_warnings(plan.warnings)


def print_warnings(problems: Sequence[Problem]) -> None:
    """Print warnings on stderr, if there are any."""
    from runner.output.problems import format_problems

    if problems:
        click.echo(format_problems(problems, color=wants_color(sys.stderr)), err=True)


def append_summary(path: str, text: str, elsewhere: str) -> None:
    """Append the Markdown to the file, whole or not at all; `elsewhere`: where else it is."""
    from runner.adapters.files import CannotWrite, append_file

    try:
        if not append_file(path, text, limit=_MAX_SUMMARY):
            message = f"{path} is full: GitHub accepts no summary larger than 1 MiB"
            click.echo(f"note: {visible(message)}; {elsewhere}", err=True)
    except CannotWrite as error:
        click.echo(f"note: {visible(str(error))} ({error.hint}); {elsewhere}", err=True)


def write_page(path: str, page: str | Iterable[str], also: str = "") -> None:
    """Write a page. Raises `CannotWrite`."""
    from runner.adapters.files import write_file

    size = write_file(path, page)
    click.echo(visible(f"wrote {path} ({size / 1024:,.0f} KiB){also}"), err=True)


def in_actions() -> bool:
    return environment().get("GITHUB_ACTIONS") == "true"


def chosen_format(given: str) -> str:
    """Return the format; in Actions the default is `github`."""
    source = click.get_current_context().get_parameter_source("form")
    return "github" if in_actions() and source is ParameterSource.DEFAULT else given


def annotate(problems: Sequence[Problem], *, err: bool = False) -> None:
    """Print annotations, which GitHub reads on stdout and on stderr."""
    from runner.output.problems import annotations_of

    for line in annotations_of(problems):
        click.echo(line, err=err)


def show_github(problems: Sequence[Problem], markdown: str) -> None:
    """Print annotations on stdout, and append the Markdown to the step's summary."""
    annotate(problems)
    if path := environment().get("GITHUB_STEP_SUMMARY"):
        append_summary(path, markdown, "the summary is in the log above")


def print_error(error: BackfillError, path: str = "") -> None:
    """Print an error on stderr; see `error_text`."""
    from runner.errors import InvalidPlan
    from runner.output.errors import error_text

    if isinstance(error, InvalidPlan) and in_actions():
        annotate(error.problems, err=True)
    click.echo(error_text(error, color=wants_color(sys.stderr), path=path), err=True)


# stdout and stderr may be closed, full, or read by a process that exits. Losing stderr ends
# nothing: it is only talk. Losing stdout ends the command: with 141 if its reader has left, as
# shells report a program that SIGPIPE has ended. A command that drives a run keeps the run's exit
# status instead, and drops what cannot be printed.
READER_LEFT = 141  # 128 + SIGPIPE


class StdoutLost(Exception):
    """Not an OSError: libraries that print handle broken pipes in ways of their own."""


class _Stream(io.FileIO):
    """Raises at most once; later output is dropped."""

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
_replaced: list[Any] = []  # kept alive: a stream that is collected closes its descriptor


def install() -> None:
    """Replace the process's own streams; leave a test's stand-ins alone."""
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
    """From here on a lost stdout does not change the exit status."""
    if _stdout:
        _stdout.raises = False


def flushed(status: int, lost: int) -> int:
    """Flush stdout; return `status`, or `lost` if output was lost."""
    with suppress(StdoutLost):
        sys.stdout.flush()
    if _stdout is None or _stdout.lost is None:
        return status
    left = _stdout.lost.errno in (errno.EPIPE, errno.ECONNRESET)
    if not left:
        click.echo(f"error: cannot write to stdout: {_stdout.lost.strerror}", err=True)
        click.echo("hint: the output is incomplete: write it somewhere else", err=True)
    if status or not _stdout.raises:
        return status
    return READER_LEFT if left else lost


def _fill() -> None:
    """Open closed descriptors: else the next opened file would get the number, and the output."""
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
