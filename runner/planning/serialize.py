"""Serialize an execution plan: a head in JSON, and the events of each stage in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import orjson

from runner.model import (
    BoundQuestion,
    Cap,
    Check,
    CommandGuard,
    ExecutionPlan,
    Expect,
    Fact,
    FailureLimit,
    FileGuard,
    GithubGuard,
    HttpGuard,
    Input,
    Measure,
    Needs,
    Pacing,
    Partial,
    Query,
    RunHead,
    Schedule,
    Selection,
    Selectors,
    SkippedGroup,
    SqlGuard,
    Stage,
    StageHead,
    Until,
    WindowGuard,
    group_skipped,
)
from runner.planning.event_blocks import EventBlocks, damaged

_GUARDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (GithubGuard, HttpGuard, SqlGuard, CommandGuard, FileGuard, WindowGuard)
}


def dump_head(plan: ExecutionPlan) -> str:
    """Serialize everything that decides how the plan is sent, except its events."""
    return orjson.dumps(
        {
            "name": plan.name,
            "path": plan.path,
            "digest": plan.digest,
            "on_failure": plan.on_failure,
            "give_up_after": plan.give_up_after,
            "max_failures": plan.max_failures,
            "approval": plan.approval,
            "if_empty": plan.if_empty,
            "accept": dict(plan.accept),
            "partial": plan.partial,
            "requires": plan.requires,
            **({"schedule": plan.schedule} if plan.schedule else {}),
            **({} if plan.variables is None else {"variables": plan.variables}),
            "metadata": plan.metadata,
            "handlers": dict(plan.handlers),
            "inputs": [list(read) for read in plan.inputs],
            "guards": [[type(guard).__name__, guard] for guard in plan.guards],
            "stages": [_stage_head(stage) for stage in plan.stages],
            "checks": plan.checks,
            "coverage": [list(measure) for measure in plan.coverage],
            "facts": [list(fact) for fact in plan.facts],
            "skipped": [
                [group.operation, group.reason, group.total, group.items]
                for group in group_skipped(plan.skipped)
            ],
        }
    ).decode()


def _stage_head(stage: Stage) -> dict[str, Any]:
    return {
        "number": stage.number,
        "operation": stage.operation,
        "event": stage.event,
        "for_each": stage.for_each,
        "pacing": asdict(stage.pacing),
        "wait": stage.wait,
        "timeout": stage.timeout,
        "canary": stage.canary,
        "begins": stage.begins,
        "count": stage.total,
        "numbered": stage.numbered,
        "repeated": stage.repeated,
        "deferred": stage.deferred,
        "until": stage.until,
        "needs": stage.needs and list(stage.needs),
        "own": stage.own,
        "grouped": stage.grouped,
        "members": stage.members,
        "cap": stage.cap and list(stage.cap),
        "queue_timeout": stage.queue_timeout,
    }


@contextmanager
def _undamaged() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged() from error


@_undamaged()
def load_head(text: str) -> RunHead:
    """Load the plan without its events. Raises `TargetError` for anything but a dumped head."""
    value = orjson.loads(text)
    return RunHead(
        name=value["name"],
        stages=tuple(
            StageHead(**_stage_fields(written), count=written["count"])
            for written in value["stages"]
        ),
        skipped=tuple(
            SkippedGroup(operation, reason, total, tuple(items))
            for operation, reason, total, items in value["skipped"]
        ),
        inputs=_inputs(value),
        coverage=_coverage(value),
        partial=_partial(value),
        windows=tuple(
            WindowGuard(**fields) for kind, fields in value["guards"] if kind == "WindowGuard"
        ),
        variables=value.get("variables"),
    )


@_undamaged()
def load_plan(text: str, bodies: Mapping[int, Sequence[bytes]]) -> ExecutionPlan:
    """Load the whole plan; `bodies`: the blocks of each stage by its number. Raises as
    `load_head`."""
    value = orjson.loads(text)
    limit, schedule = value["max_failures"], value.get("schedule")
    return ExecutionPlan(
        name=value["name"],
        path=value["path"],
        digest=value["digest"],
        stages=tuple(_stage(written, bodies) for written in value["stages"]),
        skipped=(),
        warnings=(),
        on_failure=value["on_failure"],
        give_up_after=value["give_up_after"],
        requires=value["requires"],
        schedule=schedule and Schedule(**schedule),
        variables=value.get("variables"),
        metadata=value["metadata"],
        handlers=value["handlers"],
        max_failures=limit and FailureLimit(**limit),
        approval=value["approval"],
        if_empty=value["if_empty"],
        accept=value["accept"],
        partial=_partial(value),
        guards=tuple(_guard(*written) for written in value["guards"]),
        inputs=_inputs(value),
        checks=tuple(Check(**_asked(written)) for written in value["checks"]),
        coverage=_coverage(value),
        facts=tuple(Fact(*fact) for fact in value["facts"]),
    )


def _partial(value: Mapping[str, Any]) -> Partial | None:
    written = value["partial"]
    if written is None:
        return None
    given: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one
        for name, one in written["selectors"].items()
    }
    chosen = {for_each: tuple(names) for for_each, names in written["chosen"].items()}
    return Partial(Selectors(**given), chosen)


def _guard(kind: str, fields: dict[str, Any]) -> Any:
    if kind == "CommandGuard":
        return CommandGuard(tuple(fields["arguments"]))
    return _GUARDS[kind](**fields)


def _inputs(value: Mapping[str, Any]) -> tuple[Input, ...]:
    return tuple(Input(*read) for read in value["inputs"])


def _coverage(value: Mapping[str, Any]) -> tuple[Measure, ...]:
    return tuple(Measure(name, _question(asked)) for name, asked in value["coverage"])


def _stage(written: dict[str, Any], bodies: Mapping[int, Sequence[bytes]]) -> Stage:
    blocks = tuple(bodies.get(written["number"], ()))
    items = EventBlocks(written["event"], written["count"], blocks)
    return Stage(**_stage_fields(written), items=items)


def _stage_fields(written: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in written.items() if name != "count"}
    until, needs, cap = fields["until"], fields["needs"], fields["cap"]
    return fields | {
        "pacing": Pacing(**fields["pacing"]),
        "until": until and Until(**_asked(until)),
        "needs": needs and Needs(*needs),
        "members": tuple(tuple(member) for member in fields["members"]),
        "cap": cap and Cap(*cap),
    }


def _asked(written: dict[str, Any]) -> dict[str, Any]:
    """Restore the types within a check or a goal."""
    typed = {"question": _question(written["question"]), "expect": Expect(**written["expect"])}
    return {**written, **typed}


def _question(written: dict[str, Any]) -> BoundQuestion:
    typed = {
        "query": _query(written["query"]),
        "items": tuple(written["items"]),
        "ids": tuple(written["ids"]),
    }
    return BoundQuestion(**{**written, **typed})


def _query(written: dict[str, Any]) -> Query:
    ask = written["ask"]
    if isinstance(ask, dict):
        ask = Selection(ask["table"], tuple(ask["columns"]), ask["where"])
    return Query(**{**written, "ask": ask})
