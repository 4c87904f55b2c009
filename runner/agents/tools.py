"""The tools: each is named after a command and does what that does, by one call into `app`."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from runner.agents.approval import approved_run, refuse_unapproved
from runner.agents.forms import Schema, arguments, flag, number, refuse_unfit, text, texts
from runner.agents.places import inside, known_target, to_write
from runner.app.policy import refuse_broken
from runner.app.preflight import how_to_approve
from runner.app.preview import Preview, preview
from runner.app.session import HERE, Session
from runner.errors import BackfillError, InvalidPlan, PreflightRefused, UsageError
from runner.execution.context import RunOptions
from runner.model import (
    FAILURES,
    OUTCOMES,
    Json,
    Outcome,
    Selectors,
)

Given = Mapping[str, Any]
_APPROVED = RunOptions(yes=True)  # by a person, or it stays in this process
_STATES = ("running", "paused", "dead", "completed", "sent", "failed", "incomplete", "cancelled")


@dataclass(frozen=True, slots=True)
class Answer:
    """`document`: the command's own; without one `said` is all there is. `error`: what a command
    ends with that has printed its document before."""

    document: Mapping[str, object] | None
    said: str = ""
    error: BackfillError | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """`gives`: the published forms of which its document is one. `reads`: it changes nothing."""

    name: str
    about: str
    takes: Schema
    gives: tuple[str, ...]
    work: Callable[[Session, Given], Answer]
    reads: bool = True
    destroys: bool = False
    alone: bool = False  # it reaches no database and no server


_PLAN = {"plan": text("The plan file, by its path from the working directory.")}
_ENV = {"env": text("The environment of the project file to work in.")}
_READING = {
    "vars": {"type": "object", "description": "Template variables; they go over the plan's."},
    "strict": flag("Warnings count as errors."),
    "collections": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Files whose items stand in place of those of collections, by their names.",
    },
    **_ENV,
}
_FACTS = {"facts": text("Plan from the answers in this file, and ask no database.")}
_SELECTORS = {
    "only": texts("Only these operations."),
    "skip": texts("Leave these operations out."),
    "item": texts("Only items whose names fit these globs, as `acme/*`; after `!`: without them."),
    "limit": number("Only the first so many items of each collection."),
    "sample": number("Only a choice of so many items of each collection."),
    "seed": {"type": "integer", "description": "Another choice for `sample`."},
}
_TARGET = {"target": text("embedded, dev or cloud; by default the environment's, or embedded.")}
_RUN = {"run": text("The run's id, its beginning, `latest`, or `latest:PLAN-NAME`.")}
_LATEST = {"run": {**_RUN["run"], "default": "latest"}}


def called(tool: Tool, session: Session, given: Given) -> Answer:
    """What the tool comes to. Raises `UsageError` for arguments that it does not take."""
    refuse_unfit(tool.takes, given)
    session.collections = {
        name: inside(path) for name, path in given.get("collections", {}).items()
    }
    if "facts" in given:
        from runner.app.facts import read

        session.facts = read(inside(given["facts"]))
    return tool.work(session, given)


def _variables(given: Given) -> dict[str, Json]:
    from runner.app.variables import refuse_secret
    from runner.spec.json_limits import fault

    variables: dict[str, Json] = dict(given.get("vars", {}))
    for name, value in variables.items():
        if wrong := fault(value):
            raise UsageError(f"vars.{name} holds {wrong}")
        refuse_secret(f"vars.{name}", f"{name}={json.dumps(value)}")
    return variables


def _several(given: Given, name: str) -> tuple[str, ...]:
    value = given.get(name, ())
    return (value,) if isinstance(value, str) else tuple(value)


def _selectors(given: Given) -> Selectors:
    if "limit" in given and "sample" in given:
        raise UsageError("limit and sample choose differently", hint="take one of them")
    if "seed" in given and "sample" not in given:
        raise UsageError("seed does nothing without sample")
    return Selectors(
        only=_several(given, "only"),
        skip=_several(given, "skip"),
        items=_several(given, "item"),
        limit=given.get("limit"),
        sample=given.get("sample"),
        seed=given.get("seed", 0),
    )


def _strict(given: Given) -> bool:
    return bool(given.get("strict", False))


def _seconds(given: Given, name: str, default: str) -> float:
    from runner.spec.units import parse_duration

    try:
        return parse_duration(given.get(name, default))
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def _validate(session: Session, given: Given) -> Answer:
    from runner.app.validate import validate
    from runner.output.problems import validation_json

    path = inside(given["plan"])
    _, problems = validate(session, [path], _variables(given), strict=_strict(given))
    return Answer(validation_json(problems))


def _preview(found: Preview, said: str = "") -> Answer:
    from runner.output.preview import write_json

    out = io.StringIO()
    write_json(found.plan, out, target=found.target.name)
    error = None
    try:
        refuse_broken(found.plan)
    except PreflightRefused as refused:
        error = refused
    return Answer(json.loads(out.getvalue()), said, error)


def _previewed(session: Session, given: Given, writes: Mapping[str, str | None]) -> Preview:
    return preview(
        session,
        inside(given["plan"]),
        _variables(given),
        target=known_target(given.get("target")),
        strict=_strict(given),
        selectors=_selectors(given),
        writes=writes,
    )


def _plan(session: Session, given: Given) -> Answer:
    return _preview(_previewed(session, given, {}))


def _plan_out(session: Session, given: Given) -> Answer:
    from runner.app.saved import load_saved, save

    out = to_write(given["out"])
    if Path(out).exists() and load_saved(out) is None:
        raise UsageError(f"{out} is there, and no saved plan", hint="name another file")
    found = _previewed(session, given, {"out": out})
    built, plan = found.built, found.plan
    assert built  # noqa: S101 - nothing can be written of a saved plan
    refuse_broken(plan)
    seconds = _seconds(given, "expires", "24h")
    saved = save(session, built, known_target(given.get("target")), _variables(given), out, seconds)
    until = datetime.fromtimestamp(saved.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    said = f"saved in {out}, as run {saved.run_id}, until {until}: `run` sends exactly this, once"
    if found.target.kind != "embedded":
        said += f", after an approval: {how_to_approve(plan.path, plan.name, plan.digest)}"
    return _preview(found, said)


def _diff(session: Session, given: Given) -> Answer:
    from runner.app.review import difference
    from runner.output.review import difference_json

    old, new = given["old"], inside(given["plan"])
    if Path(old).is_file() or "/" in old or old.endswith((".yaml", ".json")):
        inside(old)
    found, _ = difference(
        session,
        old,
        new,
        _variables(given),
        strict=_strict(given),
        selectors=_selectors(given),
    )
    return Answer(difference_json(found))


def _doctor(session: Session, given: Given) -> Answer:
    from runner.app.check import examine
    from runner.output.problems import findings_json

    plan = inside(given["plan"]) if "plan" in given else None
    target = session.target(known_target(given.get("target")), plan or HERE)
    variables = _variables(given)
    found = examine(session, plan, target, variables=variables, strict=_strict(given))
    return Answer(findings_json(found))


def _check(session: Session, given: Given) -> Answer:
    from runner.app.check import check
    from runner.output.ledger import checked_json

    plan, named = inside(given["plan"]), known_target(given.get("target"))
    found = check(
        session,
        plan,
        variables=_variables(given),
        strict=_strict(given),
        applied=session.named_target(named, plan) if given.get("applied") else None,
        wait=_seconds(given, "wait", "0s"),
        selectors=_selectors(given),
    )
    return Answer(checked_json(found))


def _coverage(session: Session, given: Given) -> Answer:
    from runner.app.queries import coverage
    from runner.output.coverage import coverage_json

    found = coverage(
        session,
        inside(given["plan"]),
        variables=_variables(given),
        strict=_strict(given),
        run=given.get("run"),
        selectors=_selectors(given),
    )
    return Answer(coverage_json(found))


def _operations(_session: Session, given: Given) -> Answer:
    from runner.output.operations import operations_json
    from runner.spec.load import read_catalog

    catalog, problems = read_catalog(inside(given["plan"]) if "plan" in given else None)
    if problems:
        raise InvalidPlan(tuple(problems))
    return Answer(operations_json(catalog.values()))


def _status(session: Session, given: Given) -> Answer:
    return _status_of(session, given.get("run", "latest"))


def _status_of(session: Session, run: str, said: str = "") -> Answer:
    from runner.output.run import status_json

    reader = session.reader
    view = reader.glance(reader.find(run))
    return Answer(status_json(view, reader.syncs(), time.time(), reader.holds()), said)


def _runs(session: Session, given: Given) -> Answer:
    from runner.app.queries import runs_and_holds
    from runner.output.run import runs_json

    began = time.time() - _seconds(given, "since", "0s") if "since" in given else 0.0
    lines, holds = runs_and_holds(
        session,
        plan=given.get("plan"),
        target=given.get("target"),
        states=_several(given, "state_is"),
        since=began,
        limit=given.get("limit", 20),
    )
    return Answer(runs_json(lines, holds))


def _events(session: Session, given: Given) -> Answer:
    from runner.app.events import events_of
    from runner.output.documents import document
    from runner.output.run import event_json

    wanted = {*_several(given, "outcome"), *(FAILURES if given.get("failed") else ())}
    record, chosen = events_of(
        session,
        given.get("run", "latest"),
        _several(given, "operation"),
        _several(given, "item"),
        wanted,
    )
    offset, limit = given.get("offset", 0), given.get("limit", 1000)
    found = list(islice(chosen, offset, offset + limit + 1))
    said = f"there are more: ask with offset {offset + limit}" if len(found) > limit else ""
    events = list(map(event_json, found[:limit]))
    return Answer(document("EventList", run_id=record.id, events=events), said)


def _logs(session: Session, given: Given) -> Answer:
    from runner.output.run import story_json

    reader = session.reader
    record = reader.find(given.get("run", "latest"))
    return Answer(story_json(reader.story(record)))


def _init(_session: Session, given: Given) -> Answer:
    from runner.app.init import init

    plan, schema = init(to_write(given["plan"]), given.get("for"))
    return Answer(None, f"wrote {plan} and {schema}; next: `plan` shows what it would send")


def _run(session: Session, given: Given) -> Answer:
    from runner.app.run import prepare, run, submit
    from runner.app.saved import load_saved
    from runner.output.summary import submitted_json, summary_json

    path = inside(given["plan"])
    prepared = prepare(
        session,
        path,
        target=known_target(given.get("target")),
        variables=_variables(given),
        strict=_strict(given),
        selectors=_selectors(given),
    )
    refuse_unapproved(prepared, saved=load_saved(path) is not None)
    options = replace(_APPROVED, follow=not given.get("no_wait"))
    if given.get("detach"):
        submitted = submit(session, prepared, options)
        return Answer(submitted_json(submitted.run_id, submitted.event_id))
    return Answer(summary_json(run(session, prepared, options)))


def _resume(session: Session, given: Given) -> Answer:
    from runner.app.run import resubmit, resume
    from runner.output.summary import submitted_json, summary_json

    record, approved = approved_run(session, given["run"])
    # What a person has approved is what the run was started with.
    options = replace(_APPROVED, past_failures=bool(given.get("past_failures")))
    from_journal = approved or bool(given.get("from_journal"))
    if given.get("detach"):
        if submitted := resubmit(session, record.id, options, from_journal=from_journal):
            return Answer(submitted_json(submitted.run_id, submitted.event_id))
    elif summary := resume(session, record.id, options, from_journal=from_journal):
        return Answer(summary_json(summary))
    return _status_of(session, record.id)


def _retry(session: Session, given: Given) -> Answer:
    from runner.app.run import RETRIED, plan_retry, retry
    from runner.output.summary import summary_json

    outcomes: tuple[Outcome, ...] = _several(given, "outcome")  # type: ignore[assignment]
    items, run = _several(given, "item"), given["run"]
    if given.get("dry_run"):
        prepared = plan_retry(session, run, _APPROVED, outcomes=outcomes or RETRIED, items=items)
        return _preview(Preview(prepared.plan, prepared.target))
    record, _ = approved_run(session, run)
    summary = retry(session, record.id, _APPROVED, outcomes=outcomes or RETRIED, items=items)
    return Answer(summary_json(summary))


def _pause(session: Session, given: Given) -> Answer:
    from runner.app.control import pause

    record, _ = approved_run(session, given["run"])
    pause(session, record.id)
    return _status_of(session, record.id, "it is paused after the request in flight")


def _cancel(session: Session, given: Given) -> Answer:
    from runner.app.control import cancel

    record, _ = approved_run(session, given["run"])
    _, totals, unanswered, jobs = cancel(session, record.id, jobs=bool(given.get("jobs")))
    said = f"cancelled: {totals.accepted:,} of {totals.planned:,} events were sent"
    if unanswered:
        said += f"; {unanswered:,} more may have been taken: their answer was lost"
    if jobs:
        said += f"; {jobs.jobs:,} jobs cancelled, {jobs.going_on:,} go on"
    return _status_of(session, record.id, said)


_GATED = (
    " Only for the target `embedded`, or where a person has approved the plan's digest; the "
    "refusal says how."
)
_SUBSET = {**_READING, **_SELECTORS}

TOOLS = (
    Tool(
        "validate",
        "Check a plan file, or a folder of them: every problem with its file, line and column.",
        arguments(("plan",), {**_PLAN, **_READING, **_FACTS}),
        ("validate.v1",),
        _validate,
        alone=True,
    ),
    Tool(
        "plan",
        "Show exactly what a run would send: stages, events, what is skipped and why, the digest. "
        "Nothing is sent. Also of a saved plan; `plan_out` saves one.",
        arguments(("plan",), {**_PLAN, **_SUBSET, **_TARGET, **_FACTS}),
        ("execution-plan.v1",),
        _plan,
    ),
    Tool(
        "diff",
        "Show what a plan sends otherwise than an older one.",
        arguments(
            ("plan", "old"),
            {
                **_PLAN,
                "old": text(
                    "A plan file, a saved plan, or git revisions, as `main` or `main..HEAD`."
                ),
                **_SUBSET,
                **_FACTS,
            },
        ),
        ("diff.v1",),
        _diff,
    ),
    Tool(
        "doctor",
        "Find what would go wrong with a plan or a target, before anything is sent.",
        arguments((), {**_PLAN, **_READING, **_TARGET}),
        ("doctor.v1",),
        _doctor,
    ),
    Tool(
        "check",
        "Ask a plan's checks and coverage of the database now.",
        arguments(
            ("plan",),
            {
                **_PLAN,
                **_SUBSET,
                **_TARGET,
                "applied": flag("Also: was this plan, unchanged, completed on the target?"),
                "wait": text("How long to ask again, as `10m`.", default="0s"),
            },
        ),
        ("check.v1",),
        _check,
    ),
    Tool(
        "coverage",
        "Show how much of the data is there, item by item; with `run`, before and after it.",
        arguments(("plan",), {**_PLAN, **_SUBSET, **_RUN}),
        ("coverage.v1",),
        _coverage,
    ),
    Tool(
        "operations",
        "List the operations that a plan can use; without a plan, the built-in ones.",
        arguments((), _PLAN),
        ("operations.v1",),
        _operations,
        alone=True,
    ),
    Tool(
        "status",
        "Show where a run stands: stages, outcomes, failures, what it waits for, the time left.",
        arguments((), _LATEST),
        ("status.v1",),
        _status,
    ),
    Tool(
        "runs",
        "List the runs, the latest first.",
        arguments(
            (),
            {
                "plan": text("Only of plans with such names; `*` is any text."),
                "target": text("Only on this target."),
                "state_is": texts("Only in these states.", *_STATES),
                "since": text("Only those that were started so long ago at most, as `7d`."),
                "limit": number("So many at most.", default=20),
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
                **_LATEST,
                "operation": texts("Only of these operations."),
                "item": texts("Only of items whose names fit these globs."),
                "outcome": texts("Only such.", "unsent", "sending", "running", *OUTCOMES),
                "failed": flag("Only those that did not take effect."),
                "limit": number("So many at most.", default=1000),
                "offset": number("Those after so many.", minimum=0, default=0),
            },
        ),
        ("events.v1",),
        _events,
    ),
    Tool(
        "logs",
        "Tell what a run did, what it noted and why it waited.",
        arguments((), _LATEST),
        ("logs.v1",),
        _logs,
    ),
    Tool(
        "init",
        "Write a first plan file, with its schema, a worker and a project file beside it.",
        arguments(
            ("plan",),
            {
                "plan": text("The file to write."),
                "for": text("The name of items of your own, such as users."),
            },
        ),
        (),
        _init,
        reads=False,
        alone=True,
    ),
    Tool(
        "plan_out",
        "Save a plan as it is now (`plan --out`), for a person to review and approve: `run` then "
        "sends exactly that, once.",
        arguments(
            ("plan", "out"),
            {
                **_PLAN,
                "out": text("The file to write."),
                **_SUBSET,
                **_TARGET,
                "expires": text("How long it may be run.", default="24h"),
            },
        ),
        ("execution-plan.v1",),
        _plan_out,
        reads=False,
    ),
    Tool(
        "run",
        "Send a plan's events, follow their jobs to the end and ask its checks." + _GATED,
        arguments(
            ("plan",),
            {
                "plan": text("A saved plan; or, for the target embedded, a plan file."),
                **_SUBSET,
                **_TARGET,
                "no_wait": flag(
                    "Send without following: no job is looked at, no stage waited for."
                ),
                "detach": flag("Leave it to the workers, and be done."),
            },
        ),
        ("run.v1", "submission.v1"),
        _run,
        reads=False,
        destroys=True,
    ),
    Tool(
        "resume",
        "Go on with a run that was stopped, was paused or has crashed." + _GATED,
        arguments(
            ("run",),
            {
                **_RUN,
                "from_journal": flag("Send what it was started with, whatever its file says now."),
                "past_failures": flag("Go on although the plan stops on a failure."),
                "detach": flag("Leave the rest to the workers."),
            },
        ),
        ("run.v1", "submission.v1", "status.v1"),
        _resume,
        reads=False,
        destroys=True,
    ),
    Tool(
        "retry",
        "Send what failed in a run once more, as a run of its own." + _GATED,
        arguments(
            ("run",),
            {
                **_RUN,
                "outcome": texts(
                    "Only events that ended so.", *(o for o in OUTCOMES if o in FAILURES)
                ),
                "item": texts("Only items whose names fit these globs."),
                "dry_run": flag("Only show what would be sent."),
            },
        ),
        ("run.v1", "execution-plan.v1"),
        _retry,
        reads=False,
        destroys=True,
    ),
    Tool(
        "pause",
        "Hold a run that is under way; `resume` lets it go on." + _GATED,
        arguments(("run",), _RUN),
        ("status.v1",),
        _pause,
        reads=False,
    ),
    Tool(
        "cancel",
        "End a run for good; with `jobs`, its jobs too." + _GATED,
        arguments(("run",), {**_RUN, "jobs": flag("Also cancel the jobs it started.")}),
        ("status.v1",),
        _cancel,
        reads=False,
        destroys=True,
    ),
)
