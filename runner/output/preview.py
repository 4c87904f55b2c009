"""The execution plan: for people at a terminal, for machines, and for a pull request.

JSON is streamed, so that a million events are never in memory. Markdown starts with the summary and
folds details, within GitHub's limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from functools import partial
from itertools import islice
from typing import Any, TextIO

import orjson

from runner.model import ExecutionPlan, PlannedEvent, SkippedGroup, Stage, frozen, group_skipped
from runner.output import words
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
from runner.output.table import table
from runner.output.text import document, fitted, json_safe, shortened, styled, visible
from runner.planning.lines import figures_of, line_of, totals_of
from runner.spec.units import counted

_DIGEST = 19  # characters of "sha256:..." that suffice to tell plans apart


def write_text(
    plan: ExecutionPlan,
    out: TextIO,
    *,
    target: str,
    events: int | None,
    color: bool,
    width: int | None = None,
) -> None:
    """Write stages, their first `events` events (None: all), what is skipped, and totals."""
    page = _Text(out, width, color=color)
    _header(page, plan, target)
    if plan.stages:
        _stages(page, plan)
    for stage in plan.stages:
        _events(page, stage, events)
    _questions_text(page, plan)
    _skipped_text(page, plan)
    page.write("")
    if plan.stages:
        page.write(page.bold(words.totals_line(plan)))
    else:
        page.write(page.styled("Nothing to send.", "yellow", bold=True))


@frozen
class _Text:
    """Lines for people; `width`: of the terminal, None to keep every line whole."""

    out: TextIO
    width: int | None
    color: bool = field(kw_only=True)

    def write(self, *lines: str) -> None:
        for line in lines:
            pieces = (line,) if self.width is None else fitted(line, self.width)
            self.out.writelines(f"{piece}\n" for piece in pieces)

    def cut(self, line: str) -> str:
        return line if self.width is None else shortened(line, self.width)

    def styled(self, text: str, color: str | None, *, bold: bool = False) -> str:
        return styled(text, color, bold=bold) if self.color else text

    def bold(self, text: str) -> str:
        return self.styled(text, None, bold=True)

    def dim(self, text: str) -> str:
        return self.styled(text, "dim")


def _header(page: _Text, plan: ExecutionPlan, target: str) -> None:
    where = page.styled(visible(target), "cyan", bold=True)
    page.write(f"Plan {page.bold(visible(plan.name))} → {where}")
    about = [
        visible(str(plan.metadata[key])) for key in ("owner", "reason") if key in plan.metadata
    ]
    if about:
        page.write(page.dim(": ".join(about)))
    page.write(page.dim(plan.digest[:_DIGEST]))
    page.write(*(page.dim(visible(line)) for line in words.control(plan)))


def _stages(page: _Text, plan: ExecutionPlan) -> None:
    headings = (">", "operation", ">runs for", "pacing", "done when")
    rows = (
        (
            str(stage.number),
            stage.operation,
            words.runs_for(stage),
            words.pacing(stage),
            words.until(stage),
        )
        for stage in plan.stages
    )
    page.write("", *table(headings, rows, width=page.width, color=page.color), "")


def _events(page: _Text, stage: Stage, events: int | None) -> None:
    """Write the stage's first events; if all of them, unshortened."""
    if events == 0:
        return
    title = page.bold(f"{stage.number}. {visible(stage.operation)}")
    page.write(f"{title}  {page.styled(visible(stage.event), 'cyan')}")
    batch = 1
    for planned in islice(stage.planned(), events):
        if planned.batch != batch:
            batch = planned.batch
            at = "" if stage.begins is None else f", at {words.offset(stage, batch)}"
            page.write(page.dim(f"   batch {batch:,}{at}"))
        # Bypass the page: there may be a million lines, and none is to be wrapped.
        line = f"   {_one(stage, planned)}"
        page.out.write(f"{line if events is None else page.cut(line)}\n")
    more = stage.total - (stage.total if events is None else events)
    if more > 0:
        page.write(page.dim(f"   ... and {more:,} more (--events all)"))


def _questions_text(page: _Text, plan: ExecutionPlan) -> None:
    lines = words.queries(plan)
    if lines:
        page.write(page.bold("Database"))
    for what, query in lines:
        page.write(f"   {visible(what)}")
        page.write(page.dim(page.cut(f"      {visible(query)}")))
    if later := words.deferred(plan):
        page.write(page.styled(f"   {visible(later)}", "yellow"))


