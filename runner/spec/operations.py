"""Catalog entry and the plan's own words -> Operation."""

from __future__ import annotations

from typing import Any

from runner.model import Data, Operation, Pacing, Problem
from runner.spec.advice import advise
from runner.spec.catalog import CatalogEntry
from runner.spec.checked import Checked
from runner.spec.document import Path
from runner.spec.payload import Condition, Contract, Origin, compile_payload, compile_when
from runner.spec.units import format_duration, parse_duration

DEFAULT_BATCH_SIZE = 50
DEFAULT_DELAY = "5s"


def build_operation(
    checked: Checked, path: Path, use: Data, entry: CatalogEntry
) -> tuple[Operation, list[Problem]]:
    """The operation as the plan's entry at `path` uses it, and what is wrong or unwise about it."""
    parts = [entry.payload]
    if "with" in use:
        parts.append((use["with"], Origin(checked.document, (*path, "with"))))
    payload, found = compile_payload(parts)
    problems = [problem for problem in found if problem.path == checked.document.path]
    when, wrong = _condition(checked, path, use, entry)
    pacing, raised = _pacing(checked, path, use, entry)
    operation = Operation(
        name=entry.name,
        event=entry.event,
        for_each=entry.for_each,
        payload=payload,
        contract=Contract(entry.contract, entry.accepts, payload),
        after=entry.after,
        pacing=pacing,
        load=entry.load,
        wait=use.get("wait", entry.done),
        timeout=parse_duration(use["timeout"]) if "timeout" in use else entry.timeout,
        when=when,
        description=entry.description,
    )
    places = {key: _place(checked, path, use, key) for key in ("batch_size", "delay")}
    return operation, [*problems, *wrong, *raised, *advise(operation, checked.document, places)]


def _condition(
    checked: Checked, path: Path, use: Data, entry: CatalogEntry
) -> tuple[Condition | None, list[Problem]]:
    """The plan's condition in place of the catalog's, whose faults the catalog has told."""
    if "when" in use:
        return compile_when(use["when"], Origin(checked.document, (*path, "when")))
    return (compile_when(*entry.condition)[0] if entry.when is not None else None), []


def _pacing(
    checked: Checked, path: Path, use: Data, entry: CatalogEntry
) -> tuple[Pacing, list[Problem]]:
    """The entry's own pacing, else the plan's, else the catalog's; never under its `min_delay`."""
    plan = checked.value
    size = int(
        _first(use.get("batch_size"), plan.get("batch_size"), entry.batch_size, DEFAULT_BATCH_SIZE)
    )
    written = use.get("delay", plan.get("delay"))
    if written is None:
        delay = _first(entry.delay, parse_duration(DEFAULT_DELAY))
    else:
        delay = parse_duration(written)
        if delay < entry.min_delay:
            least = format_duration(entry.min_delay)
            message = (
                f"`{entry.name}`: the delay is raised to {least}, the least its catalog allows"
            )
            place = _place(checked, path, use, "delay")
            warning = checked.warning(
                message, place, hint=f"write `delay: {least}`", rule="min-delay"
            )
            return Pacing(size, entry.min_delay), [warning]
    return Pacing(size, max(delay, entry.min_delay)), []


def _place(checked: Checked, path: Path, use: Data, key: str) -> Path:
    """Where the pacing that holds is written: at the operation, at the top, or nowhere."""
    return (*path, key) if key in use else (key,) if key in checked.value else path


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
