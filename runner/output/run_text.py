"""A run, or many, for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

from runner.model import FailureGroup, Note, RunLine, RunView, StageRecord, Waited
from runner.output import words
from runner.output.colors import styled
from runner.output.escape import shortened, visible
from runner.output.summary import checks_text
from runner.planning.estimate import left
from runner.planning.limits import resume_command
from runner.spec.secrets import redact
from runner.spec.units import format_duration

if TYPE_CHECKING:
    from rich.console import Console

COLORS = {
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "dead": "red",
    "incomplete": "yellow",
    "sent": "yellow",
    "cancelled": "yellow",
    "paused": "yellow",
}
_MESSAGE = 400
_MOST_GROUPS = 10


def write_view(view: RunView, out: TextIO, *, color: bool) -> None:
    """Where the run stands, what it waits for, what went wrong, and how to go on."""
    record = view.record
    state = words.state(record, view.holder)
    shown = state.upper()
    if color:
        shown = styled(shown, COLORS[state], bold=True)
    took = format_duration(round(view.driven.seconds, 1))
    lines = [
        f"{shown}  {visible(record.plan)} → {visible(record.target)}, {_since(view)} ({took})",
        *(_stage(view, stage) for stage in view.stages),
    ]
    if record.reason:
        lines.append(f"why it ended: {visible(redact(record.reason))}")
    if estimate := left(view):
        lines.append(f"time left: {estimate.words}")
    if view.outcomes:
        good = words.made_good(view)
        lost = ", ".join(words.lost(view.outcomes))
        lines.append(f"did not take effect: {lost}{f'; {good}' if good else ''}")
    lines += checks_text(view.checks, color=color)
    lines += failures_text(view.failures)
    lines += _hints(view, state)
    out.write("\n".join(lines) + "\n")


def write_lines(lines: Sequence[RunLine], out: TextIO, *, color: bool, width: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console: Console = Console(
        file=out, width=width, force_terminal=color, no_color=not color, highlight=False
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("run", no_wrap=True)
    for heading in ("started (UTC)", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("events", justify="right", no_wrap=True)
    table.add_column("not completed", justify="right", no_wrap=True)
    table.add_column("plan", overflow="fold")
    table.add_column("target", overflow="fold")
    for line in lines:
        record, state = line.record, words.state(line.record, line.holder)
        table.add_row(
            record.id,
            words.moment(record.started_at)[:16],
            Text(state, style=COLORS[state]),
            f"{line.sent:,}/{record.planned:,}",
            f"{sum(line.outcomes.values()) - line.outcomes.get('completed', 0):,}",
            Text(visible(record.plan)),
            Text(visible(record.target)),
        )
    console.print(table)


def write_story(view: RunView, notes: Iterable[Note], waits: Iterable[Waited], out: TextIO) -> None:
    """The journal as a story: what was noted, and what was waited for, in order of time."""
    names = {stage.number: stage.operation for stage in view.stages}
    told = [(view.record.started_at, f"started: {view.record.plan} → {view.record.target}")]
    told += [(note.at, note.message) for note in notes]
    told += [(wait.began, _waited(wait, names)) for wait in waits]
    for stage in view.stages:
        if stage.began is not None:
            told.append((stage.began, f"{stage.operation}: first events sent"))
        if stage.last_sent is not None and stage.sent >= stage.total:
            told.append((stage.last_sent, f"{stage.operation}: all {stage.total:,} sent"))
        if stage.ended is not None and not stage.running and stage.sent >= stage.total:
            end = ", ".join(words.outcomes(stage.outcomes))
            told.append((stage.ended, f"{stage.operation}: {end}"))
    if view.record.ended_at is not None:
        told.append((view.record.ended_at, f"ended: {view.record.status}"))
    told.sort(key=lambda entry: entry[0])
    out.writelines(f"{words.moment(at)}  {visible(redact(message))}\n" for at, message in told)


def failures_text(groups: Sequence[FailureGroup]) -> list[str]:
    """A thousand of a kind are one line."""
    lines = []
    for group in groups[:_MOST_GROUPS]:
        head = (
            f"  {visible(group.operation)}: {visible(shortened(redact(group.message), _MESSAGE))}"
        )
        names = visible(words.named(group.items, group.events))
        lines += [head, f"    {words.counted(group.events, 'event')}: {names}"]
        lines += [f"    {visible(group.url)}"] if group.url else []
    more = sum(group.events for group in groups[_MOST_GROUPS:])
    lines += [f"  ... and {more:,} with other messages: backfill events --failed"] if more else []
    return ["failures:", *lines] if lines else []


def _stage(view: RunView, stage: StageRecord) -> str:
    parts = [*words.in_round(stage.round), f"{stage.sent:,}/{stage.total:,} sent"]
    if still_open := words.still_open(view, stage):
        parts.append(still_open)
    parts += words.outcomes(stage.outcomes)
    waiting = (
        f"; waiting: {visible(words.waiting(stage.waiting, view.now))}" if stage.waiting else ""
    )
    return f"  {stage.number}. {visible(stage.operation)}: {', '.join(parts)}{waiting}"


def _since(view: RunView) -> str:
    return f"started {words.moment(view.record.started_at)} UTC"


def _waited(wait: Waited, names: dict[int, str]) -> str:
    span = "" if wait.ended is None else f" ({format_duration(round(wait.ended - wait.began, 1))})"
    return f"{names.get(wait.stage, wait.stage)}: waiting {wait.reason}{span}"


def _hints(view: RunView, state: str) -> list[str]:
    run_id = view.record.id
    lines = [f"run {run_id}" + (f", carried out by {visible(view.holder)}" if view.holder else "")]
    if view.record.parent:
        lines.append(f"it retries run {visible(view.record.parent)}")
    if view.retries:
        lines.append(f"retried by {', '.join(view.retries)}")
    if unattended := words.unattended(view):
        lines.append(unattended)
    elif state == "dead":
        lines.append(words.nobody(view))
    elif state == "sent":
        lines.append(f"to follow its jobs: backfill resume {run_id}")
    elif state in ("incomplete", "paused"):
        lines.append(f"to go on: {resume_command(view)}")
    elif view.outstanding and state in ("failed", "completed"):
        lines.append(f"to send what failed once more: backfill retry {run_id}")
    return lines
