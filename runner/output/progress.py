"""What a run is doing: live at a terminal, plain lines elsewhere. It formats, and never counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from runner.model import ExecutionPlan, RunHead, StageProgress
from runner.output import words
from runner.output.escape import visible
from runner.spec.secrets import redact
from runner.spec.units import format_duration

if TYPE_CHECKING:
    from rich.console import RenderableType

_EVERY = 5.0  # seconds between plain lines
_REFRESH = 8  # frames a second


class Notes:
    """Every note, and nothing else."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None: ...

    def progress(self, progress: StageProgress) -> None: ...

    def note(self, message: str) -> None:
        self._print(f"note: {visible(redact(message))}")

    def _print(self, line: str) -> None:
        with suppress(BrokenPipeError):  # nobody reads along: no reason to stop sending
            self._out.write(line + "\n")
            self._out.flush()


class PlainLines(Notes):
    """A line where a stage begins, every few seconds, and where it ends; and every note."""

    def __init__(
        self,
        out: TextIO,
        *,
        clock: Callable[[], float] = time.monotonic,
        every: float = _EVERY,
    ) -> None:
        super().__init__(out)
        self._clock, self._every = clock, every
        self._said: dict[int, float] = {}

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None:
        self._print(
            f"run {run_id} of {visible(plan.name)} (backfill resume {run_id} carries it on)"
        )

    def progress(self, progress: StageProgress) -> None:
        now, said = self._clock(), self._said.get(progress.stage)
        if said is None or progress.ended or now - said >= self._every:
            self._said[progress.stage] = now
            self._print(_line(progress))


class LiveDisplay:
    """A row for each stage, redrawn in place; what happened on the way stays above it."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._stages: dict[int, StageProgress] = {}  # `Live` draws as soon as it is made
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
        self._live.stop()

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None:
        self._console.print(f"run {run_id} (^C stops it, backfill resume {run_id} carries it on)")
        self._stages = {
            stage.number: StageProgress(stage.number, stage.operation, stage.total)
            for stage in plan.stages
        }

    def progress(self, progress: StageProgress) -> None:
        self._stages[progress.stage] = progress

    def note(self, message: str) -> None:
        self._console.print(f"note: {visible(redact(message))}")

    def _draw(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 1), expand=False)
        for progress in self._stages.values():
            counts, pace = _counts(progress), _pace(progress)
            table.add_row(
                f"{progress.stage}.",
                visible(progress.operation),
                ProgressBar(progress.total, max(progress.settled, progress.sent), width=16),
                # Beside each other they would be too wide for 80 columns.
                f"{counts}\n{pace}" if pace and not progress.ended else counts,
            )
        return table


def _line(progress: StageProgress) -> str:
    end = "; done" if progress.ended else ""
    pace = _pace(progress)
    tail = f"; {pace}" if pace and not progress.ended else ""
    return f"{progress.stage}. {visible(progress.operation)}: {_counts(progress)}{tail}{end}"


def _counts(progress: StageProgress) -> str:
    parts = [*words.in_round(progress.round), f"{progress.sent:,}/{progress.total:,} sent"]
    if progress.running:
        parts.append(f"{progress.running:,} running")
    return ", ".join([*parts, *words.outcomes(progress.outcomes)])


def _pace(progress: StageProgress) -> str:
    parts = []
    if progress.sent < progress.total:
        if progress.rate:
            parts.append(f"{progress.rate:,.1f}/s")
        if progress.left is not None and progress.sent:
            parts.append(f"{format_duration(round(progress.left))} left")
    if progress.waiting:
        parts.append(f"waiting: {visible(progress.waiting)}")
    return ", ".join(parts)
