"""Whether a saved plan may still be run: once, while nothing has changed since its review."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from runner.adapters.inngest.target import Target, shown
from runner.app.build import build
from runner.app.plan_files import changes_of
from runner.app.policy import judged
from runner.app.saved import (
    AGAIN,
    load_saved,
    of_its_own,
    refuse_options,
    refuse_selectors,
)
from runner.app.session import Session
from runner.errors import BackfillError, StalePlan
from runner.model import BackfillPlan, ExecutionPlan, Input, Json, Selectors, frozen
from runner.planning.saved import SavedPlan
from runner.version import __version__

if TYPE_CHECKING:
    from runner.planning.compare import Difference


@frozen
class Reviewed:
    """A saved plan that may be run, and its target; `files`: see `runner.app.prepare.Prepared`."""

    saved: SavedPlan
    plan: ExecutionPlan
    files: BackfillPlan | None
    target: Target


def refuse_used(session: Session, run_id: str) -> None:
    """Raise `StalePlan` if the state has the run already: a plan that was saved, or that a program
    has made, is sent once."""
    if record := session.store.known(run_id):
        message = f"this plan was run already: run {record.id} is {record.status}"
        hint = f"see `backfill status {record.id}`, or plan again; if it was saved, {AGAIN}"
        raise StalePlan(message, hint=hint)


def reviewed(
    session: Session,
    path: str,
    target: str | None,
    variables: Mapping[str, Json],
    selectors: Selectors | None,
    *,
    strict: bool = False,
) -> Reviewed | None:
    """Return the saved plan of a file; None if the file is something else.

    Raises `StalePlan` with everything that has changed since the review, and `UsageError` for
    options that a saved plan fixes: variables, collections, selectors, accepted warnings.
    """
    saved = load_saved(path)
    if saved is None:
        return None
    refuse_options(of_its_own(session, saved, variables, strict=strict))
    refuse_selectors(selectors)
    _refuse_stale(session, saved, path, target)
    judged_now = judged(session, saved.plan, saved.target, saved.environment, saved.variables)
    plan = replace(
        judged_now,
        inputs=tuple(Input(str(Path(read).resolve()), sha) for read, sha in saved.plan.inputs),
    )
    files = _files(session, saved, plan.path) if plan.deferred else None
    there = session.target(saved.target, saved.plan.path, saved.environment)
    return Reviewed(saved, plan, files, there)


def _refuse_stale(session: Session, saved: SavedPlan, path: str, target: str | None) -> None:
    faults = []
    if saved.expires_at < time.time():
        at = datetime.fromtimestamp(saved.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        faults.append(f"it has expired ({at})")
    if saved.tool != __version__:
        faults.append(f"it was made by backfill {saved.tool}, but this is {__version__}")
    if target is not None and target != saved.target:
        faults.append(f"it was made for --target {saved.target}, not {target}")
    if (chosen := session.environment_name) and chosen != saved.environment:
        faults.append(f"it was made for {_named(saved.environment)}, not {_named(chosen)}")
    resolved = session.target(saved.target, saved.plan.path, saved.environment)
    if resolved.address != saved.address:
        was, now = shown(saved.address), shown(resolved.address)
        faults.append(f"`{saved.target}` was {was} and is now {now}")
    changed = changes_of(saved.plan.inputs)
    faults += changed
    difference = None
    if changed:
        try:
            difference = _difference(session, saved)
        except BackfillError as error:
            faults.append(f"it can no longer be planned ({error})")
    if faults:
        message = f"{path} is stale: {'; '.join(faults)}"
        raise StalePlan(message, hint=AGAIN, difference=difference)


def _named(environment: str) -> str:
    return f"environment {environment}" if environment else "no environment"


def _files(session: Session, saved: SavedPlan, path: str) -> BackfillPlan:
    """Load the plan file, with the items that were saved."""
    from runner.app.plan_files import load
    from runner.app.resolve import as_known

    if saved.items is None:
        return load(session, path, saved.variables, environment=saved.environment)
    database = session.databases(path, saved.environment)
    return as_known(session, path, saved.variables, saved.environment, saved.items, database)


def _difference(session: Session, saved: SavedPlan) -> Difference:
    from runner.planning.compare import compare

    partial = saved.plan.partial
    now = build(
        session,
        saved.plan.path,
        dict(saved.variables),
        environment=saved.environment,
        selectors=partial.selectors if partial else None,
    ).execution_plan
    return compare(saved.plan, now)
