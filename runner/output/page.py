"""Pages, rendered whole: they can be read without a script, and sent round as a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from runner.model import EventRecord, ExecutionPlan, RunLine, RunView, group_skipped
from runner.output import charts, words
from runner.output.escape import visible
from runner.planning.estimate import Estimate, left
from runner.planning.limits import resume_command
from runner.planning.timeline import Timeline
from runner.spec.secrets import redact
from runner.spec.units import format_duration

MAX_ROWS = 200  # of one table; what is more is counted, and is in the CSV
_FOLDER = files("runner.output") / "templates"


def run_page(
    view: RunView, *, standalone: bool, failed: Sequence[EventRecord] = (), csv: str | None = None
) -> str:
    """A run. `standalone`: one file that asks for nothing; else a page of the web application.

    `failed`: events to list one by one; `csv`: where all of them are.
    """
    return _render(
        "run.html",
        standalone=standalone,
        title=f"{view.record.plan} {view.record.id}",
        view=view,
        record=view.record,
        state=words.state(view.record, view.holder),
        left=left(view),
        timeline=charts.timeline(view),
        rates=charts.rates(view.rates),
        failed=failed,
        csv=csv,
    )


def runs_page(lines: Sequence[RunLine], where: str) -> str:
    """The list of runs of the web application."""
    return _render("runs.html", standalone=False, title="Runs", lines=lines, where=where)


def plan_page(
    plan: ExecutionPlan, *, target: str, schedule: Timeline, estimate: Estimate, events: int
) -> str:
    """The preview, with the first `events` events of each stage."""
    return _render(
        "plan.html",
        standalone=True,
        title=f"Plan {plan.name}",
        plan=plan,
        target=target,
        schedule=schedule,
        estimate=estimate,
        events=events,
        skipped=group_skipped(plan.skipped),
    )


def asset(name: str) -> str:
    """``page.css`` or ``live.js``."""
    return (_FOLDER / name).read_text(encoding="utf-8")


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
    environment.globals["resume_command"] = resume_command
    environment.globals |= {"words": words, "share": charts.share, "charts": charts}
    filters: dict[str, Callable[..., Any]] = {
        "moment": words.moment,
        "duration": _duration,
        "count": lambda number: f"{number:,}",
        "link": _link,
        "redacted": redact,
    }
    environment.filters |= filters
    return environment


def _duration(seconds: float) -> str:
    digits = 3 if seconds < 1 else 1 if seconds < 60 else 0
    return format_duration(round(seconds, digits))


def _shown(value: Any) -> Any:
    """Characters that would reorder or hide what follows are spelled out, on every page."""
    return visible(value) if type(value) is str and not value.isprintable() else value


def _link(url: str | None) -> str | None:
    """Only what a browser opens as a page: a server's word could be a script."""
    return url if url and url.startswith(("https://", "http://")) else None
