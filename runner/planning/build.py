"""BackfillPlan -> ExecutionPlan: select, order, render, check, seal. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import orjson

from runner.errors import InvalidPlan
from runner.model import (
    BackfillPlan,
    Condition,
    Data,
    ExecutionPlan,
    Operation,
    Problem,
    Skipped,
    Stage,
)
from runner.planning.faults import Faults
from runner.planning.items import (
    Context,
    Once,
    RepositorySource,
    Source,
    Workspaces,
    find_workspaces,
)
from runner.planning.order import ordered
from runner.planning.sealed import SealedItems, Sealing
from runner.spec.document import ranked

_FORM = "backfill/v1"


def build_execution_plan(plan: BackfillPlan, *, strict: bool = False) -> ExecutionPlan:
    """Exactly what a run of `plan` would send.

    Every event is rendered here, once, and checked against its contract. Raises `InvalidPlan`
    with the problems of all items; `strict` makes warnings errors.
    """
    order, unknown = ordered(plan.repositories, plan.order_by)
    warnings = [*plan.warnings, *_order_warnings(plan, unknown)]
    sources = _sources(plan, order)
    seal = hashlib.sha256(
        orjson.dumps(
            [
                _FORM,
                plan.name,
                plan.on_failure,
                plan.max_failures,
                [[type(guard).__name__, guard] for guard in plan.guards],
            ]
        )
    )
    stages: list[Stage] = []
    begins = 0.0 if plan.scheduled else None
    skipped: list[Skipped] = list(plan.left_out)
    problems: list[Problem] = []
    for operation in plan.operations:
        outcome = _render(operation, sources[operation.for_each], _base(plan, operation))
        skipped += outcome.skipped
        problems += outcome.faults.problems()
        if outcome.items.count:
            stage = _stage(len(stages) + 1, operation, outcome.items, plan.canary, begins)
            seal.update(_header(stage))
            seal.update(outcome.digest)
            stages.append(stage)
            if begins is not None:
                begins += stage.batches * stage.pacing.delay
    warnings += _scope_warnings(plan, sources.get("workspace"))
    if not stages and not problems:
        warnings.append(_warning(plan, "there is nothing to send: every item is skipped", "empty"))
    if strict:
        problems += [replace(warning, severity="error") for warning in warnings]
    if problems:
        raise InvalidPlan(ranked([*problems, *([] if strict else warnings)]))
    return ExecutionPlan(
        name=plan.name,
        path=plan.path,
        digest=f"sha256:{seal.hexdigest()}",
        stages=tuple(stages),
        skipped=tuple(skipped),
        warnings=tuple(warnings),
        on_failure=plan.on_failure,
        metadata=plan.metadata,
        handlers=plan.handlers,
        max_failures=plan.max_failures,
        guards=plan.guards,
        inputs=plan.inputs,
    )


@dataclass(slots=True)
class _Outcome:
    """What one operation comes to; `digest` covers its events."""

    items: SealedItems
    faults: Faults
    digest: bytes = b""
    skipped: list[Skipped] = field(default_factory=list)


def _render(operation: Operation, source: Source, base: Context) -> _Outcome:
    """One pass over everything the operation could run for: what stays is checked and sealed."""
    outcome = _Outcome(SealedItems(operation.event, 0, ()), Faults(operation.name))
    payload, accepts, when = operation.payload, operation.contract.accepts, operation.when
    name, seal, sealing = operation.name, hashlib.sha256(), Sealing()
    seal.update(orjson.dumps(operation.event))
    is_false = f"`when: {when.source}` is false" if when else ""
    for index, (item, context) in enumerate(source.contexts(base, range(len(source)))):
        if reason := source.skips(index, context, name):
            outcome.skipped.append(Skipped(name, item, reason))
            continue
        try:
            if when is not None and not when(context):
                outcome.skipped.append(Skipped(name, item, is_false))
                continue
        except ValueError as error:
            outcome.faults.add(item, partial(_undecided, when, error, item))
            continue
        try:
            data = payload(context)
            sealed = orjson.dumps(data)
        except (ValueError, TypeError):
            outcome.faults.add(item, partial(payload.explain, context, item))
            continue
        if not accepts(data):
            outcome.faults.add(item, partial(operation.contract.explain, data, item))
            continue
        named = orjson.dumps(item)
        seal.update(named)
        seal.update(sealed)
        sealing.add(named, sealed)
    outcome.items, outcome.digest = sealing.sealed(operation.event), seal.digest()
    return outcome


def _undecided(when: Condition | None, error: ValueError, item: str) -> Iterable[Problem]:
    return when.explain(error, item) if when else ()


def _header(stage: Stage) -> bytes:
    """What decides how a stage's events are sent, besides the events."""
    pacing = asdict(stage.pacing)
    return orjson.dumps(
        [stage.operation, pacing, stage.wait, stage.timeout, stage.canary, stage.begins]
    )


def _stage(
    number: int, operation: Operation, items: SealedItems, canary: int, begins: float | None
) -> Stage:
    return Stage(
        number=number,
        operation=operation.name,
        event=operation.event,
        for_each=operation.for_each,
        pacing=operation.pacing,
        wait=operation.wait,
        timeout=operation.timeout,
        items=items,
        canary=min(canary, items.count),
        begins=begins,
    )


def _sources(plan: BackfillPlan, order: Sequence[int]) -> dict[str, Source]:
    sources: dict[str, Source] = {"once": Once(plan.name)}
    scopes = {operation.for_each for operation in plan.operations}
    if "repo" in scopes:
        sources["repo"] = RepositorySource(plan.repositories, order)
    if "workspace" in scopes:
        sources["workspace"] = find_workspaces(plan, order)
    return sources


def _base(plan: BackfillPlan, operation: Operation) -> Context:
    """What every template of the operation can read; the item is added to it."""
    described: Data = {
        "name": operation.name,
        "event": operation.event,
        "batch_size": operation.pacing.batch_size,
        "delay": operation.pacing.delay,
        "delay_ms": round(operation.pacing.delay * 1000),
    }
    return {"vars": plan.variables, "plan": plan.metadata, "operation": described}


def _order_warnings(plan: BackfillPlan, unknown: Iterable[str]) -> list[Problem]:
    """An attribute that no repository has orders nothing; `priority` is there by default."""
    return [
        _warning(plan, f"order_by names `{name}`, which no repository has", "order")
        for name in unknown
        if name != "priority"
    ]


def _scope_warnings(plan: BackfillPlan, workspaces: Source | None) -> list[Problem]:
    if not isinstance(workspaces, Workspaces) or not workspaces.homeless:
        return []
    count = workspaces.homeless
    which = "a repository belongs" if count == 1 else f"{count:,} repositories belong"
    message = f"{which} to no workspace, so no workspace operation covers "
    return [_warning(plan, message + ("it" if count == 1 else "them"), "no-workspace")]


def _warning(plan: BackfillPlan, message: str, rule: str) -> Problem:
    return Problem(message, plan.path, severity="warning", rule=rule)
