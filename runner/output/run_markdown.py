"""A run for a pull request: what it came to, what failed, what the checks say."""

from __future__ import annotations

from collections.abc import Iterable

from runner.model import FailureGroup, RunView
from runner.output import words
from runner.output.escape import shortened
from runner.output.markdown import LINE, MAX_CHARACTERS, cell, code, fitting, with_more
from runner.planning.estimate import left
from runner.planning.limits import resume_command
from runner.spec.secrets import redact
from runner.spec.units import format_duration

_RESERVE = 2_000  # kept free for the closing lines
_SIGNS = {"completed": "✅", "failed": "❌", "dead": "❌"}


def run_markdown(view: RunView, room: int = MAX_CHARACTERS) -> str:
    """At most `room` characters: failures give way first, and what is left out is counted."""
    record, state = view.record, words.state(view.record, view.holder)
    took = format_duration(round(view.driven.seconds, 1))
    head = (
        f"### {_SIGNS.get(state, '⚠️')} Backfill {code(record.plan)} → {code(record.target)}: "
        f"**{state}**"
    )
    about = f"Run {code(record.id)}, started {words.moment(record.started_at)} UTC, {took}"
    if estimate := left(view):
        about += f"; time left: {estimate.words}"
    blocks = [head, about]
    if record.reason:
        blocks.append(f"Why it ended: {cell(shortened(redact(record.reason), LINE))}")
    room -= _RESERVE + sum(len(block) + 2 for block in blocks)
    for title, lines, total, share in (
        ("", _stages(view), len(view.stages) + 2, room // 4),
        ("**Checks**", _checks(view), len(view.checks), room // 4),
        ("**Failures**", map(_failure, view.failures), len(view.failures), room // 4),
        ("**Notes**", _notes(view), len(view.notes), room // 8),
    ):
        kept = fitting(lines, share)
        if kept:
            blocks += [title] if title else []
            blocks.append(with_more(kept, total, "- " if title else ""))
    if unattended := words.unattended(view):
        blocks.append(unattended[0].upper() + unattended[1:])
    elif view.outstanding and state in ("failed", "completed"):
        blocks.append(f"To send what failed once more: `backfill retry {record.id}`")
    elif state == "sent":
        blocks.append(f"To follow its jobs: `backfill resume {record.id}`")
    elif state == "dead":
        said = words.nobody(view)
        blocks.append(said[0].upper() + said[1:])
    elif state in ("incomplete", "paused"):
        blocks.append(f"To go on: `{resume_command(view)}`")
    blocks.append(f"<sub>{record.digest}</sub>")
    return "\n\n".join(blocks) + "\n"


def _stages(view: RunView) -> Iterable[str]:
    yield "| # | operation | events | sent | completed | not completed |"
    yield "|--:|---|--:|--:|--:|---|"
    for stage in view.stages:
        known = view.record.follow or stage.completed
        completed = f"{stage.completed:,}" if known else "not followed"
        lost = ", ".join(words.lost(stage.outcomes)) or "0"
        yield (
            f"| {stage.number} | {cell(stage.operation)} | {stage.total:,} | {stage.sent:,} "
            f"| {completed} | {lost} |"
        )


def _checks(view: RunView) -> Iterable[str]:
    for check in view.checks:
        seen = redact(check.words)
        mark = "holds" if check.ok else "**fails**"
        yield f"- {mark}: {cell(check.name)}: {cell(seen)}; expected {cell(check.expected)}"


def _failure(group: FailureGroup) -> str:
    names = cell(words.named(group.items, group.events))
    message = cell(shortened(redact(group.message), LINE))
    where = f" ([job](<{group.url}>))" if group.url and _is_plain(group.url) else ""
    return (
        f"- {words.counted(group.events, 'event')} of {cell(group.operation)}: {message}{where}"
        f"<br>{names}"
    )


def _notes(view: RunView) -> Iterable[str]:
    return (f"- {words.moment(note.at)} {cell(redact(note.message))}" for note in view.notes)


def _is_plain(url: str) -> bool:
    return url.startswith(("http://", "https://")) and not set(url) & set(" <>()[]\n")
