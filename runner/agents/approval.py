"""What an agent may send: anything within this process; elsewhere, what a person has approved."""

from __future__ import annotations

from runner.agents.tool import known_target
from runner.app.approval import approved, how_to_approve
from runner.app.prepare import Prepared
from runner.app.session import Session
from runner.errors import PreflightRefused, UsageError
from runner.execution.context import RunOptions
from runner.model import RunRecord

APPROVED = RunOptions(yes=True)  # a person has approved, or the events stay in this process


def refuse_unapproved(session: Session, prepared: Prepared, *, saved: bool) -> None:
    """Raise `PreflightRefused` for a plan that leaves this process unapproved.

    A saved plan may name any address, and the target gets the keys: unless an agent may name it, or
    an environment does, the approval must.
    """
    plan, target = prepared.plan, prepared.target
    if target.kind == "embedded":
        return
    if not saved:
        raise PreflightRefused(
            f"an agent sends a plan file to the embedded target only, and this would go to "
            f"{target.name}",
            hint="save the plan with `plan_out`; a person reviews and approves it; then run the "
            "saved plan",
        )
    foreign = _is_foreign(session, prepared)
    if not approved(plan.path, plan.digest, target, by_name=foreign):
        hint = _how(plan.path, plan.name, plan.digest, prepared.named)
        if foreign:
            hint += "; it must be in it, as no environment of the project has this address"
        message = f"no person has approved {plan.name}, which would go to {target.name}"
        raise PreflightRefused(message, hint=hint)


def _is_foreign(session: Session, prepared: Prepared) -> bool:
    found = session.environment(prepared.plan.path, prepared.environment)
    if found and found.target == prepared.named:
        return False
    try:
        known_target(prepared.named)
    except UsageError:
        return True
    return False


def approved_run(session: Session, run: str) -> tuple[RunRecord, bool]:
    """Find a run that an agent may work on, and tell whether a person has approved it; otherwise it
    is of the embedded target. For a retry, the plan of its first run must be approved.

    Raises `PreflightRefused`.
    """
    reader = session.reader
    record = first = reader.find(run)
    while first.parent:
        first = reader.find(first.parent)
    target = session.target(record.target, record.path, record.environment)
    if target.kind == "embedded":
        return record, False
    if not approved(first.path, first.digest, target):
        raise PreflightRefused(
            f"no person has approved {record.plan}, which run {record.id} sends to {target.name}",
            hint=_how(first.path, first.plan, first.digest, first.target),
        )
    return record, True


def _how(path: str, name: str, digest: str, target: str) -> str:
    return f"{how_to_approve(path, name, digest)}; `target: {target}` in it allows it there alone"
