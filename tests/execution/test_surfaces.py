"""Whatever the plan, the outcomes and the interruptions: every surface gives the same figures, and
they are the server's."""

from __future__ import annotations

import html
import io
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.adapters.journal.state import StateReader
from runner.app.drive import Noting
from runner.execution.progress import summarise
from runner.model import IN_WORDS, OUTCOMES, EventPage, RunRecord, StageRecord, Summary, Waiting
from runner.output import words
from runner.output.junit import write_junit
from runner.output.page import run_page, runs_page
from runner.output.progress import stage_line
from runner.output.run import (
    report_json,
    run_markdown,
    runs_json,
    status_json,
    write_lines,
    write_view,
)
from runner.output.summary import summary_json, write_summary_text
from tests.depth import depth
from tests.execution.test_pacing import DRAIN, World
from tests.support import CATALOG, Recorder, close_stores, make_plan, new_store

COMPARED = ("total", "sent", "outcomes", "running", "rate", "ends", "left", "waiting", "round")
FATES = ("completed", "failed", "cancelled", "no_job", "rejected")
HEAD = "operations: [%s]\non_failure: continue\nbatch_size: %d\ndelay: 10s\n"
Figures = Mapping[str, int]

KINDS = st.fixed_dictionaries(
    {
        "fates": st.lists(st.sampled_from(FATES), min_size=1, max_size=6),
        "operations": st.sampled_from(["sync", "sync, embed", "drain"]),
        "batch": st.integers(1, 4),
        "stops": st.lists(st.sampled_from([3.0, 12.0, 25.0]), max_size=2),
        "rounds": st.integers(1, 3),
    }
)


