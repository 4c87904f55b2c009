"""The plans of folders: which have a schedule, and how each of the others stands on a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from runner.cli.plan_files import plan_files
from runner.errors import InvalidPlan, UsageError
from runner.model import BackfillPlan, Json, Problem, Schedule
from runner.output.escape import visible
from runner.planning.ledger import Entry, entry, in_order

if TYPE_CHECKING:
    from runner.adapters.journal.store import Store


def find_plans(
    paths: Sequence[str], overrides: dict[str, Json], changed_since: str | None, *, strict: bool
) -> list[BackfillPlan]:
    """Every plan file, in the order in which they are applied; catalogs are passed over, and plans
    with a schedule, which workers start.

    Raises `InvalidPlan` with the problems of all of them.
    """
    plans = load_plans(plan_files(paths, changed_since), overrides, strict=strict)
    if not plans and changed_since is None:  # nothing but catalogs
        raise UsageError(f"there is no plan in {', '.join(paths)}")
    for plan in (plan for plan in plans if plan.schedule):
        click.echo(
            f"note: {visible(plan.path)} has a schedule: `backfill serve` starts it", err=True
        )
    return [plan for plan in in_order(plans) if plan.schedule is None]


def scheduled_plans(paths: Sequence[str]) -> list[tuple[BackfillPlan, Schedule]]:
    """Those of the plans that have a schedule. Raises `InvalidPlan` with what is wrong with any."""
    plans = load_plans(plan_files(paths, strictly=False), {})
    found = in_order([plan for plan in plans if plan.schedule])
    return [(plan, plan.schedule) for plan in found if plan.schedule]


def load_plans(
    files: Sequence[str], overrides: dict[str, Json], *, strict: bool = False
) -> list[BackfillPlan]:
    """Those of the files that are no catalogs. Raises `InvalidPlan` with the problems of all."""
    from runner.spec.load import check_catalog, load_plan

    plans: list[BackfillPlan] = []
    problems: list[Problem] = []
    for path in files:
        try:
            if check_catalog(path) is None:
                plans.append(load_plan(path, overrides=overrides, strict=strict))
        except InvalidPlan as error:
            problems += error.problems
    if problems:
        raise InvalidPlan(tuple(dict.fromkeys(problems)))
    return plans


def standing(
    plans: Sequence[BackfillPlan], overrides: dict[str, Json], store: Store, address: str
) -> list[Entry]:
    return [entry(plan, overrides, store.ledger(plan.name, address)) for plan in plans]
