"""The result of a run, for people and for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TextIO

from runner.model import (
    CheckResult,
    Failure,
    JobLink,
    Outcome,
    Summary,
    kind_of_failure,
    of_item,
)
from runner.output import words
from runner.output.text import clipped, columns, document, styled, visible
from runner.planning.limits import retries, unproved
from runner.spec.units import counted, format_duration

_COLORS = {
    "completed": "green",
    "failed": "red",
    "incomplete": "yellow",
    "cancelled": "yellow",
    "sent": "yellow",
}
_MESSAGE = 400
_MOST_GROUPS = 10


def write_summary_text(summary: Summary, out: TextIO, *, color: bool) -> None:
    """Write status, figures, failures by message, links, and how to continue."""
    status = summary.status.upper()
    if color:
        status = styled(status, _COLORS.get(summary.status), bold=True)
    took = format_duration(round(summary.duration, 1))
    lines = [
        "",
        f"{status}  {visible(summary.plan)} → {visible(summary.target)}, in {took}",
        _figures(summary),
        *([words.partial(summary.partial)] if summary.partial else []),
    ]
    lines += _chain(summary)
    lines += checks_text(summary.checks, color=color)
    lines += _failures(summary)
    lines += [f"note: {visible(note)}" for note in summary.notes]
    if summary.links:
        lines.append("jobs:")
        lines += _jobs(summary.links)
        more = summary.totals.jobs - len(summary.links)
        lines += [f"  +{more:,} more"] if more > 0 else []
    run_id = visible(summary.run_id)
    lines.append(f"run {run_id}")
    if summary.status == "sent":
        lines.append(f"to follow its jobs: backfill resume {run_id}")
    elif summary.status == "incomplete":
        option = f" {summary.option}" if summary.option else ""
        lines.append(f"to go on: backfill resume {run_id}{option}")
    elif summary.status in ("failed", "completed"):
        left = Counter(failure.outcome for failure in summary.failures)
        open_ = [*retries(run_id, left)] or unproved(run_id, summary.checks)
        lines += [f"{what}: {command}{more}" for what, command, more in open_]
    lines.append("to see more: backfill status, backfill ui, or backfill report --html run.html")
    out.write("\n".join(lines) + "\n")


def summary_json(summary: Summary) -> dict[str, object]:
    """Return what `run --format json` prints."""
    return document(
        "RunSummary",
        run_id=summary.run_id,
        plan=summary.plan,
        target=summary.target,
        status=summary.status,
        **({"partial": summary.partial} if summary.partial else {}),
        duration_s=round(summary.duration, 3),
        totals=asdict(summary.totals),
        failures=[asdict(failure) for failure in summary.failures],
        **({"chain": asdict(summary.chain)} if summary.chain else {}),
        checks=[asdict(check) for check in summary.checks],
        links=[job.link for job in summary.links],
        notes=summary.notes,
    )


def submitted_json(run_id: str, event_id: str) -> dict[str, object]:
    """Return what `run --detach` prints: the run, and the event that requests it."""
    return document("Submission", run_id=run_id, status="running", event_id=event_id)


def _figures(summary: Summary) -> str:
    totals = summary.totals
    parts = [f"{totals.accepted:,} of {counted(totals.planned, 'event')} accepted"]
    if totals.jobs:
        parts.append(counted(totals.jobs, "job"))
    parts += words.outcomes(totals.outcomes)
    if not_followed := totals.sent - sum(totals.outcomes.values()):
        parts.append(f"{not_followed:,} not followed to the end")
    return ", ".join(parts)


def _jobs(links: Sequence[JobLink]) -> list[str]:
    """Format each job's link, after what it is for."""
    names = [visible(" ".join(filter(None, (job.operation, job.item)))) for job in links]
    width = max(map(columns, names))
    gap = 2 if width else 0
    return [
        f"  {name}{' ' * (width - columns(name) + gap)}{visible(job.link)}"
        for name, job in zip(names, links, strict=True)
    ]


def _chain(summary: Summary) -> list[str]:
    chain = summary.chain
    if chain is None:
        return []
    planned, first = chain.totals.planned, chain.runs[0]
    events, runs = counted(planned, "event"), counted(len(chain.runs), "run")
    lines = [
        f"with its retries: {planned - chain.outstanding:,} of {events} completed, over {runs}"
    ]
    unsent = planned - chain.totals.sent
    if unsent and first != summary.run_id:  # a check of all items cannot hold until they are sent
        never = counted(unsent, "event", "were")
        lines.append(f"{never} not sent by run {first}: {words.of_first(first)}")
    return lines


def checks_text(checks: Sequence[CheckResult], *, color: bool) -> list[str]:
    """Format the results of checks, each with what was expected."""
    lines = []
    for check in checks:
        mark = "holds" if check.ok else "FAILS"
        if color:
            mark = styled(mark, "green" if check.ok else "red", bold=not check.ok)
        when = f"after {check.operation}" if check.moment == "after" else check.moment
        about = (
            f"{visible(check.name)} ({visible(when)}): {visible(clipped(check.words, _MESSAGE))}"
        )
        lines.append(f"  {mark}  {about}; expected {visible(check.expected)}")
    return ["checks:", *lines] if lines else []


def _failures(summary: Summary) -> list[str]:
    """Group failures by operation, outcome and message: equal ones take one line."""
    groups: dict[tuple[str, Outcome, str], list[Failure]] = {}
    for failure in summary.failures:
        kind = kind_of_failure(failure.message, failure.item)
        groups.setdefault((failure.operation, failure.outcome, kind), []).append(failure)
    lines = []
    largest = sorted(groups.values(), key=lambda members: -len(members))
    for members in largest[:_MOST_GROUPS]:
        first = members[0]
        said = of_item(first.message, first.item) if len(members) > 1 else first.message
        head = f"  {visible(first.operation)}: {visible(clipped(said, _MESSAGE))}"
        items = visible(words.named([m.item for m in members], len(members)))
        lines += [head, f"    {counted(len(members), 'event')}: {items}"]
        lines += [f"    {visible(url)}" for url in [first.url] if url]
    if more := sum(map(len, largest[_MOST_GROUPS:])):
        events = f"`backfill events {visible(summary.run_id)} --failed`"
        lines.append(f"  and {more:,} more, with other messages: {events}")
    return ["failures:", *lines] if lines else []
