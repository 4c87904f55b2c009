"""The progress of a run: live at a terminal, plain lines elsewhere, log lines in a worker.

This module formats; it never counts.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from runner.model import ExecutionPlan, RunHead, StageRecord
from runner.output import words
from runner.output.text import json_safe, visible
from runner.planning.estimate import rough

if TYPE_CHECKING:
    from rich.console import RenderableType


_EVERY = 2.0  # seconds between two plain lines of a stage, at least
_HEARTBEAT = 30.0  # seconds between any two plain lines, at most
_TICK = 0.5
_REFRESH = 8  # frames a second


class Notes:
    """Prints notes, and nothing else."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None: ...

    def progress(self, progress: StageRecord) -> None: ...

    def note(self, message: str) -> None:
        self._print(f"note: {visible(message)}")

    def _print(self, line: str) -> None:
        with suppress(BrokenPipeError):  # nobody reads the output: keep sending
            self._out.write(line + "\n")
            self._out.flush()


class PlainLines(Notes):
    """A line per change of a stage, at most every two seconds, and a heartbeat if nothing changes:
    silence always means that something is wrong.

    `tick` prints what has become due; within a `with` block a thread calls it.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(out)
        self._clock, self._wall = clock, wall
        self._reported: dict[
            int, tuple[float, str]
        ] = {}  # by stage: when, and what (without how long it takes)
        self._latest: dict[int, StageRecord] = {}
        self._now: int | None = None  # the current stage
        self._spoke = clock()
        self._lock, self._over = threading.RLock(), threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._tick_on, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        with self._lock:
            for stage, progress in self._latest.items():
                if self._reported.get(stage, (0.0, ""))[1] != _essence(progress):
                    self._print(stage_line(_at_rest(progress), self._wall()))

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None:
        self._print(f"run {run_id} of {visible(plan.name)} (backfill resume {run_id} continues it)")

    def progress(self, progress: StageRecord) -> None:
        with self._lock:
            self._latest[progress.number], self._now = progress, progress.number
            if progress.done or self._is_due(progress.number):
                self._say(progress.number)

    def tick(self) -> None:
        """Print changes that came too soon after another, or a heartbeat."""
        with self._lock:
            for stage in list(self._latest):
                if self._is_due(stage):
                    self._say(stage)
            if self._now and self._clock() - self._spoke >= _HEARTBEAT:
                self._say(self._now, again=True)

    def _is_due(self, stage: int) -> bool:
        reported = self._reported.get(stage)
        return reported is None or self._clock() - reported[0] >= _EVERY

    def _say(self, stage: int, *, again: bool = False) -> None:
        progress = self._latest[stage]
        what = _essence(progress)
        reported = self._reported.get(stage)
        if again or reported is None or reported[1] != what:
            self._spoke = self._clock()
            self._reported[stage] = self._spoke, what
            self._print(stage_line(progress, self._wall()))

    def _tick_on(self) -> None:
        while not self._over.wait(_TICK):
            self.tick()


class LiveDisplay:
    """A row per stage, redrawn in place; notes stay above it."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._stages: dict[int, StageRecord] = {}  # first: `Live` draws as soon as it is created
        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console, refresh_per_second=_REFRESH, get_renderable=self._draw
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stages = {number: _at_rest(progress) for number, progress in self._stages.items()}
        self._live.stop()

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None:
        self._console.print(f"run {run_id} (^C stops it, backfill resume {run_id} continues it)")
        self._stages = {
            stage.number: StageRecord(stage.number, stage.operation, stage.total)
            for stage in plan.stages
        }

    def progress(self, progress: StageRecord) -> None:
        self._stages[progress.number] = progress

    def note(self, message: str) -> None:
        self._console.print(f"note: {visible(message)}")

    def _draw(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 1), expand=False)
        for progress in self._stages.values():
            counts, pace = _counts(progress), _pace(progress, time.time())
            table.add_row(
                f"{progress.number}.",
                visible(progress.operation),
                ProgressBar(progress.total, max(progress.settled, progress.sent), width=16),
                # Side by side they would be too wide for 80 columns.
                f"{counts}\n{pace}" if pace and not progress.done else counts,
            )
        return table


def stage_line(progress: StageRecord, now: float) -> str:
    end = "; done" if progress.done else ""
    pace = _pace(progress, now)
    tail = f"; {pace}" if pace and not progress.done else ""
    return f"{progress.number}. {visible(progress.operation)}: {_counts(progress)}{tail}{end}"


def _at_rest(progress: StageRecord) -> StageRecord:
    """Return a stage as this process leaves it: nothing goes on, and nothing is waited for."""
    return progress._replace(rate=0.0, left=None, waiting=None)


def _essence(progress: StageRecord) -> str:
    """Return what counts as a change: figures and reasons, not how long they last."""
    wait = progress.waiting
    reported = (_counts(progress), progress.done, wait and (wait.reason, wait.item, wait.again))
    return repr(reported)


def _counts(progress: StageRecord) -> str:
    parts = [*words.in_round(progress.round), f"{progress.sent:,}/{progress.total:,} sent"]
    if progress.running:
        parts.append(f"{progress.running:,} running")
    return ", ".join([*parts, *words.outcomes(progress.outcomes)])


def _pace(progress: StageRecord, now: float) -> str:
    parts = []
    if progress.sent < progress.total and progress.rate:
        parts.append(f"{progress.rate:,.1f}/s")
    if progress.left is not None and progress.sent:
        parts.append(f"{rough(progress.left)} left")
    if progress.waiting:
        parts.append(f"waiting: {visible(words.waiting(progress.waiting, now))}")
    return ", ".join(parts)


class TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{_moment(record)} {record.levelname.lower()} {_run(record)}{_message(record)}"


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _moment(record), "level": record.levelname.lower()}
        if run := getattr(record, "run", None):
            line["run"] = run
        return json_safe(json.dumps({**line, "message": _message(record)}))


class LogObserver:
    """Meets `runner.model.Observer`: logs what a run notes."""

    def __init__(self, log: logging.Logger, run: str) -> None:
        self._log, self._run = log, {"run": run}

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None: ...

    def progress(self, progress: StageRecord) -> None:
        if progress.done:
            self._log.info("%s is done", progress.operation, extra=self._run)

    def note(self, message: str) -> None:
        self._log.info(message, extra=self._run)


def _moment(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{record.msecs:03.0f}Z"


def _run(record: logging.LogRecord) -> str:
    run = getattr(record, "run", None)
    return f"run {visible(run)}: " if run else ""


def _message(record: logging.LogRecord) -> str:
    return visible(record.getMessage())
