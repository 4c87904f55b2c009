"""Tools that show runs."""

from __future__ import annotations

import time
from itertools import islice

from runner.agents.tool import (
    LATEST,
    Answer,
    Given,
    Tool,
    arguments,
    flag,
    number,
    seconds_of,
    several,
    text,
    texts,
)
from runner.app.session import Session
from runner.model import OPEN_OUTCOMES, OUTCOMES, STATES


def _status(session: Session, given: Given) -> Answer:
    return status_of(session, given.get("run", "latest"))


def status_of(session: Session, run: str, said: str = "") -> Answer:
    from runner.output.run import status_json

    reader = session.reader
    view = reader.glance(reader.find(run))
    return Answer(status_json(view, reader.syncs(), time.time(), reader.holds()), said)


def _runs(session: Session, given: Given) -> Answer:
    from runner.app.queries import runs_and_holds
    from runner.output.run import runs_json

    began = time.time() - seconds_of(given, "since", "0s") if "since" in given else 0.0
    found = runs_and_holds(
        session,
        plan=given.get("plan"),
        target=given.get("target"),
        states=several(given, "state_is"),
        since=began,
        limit=given.get("limit", 20),
    )
    return Answer(runs_json(found.runs, found.holds, more=found.more))


def _events(session: Session, given: Given) -> Answer:
    from runner.app.queries import events_of
    from runner.output.run import event_json
    from runner.output.text import document

    record, chosen = events_of(
        session,
        given.get("run", "latest"),
        several(given, "operation"),
        several(given, "item"),
        several(given, "outcome"),
        failed=given.get("failed", False),
    )
    offset, limit = given.get("offset", 0), given.get("limit", 1000)
    found = list(islice(chosen, offset, offset + limit + 1))
    said = f"there are more: continue with offset {offset + limit}" if len(found) > limit else ""
    events = list(map(event_json, found[:limit]))
    return Answer(document("EventList", run_id=record.id, events=events), said)


def _logs(session: Session, given: Given) -> Answer:
    from runner.output.run import story_json

    reader = session.reader
    record = reader.find(given.get("run", "latest"))
    return Answer(story_json(reader.story(record)))


TOOLS = (
    Tool(
        "status",
        "Show where a run stands: stages, outcomes, failures, what it waits for, the time left.",
        arguments((), LATEST),
        ("status.v1",),
        _status,
    ),
    Tool(
        "runs",
        "List the runs, the latest first.",
        arguments(
            (),
            {
                "plan": text("Only runs of plans with these names; `*` stands for any text."),
                "target": text("Only runs on this target."),
                "state_is": texts("Only runs in these states.", *STATES),
                "since": text("Only runs that were started within this time, such as `7d`."),
                "limit": number("The most entries to return.", default=20),
            },
        ),
        ("runs.v1",),
        _runs,
    ),
    Tool(
        "events",
        "List the events of a run: items, ids, jobs, outcomes and messages.",
        arguments(
            (),
            {
                **LATEST,
                "operation": texts("Only events of these operations."),
                "item": texts("Only events of items whose names match these globs."),
                "outcome": texts("Only such.", *OPEN_OUTCOMES, *OUTCOMES),
                "failed": flag("Only events that did not take effect."),
                "limit": number("The most entries to return.", default=1000),
                "offset": number("How many entries to skip first.", minimum=0, default=0),
            },
        ),
        ("events.v1",),
        _events,
    ),
    Tool(
        "logs",
        "Show what a run did, what it noted and why it waited.",
        arguments((), LATEST),
        ("logs.v1",),
        _logs,
    ),
)
