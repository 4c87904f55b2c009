"""The execution plan for a pull request: summary first, details folded, within GitHub's limit."""

from __future__ import annotations

import re
from itertools import islice
from typing import TextIO

import orjson

from runner.model import ExecutionPlan, Stage
from runner.output import words
from runner.output.escape import visible
from runner.output.problems import format_problems

MAX_CHARACTERS = 65_536  # the most that a GitHub comment may have
_RESERVE = 2_000  # kept free for the closing lines


def write_markdown(plan: ExecutionPlan, out: TextIO, *, target: str, events: int | None) -> None:
    """At most 65,536 characters; whole blocks are left out, and counted, rather than cut."""
    head = [f"### Backfill plan `{_code(plan.name)}` → `{_code(target)}`", _summary(plan)]
    if plan.stages:
        head.append(_table(plan))
    optional = [*_warnings(plan), *_skipped(plan)]
    optional += [_details(stage, events) for stage in plan.stages if events != 0]
    tail = f"<sub>{plan.digest}</sub>"
    room = MAX_CHARACTERS - _RESERVE - sum(len(block) + 2 for block in (*head, tail))
    kept, left_out = [], 0
    for block in optional:
        if len(block) + 2 <= room:
            kept.append(block)
            room -= len(block) + 2
        else:
            left_out += 1
    if left_out:
        kept.append(
            f"_{words.counted(left_out, 'section')} left out: a comment may not be longer._"
        )
    out.write("\n\n".join([*head, *kept, tail]) + "\n")


def _summary(plan: ExecutionPlan) -> str:
    return f"**{words.totals_line(plan)}.**" if plan.stages else "**Nothing to send.**"


def _table(plan: ExecutionPlan) -> str:
    rows = [
        "| # | operation | event | for each | events | batches | pacing | done when |",
        "|--:|---|---|---|--:|--:|---|---|",
    ]
    rows += [
        f"| {stage.number} | {_cell(stage.operation)} | {_cell(stage.event)} | {stage.for_each} "
        f"| {stage.total:,} | {stage.batches:,} | {words.pacing(stage)} | {words.until(stage)} |"
        for stage in plan.stages
    ]
    return "\n".join(rows)


def _warnings(plan: ExecutionPlan) -> list[str]:
    if not plan.warnings:
        return []
    return [_folded("Warnings", _fence(format_problems(plan.warnings, color=False)), opened=True)]


def _skipped(plan: ExecutionPlan) -> list[str]:
    groups = words.grouped(plan.skipped)
    if not groups:
        return []
    lines = []
    for operation, reason, items in groups:
        which = (
            f" ({words.counted(len(items), 'item')}: {_cell(words.named(items))})" if items else ""
        )
        lines.append(f"- {_cell(operation)}: {_cell(reason)}{which}")
    return [_folded("Skipped", "\n".join(lines), opened=True)]


def _details(stage: Stage, events: int | None) -> str:
    lines = [
        f"{visible(planned.item)}  {orjson.dumps(planned.event.data).decode()}"
        for planned in islice(
            stage.planned(), min(stage.total, 2_000 if events is None else events)
        )
    ]
    more = stage.total - len(lines)
    if more:
        lines.append(f"... and {more:,} more")
    title = f"{stage.number}. {_html(stage.operation)}: {words.counted(stage.total, 'event')}"
    return _folded(title, _fence("\n".join(lines)))


def _folded(title: str, body: str, *, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{title}</summary>\n\n{body}\n\n</details>"


def _fence(text: str) -> str:
    """A fence longer than any run of backticks in the text, so that nothing can leave it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _cell(text: str) -> str:
    return re.sub(r"([\\`*_\[\]|~#@])", r"\\\1", _html(visible(text)))


def _code(text: str) -> str:
    return visible(text).replace("`", "'")


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
