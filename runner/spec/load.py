"""Load a plan file: return the plan, or raise all its problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from runner.errors import InvalidPlan
from runner.model import BackfillPlan, Json, Problem
from runner.spec.catalog import BUILTIN, Catalog, build_catalog, builtin_source
from runner.spec.document import Document, Path, ranked
from runner.spec.effect import check_effect, orders_nothing
from runner.spec.items import read_items
from runner.spec.plan import build_plan, known_of
from runner.spec.plan_document import PlanDocument, check_plan
from runner.spec.reading import Opened, Reading, parse_clean
from runner.spec.warnings import accepted, reasons_of, strictly


def load_plan(
    source: str | Opened,
    *,
    overrides: Mapping[str, Json] | None = None,
    shared: Mapping[str, Json] | None = None,
    replaced: Mapping[str, str] | None = None,
    strict: bool = False,
) -> BackfillPlan:
    """Load the plan at a path, or one that was opened, ready for planning.

    Raises `InvalidPlan` with all problems at once (`strict`: warnings count as errors), and
    `UsageError` if there is no such file. `replaced`: files that replace collections, by name.
    """
    reading, document = Reading.of(source)
    if document.value is None and reading.problems:
        raise InvalidPlan(reading.ranked())
    checked = check_plan(document)
    reading.problems += checked.problems
    catalog, whole = _catalogs(reading, checked)
    overrides = {**known_of(shared or {}, checked, catalog), **(overrides or {})}
    reading.replaced = replaced or {}
    items = read_items(reading, checked, overrides, catalog if whole else None)
    plan, wrong = build_plan(
        checked,
        catalog,
        items.repositories,
        items.own,
        overrides,
        every_operation=whole,
        every_repository=items.whole,
    )
    reading.problems += wrong
    if checked.value.get("repos") or "repos" in reading.replaced:
        # The repositories name the workspaces, also if a file, a query or a filter leaves none.
        plan = replace(plan, workspace=None)
    if whole:
        found = list(check_effect(checked, catalog, items.known))
        if reading.errors:  # what is unread now may be used by what could not be parsed
            found = [problem for problem in found if problem.severity == "error"]
        reading.problems += found
        plan = replace(plan, idle_order=orders_nothing(checked, catalog))
    reasons = reasons_of(plan)
    problems = accepted(reading.ranked(), reasons)
    if strict:
        problems = ranked(strictly(problems))
    if any(problem.severity == "error" for problem in problems):
        raise InvalidPlan(problems)
    pinned = tuple(reading.pinned)
    return replace(plan, warnings=problems, inputs=tuple(reading.inputs), replaced=pinned)


def check_catalog(opened: Opened) -> tuple[Problem, ...]:
    """Return the problems of a catalog."""
    reading, document = Reading.of(opened)
    problems = build_catalog([document])[1]
    if problems:  # it may extend the built-in one, as in `catalog: [builtin, catalog.yaml]`
        problems = build_catalog([parse_clean(builtin_source(), BUILTIN)[0], document])[1]
    reading.problems += problems
    return reading.ranked()


def read_catalog(path: str | None) -> tuple[Catalog, list[Problem]]:
    """Return the operations that the plan at `path` can use; without a path, the built-in ones."""
    if path is None:
        return build_catalog([parse_clean(builtin_source(), BUILTIN)[0]])
    reading = Reading()
    document = reading.plan(path)
    if document.value is None and reading.problems:
        return Catalog(), list(reading.ranked())
    checked = check_plan(document)
    if checked.problems and not checked.value:
        reading.problems += checked.problems
    catalog, _ = _catalogs(reading, checked)
    return catalog, list(reading.ranked())


def _catalogs(reading: Reading, checked: PlanDocument) -> tuple[Catalog, bool]:
    """Return the operations of the catalogs that the plan names, by default the built-in one.

    The second value is False if a problem may leave operations out.
    """
    before = len(reading.problems)
    named = checked.value.get("catalog", BUILTIN)
    documents: list[Document] = []
    for index, name in enumerate([named] if isinstance(named, str) else named):
        if not isinstance(name, str):
            continue
        path: Path = ("catalog",) if isinstance(named, str) else ("catalog", index)
        count = len(reading.problems)
        document = reading.catalog(checked.document, name, path)
        if document is not None and (document.value is not None or len(reading.problems) == count):
            documents.append(document)
    catalog, wrong = build_catalog(documents)
    reading.problems += wrong
    return catalog, len(reading.problems) == before and "catalog" not in checked.pruned
