"""What a change to a plan does: text, Markdown and JSON of a `Difference`."""

from __future__ import annotations

from typing import TextIO

from runner.output import words
from runner.output.colors import styled
from runner.output.escape import shortened, visible
from runner.output.markdown import MAX_CHARACTERS, cell, code, fitting, with_more
from runner.planning.compare import Difference, PlanChange
from runner.spec.units import format_duration

_SIGNS = {"added": "+", "removed": "-", "moved": "~", "changed": "~"}
_COLORS = {"added": "green", "removed": "red", "moved": "yellow", "changed": "yellow"}
_RESERVE = 100  # for the closing line, that counts what is left out


def write_difference(found: Difference, out: TextIO, *, color: bool) -> None:
    for change in found.changes:
        sign = _SIGNS[change.kind]
        if color:
            sign = styled(sign, _COLORS[change.kind], bold=True)
        out.write(f"{sign} {visible(_line(change))}\n")
    out.write(totals(found) + "\n")


def difference_markdown(found: Difference, old: str, new: str) -> str:
    """Within the limit of a GitHub comment: what does not fit is counted."""
    head = f"### Backfill diff: {code(old)} → {code(new)}\n\n**{totals(found)}**\n"
    if not found.changes:
        return head
    return f"{head}\n{bullets(found, MAX_CHARACTERS - len(head))}\n"


def bullets(found: Difference, room: int) -> str:
    """The changes as a list in at most `room` characters."""
    lines = (f"- `{_SIGNS[change.kind]}` {cell(_line(change))}" for change in found.changes)
    return with_more(fitting(lines, room - _RESERVE), len(found.changes), "- ")


def lines_of(found: Difference, most: int) -> list[str]:
    """The first changes, a line each."""
    return [_line(change) for change in found.changes[:most]]


def difference_json(found: Difference) -> dict[str, object]:
    pairs = {"events": found.events, "batches": found.batches, "duration_s": found.duration}
    return {
        "same": not found.changes,
        "changes": [change._asdict() | {"items": list(change.items)} for change in found.changes],
        **{name: {"old": old, "new": new} for name, (old, new) in pairs.items()},
    }


def _line(change: PlanChange) -> str:
    whose = f"{change.operation}: " if change.operation else ""
    what = change.what
    if change.what in ("events", "the operation"):
        what = f"{change.what} is {change.kind}" if change.what != "events" else ""
        count = words.counted(change.total, "event")
        what = f"{what}, {count}" if what else f"{count} {change.kind}"
    elif change.total:
        what = f"{change.what} ({words.counted(change.total, 'item')})"
    names = f": {words.named(change.items, change.total)}" if change.items else ""
    return shortened(f"{whose}{what}{names}", 1_000)


def totals(found: Difference) -> str:
    if not found.changes:
        return "The plans send the same."
    (before, after), (first, then) = found.events, found.duration
    more = f" ({after - before:+,})" if after != before else ""
    takes = format_duration(round(then, 1))
    was = f", was {format_duration(round(first, 1))}" if then != first else ""
    return f"{words.counted(after, 'event')}{more}; {takes} of pacing{was}"
