"""Pages, rendered whole: readable without a script, and shareable as a file."""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import urlencode

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from runner.model import (
    FAILURES,
    IN_WORDS,
    LOST,
    OUTCOMES,
    STATES,
    Applied,
    EventFilter,
    EventPage,
    ExecutionPlan,
    RunLine,
    RunView,
    StageRecord,
    Waited,
    group_skipped,
)
from runner.output import charts, words
from runner.output.preview import first_events
from runner.output.text import visible
from runner.planning.estimate import Estimate, Timeline, left
from runner.planning.limits import resume_command, what_is_left
from runner.spec.secrets import redact

MAX_ROWS = 200  # of one table; further rows are counted, and are in the CSV
_CODE = re.compile("`([^`]+)`")
_MOST_WAITS = 6  # of a stage
_MOST_SHOWN = 100_000  # characters of a plan file
_FOLDER = files("runner.output") / "templates"
ASSETS = ("page.css", "live.js")  # of the web application
_WAITS = {
    "pace": "between batches",
    "room": "for room under max_in_flight",
    "jobs": "for its jobs to end",
    "queued": "for its jobs to start",
}


class WaitGroup(NamedTuple):
    """Waits of a stage for the same thing."""

    reason: str
    times: int
    seconds: float
    is_trouble: bool


class DiffLine(NamedTuple):
    kind: str  # added, removed, same, or place
    text: str


def run_page(view: RunView, listing: EventPage, *, standalone: bool, csv: str | None = None) -> str:
    """Render a run. `standalone`: one file without requests; else a page of the web application.

    `csv`: the URL of all events.
    """
    return _render(
        "run.html",
        standalone=standalone,
        title=f"{view.record.plan} {view.record.id}",
        view=view,
        record=view.record,
        state=view.state,
        left=left(view),
        charts=list(filter(None, (charts.chart(view, width) for width in charts.WIDTHS))),
        trouble=[stage for stage in view.stages if _is_trouble(stage)],
        listing=listing,
        chips=_chips(view, listing.wanted.stage),
        total=_total(view, listing.wanted),
        csv=csv,
        diff=_diff(view.applied, view.source),
    )


def runs_page(
    lines: Sequence[RunLine],
    where: str,
    *,
    now: float,
    plans: Sequence[str] = (),
    plan: str = "",
    state: str = "",
    most: int = MAX_ROWS,
) -> str:
    """Render the web application's list of runs, filtered by `plan` and `state`."""
    return _render(
        "runs.html",
        standalone=False,
        title="Runs",
        lines=lines,
        where=where,
        now=now,
        plans=plans,
        plan=plan,
        chosen=state,
        most=most,
    )


def plan_page(
    plan: ExecutionPlan, *, target: str, schedule: Timeline, estimate: Estimate, events: int
) -> str:
    """Render the preview, with the first `events` events of each stage."""
    return _render(
        "plan.html",
        standalone=True,
        title=f"Plan {plan.name}",
        plan=plan,
        target=target,
        schedule=schedule,
        estimate=estimate,
        events=events,
        first_events=first_events,
        skipped=group_skipped(plan.skipped),
    )


def error_page(title: str, message: str, hint: str | None) -> str:
    """Render an error as a page of the web application."""
    return _render("error.html", standalone=False, title=title, message=message, hint=hint)


