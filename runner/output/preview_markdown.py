"""The execution plan for a pull request: summary first, details folded, within GitHub's limit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import TextIO

import orjson

from runner.model import ExecutionPlan, PlannedEvent, Problem, SkippedGroup, Stage
from runner.output import words
from runner.output.escape import shortened, visible
from runner.output.problems import format_problems
from runner.planning.left_out import grouped

MAX_CHARACTERS = 65_536  # the most that a GitHub comment may have
_RESERVE = 2_000  # kept free for the closing lines
_SECTION = 2_000  # a section is begun only where it may take this much
_LINE = 1_000  # columns of one line
_NAME = 200  # columns of a name in the heading


def write_markdown(plan: ExecutionPlan, out: TextIO, *, target: str, events: int | None) -> None:
    """At most 65,536 characters: samples give way first, and what is left out is counted."""
    head = [f"### Backfill plan {_code(plan.name)} → {_code(target)}", _summary(plan)]
    tail = f"<sub>{plan.digest}</sub>"
    room = MAX_CHARACTERS - _RESERVE - sum(len(block) + 2 for block in (*head, tail))
    blocks, left_out = [], 0
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
    for index, stage in enumerate(plan.stages if events != 0 else ()):
        share = min(room - 2, max(_SECTION, room // (len(plan.stages) - index)))
        block = _samples(stage, events, share)
        if len(block) + 2 > room:
            left_out += 1
            continue
        blocks.append(block)
        room -= len(block) + 2
    if left_out:
        blocks.append(f"_The samples of {words.counted(left_out, 'stage')} are left out._")
    out.write("\n\n".join(block for block in (*head, *blocks, tail) if block) + "\n")


def _summary(plan: ExecutionPlan) -> str:
    if not plan.stages:
        return "**Nothing to send.**"
    control = "".join(f"\n- {_cell(line)}" for line in words.control(plan))
    return f"**{words.totals_line(plan)}.**" + (f"\n{control}" if control else "")


def _table(plan: ExecutionPlan, room: int) -> str:
    if not plan.stages:
        return ""
    head = [
        "| # | operation | event | for each | events | batches | pacing | done when |",
        "|--:|---|---|---|--:|--:|---|---|",
    ]
    rows = (
        f"| {stage.number} | {_cell(stage.operation)} | {_cell(stage.event)} | {stage.for_each} "
        f"| {stage.total:,} | {stage.batches:,} | {words.pacing(stage)} | {words.until(stage)} |"
        for stage in plan.stages
    )
    fitting = _fitting(rows, room - sum(map(len, head)))
    more = len(plan.stages) - len(fitting)
    table = "\n".join([*head, *fitting])
    return f"{table}\n\n... and {words.counted(more, 'more stage')}" if more else table


def _asked(plan: ExecutionPlan, room: int) -> str:
    """What the database has answered, and what it will be asked to prove the result."""
    lines = words.asked(plan)
    if not lines:
        return ""
    bullets = [f"- {_cell(what)}  \n  {_code(shortened(query, _LINE))}" for what, query in lines]
    if later := words.deferred(plan):
        bullets.append(f"- {_cell(later)}")
    return f"**Database**\n\n{_with_more(_fitting(bullets, room), len(bullets), '- ')}"


def _warnings(plan: ExecutionPlan, room: int) -> str:
    if not plan.warnings:
        return ""
    entries = (_warning(warning) for warning in plan.warnings)
    text = _with_more(_fitting(entries, room), len(plan.warnings))
    return _folded("Warnings", _fence(text), opened=True)


def _warning(warning: Problem) -> str:
    """Without the closing count, that stands for one file's problems."""
    lines = format_problems([warning], color=False).split("\n")[:-1]
    return "\n".join(shortened(line, _LINE) for line in lines)


def _skipped(plan: ExecutionPlan, room: int) -> str:
    groups = grouped(plan.skipped)
    if not groups:
        return ""
    text = _with_more(_fitting(map(_group, groups), room), len(groups), "- ")
    return _folded("Skipped", text, opened=True)


def _group(group: SkippedGroup) -> str:
    line = f"- {_cell(group.operation)}: {_cell(group.reason)}"
    if not group.items:
        return line
    names = words.named(group.items, group.total)
    return f"{line} ({words.counted(group.total, 'item')}: {_cell(names)})"


def _samples(stage: Stage, events: int | None, room: int) -> str:
    title = f"{stage.number}. {_cell(stage.operation)}: {words.counted(stage.total, 'event')}"
    lines = (_sample(planned) for planned in islice(stage.planned(), events))
    overhead = len(_folded(title, _fence(_with_more([], stage.total))))
    return _folded(title, _fence(_with_more(_fitting(lines, room - overhead), stage.total)))


def _sample(planned: PlannedEvent) -> str:
    data = orjson.dumps(planned.event.data).decode()
    return shortened(f"{visible(planned.item)}  {visible(data)}", _LINE)


def _fitting(lines: Iterable[str], room: int) -> list[str]:
    """The first lines that fit into `room` characters; no more of them are asked for."""
    kept: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept


def _with_more(kept: list[str], total: int, bullet: str = "") -> str:
    more = total - len(kept)
    return "\n".join([*kept, f"{bullet}... and {more:,} more"] if more else kept)


def _folded(title: str, body: str, *, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{title}</summary>\n\n{body}\n\n</details>"


def _fence(text: str) -> str:
    """A fence longer than any run of backticks in the text, so that nothing can leave it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _cell(text: str) -> str:
    """Text that is read as text: no markup, no HTML, and nobody is mentioned."""
    return re.sub(r"[#$&*<>@\[\\\]_`|~]", _entity, visible(shortened(text, _LINE)))


def _entity(match: re.Match[str]) -> str:
    # GitHub looks for @name and #1 once entities are read; a zero-width space keeps them apart.
    return f"&#{ord(match[0])};" + ("&#8203;" if match[0] in "@#" else "")


def _code(text: str) -> str:
    return f"`{visible(shortened(text, _NAME)).replace('`', chr(39))}`"
