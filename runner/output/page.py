"""Pages, rendered whole: they can be read without a script, and sent round as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from runner.model import Bucket, EventRecord, ExecutionPlan, RunLine, RunView, group_skipped
from runner.output import words
from runner.output.text import visible
from runner.planning.estimate import Estimate, left
from runner.planning.limits import resume_command
from runner.planning.timeline import Timeline
from runner.spec.secrets import redact
from runner.spec.units import format_duration

WIDTH = 1_000
ROW, BAR = 34, 20  # of the timeline
RATE_HEIGHT = 120


class Bar(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    kind: str


class Row(NamedTuple):
    label: str
    y: int


class Chart(NamedTuple):
    height: int
    bars: tuple[Bar, ...]
    rows: tuple[Row, ...] = ()
    most: float = 0.0  # what the highest bar stands for


def timeline(view: RunView) -> Chart:
    """One row a stage: its batches, what it waited for, and its jobs until their end."""
    start = view.record.started_at
    scale = WIDTH / max(1.0, (view.record.ended_at or view.now) - start)

    def x(at: float) -> float:
        return round(min(WIDTH, max(0.0, (at - start) * scale)), 1)

    bars: list[Bar] = []
    rows = {stage.number: index * ROW + 16 for index, stage in enumerate(view.stages)}
    for stage in view.stages:
        if stage.began is not None:
            end = x(stage.ended or view.now if stage.running or stage.ended else stage.began)
            begin = x(stage.began)
            bars.append(Bar(begin, rows[stage.number], max(2, round(end - begin, 1)), BAR, "jobs"))
    for wait in view.waits:
        begin, end = x(wait.began), x(wait.ended or view.now)
        if wait.stage in rows and end - begin >= 1:
            y, width = rows[wait.stage] + BAR / 2, round(end - begin, 1)
            bars.append(Bar(begin, y, width, BAR / 2, "wait"))
    # Batches that would lie on each other are one.
    sent = {(batch.stage, int(x(batch.sent_at))): batch for batch in view.batches}
    bars += [
        Bar(at, rows[stage], 2, BAR, "bad" if batch.lost else "sent")
        for (stage, at), batch in sent.items()
        if stage in rows
    ]
    labels = tuple(
        Row(f"{stage.number}. {stage.operation}", rows[stage.number]) for stage in view.stages
    )
    return Chart(len(rows) * ROW + 4, tuple(bars), labels)


def rates(buckets: Sequence[Bucket]) -> Chart:
    """Events that ended, and behind them events that were sent, for each bucket of time."""
    if not buckets:
        return Chart(RATE_HEIGHT, ())
    most = max(max(bucket.sent, bucket.ended) for bucket in buckets) or 1
    width = WIDTH / len(buckets)
    seconds = buckets[1].at - buckets[0].at if len(buckets) > 1 else 1.0
    bars = list(_bars(((bucket.sent for bucket in buckets)), most, width, "sent"))
    bars += _bars((bucket.ended for bucket in buckets), most, width, "ended")
    return Chart(RATE_HEIGHT, tuple(bars), most=most / seconds)


def _bars(figures: Iterable[int], most: int, width: float, kind: str) -> Iterable[Bar]:
    half, shift = width / 2, width / 2 if kind == "ended" else 0.0
    for index, figure in enumerate(figures):
        if figure:
            height = max(2.0, round(figure / most * RATE_HEIGHT, 1))
            x = round(index * width + shift, 1)
            yield Bar(x, RATE_HEIGHT - height, max(1.0, round(half - 1, 1)), height, kind)


def share(part: int, whole: int) -> float:
    """Of a bar that is 100 wide."""
    return round(100 * part / whole, 2) if whole else 0.0


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
        timeline=timeline(view),
        rates=rates(view.rates),
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
    environment.globals |= {"words": words, "share": share, "ROW": ROW, "BAR": BAR}
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
