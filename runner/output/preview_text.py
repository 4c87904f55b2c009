"""The execution plan for people at a terminal."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TextIO

import orjson

from runner.model import ExecutionPlan, PlannedEvent, Stage, group_skipped
from runner.output import words
from runner.output.escape import shortened, visible

if TYPE_CHECKING:
    from rich.console import Console

_DIGEST = 19  # characters of "sha256:..." that tell plans apart at a glance


def write_text(
    plan: ExecutionPlan,
    out: TextIO,
    *,
    target: str,
    events: int | None,
    color: bool,
    width: int = 80,
) -> None:
    """Stages, their first `events` events (None: all), what is skipped, totals; fits `width`."""
    from rich.console import Console

    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
    )
    _header(console, plan, target)
    if plan.stages:
        _stages(console, plan)
    for stage in plan.stages:
        _events(console, stage, events, width)
    _asked(console, plan, width)
    _skipped(console, plan, width)
    console.print()
    if plan.stages:
        console.print(words.totals_line(plan), style="bold")
    else:
        console.print("Nothing to send.", style="bold yellow")


def _header(console: Console, plan: ExecutionPlan, target: str) -> None:
    from rich.text import Text

    console.print(
        Text.assemble(
            ("Plan ", ""), (visible(plan.name), "bold"), (" → ", ""), (visible(target), "bold cyan")
        )
    )
    about = [
        visible(str(plan.metadata[key])) for key in ("owner", "reason") if key in plan.metadata
    ]
    if about:
        console.print(": ".join(about), style="dim")
    console.print(plan.digest[:_DIGEST], style="dim")
    for line in words.control(plan):
        console.print(visible(line), style="dim")


def _stages(console: Console, plan: ExecutionPlan) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("operation", style="bold", overflow="fold")
    table.add_column("runs for", justify="right", overflow="fold")
    table.add_column("pacing", overflow="fold")
    table.add_column("done when", overflow="fold")
    for stage in plan.stages:
        table.add_row(
            str(stage.number),
            visible(stage.operation),
            words.runs_for(stage),
            words.pacing(stage),
            words.until(stage),
        )
    console.print(table)


def _events(console: Console, stage: Stage, events: int | None, width: int) -> None:
    """The stage's first events; with all of them, none is shortened."""
    from rich.text import Text

    if events == 0:
        return
    title = (f"{stage.number}. {visible(stage.operation)}", "bold")
    console.print(Text.assemble(title, (f"  {visible(stage.event)}", "cyan")))
    batch = 1
    for planned in islice(stage.planned(), events):
        if planned.batch != batch:
            batch = planned.batch
            at = "" if stage.begins is None else f", at {words.offset(stage, batch)}"
            console.print(Text(f"   batch {batch:,}{at}", style="dim"))
        # Past the console: it takes half a minute for a million lines, and has nothing to add.
        console.file.write(_event(planned, None if events is None else width) + "\n")
    more = stage.total - (stage.total if events is None else events)
    if more > 0:
        console.print(Text(f"   ... and {more:,} more (--events all)", style="dim"))


def _event(planned: PlannedEvent, width: int | None) -> str:
    data = orjson.dumps(planned.event.data).decode()
    line = f"   {visible(planned.item)}  {visible(data)}"
    return line if width is None else shortened(line, width)


def _asked(console: Console, plan: ExecutionPlan, width: int) -> None:
    from rich.text import Text

    lines = words.asked(plan)
    if lines:
        console.print(Text("Database", style="bold"))
    for what, query in lines:
        console.print(Text(shortened(f"   {visible(what)}", width)))
        console.print(Text(shortened(f"      {visible(query)}", width), style="dim"))
    if later := words.deferred(plan):
        console.print(Text(f"   {visible(later)}", style="yellow"))


def _skipped(console: Console, plan: ExecutionPlan, width: int) -> None:
    from rich.text import Text

    if not plan.skipped:
        return
    console.print(Text("Skipped", style="bold"))
    for operation, reason, total, items in group_skipped(plan.skipped):
        which = f"{words.counted(total, 'item')}, " if total else ""
        console.print(Text(f"   {visible(operation)}: {which}{visible(reason)}"))
        if items:
            names = visible(words.named(items, total))
            console.print(Text(shortened(f"   {names}", width), style="dim"))
