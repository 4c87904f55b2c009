"""Changes to one plan (a Difference), and to the plans of a folder (Reviews)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TextIO

from runner.errors import BackfillError
from runner.model import ExecutionPlan
from runner.model.value import as_argument
from runner.output import words
from runner.output.markdown import (
    MAX_CHARACTERS,
    cell,
    code,
    fitting,
    folded,
    problems_block,
    refusal,
    shared_out,
    with_more,
)
from runner.output.preview import details, summary_markdown, verdicts_json
from runner.output.problems import format_problems, problems_json
from runner.output.text import document, shortened, styled, visible
from runner.planning.compare import Difference, Fate, PlanChange, Review
from runner.spec.units import counted, format_duration

_SIGNS = {"added": "+", "removed": "-", "moved": "~", "changed": "~"}
_COLORS = {"added": "green", "removed": "red", "moved": "yellow", "changed": "yellow"}
_RESERVE = 100  # characters for the closing line, which counts omissions


def write_difference(found: Difference, out: TextIO, *, color: bool) -> None:
    for change in found.changes:
        sign = _SIGNS[change.kind]
        if color:
            sign = styled(sign, _COLORS[change.kind], bold=True)
        out.write(f"{sign} {visible(_line(change))}\n")
    out.write(totals(found) + "\n")


def difference_markdown(found: Difference, old: str, new: str) -> str:
    """Write a GitHub comment; what does not fit is counted."""
    head = f"### Backfill diff: {code(old)} → {code(new)}\n\n**{totals(found)}**\n"
    if not found.changes:
        return head
    return f"{head}\n{bullets(found, MAX_CHARACTERS - len(head))}\n"


def bullets(found: Difference, room: int) -> str:
    """List the changes in at most `room` characters."""
    # Other bullets than those of a list above, which would absorb it.
    lines = (f"* `{_SIGNS[change.kind]}` {cell(_line(change))}" for change in found.changes)
    return with_more(fitting(lines, room - _RESERVE), len(found.changes), "* ")


def lines_of(found: Difference, most: int) -> list[str]:
    """Return the first changes, one per line."""
    return [_line(change) for change in found.changes[:most]]


def difference_json(found: Difference) -> dict[str, object]:
    return document("PlanDifference", **_difference(found))


def _difference(found: Difference) -> dict[str, object]:
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
        count = counted(change.total, "event")
        what = f"{what}, {count}" if what else f"{count} {change.kind}"
    elif change.total:
        what = f"{change.what} ({counted(change.total, 'item')})"
    names = f": {words.named(change.items, change.total)}" if change.items else ""
    return shortened(f"{whose}{what}{names}", 1_000)


def totals(found: Difference) -> str:
    if not found.changes:
        return "The plans send the same."
    (before, after), (first, then) = found.events, found.duration
    more = f" ({after - before:+,})" if after != before else ""
    takes = format_duration(round(then, 1))
    was = f", was {format_duration(round(first, 1))}" if then != first else ""
    return f"{counted(after, 'event')}{more}; {takes} of pacing{was}"


_FATE_COLORS: dict[Fate, str] = {
    "added": "green",
    "removed": "red",
    "changed": "yellow",
    "same": "white",
    "invalid": "red",
}
_SAMPLES = 3
_OPEN = 3  # up to so many plans, changes are unfolded
_REVIEW_RESERVE = 500  # characters for the closing line
_SECTION = 300  # the least room for a section


def write_reviews(reviews: Sequence[Review], out: TextIO, *, color: bool) -> None:
    for review in reviews:
        fate = styled(review.fate, _FATE_COLORS[review.fate]) if color else review.fate
        out.write(f"{fate}  {visible(_name(review))}\n")
        if review.note:
            out.write(f"{visible(review.note)}\n")
        if review.applied:
            out.write(f"applied already by run {review.applied}: merging will not run it\n")
        if review.plan and review.fate not in ("same", "removed"):
            out.writelines(f"{visible(line)}\n" for line in words.control(review.plan))
        if review.problems:
            out.write(format_problems(review.problems, color=color) + "\n")
        elif review.fate == "changed" and review.difference:
            write_difference(review.difference, out, color=color)
        elif review.plan and review.fate != "same":
            out.write(f"{_totals(review)}\n")
        out.write("\n")
    out.write(f"{headline(reviews)}\n")


def reviews_json(reviews: Sequence[Review]) -> dict[str, object]:
    same = all(review.fate == "same" for review in reviews)
    return document("PlanReview", same=same, plans=[_review_json(review) for review in reviews])


def reviews_markdown(reviews: Sequence[Review], room: int = MAX_CHARACTERS) -> str:
    """Write a comment: all plans in a table, then each plan's changes, as far as they fit."""
    head = f"### Backfill: {headline(reviews)}\n"
    room -= len(head) + _REVIEW_RESERVE
    table = _table(reviews, room // 3)
    room -= len(table)
    shown = [review for review in reviews if review.fate != "same"]
    shown.sort(key=lambda review: review.fate != "invalid")
    makers = [partial(_section, review, opened=_is_open(review, len(shown))) for review in shown]
    sections, left_out = shared_out(makers, room, _SECTION)
    if left_out:
        more = counted(left_out, "plan")
        sections.append(f"_The details of {more} are left out: there is no room for them._")
    return "\n".join([head, *([table] if table else []), *(f"\n{one}" for one in sections)]) + "\n"


def refused_markdown(error: BackfillError) -> str:
    return f"### ❌ Backfill: the plans were not compared\n\n{refusal(error)}\n"


def _is_open(review: Review, shown: int) -> bool:
    """Unfold what must be fixed, and everything if there are few plans."""
    return review.fate == "invalid" or shown <= _OPEN


def headline(reviews: Sequence[Review]) -> str:
    """Count the plans by fate, and sum up their events."""
    fates = [review.fate for review in reviews]
    counts = [
        f"{counted(fates.count(fate), 'plan')} {verb}"
        for fate, verb in _VERBS.items()
        if fate in fates
    ]
    if not counts:
        return "no plan is changed"
    events = sum(review.events for review in reviews)
    return f"{', '.join(counts)}; events {events:+,}" if events else ", ".join(counts)


_VERBS: dict[Fate, str] = {
    "invalid": "invalid",
    "added": "added",
    "removed": "removed",
    "changed": "changed",
    "same": "sent as before",
}


def _table(reviews: Sequence[Review], room: int) -> str:
    if not reviews:
        return ""
    head = ["| plan | | events |", "|---|---|---|"]
    rows = (
        f"| {cell(_name(review))} | {_VERBS[review.fate]} | {cell(_totals(review))} |"
        for review in reviews
    )
    kept = fitting(rows, room - sum(map(len, head)) - 2)
    table = "\n".join([*head, *kept])
    more = len(reviews) - len(kept)
    return f"{table}\n\n... and {counted(more, 'more plan')}" if more else table


def _section(review: Review, room: int, *, opened: bool) -> str:
    title = f"{cell(shortened(_name(review), 200))}: {_VERBS[review.fate]}"
    room -= len(folded(title, "", opened=opened)) + len(review.note or "") * 8
    blocks = [cell(review.note)] if review.note else []
    if review.problems:
        blocks.append(problems_block(review.problems, room - 100))
    elif review.fate == "changed" and review.difference and review.plan:
        about = _about(review, review.plan, room // 4)
        warned = _warned(review.plan, room // 4)
        left = room - sum(map(len, [*about, *warned]))
        blocks += [*about, bullets(review.difference, left), *warned]
    elif review.plan and review.fate == "added":
        about = _about(review, review.plan, room // 4)
        blocks += [*about, *details(review.plan, _SAMPLES, room - sum(map(len, about)) - 2)]
    elif review.plan:
        blocks.append(f"It sent {cell(words.totals_line(review.plan))}.")
    return folded(title, "\n\n".join(blocks), opened=opened)


def _about(review: Review, plan: ExecutionPlan, room: int) -> list[str]:
    """Return owner, reason, target, prior application, migrations, duration and verdicts."""
    said = [plan.metadata[key] for key in ("owner", "reason") if key in plan.metadata]
    facts = [cell(": ".join(map(str, said)))] if said else []
    facts += [f"→ {code(review.target)}"] if review.target else []
    lines = [" ".join(facts)] if facts else []
    if review.applied:
        again = code(f"apply --again {plan.name}")
        run = code(review.applied)
        lines.append(
            f"**It was applied already (run {run}): merging will not run it.** {again} does."
        )
    for migration in dict.fromkeys(check.migration for check in plan.checks if check.migration):
        gate = code(f"backfill check {as_argument(review.path)} --applied")
        lines.append(f"It belongs to the migration {code(migration)}: {gate} is its gate.")
    return [*lines, summary_markdown(plan, room)]


def _warned(plan: ExecutionPlan, room: int) -> list[str]:
    if not plan.warnings:
        return []
    title = counted(len(plan.warnings), "warning")
    return [folded(title, problems_block(plan.warnings, room))]


def _totals(review: Review) -> str:
    if review.fate == "invalid":
        return counted(len(review.problems), "problem")
    if review.difference:
        return totals(review.difference)
    if review.plan is None:
        return ""
    sign = "-" if review.fate == "removed" else "+"
    return f"{sign}{words.totals_line(review.plan)}"


def _name(review: Review) -> str:
    return f"{review.path} (was {review.was})" if review.was else review.path


def _review_json(review: Review) -> dict[str, object]:
    found: dict[str, object] = {"path": review.path, "fate": review.fate, "was": review.was}
    if review.difference:
        found |= _difference(review.difference)
    elif review.plan:
        sums = (review.plan.events, review.plan.batches, review.plan.duration)
        pairs = zip(("events", "batches", "duration_s"), sums, strict=True)
        gone = review.fate == "removed"
        found |= {
            name: {"old": value if gone else None, "new": None if gone else value}
            for name, value in pairs
        }
    if review.plan:
        found["digest"] = review.plan.digest
        found["policy"] = verdicts_json(review.plan)
    found |= {"target": review.target, "applied_by": review.applied}
    if review.note:
        found["note"] = review.note
    if review.problems:
        found["problems"] = problems_json(review.problems)
    return found