def asset(name: str) -> str:
    """Return the text of ``page.css``, ``live.js`` or ``filter.js``."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def waits_of(view: RunView, stage: StageRecord) -> list[WaitGroup]:
    """Return what the stage waited for while it was driven, trouble first."""
    found: dict[str, list[Waited]] = {}
    for wait in view.waits:
        if wait.stage == stage.number:
            found.setdefault(_WAITS.get(wait.kind, wait.reason), []).append(wait)
    end = view.record.ended_at or view.now
    groups = [
        WaitGroup(
            reason,
            len(waits),
            sum(view.driven.between(wait.began, wait.ended or end) for wait in waits),
            waits[0].kind not in _WAITS,
        )
        for reason, waits in found.items()
    ]
    return sorted(groups, key=lambda group: (not group.is_trouble, -group.seconds))


def share(part: float, whole: float) -> float:
    """Return the part of a bar that is 100 wide."""
    return round(100 * part / whole, 2) if whole else 0.0


def _is_trouble(stage: StageRecord) -> bool:
    return stage.waiting is not None and stage.waiting.kind not in _WAITS


def _chips(view: RunView, number: int | None) -> list[tuple[str, str, int]]:
    """Return the outcomes by which events can be filtered: name, word, and count."""
    stages = [stage for stage in view.stages if number in (None, stage.number)]
    total, sent = sum(stage.total for stage in stages), sum(stage.sent for stage in stages)
    counts = {name: sum(stage.outcomes.get(name, 0) for stage in stages) for name in OUTCOMES}
    is_open = sent - sum(counts.values())
    failed = [name for name in FAILURES if counts[name]]
    found = [("", "all", total), ("completed", "completed", counts["completed"])]
    if len(failed) > 1:
        found.append((LOST, "not completed", sum(counts[name] for name in failed)))
    found += [(name, word, counts[name]) for name, word in IN_WORDS.items() if name in failed]
    name, word = ("running", "running") if view.follows else ("unfollowed", "not followed")
    found += [(name, word, is_open)]
    found += [("unsent", "not sent", total - sent)]
    return [chip for chip in found if chip[2] or not chip[0]]


def _total(view: RunView, wanted: EventFilter) -> int | None:
    """Return how many events match; None if only a search can tell."""
    if wanted.text:
        return None
    counts = {name: count for name, _, count in _chips(view, wanted.stage)}
    return counts.get(wanted.outcome or "")


def _diff(applied: Applied | None, source: str | None) -> list[DiffLine] | None:
    """Return the plan file's changes since it was last applied; None if unknown."""
    if applied is None or applied.source is None or source is None:
        return None
    if max(len(applied.source), len(source)) > _MOST_SHOWN:
        return None
    old, new = applied.source.splitlines(), source.splitlines()
    kinds = {"+": "added", "-": "removed", "@": "place"}
    lines = list(difflib.unified_diff(old, new, lineterm=""))[2:]
    return [
        DiffLine(kinds.get(line[:1], "same"), "⋯" if line.startswith("@@") else line)
        for line in lines
    ]


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(lambda name: (_FOLDER / f"{name}.j2").read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"asset": lambda name: Markup(asset(name)), "MAX_ROWS": MAX_ROWS}  # noqa: S704 - ours
    environment.globals |= {"resume_command": resume_command, "what_is_left": what_is_left}
    environment.globals |= {"waits_of": waits_of, "query": _query}
    environment.globals |= {"words": words, "share": share, "geometry": charts, "digest": _digest}
    environment.globals |= {"STATES": STATES, "MOST_SHOWN": _MOST_SHOWN, "MAX_WAITS": _MOST_WAITS}
    filters: dict[str, Callable[..., Any]] = {
        "moment": words.moment,
        "machine_time": words.machine_time,
        "duration": words.took,
        "count": lambda number: f"{number:,}",
        "link": _link,
        "redacted": redact,
        "marked": _marked,
    }
    environment.filters |= filters
    return environment


def _query(**given: object) -> str:
    """Build the query of a link, without empty values."""
    return urlencode({name: value for name, value in given.items() if value})


def _digest(name: str) -> str:
    """Return the hash by which a standalone page allows only its own script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(asset(name).encode()).digest()).decode()


def _marked(text: str) -> Markup:
    """Mark up our own words, in which backticks enclose commands and names."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(visible(text)))))  # noqa: S704 - escaped


def _shown(value: Any) -> Any:
    """Spell out characters that would reorder or hide text, on every page."""
    return visible(value) if type(value) is str and not value.isprintable() else value


def _link(url: str | None) -> str | None:
    """Allow only http(s) links: a URL from a server could be a script."""
    return url if url and url.startswith(("https://", "http://")) else None
