"""Build the execution plan of a plan file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.app.session import Session
from runner.model import (
    BackfillPlan,
    ExecutionPlan,
    Json,
    Problem,
    Selectors,
    frozen,
)
from runner.spec.given import refuse_secrets, refuse_selectors
from runner.spec.warnings import accepted, refuse_any

if TYPE_CHECKING:
    from runner.adapters.inngest.target import Target
    from runner.app.plan_files import PlanFile


@frozen
class Built:
    """A plan file with its facts from the database, and its execution plan."""

    plan: BackfillPlan
    execution_plan: ExecutionPlan


def build(
    session: Session,
    source: str | PlanFile | BackfillPlan,
    variables: Mapping[str, Json],
    *,
    strict: bool = False,
    target: str | None = None,
    environment: str | None = None,
    selectors: Selectors | None = None,
    sure: bool = True,
    once_loaded: Callable[[BackfillPlan], None] = lambda _: None,
) -> Built:
    """Plan file -> facts -> execution plan. Raises `InvalidPlan` with all problems at once.

    A dry run queries the database too; nothing is sent. `source`: a path, a file that was read, or
    a plan that was loaded with these variables. `target`: as the user named it, for the policy.
    `environment`: see `Session.environment`. `selectors`, `sure`: see
    `runner.planning.parts.select`. `once_loaded` may refuse the plan before the database is asked.
    """
    from runner.app.plan_files import load
    from runner.app.policy import judged
    from runner.planning.build import build_execution_plan
    from runner.planning.facts import gather

    refuse_selectors(selectors)
    refuse_secrets(variables)
    if isinstance(source, BackfillPlan):
        loaded = source
    else:
        loaded = load(session, source, variables, strict=strict, environment=environment)
    once_loaded(loaded)
    facts = session.facts
    now = datetime.fromisoformat(facts.recorded_at) if facts else datetime.now(UTC)
    known = gather(loaded, session.query_runner(loaded.path, environment), now)
    execution_plan = build_execution_plan(known, strict=strict)
    if selectors:
        from runner.planning.parts import select

        execution_plan = select(known, execution_plan, selectors, sure=sure, strict=strict)
    if facts and known.found.facts:
        execution_plan = replace(execution_plan, answered_at=facts.recorded_at)
    execution_plan = judged(session, execution_plan, target, environment, variables, strict=strict)
    return Built(known, execution_plan)


def warned(plan: ExecutionPlan, target: Target, *, strict: bool = False) -> ExecutionPlan:
    """Add the warnings that apply on this target; `strict`: refuse the plan for any warning."""
    found = replace(plan, warnings=(*plan.warnings, *handler_warnings(plan, target)))
    if strict:
        refuse_any(found.warnings)
    return found


def handler_warnings(plan: ExecutionPlan, target: Target) -> list[Problem]:
    """Warn about events without a handler on the embedded target: they start no job."""
    silent = {event for stage in plan.stages for event in stage.event_names} - set(plan.handlers)
    if target.kind != "embedded" or not silent:
        return []
    names = ", ".join(f"`{event}`" for event in sorted(silent))
    warning = Problem(
        f"the embedded target has no handler for {names}: no job will start",
        plan.path,
        hint="add one to the plan's `handlers`, or choose a server with --target",
        severity="warning",
        rule="no-handler",
    )
    return list(accepted([warning], plan.accept))