def _skipped_text(page: _Text, plan: ExecutionPlan) -> None:
    if not plan.skipped:
        return
    page.write(page.bold("Skipped"))
    for operation, reason, total, items in group_skipped(plan.skipped):
        which = f"{counted(total, 'item')}, " if total else ""
        page.write(f"   {visible(operation)}: {which}{visible(reason)}")
        if items:
            page.write(page.dim(page.cut(f"   {visible(words.named(items, total))}")))


_BLOCK = 1000  # lines written at once


def write_json(plan: ExecutionPlan, out: TextIO, *, target: str) -> None:
    """Write the whole plan, by `schemas/execution-plan.v1.schema.json`."""
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
    """Write several plans as one document, each as `write_json` does."""
    head = _text(document("ExecutionPlanList", plans=[]))
    out.write(head.removesuffix("]}"))
    for index, plan in enumerate(plans):
        out.write("," if index else "")
        write_json(plan, out, target=target)
    out.write("]}\n")


def write_jsonl(plan: ExecutionPlan, out: TextIO) -> None:
    """Write one line per event, in sending order."""
    lines = (
        orjson.dumps(line_of(stage, event)) for stage in plan.stages for event in stage.planned()
    )
    while block := list(islice(lines, _BLOCK)):
        out.write(json_safe(b"\n".join(block).decode()) + "\n")


def _control(plan: ExecutionPlan) -> dict[str, object]:
    """Return the optional keys that the plan uses; most plans use none."""
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
    """Return the totals, with the costs that the catalog declares."""
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
_PART = 3_000  # the least room for one of several plans
_LINE_MORE = 40  # the line that counts what is left out
_SECTION = 2_000  # the least room for a section


def plan_markdown(
    plan: ExecutionPlan, *, target: str, events: int | None, room: int = MAX_CHARACTERS
) -> str:
    """Write at most `room` characters: samples are dropped first, and omissions are counted."""
    head = [
        f"### Backfill plan {code(plan.name)} → {code(target)}",
        summary_markdown(plan, room // 4),
    ]
    tail = f"<sub>{plan.digest}</sub>"
    blocks = details(plan, events, room - sum(len(block) + 2 for block in (*head, tail)))
    return "\n\n".join([*head, *blocks, tail]) + "\n"


def previews_markdown(plans: Sequence[ExecutionPlan], target: str, events: int | None) -> str:
    """Put several plans into one comment; count those that do not fit."""

    def part(plan: ExecutionPlan, room: int) -> str:
        return plan_markdown(plan, target=target, events=events, room=room)

    room = MAX_CHARACTERS - _LINE_MORE * 2
    parts, left_out = shared_out([partial(part, plan) for plan in plans], room, _PART)
    if left_out:
        more = counted(left_out, "more plan")
        parts.append(f"... and {more}, for which there is no room.\n")
    return "\n".join(parts)


def details(plan: ExecutionPlan, events: int | None, room: int) -> list[str]:
    """Return all but the summary, in blocks; what does not fit into `room` is counted."""
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
        blocks.append(f"_The samples of {counted(left_out, 'stage')} are left out._")
    return [block for block in blocks if block]


def summary_markdown(plan: ExecutionPlan, room: int) -> str:
    head = f"**{words.totals_line(plan)}.**" if plan.stages else "**Nothing to send.**"
    control = words.control(plan)
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
    return f"{table}\n\n... and {counted(more, 'more stage')}" if more else table


def _questions_markdown(plan: ExecutionPlan, room: int) -> str:
    """List what the database was asked, and what it will be asked as a proof."""
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
    return f"{line} ({counted(group.total, 'item')}: {cell(names)})"


def _samples(stage: Stage, events: int | None, room: int) -> str:
    title = f"{stage.number}. {cell(stage.operation)}: {counted(stage.total, 'event')}"
    lines = (_sample(stage, planned) for planned in islice(stage.planned(), events))
    overhead = len(folded(title, fence(with_more([], stage.total))))
    return folded(title, fence(with_more(fitting(lines, room - overhead), stage.total)))


def first_events(stage: Stage, events: int) -> list[str]:
    return [_one(stage, planned) for planned in islice(stage.planned(), events)]


def _sample(stage: Stage, planned: PlannedEvent) -> str:
    return shortened(_one(stage, planned), LINE)


def _one(stage: Stage, planned: PlannedEvent) -> str:
    """Format an event: its item and payload, its operation if the stage has several, and its own
    start and id if it has them."""
    event = planned.event
    data = orjson.dumps(event.data).decode()
    of = f"{visible(planned.operation)} " if stage.members else ""
    own = "" if event.ts is None else f"  at {words.moment(event.ts / 1000)} UTC"
    own += "" if event.id is None else f"  id {visible(event.id)}"
    return f"{of}{visible(planned.item)}  {visible(data)}{own}"
