"""What `pending` and `apply` share: the plans of folders, and how each stands on a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.adapters.journal.store import Store
from runner.errors import InvalidPlan, UsageError
from runner.model import BackfillPlan, Json, Problem
from runner.planning.ledger import Entry, entry, in_order


def find_plans(
    paths: Sequence[str], overrides: dict[str, Json], *, strict: bool
) -> list[BackfillPlan]:
    """Every plan file, in the order in which they are applied; catalogs are passed over.

    Raises `InvalidPlan` with the problems of all of them.
    """
    from runner.spec.load import check_catalog, load_plan

    plans: list[BackfillPlan] = []
    problems: list[Problem] = []
    for path in _files(paths):
        try:
            if check_catalog(path) is None:
                plans.append(load_plan(path, overrides=overrides, strict=strict))
        except InvalidPlan as error:
            problems += error.problems
    if problems:
        raise InvalidPlan(tuple(dict.fromkeys(problems)))
    if not plans:
        raise UsageError(f"there is no plan in {', '.join(paths)}")
    return in_order(plans)


def standing(
    plans: Sequence[BackfillPlan], overrides: dict[str, Json], store: Store, address: str
) -> list[Entry]:
    return [entry(plan, overrides, store.ledger(plan.name, address)) for plan in plans]


def _files(paths: Sequence[str]) -> list[str]:
    """Those of a folder are its .yaml and .yml files; not those of folders in it."""
    found: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            files = (file for file in Path(path).iterdir() if file.suffix in (".yaml", ".yml"))
            found += sorted(map(str, files))
        else:
            found.append(path)
    return list(dict.fromkeys(found))
