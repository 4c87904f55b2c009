"""Saved plans as files: written by `plan --out`, read by commands that take a plan."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from runner.adapters.files import write_file
from runner.app.build import Built
from runner.app.session import Session
from runner.errors import StalePlan, UsageError
from runner.model import ExecutionPlan, Input, Json, Selectors
from runner.planning.saved import SavedPlan, Tampered, read_saved, write_saved
from runner.spec.files import MAX_DATA, FileRefused, read_given, strange_name
from runner.spec.schema import has_form
from runner.spec.units import format_duration
from runner.version import __version__

_FORM = "saved-plan.v1"  # its schema
AGAIN = "save and review it again: `backfill plan PLAN --out FILE`"
_SHORTEST = 1.0  # second that a saved plan must be valid for


def save(
    session: Session,
    built: Built,
    target: str | None,
    variables: dict[str, Json],
    path: str,
    seconds: float,
) -> SavedPlan:
    """Save the plan as it was reviewed; it can be run for `seconds` from now.

    `target`: as the user named it.
    """
    from ulid import ULID

    from runner.planning.items import to_remember

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


def refuse_expired(seconds: float) -> None:
    """Raise `UsageError` if a plan saved now could never be run."""
    if seconds < _SHORTEST:
        message = f"a plan that expires after {format_duration(seconds)} can never be run"
        raise UsageError(message, hint="give reviewers time, as in --expires 24h")


def load_saved(path: str) -> SavedPlan | None:
    """Read a saved plan; None if the file is something else, or missing: the plan's reader reports
    that.

    Raises `StalePlan` if the file was changed by hand.
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
        message = f"{path} has been changed since it was saved"
        raise StalePlan(message, hint=AGAIN) from None
    return saved


def refuse_selectors(selectors: Selectors | None) -> None:
    """Raise `UsageError` for selectors: a saved plan is sent as it was reviewed."""
    if selectors:
        message = f"{selectors.words} does nothing for a saved plan: it is run as it was reviewed"
        raise UsageError(
            message, hint="select when you save the plan: `backfill plan PLAN --out FILE`"
        )


def refuse_options(options: Mapping[str, bool]) -> None:
    """Raise `UsageError` for given options, by name, that a saved plan fixes."""
    given = [name for name, is_given in options.items() if is_given]
    if given:
        message = f"{', '.join(given)} {'do' if given[1:] else 'does'} nothing for a saved plan"
        raise UsageError(message, hint="leave it out: a saved plan is run as it was reviewed")


def of_its_own(
    session: Session, saved: SavedPlan, variables: Mapping[str, Json], *, strict: bool
) -> dict[str, bool]:
    """Tell which given options a saved plan fixes."""
    return {
        "--var": bool(variables) and variables != saved.variables,
        "--collection": bool(session.collections),
        "--strict": strict,
    }


def _names(plan: ExecutionPlan) -> list[str]:
    return [plan.path, *(read.path for read in plan.inputs)]
