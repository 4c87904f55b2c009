"""BackfillPlan -> ExecutionPlan: select, order, render, check, seal. Pure."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from runner.errors import InvalidPlan
from runner.model import (
    BackfillPlan,
    Data,
    ExecutionPlan,
    Operation,
    Problem,
    Skipped,
    Stage,
)
from runner.planning.items import (
    Context,
    Once,
    RenderedItems,
    RepositorySource,
    Source,
    Workspaces,
    find_workspaces,
)
from runner.planning.order import ordered

MAX_EXPLAINED = 10  # items of one operation whose faults are explained; the others are counted


def build_execution_plan(plan: BackfillPlan, *, strict: bool = False) -> ExecutionPlan:
    """Exactly what a run of `plan` would send.

    Every event is rendered and checked against its contract here, and kept only as part of the
    digest. Raises `InvalidPlan` with the problems of all items; `strict` makes warnings errors.
    """
    order, unknown = ordered(plan.repositories, plan.order_by)
    warnings = [*plan.warnings, *_order_warnings(plan, unknown)]
    sources = _sources(plan, order)
    seal = hashlib.sha256(orjson.dumps([plan.name, plan.on_failure, _FORM]))
    stages: list[Stage] = []
    skipped: list[Skipped] = list(plan.left_out)
    problems: list[Problem] = []
    for operation in plan.operations:
        outcome = _render(operation, sources[operation.for_each], _base(plan, operation), seal)
        skipped += outcome.skipped
        problems += outcome.problems
        if outcome.items.chosen:
            stages.append(_stage(len(stages) + 1, operation, outcome.items))
    warnings += _scope_warnings(plan, sources.get("workspace"))
    if not stages and not problems:
        warnings.append(_warning(plan, "there is nothing to send: every item is skipped", "empty"))
    if strict:
        problems += [replace(warning, severity="error") for warning in warnings]
    if problems:
        raise InvalidPlan((*problems, *([] if strict else warnings)))
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
    )


_FORM = "backfill/v1"


@dataclass(slots=True)
class _Outcome:
    items: RenderedItems
    skipped: list[Skipped] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unexplained: int = 0


def _render(operation: Operation, source: Source, base: Context, seal: Any) -> _Outcome:
    """One pass over everything the operation could run for; what stays goes into the seal."""
    chosen = array("L")
    outcome = _Outcome(RenderedItems(operation, source, base, chosen))
    payload, accepts, when = operation.payload, operation.contract.accepts, operation.when
    name, event_name = operation.name, operation.event
    seal.update(orjson.dumps(_header(operation)))
    contexts = source.contexts(base, range(len(source)))
    for index, (item, context) in enumerate(contexts):
        if reason := source.skips(index, context, name):
            outcome.skipped.append(Skipped(name, item, reason))
            continue
        try:
            if when is not None and not when(context):
                outcome.skipped.append(Skipped(name, item, f"`when: {when.source}` is false"))
                continue
        except ValueError as error:
            _fault(outcome, lambda e=error, i=item: (_condition_problem(operation, e, i),))
            continue
        try:
            data = payload(context)
            sealed = orjson.dumps([item, event_name, data])
        except (ValueError, TypeError):
            _fault(outcome, lambda c=context, i=item: (payload.explain(c, i),))
            continue
        if not accepts(data):
            _fault(outcome, lambda d=data, i=item: operation.contract.explain(d, i))
            continue
        seal.update(sealed)
        chosen.append(index)
    if outcome.unexplained:
        last = outcome.problems[-1]
        message = f"`{name}`: {outcome.unexplained:,} more items have such problems"
        outcome.problems.append(Problem(message, last.path, last.line, last.column))
    return outcome


def _fault(outcome: _Outcome, explain: Any) -> None:
    if len(outcome.problems) < MAX_EXPLAINED:
        outcome.problems += explain()
    else:
        outcome.unexplained += 1


def _condition_problem(operation: Operation, error: ValueError, item: str) -> Problem:
    source = operation.when.source if operation.when else ""
    message = f"`when: {source}` cannot be decided for {item}: {error}"
    return operation.payload.problem(message)


def _header(operation: Operation) -> list[Any]:
    return [operation.name, asdict(operation.pacing), operation.wait, operation.timeout]


def _stage(number: int, operation: Operation, items: RenderedItems) -> Stage:
    return Stage(
        number=number,
        operation=operation.name,
        event=operation.event,
        for_each=operation.for_each,
        pacing=operation.pacing,
        wait=operation.wait,
        timeout=operation.timeout,
        items=items,
    )


def _sources(plan: BackfillPlan, order: array[int]) -> dict[str, Source]:
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


def _order_warnings(plan: BackfillPlan, unknown: list[str]) -> list[Problem]:
    written = [name for name in unknown if name != "priority"]
    return [
        _warning(plan, f"order_by names `{name}`, which no repository has", "order") for name in written
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
