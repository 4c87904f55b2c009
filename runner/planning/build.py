"""BackfillPlan -> ExecutionPlan: select, order, render, check, pack. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

import orjson

from runner.errors import InvalidPlan
from runner.model import (
    QUEUE_TIMEOUT,
    BackfillPlan,
    ExecutionPlan,
    Operation,
    Pacing,
    Problem,
    Skipped,
    Stage,
)
from runner.planning.binding import Binder
from runner.planning.flow import flow_of, merged
from runner.planning.items import Sources
from runner.planning.render import Rendered, render
from runner.spec.document import ranked
from runner.spec.rendering import BUDGET
from runner.spec.units import counted, format_duration
from runner.spec.warnings import accepted, not_occurring, reasons_of, strictly

_FORM = "backfill/v1"


def build_execution_plan(plan: BackfillPlan, *, strict: bool = False) -> ExecutionPlan:
    """Return exactly what a run of `plan` would send.

    Every event is rendered here, once, and checked against its contract. Raises `InvalidPlan` with
    the problems of all items; `strict` makes warnings errors.
    """
    BUDGET.begin()
    sources = Sources(plan)
    warnings = [*plan.warnings, *_order_warnings(plan, sources.unknown)]
    digest = hashlib.sha256(
        orjson.dumps(
            [
                _FORM,
                *map(list, plan.replaced),
                plan.name,
                plan.on_failure,
                plan.max_failures,
                [[type(guard).__name__, guard] for guard in plan.guards],
            ]
        )
    )
    stages: list[Stage] = []
    begins = 0.0 if plan.scheduled else None
    skipped: list[Skipped] = list(plan.skipped)
    problems: list[Problem] = []
    binder = Binder(plan)
    pairs = [(operation, sources.of(operation)) for operation in plan.operations]
    made = {
        operation.name: (operation, rendered)
        for operation, rendered in zip(plan.operations, render(plan, pairs), strict=True)
    }
    for operation, rendered in made.values():
        skipped += rendered.skipped
        problems += rendered.problems
        warnings += rendered.warnings
        warnings += _throttle_warnings(plan, operation, rendered.pacing)
        binder.runs(operation, rendered.skipped)
    for names in flow_of(plan):
        stage = _stage_of(len(stages) + 1, [made[name] for name in names], plan.canary, begins)
        operation, rendered = made[names[0]]
        if not (stage.total or operation.deferred or operation.until):
            continue
        if operation.until:
            stage = replace(stage, until=binder.until(operation.until, operation.name))
        digest.update(_header(stage))
        digest.update(rendered.digest)
        stages.append(stage)
        if begins is not None:
            begins += stage.batches * stage.pacing.delay
    ran = {None, *(name for stage in stages for name in stage.operations)}
    checks = binder.checks([check for check in plan.checks if check.operation in ran])
    coverage = binder.coverage(plan.coverage)
    problems += binder.problems
    digest.update(orjson.dumps([checks, [list(fact) for fact in plan.found.facts]]))
    warnings += _scope_warnings(plan, sources)
    warnings += _idle_warnings(plan, sources, stages)
    if plan.idle_order and all(stage.total < 2 for stage in stages):
        warnings.append(plan.idle_order)
    if not any(stage.total for stage in stages) and not problems and plan.if_empty == "fail":
        warnings.append(_empty(plan, later=any(stage.deferred for stage in stages)))
    warnings += not_occurring(warnings, plan.accept)
    reasons = reasons_of(plan)
    judged = accepted(warnings, reasons)
    if strict and any(not warning.accepted for warning in judged):
        problems += strictly(judged)
    if problems:
        raise InvalidPlan(ranked(problems if strict else [*problems, *judged]))
    return ExecutionPlan(
        name=plan.name,
        path=plan.path,
        digest=f"sha256:{digest.hexdigest()}",
        stages=tuple(stages),
        skipped=tuple(skipped),
        warnings=judged,
        on_failure=plan.on_failure,
        give_up_after=plan.give_up_after,
        metadata=plan.metadata,
        handlers=plan.handlers,
        max_failures=plan.max_failures,
        approval=plan.approval,
        guards=plan.guards,
        inputs=plan.inputs,
        checks=checks,
        facts=plan.found.facts,
        coverage=coverage,
        requires=plan.requires,
        schedule=plan.schedule,
        variables=plan.variables,
        if_empty=plan.if_empty,
        accept=reasons,
    )


def stage_as_of_now(plan: BackfillPlan, stage: Stage) -> Stage:
    """Render a deferred stage from facts that were gathered again. Raises `InvalidPlan`."""
    BUDGET.begin()
    operation = next(known for known in plan.operations if known.name == stage.operation)
    (rendered,) = render(plan, [(operation, Sources(plan).of(operation))])
    if rendered.problems:
        raise InvalidPlan(ranked(rendered.problems))
    return replace(stage, items=rendered.items)


def _header(stage: Stage) -> bytes:
    """Everything that decides how a stage is sent, besides its events."""
    pacing = {key: value for key, value in asdict(stage.pacing).items() if value or key != "jitter"}
    parts = [stage.operation, pacing, stage.wait, stage.timeout, stage.canary, stage.begins]
    parts += [stage.deferred, stage.until, stage.cap and list(stage.cap), stage.queue_timeout]
    return orjson.dumps([*parts, *stage.members])


def _stage_of(
    number: int,
    members: Sequence[tuple[Operation, Rendered]],
    canary: int,
    begins: float | None,
) -> Stage:
    """Build the stage of one operation, or of several that share it."""
    stages = [
        (_stage(number, operation, rendered, canary, begins), rendered.count)
        for operation, rendered in members
    ]
    first = stages[0][0]
    return merged(first, stages) if len(stages) > 1 and first.total else first


def _stage(
    number: int, operation: Operation, rendered: Rendered, canary: int, begins: float | None
) -> Stage:
    longest = operation.queue_timeout
    return Stage(
        number=number,
        operation=operation.name,
        event=operation.event,
        for_each=operation.for_each,
        pacing=rendered.pacing,
        wait=operation.wait,
        timeout=operation.timeout,
        items=rendered.items,
        canary=min(canary, rendered.items.count),
        begins=begins,
        numbered=bool(operation.repeat or operation.until or operation.for_each == "row"),
        repeated=operation.repeat is not None or operation.group > 1,
        deferred=operation.deferred or operation.until is not None,
        needs=operation.needs,
        own=bool(operation.own_id or operation.at),
        grouped=operation.group > 1,
        cap=operation.cap,
        queue_timeout=QUEUE_TIMEOUT if longest is None else longest,
    )


def _order_warnings(plan: BackfillPlan, unknown: Iterable[str]) -> list[Problem]:
    """Warn of attributes in `order_by` that no item has, except `priority`, a default."""
    return [
        _warning(plan, f"`order_by` names `{name}`, which no item has", "order-by")
        for name in unknown
        if name != "priority"
    ]


def _idle_warnings(plan: BackfillPlan, sources: Sources, stages: Iterable[Stage]) -> list[Problem]:
    """Warn of operations without items if others have some; a query without rows has its own
    warning."""
    if any(one.rule == "no-rows" for one in plan.warnings) or not any(one.total for one in stages):
        return []
    filtered = {one.operation for one in plan.skipped}  # which says why they have none
    hint = "is the file that has them, or the answer of their query, empty?"
    return [
        replace(
            _warning(plan, f"`{one.name}` has no items, so it sends nothing", "no-rows"), hint=hint
        )
        for one in plan.operations
        if not (one.deferred or one.name in filtered or len(sources.of(one)))
    ]


def _throttle_warnings(plan: BackfillPlan, operation: Operation, pacing: Pacing) -> list[Problem]:
    """Warn if a throttle changes the pacing because spreading the events was not enough."""
    throttle = operation.throttle
    if throttle is None or pacing == operation.pacing:
        return []
    per, delay = format_duration(throttle.per), format_duration(round(pacing.delay, 3))
    message = (
        f"`{operation.name}`: at most {counted(throttle.limit, 'event')} of one key in "
        f"{per}: batches of {pacing.batch_size:,}, {delay} apart"
    )
    return [_warning(plan, message, "min-delay")]


def _scope_warnings(plan: BackfillPlan, sources: Sources) -> list[Problem]:
    outvoted = [_outvoted(name, *found) for name, found in sources.outvoted.items()]
    count = sources.homeless
    if not count:
        return outvoted
    which = "a repository belongs" if count == 1 else f"{count:,} repositories belong"
    message = f"{which} to no workspace, so no workspace operation covers "
    message += "it" if count == 1 else "them"
    return [*outvoted, _warning(plan, message, "no-workspace")]


def _outvoted(operation: str, count: int, place: Problem) -> Problem:
    which = "a repository skips" if count == 1 else f"{count:,} repositories skip"
    its = "its workspace runs it" if count == 1 else "their workspaces run it"
    message = f"{which} `{operation}`, but {its} anyway, for other repositories"
    hint = "skip it for all repositories of a workspace, or for none"
    return replace(place, message=message, hint=hint, severity="warning", rule="shared-workspace")


def _empty(plan: BackfillPlan, *, later: bool) -> Problem:
    today = " today" if later else ""
    hint = "if that is fine, write `if_empty: ok`"
    return replace(
        _warning(plan, f"there is nothing to send{today}", "empty"), hint=None if later else hint
    )


def _warning(plan: BackfillPlan, message: str, rule: str) -> Problem:
    return Problem(message, plan.path, severity="warning", rule=rule)
