"""The execution plan: for people at a terminal, for machines, and for a pull request.

JSON is streamed: a million events are never held at once. Markdown has the summary first and
details folded, within GitHub's limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from runner.model import ExecutionPlan, PlannedEvent, SkippedGroup, Stage, group_skipped
from runner.output import words
from runner.output.documents import document
from runner.output.markdown import (
    LINE,
    MAX_CHARACTERS,
    cell,
    code,
    fence,
    fitting,
    folded,
    problems_block,
    shared_out,
    with_more,
)
from runner.output.text import json_safe, shortened, visible
from runner.planning.lines import figures_of, line_of, totals_of

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
    _questions_text(console, plan, width)
    _skipped_text(console, plan, width)
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
        console.file.write(_event_text(stage, planned, None if events is None else width) + "\n")
    more = stage.total - (stage.total if events is None else events)
    if more > 0:
        console.print(Text(f"   ... and {more:,} more (--events all)", style="dim"))


def _event_text(stage: Stage, planned: PlannedEvent, width: int | None) -> str:
    line = f"   {_one(stage, planned)}"
    return line if width is None else shortened(line, width)


def _questions_text(console: Console, plan: ExecutionPlan, width: int) -> None:
    from rich.text import Text

    lines = words.queries(plan)
    if lines:
        console.print(Text("Database", style="bold"))
    for what, query in lines:
        console.print(Text(shortened(f"   {visible(what)}", width)))
        console.print(Text(shortened(f"      {visible(query)}", width), style="dim"))
    if later := words.deferred(plan):
        console.print(Text(f"   {visible(later)}", style="yellow"))


def _skipped_text(console: Console, plan: ExecutionPlan, width: int) -> None:
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


_BLOCK = 1000  # lines written at once


def write_json(plan: ExecutionPlan, out: TextIO, *, target: str) -> None:
    """The whole plan, as `schemas/execution-plan.v1.schema.json` has it."""
    head = document(
        "ExecutionPlan",
        name=plan.name,
        digest=plan.digest,
        target=target,
        on_failure=plan.on_failure,
        **_control(plan),
    )
    out.write(_text(head)[:-1])
    out.write(',"stages":[')
    for index, stage in enumerate(plan.stages):
        out.write("," if index else "")
        out.write(_text(_stage(stage))[:-1])
        out.write(',"items":[')
        _write_joined(out, (_item(stage, event) for event in stage.planned()))
        out.write("]}")
    out.write('],"skipped":[')
    skipped = ({"operation": s.operation, "item": s.item, "reason": s.reason} for s in plan.skipped)
    _write_joined(out, skipped)
    tail = {
        "warnings": [
            {
                "message": warning.message,
                "path": warning.path,
                "line": warning.line,
                "column": warning.column,
                "hint": warning.hint,
                "rule": warning.rule,
                "accepted": warning.accepted,
            }
            for warning in plan.warnings
        ],
        "totals": totals(plan),
    }
    out.write("]," + _text(tail)[1:] + "\n")


def write_all_json(plans: Sequence[ExecutionPlan], out: TextIO, *, target: str) -> None:
    """Several plans as one document, each as `write_json` has it."""
    head = _text(document("ExecutionPlanList", plans=[]))
    out.write(head.removesuffix("]}"))
    for index, plan in enumerate(plans):
        out.write("," if index else "")
        write_json(plan, out, target=target)
    out.write("]}\n")


def write_jsonl(plan: ExecutionPlan, out: TextIO) -> None:
    """One line an event, in sending order."""
    lines = (
        orjson.dumps(line_of(stage, event)) for stage in plan.stages for event in stage.planned()
    )
    while block := list(islice(lines, _BLOCK)):
        out.write(json_safe(b"\n".join(block).decode()) + "\n")


def _control(plan: ExecutionPlan) -> dict[str, object]:
    """Only what the plan says: most have none of it."""
    found: dict[str, object] = {}
    if plan.partial:
        found["partial"] = plan.partial.selectors.words
    if limit := plan.max_failures:
        found["max_failures"] = limit.count or f"{(limit.ratio or 0) * 100:g}%"
    if plan.guards:
        found["guards"] = [words.guard(spec) for spec in plan.guards]
    if plan.facts:
        found["facts"] = [fact._asdict() for fact in plan.facts]
    if plan.answered_at:
        found["facts_recorded_at"] = plan.answered_at
    if plan.verdicts:
        found["policy"] = verdicts_json(plan)
    if plan.checks:
        found["checks"] = [
            {
                "name": check.name,
                "at": check.moment,
                "operation": check.operation,
                "query": check.question.query.text,
                "expect": check.expect.words,
                "timeout_s": check.timeout,
            }
            for check in plan.checks
        ]
    return found


def verdicts_json(plan: ExecutionPlan) -> list[dict[str, object]]:
    return [
        {
            "name": verdict.name,
            "level": verdict.level,
            "holds": verdict.holds,
            "reason": verdict.reason or None,
            "message": verdict.message,
        }
        for verdict in plan.verdicts
    ]


def totals(plan: ExecutionPlan) -> dict[str, object]:
    """With what the catalog declares that it costs."""
    return {**totals_of(plan), **({"needs": plan.needs._asdict()} if any(plan.needs) else {})}


def _stage(stage: Stage) -> dict[str, object]:
    return {
        **figures_of(stage),
        **({"operations": list(stage.operations)} if stage.members else {}),
        **({"jitter_s": stage.pacing.jitter} if stage.pacing.jitter else {}),
        **({"canary": stage.canary} if stage.canary else {}),
        **({"deferred": True} if stage.deferred else {}),
        **({"until": stage.until.expect.words} if stage.until else {}),
    }


def _item(stage: Stage, planned: PlannedEvent) -> dict[str, object]:
    line = line_of(stage, planned)
    known = ("stage",) if stage.members else ("stage", "operation")
    return {key: line[key] for key in line if key not in known}


def _write_joined(out: TextIO, values: Iterable[Any]) -> None:
    texts: Iterator[str] = (_text(value) for value in values)
    first = True
    while block := list(islice(texts, _BLOCK)):
        out.write(("" if first else ",") + ",".join(block))
        first = False


def _text(value: Any) -> str:
    return json_safe(orjson.dumps(value).decode())


_RESERVE = 2_000  # kept free for the closing lines
_PART = 3_000  # what one of several plans may take at least
_LINE_MORE = 40  # the line that counts what is left out
_SECTION = 2_000  # a section is begun only where it may take this much


def plan_markdown(
    plan: ExecutionPlan, *, target: str, events: int | None, room: int = MAX_CHARACTERS
) -> str:
    """At most `room` characters: samples give way first, and what is left out is counted."""
    head = [
        f"### Backfill plan {code(plan.name)} → {code(target)}",
        summary_markdown(plan, room // 4),
    ]
    tail = f"<sub>{plan.digest}</sub>"
    blocks = details(plan, events, room - sum(len(block) + 2 for block in (*head, tail)))
    return "\n\n".join([*head, *blocks, tail]) + "\n"


def previews_markdown(plans: Sequence[ExecutionPlan], target: str, events: int | None) -> str:
    """Several plans in one comment; of those that do not fit, how many there are."""

    def part(plan: ExecutionPlan, room: int) -> str:
        return plan_markdown(plan, target=target, events=events, room=room)

    room = MAX_CHARACTERS - _LINE_MORE * 2
    parts, left_out = shared_out([partial(part, plan) for plan in plans], room, _PART)
    if left_out:
        more = words.counted(left_out, "more plan")
        parts.append(f"... and {more}, for which there is no room.\n")
    return "\n".join(parts)


def details(plan: ExecutionPlan, events: int | None, room: int) -> list[str]:
    """All but the summary, in blocks: what does not fit into `room` characters is counted."""
    room -= min(_RESERVE, room // 4)
    blocks = []
    # Together these leave at least an eighth of the room to the samples.
    sections = (
        _table(plan, room // 2),
        _questions_markdown(plan, room // 8),
        _warnings(plan, room // 4),
        _skipped_markdown(plan, room // 8),
    )
    for block in sections:
        blocks.append(block)
        room -= len(block) + 2
    stages = plan.stages if events != 0 else ()
    samples, left_out = shared_out(
        [partial(_samples, stage, events) for stage in stages], room, _SECTION
    )
    blocks += samples
    if left_out:
        blocks.append(f"_The samples of {words.counted(left_out, 'stage')} are left out._")
    return [block for block in blocks if block]


def summary_markdown(plan: ExecutionPlan, room: int) -> str:
    if not plan.stages:
        return "**Nothing to send.**"
    head, control = f"**{words.totals_line(plan)}.**", words.control(plan)
    if not control:
        return head
    lines = fitting((f"- {cell(line)}" for line in control), max(0, room - len(head) - _LINE_MORE))
    return f"{head}\n\n{with_more(lines, len(control), '- ')}"


def _table(plan: ExecutionPlan, room: int) -> str:
    if not plan.stages:
        return ""
    head = [
        "| # | operation | event | for each | events | batches | pacing | done when |",
        "|--:|---|---|---|--:|--:|---|---|",
    ]
    rows = (
        f"| {stage.number} | {cell(stage.operation)} | {cell(stage.event)} | {stage.for_each} "
        f"| {stage.total:,} | {stage.batches:,} | {words.pacing(stage)} "
        f"| {cell(words.until(stage))} |"
        for stage in plan.stages
    )
    kept = fitting(rows, room - sum(map(len, head)))
    more = len(plan.stages) - len(kept)
    table = "\n".join([*head, *kept])
    return f"{table}\n\n... and {words.counted(more, 'more stage')}" if more else table


def _questions_markdown(plan: ExecutionPlan, room: int) -> str:
    """What the database has answered, and what it will be asked to prove the result."""
    lines = words.queries(plan)
    if not lines:
        return ""
    bullets = [f"- {cell(what)}  \n  {code(shortened(query, LINE))}" for what, query in lines]
    if later := words.deferred(plan):
        bullets.append(f"- {cell(later)}")
    return f"**Database**\n\n{with_more(fitting(bullets, room), len(bullets), '- ')}"


def _warnings(plan: ExecutionPlan, room: int) -> str:
    if not plan.warnings:
        return ""
    return folded("Warnings", problems_block(plan.warnings, room), opened=True)


def _skipped_markdown(plan: ExecutionPlan, room: int) -> str:
    groups = group_skipped(plan.skipped)
    if not groups:
        return ""
    text = with_more(fitting(map(_group, groups), room), len(groups), "- ")
    return folded("Skipped", text, opened=True)


def _group(group: SkippedGroup) -> str:
    line = f"- {cell(group.operation)}: {cell(group.reason)}"
    if not group.items:
        return line
    names = words.named(group.items, group.total)
    return f"{line} ({words.counted(group.total, 'item')}: {cell(names)})"


def _samples(stage: Stage, events: int | None, room: int) -> str:
    title = f"{stage.number}. {cell(stage.operation)}: {words.counted(stage.total, 'event')}"
    lines = (_sample(stage, planned) for planned in islice(stage.planned(), events))
    overhead = len(folded(title, fence(with_more([], stage.total))))
    return folded(title, fence(with_more(fitting(lines, room - overhead), stage.total)))


def _sample(stage: Stage, planned: PlannedEvent) -> str:
    return shortened(_one(stage, planned), LINE)


def _one(stage: Stage, planned: PlannedEvent) -> str:
    """An event's item and payload, with its operation where the stage has several."""
    data = orjson.dumps(planned.event.data).decode()
    of = f"{visible(planned.operation)} " if stage.members else ""
    return f"{of}{visible(planned.item)}  {visible(data)}"
