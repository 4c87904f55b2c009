"""The execution plan for a pull request: summary first, details folded, within GitHub's limit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import TextIO

import orjson

from runner.model import ExecutionPlan, PlannedEvent, SkippedGroup, Stage, group_skipped
from runner.output import words
from runner.output.escape import shortened, visible
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

_RESERVE = 2_000  # kept free for the closing lines
_PART = 3_000  # what one of several plans may take at least
_LINE_MORE = 40  # the line that counts what is left out
_SECTION = 2_000  # a section is begun only where it may take this much


def write_markdown(
    plan: ExecutionPlan,
    out: TextIO,
    *,
    target: str,
    events: int | None,
    room: int = MAX_CHARACTERS,
) -> None:
    """At most `room` characters: samples give way first, and what is left out is counted."""
    head = [
        f"### Backfill plan {code(plan.name)} → {code(target)}",
        summary_markdown(plan, room // 4),
    ]
    tail = f"<sub>{plan.digest}</sub>"
    blocks = details(plan, events, room - sum(len(block) + 2 for block in (*head, tail)))
    out.write("\n\n".join([*head, *blocks, tail]) + "\n")


def previews_markdown(plans: Sequence[ExecutionPlan], target: str, events: int | None) -> str:
    """Several plans in one comment; of those that do not fit, how many there are."""

    def part(plan: ExecutionPlan, room: int) -> str:
        out = io.StringIO()
        write_markdown(plan, out, target=target, events=events, room=room)
        return out.getvalue()

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
        _asked(plan, room // 8),
        _warnings(plan, room // 4),
        _skipped(plan, room // 8),
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


def _asked(plan: ExecutionPlan, room: int) -> str:
    """What the database has answered, and what it will be asked to prove the result."""
    lines = words.asked(plan)
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


def _skipped(plan: ExecutionPlan, room: int) -> str:
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
    lines = (_sample(planned) for planned in islice(stage.planned(), events))
    overhead = len(folded(title, fence(with_more([], stage.total))))
    return folded(title, fence(with_more(fitting(lines, room - overhead), stage.total)))


def _sample(planned: PlannedEvent) -> str:
    data = orjson.dumps(planned.event.data).decode()
    return shortened(f"{visible(planned.item)}  {visible(data)}", LINE)
