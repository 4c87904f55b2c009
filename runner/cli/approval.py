"""What must be given before anything is sent: an approval, the keys, a yes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from runner.adapters.inngest.target import Target, shown
from runner.errors import PreflightRefused, StalePlan
from runner.model import ExecutionPlan, RunRecord
from runner.spec.files import Refused, read_named

FOLDER = "approvals"
_LARGEST = 64 * 1024  # bytes of a file that is looked into


def refuse_unapproved(plan: ExecutionPlan) -> None:
    """Raises `PreflightRefused` where the plan demands an approval and no file gives it.

    The digest covers everything that decides what is sent: whoever approves it approves that, and
    nothing that the plan may become later. Any file of the folder `approvals` beside the plan does
    that has the digest in it.
    """
    if not plan.needs_approval:
        return
    folder = Path(plan.path).parent / FOLDER
    if folder.is_dir() and any(_names(file, plan) for file in folder.iterdir()):
        return
    shown = os.path.relpath(folder)
    message = (
        f"{plan.name} demands an approval of what it sends, and no file in {shown} names its digest"
    )
    hint = f"whoever has reviewed it adds {shown}/{plan.name}.yaml with: digest: {plan.digest}"
    raise PreflightRefused(message, hint=hint)


def _names(file: Path, plan: ExecutionPlan) -> bool:
    try:
        raw = read_named(file.absolute(), plan.path, limit=_LARGEST)[1]
    except Refused:
        return False
    return plan.digest in raw.decode("utf-8", "replace").split()


def check_keys(plan: ExecutionPlan, target: Target, *, follow: bool) -> bool:
    """Whether the run can follow. Refuses, before anything is sent, what is bound to fail."""
    if not target.event_key:
        hint = "set INNGEST_EVENT_KEY, or INNGEST_PRODUCTION_EVENT_KEY"
        raise PreflightRefused(f"{target.name} needs an event key, and none is set", hint=hint)
    if plan.scheduled:
        follow = False  # its jobs start when the command has long ended
    drained = next((stage for stage in plan.stages if stage.until), None)
    if not follow and drained:
        message = (
            f"`{drained.operation}` is sent in rounds until its backlog is empty, and without "
            "following nobody knows when a round is done"
        )
        raise PreflightRefused(message, hint="leave --no-wait out")
    if not follow and target.kind == "embedded":
        message = (
            "the embedded target ends with this process, and jobs that are not followed with it"
        )
        raise PreflightRefused(message, hint="follow them, or choose a server with --target")
    if not follow or target.kind != "cloud" or target.signing_keys:
        return follow
    barrier = next((stage for stage in plan.stages if stage.wait == "completed"), None)
    if barrier is None:
        return False
    message = (
        f"`{barrier.operation}` waits for its jobs to complete, and following them on "
        f"{target.name} needs a signing key"
    )
    hint = "set INNGEST_SIGNING_KEY, or send without following: --no-wait"
    raise PreflightRefused(message, hint=hint)


def confirm(
    plan: ExecutionPlan, target: Target, *, yes: bool, warn: Callable[[], None] = lambda: None
) -> None:
    """Ask before events leave this machine; without a terminal, --yes must have been said.

    `warn` says what should be known before the answer.
    """
    ask = not (yes or target.local)
    events = f"{plan.events:,} event{'' if plan.events == 1 else 's'}"
    if ask and not (sys.stdin.isatty() and sys.stderr.isatty()):
        message = f"{events} would go to {target.name}, and there is no terminal to ask"
        raise PreflightRefused(message, hint="say --yes")
    warn()
    if ask and not click.confirm(f"Send {events} to {target.name}?", err=True):
        raise PreflightRefused("not confirmed; nothing was sent")


def refuse_another_address(record: RunRecord, target: Target) -> None:
    """`dev` and `cloud` mean what the environment says: the rest must not go elsewhere."""
    if target.address != record.address:
        raise StalePlan(
            f"run {record.id} was started on {shown(record.address)}, and `{record.target}` is now "
            f"{shown(target.address)}",
            hint="set INNGEST_DEV, INNGEST_BASE_URL and INNGEST_ENV as they were",
        )