@settings(max_examples=depth(8, 300), deadline=None)
@given(KINDS)
def test_every_surface_tells_what_the_server_knows(kind: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = _made(Path(folder), kind)
            for seconds in kind["stops"]:
                made.drive(seconds)
                _compare(made, "stopped")
            ending, _ = made.drive()
            _compare(made, ending.how)
            if kind["operations"] != "drain":
                _is_as_fated(made, kind)
        finally:
            close_stores()


@dataclass
class Beside(Noting):
    """Checks at each wait that the run reports what everybody else reads just then."""

    made: World | None = None
    met: list[Waiting] = field(default_factory=list)

    def progress(self, progress: StageRecord) -> None:
        super().progress(progress)
        if self.made and progress.waiting:
            self.met.append(progress.waiting)
            self.made.journal.settle()
            _is_shown(self.made, progress)


def _is_shown(made: World, progress: StageRecord) -> None:
    store = new_store(made.folder, made.clock.time)
    view = store.view(store.find("RUN1"))
    stage = view.stages[progress.number - 1]
    for name in COMPARED:
        ours, theirs = getattr(progress, name), getattr(stage, name)
        assert ours == (pytest.approx(theirs) if isinstance(theirs, float) else theirs), name
    assert (progress.done, stage.done) == (False, False), "what is waited for is not done"
    said = words.waiting(stage.waiting, view.now) if stage.waiting else ""
    (told,) = _list(runs_json(lines := store.runs())["runs"])
    (of_status,) = [
        one for one in _list(status_json(view, (), view.now)["stages"]) if one["waiting"]
    ]
    assert (told["waiting"], told["wait"]) == (of_status["waiting"], of_status["wait"])
    out = io.StringIO()
    write_lines(lines, out, color=False, width=None)
    listed = html.unescape(runs_page(lines, "here", now=view.now))
    page = html.unescape(run_page(view, EventPage(()), standalone=True))
    for surface in (out.getvalue(), listed, page):
        assert f"waiting: {said}" in surface
    assert f"; waiting: {said}" in stage_line(progress, view.now).replace(", waiting", "; waiting")


@settings(max_examples=depth(6, 200), deadline=None)
@given(KINDS)
def test_what_a_run_waits_for_is_the_same_on_every_surface(kind: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = _made(Path(folder), kind)
            for seconds in [*kind["stops"], 1e9]:
                made.observer = beside = Beside(Recorder(), made=made)
                beside.journal = _Late(made)
                if made.drive(seconds)[0].how != "stopped":
                    break
        finally:
            close_stores()


class _Late:
    """The journal of a run that will be driven later."""

    def __init__(self, made: World) -> None:
        self._made = made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made.journal, name)


def _made(folder: Path, kind: Mapping[str, Any]) -> World:
    names = ", ".join(f"o/r{number}" for number in range(len(kind["fates"])))
    body = f"repos: [{names}]\n" + HEAD % (kind["operations"], kind["batch"])
    made = World(folder, make_plan(folder, body, catalog=CATALOG + DRAIN), rounds=kind["rounds"])
    fates = {f"o/r{number}": fate for number, fate in enumerate(kind["fates"])}
    made.server.fate = lambda event: fates.get(event["data"].get("repo", ""), "completed")
    return made


def _is_as_fated(made: World, kind: Mapping[str, Any]) -> None:
    store = new_store(made.folder, made.clock.time)
    view = store.glance(store.find("RUN1"))
    expected = Counter(kind["fates"])
    for stage in view.stages:
        if stage.operation == "sync" and stage.sent == stage.total:
            assert stage.outcomes == expected


def _compare(made: World, how: str) -> None:
    store = new_store(made.folder, made.clock.time)
    record = store.find("RUN1")
    expected = by_events(store, record)
    ours = {event["id"] for post in made.server.posts for event in post}
    assert expected["sent"] == len(ours), how
    summary = summarise(made.journal, plan="p", target="t", followed=True, ending=_ending())
    for surface, figures in (
        *surfaces(store, record, made.clock.now),
        *_of_summary(summary),
        ("open events", open_events(report_json(store.view(record)))),
    ):
        assert figures == {name: expected[name] for name in figures}, surface
        assert figures, surface


def by_events(store: StateReader, record: RunRecord) -> Figures:
    """Count the figures of a run event by event."""
    told = Counter(event.outcome for event in store.events(record))
    sent = told.total() - told["unsent"] - told["sending"]
    names = (*OUTCOMES, "running", "unfollowed")
    return {"sent": sent, **{name: told[name] for name in names}}


def open_events(told: Mapping[str, Any]) -> Figures:
    """Return how many events have no outcome, followed or not."""
    return {
        name: sum(stage[key] or 0 for stage in told["stages"])
        for name, key in (("running", "running"), ("unfollowed", "not_followed"))
    }


def surfaces(
    store: StateReader, record: RunRecord, now: float, *, page: bool = True
) -> Iterator[tuple[str, Figures]]:
    """Generate the figures of each surface for the run, with its `page` or without."""
    view = store.view(record)
    yield "report JSON", _summed(report_json(view))
    yield "status JSON", _summed(status_json(view, (), now))
    yield (
        "Python",
        {
            "sent": sum(stage.sent for stage in view.stages),
            **{n: sum(stage.outcomes.get(n, 0) for stage in view.stages) for n in OUTCOMES},
        },
    )
    lines = [line for line in store.runs() if line.record.id == record.id]
    (line,) = _list(runs_json(lines)["runs"])
    yield "runs JSON", {name: line[name] for name in ("sent", *OUTCOMES)}
    out = io.StringIO()
    write_lines(lines, out, color=False, width=200)
    yield "runs", _sent_in(out.getvalue())
    out = io.StringIO()
    write_view(view, out, color=False)
    stages = "\n".join(re.findall(r"^  \d+\. .*", out.getvalue(), re.MULTILINE))
    yield "status", _sent_in(stages) | _counted_in(stages) | _open_in(stages)
    if page:
        shown = run_page(view, EventPage(()), standalone=True)
        rows = re.findall(r'^<p class="figures">.*[\d,]+/[\d,]+ sent.*', shown, re.MULTILINE)
        yield "page", _sent_in("\n".join(rows)) | _counted_in("\n".join(rows))
        shown = runs_page(lines, "here", now=0.0)
        listed = re.search(r'aria-label="(\d+) of \d+ events sent', shown)
        yield "list of runs", {"sent": int(listed[1]) if listed else -1}
    if record.follow:
        yield "markdown", _of_markdown(run_markdown(view))
    junit = "".join(write_junit(view, store.events(view.record)))
    kinds = Counter(re.findall(r'<failure type="(\w+)"', junit))
    good = junit.count("; a later attempt did the work")
    if not good:
        yield "junit", {name: kinds[name] for name in OUTCOMES if name != "completed"}


def _of_markdown(text: str) -> Figures:
    rows = re.findall(r"^\| \d+ \|.*", text, re.MULTILINE)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {
        **_counted_in("\n".join(row[5] for row in cells)),
        **_open_in("\n".join(row[5] for row in cells)),
        "sent": sum(_number(row[3]) for row in cells),
        "completed": sum(_number(row[4]) for row in cells),
    }


def _of_summary(summary: Summary) -> Iterator[tuple[str, Figures]]:
    totals: Any = summary_json(summary)["totals"]
    yield (
        "run JSON",
        {
            "sent": totals["accepted"] + totals["rejected"],
            **{name: totals[name] for name in OUTCOMES},
        },
    )
    out = io.StringIO()
    write_summary_text(summary, out, color=False)
    yield "run", _counted_in(out.getvalue().splitlines()[2])


def _ending() -> Any:
    from runner.execution.context import Ending

    return Ending("stopped")


def _list(found: object) -> list[Any]:
    assert isinstance(found, list)
    return found


def _summed(told: Mapping[str, Any]) -> Figures:
    names = ("sent", *OUTCOMES)
    return {name: sum(stage[name] for stage in told["stages"]) for name in names}


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _sent_in(text: str) -> dict[str, int]:
    return {"sent": sum(_number(one) for one in re.findall(r"([\d,]+)/[\d,]+", text))}


def _open_in(text: str) -> dict[str, int]:
    found = {"running": "running", "unfollowed": "not followed"}
    return {
        name: sum(_number(one) for one in re.findall(rf"([\d,]+) {said}\b", text))
        for name, said in found.items()
    }


def _counted_in(text: str) -> dict[str, int]:
    return {
        name: sum(_number(one) for one in re.findall(rf"([\d,]+) {word}\b", text))
        for name, word in IN_WORDS.items()
    }


def test_of_a_stage_that_is_done_when_sent_the_last_wait_has_its_reason(tmp_path: Path) -> None:
    body = "repos: [o/r0, o/r1]\noperations: [{use: sync, wait: sent}]\n"
    made = World(tmp_path, make_plan(tmp_path, body))
    made.server.slow_jobs = {"o/r0"}
    made.drive(60)
    assert isinstance(made.observer, Recorder)
    told = [one.waiting for one in made.observer.progresses if one.waiting]
    assert told
    assert (told[-1].reason, told[-1].item) == ("for its jobs to end", "o/r0"), "the one that hangs"
