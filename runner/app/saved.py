"""Saved plans: written by `plan --out`, sent by `run`, once, as long as nothing has changed."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runner.adapters.files import write_file
from runner.adapters.inngest.target import Target, shown
from runner.app.inputs import changed_inputs
from runner.app.prepare import Built, build
from runner.app.session import Session
from runner.errors import BackfillError, StalePlan, UsageError
from runner.model import BackfillPlan, ExecutionPlan, Input, Json, Selectors, frozen
from runner.planning.saved import SavedPlan, Tampered, read_saved, write_saved
from runner.spec.files import MAX_DATA, FileRefused, read_given, strange_name
from runner.spec.schema import has_form
from runner.version import __version__

if TYPE_CHECKING:
    from runner.planning.compare import Difference

_FORM = "saved-plan.v1"  # its schema
_AGAIN = "review it anew: `backfill plan PLAN --out FILE`"


def save(
    session: Session,
    built: Built,
    target: str | None,
    variables: dict[str, Json],
    path: str,
    seconds: float,
) -> SavedPlan:
    """Write the plan down as it was reviewed; it can be run for `seconds` from now.

    `target`: as it was named.
    """
    from ulid import ULID

    from runner.planning.facts import to_remember

    plan, environment = built.execution_plan, session.environment(built.plan.path)
    now = time.time()
    saved = SavedPlan(
        tool=__version__,
        run_id=str(ULID()),
        created_at=now,
        expires_at=now + seconds,
        target=session.named_target(target, built.plan.path),
        environment=environment.name if environment else "",
        address=session.target(target, built.plan.path).address,
        variables=variables,
        items=to_remember(built.plan) if plan.deferred else None,
        plan=replace(
            plan,
            path=os.path.relpath(plan.path),
            inputs=tuple(Input(os.path.relpath(read), sha) for read, sha in plan.inputs),
        ),
    )
    write_file(path, write_saved(saved))
    return saved


def load_saved(path: str) -> SavedPlan | None:
    """None where the file is something else, or is not there: a plan's reader says what is wrong.

    Raises `StalePlan` for one that was changed by hand.
    """
    try:
        raw = read_given(path, limit=MAX_DATA)
    except FileRefused:
        return None
    if not raw.startswith(b"{"):
        return None
    try:
        saved = read_saved(raw, partial(has_form, name=_FORM))
        if saved and any(map(strange_name, _names(saved.plan))):
            raise Tampered
    except Tampered:
        message = f"{path} is no longer the plan that was saved: it was changed"
        raise StalePlan(message, hint=_AGAIN) from None
    return saved


def _named(environment: str) -> str:
    return f"environment {environment}" if environment else "no environment"


def _names(plan: ExecutionPlan) -> list[str]:
    return [plan.path, *(read.path for read in plan.inputs)]


@frozen
class Reviewed:
    """A saved plan that may be run, and where to; `files`: see `runner.app.run.Prepared`."""

    saved: SavedPlan
    plan: ExecutionPlan
    files: BackfillPlan | None
    target: Target


def refuse_selectors(selectors: Selectors | None) -> None:
    """A saved plan is what was reviewed, no less."""
    if selectors:
        message = f"{selectors.words} does nothing for a saved plan: it is what was reviewed"
        raise UsageError(message, hint="select when it is saved: `backfill plan PLAN --out FILE`")


def refuse_used(session: Session, run_id: str) -> None:
    """Raises `StalePlan` where the state knows the run: a plan is sent once."""
    if record := session.store.known(run_id):
        message = f"this plan was run already: run {record.id} is {record.status}"
        hint = f"see `backfill status {record.id}`, or {_AGAIN}"
        raise StalePlan(message, hint=hint)


def reviewed(session: Session, saved: SavedPlan, path: str, target: str | None) -> Reviewed:
    """Refuses, all at once, what is no longer as it was reviewed. Raises `StalePlan`."""
    from runner.app.policy import judged

    faults = []
    if saved.expires_at < time.time():
        at = datetime.fromtimestamp(saved.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        faults.append(f"it has expired ({at})")
    if saved.tool != __version__:
        faults.append(f"backfill {saved.tool} has made it, and this is {__version__}")
    if target is not None and target != saved.target:
        faults.append(f"it was made for --target {saved.target}, not {target}")
    if (chosen := session.environment_name) and chosen != saved.environment:
        faults.append(f"it was made for {_named(saved.environment)}, not {_named(chosen)}")
    resolved = session.target(saved.target, saved.plan.path, saved.environment)
    if resolved.address != saved.address:
        was, now = shown(saved.address), shown(resolved.address)
        faults.append(f"`{saved.target}` was {was}, and is now {now}")
    changed = changed_inputs(saved.plan.inputs)
    faults += [f"{one} has changed" if Path(one).exists() else f"{one} is gone" for one in changed]
    difference = None
    if changed:
        try:
            difference = _difference(session, saved)
        except BackfillError as error:
            faults.append(f"it can no longer be planned ({error})")
    if faults:
        message = f"{path} is stale: {'; '.join(faults)}"
        raise StalePlan(message, hint=_AGAIN, difference=difference)
    judged_now = judged(session, saved.plan, saved.target, saved.environment, saved.variables)
    plan = replace(
        judged_now,
        inputs=tuple(Input(str(Path(read).resolve()), sha) for read, sha in saved.plan.inputs),
    )
    files = _files(session, saved, plan.path) if plan.deferred else None
    return Reviewed(saved, plan, files, resolved)


def _files(session: Session, saved: SavedPlan, path: str) -> BackfillPlan:
    """The plan file as it was read, with what the database said then."""
    from runner.app.plan_files import load
    from runner.planning.facts import gather, remembered

    loaded = load(session, path, saved.variables, environment=saved.environment)
    if saved.items is None:
        return loaded
    database = session.databases(path, saved.environment)
    return gather(remembered(loaded, saved.items), database, datetime.now(UTC))


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
