"""What a person allows to be sent: files in the folder `approvals` beside a plan, by its digest."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

from runner.adapters.inngest.target import Target
from runner.errors import PreflightRefused
from runner.model import ExecutionPlan
from runner.spec.files import FileRefused, read_named

FOLDER = "approvals"
_LARGEST = 64 * 1024  # bytes of a file that is looked into


def refuse_unapproved(plan: ExecutionPlan, target: Target) -> None:
    """Raises `PreflightRefused` where the plan demands an approval and no file gives it.

    The digest covers everything that decides what is sent: whoever approves it approves that, and
    nothing that the plan may become later. Any file of the folder `approvals` beside the plan does
    that has the digest in it.
    """
    if not plan.needs_approval or approved(plan.path, plan.digest, target):
        return
    message = (
        f"{plan.name} demands an approval of what it sends, and no file in "
        f"{os.path.relpath(_approvals(plan.path))} names its digest for {target.name}"
    )
    raise PreflightRefused(message, hint=how_to_approve(plan.path, plan.name, plan.digest))


def approved(path: str, digest: str, target: Target) -> bool:
    """Is there a file in the plan's folder of approvals that names the digest, and this target or
    none?"""
    folder = _approvals(path)
    return folder.is_dir() and any(_names(file, path, digest, target) for file in folder.iterdir())


def how_to_approve(path: str, name: str, digest: str) -> str:
    file = os.path.relpath(_approvals(path) / f"{name}.yaml")
    return f"whoever has reviewed it adds {file} with: digest: {digest}"


def _approvals(path: str) -> Path:
    return Path(path).parent / FOLDER


def _names(file: Path, path: str, digest: str, target: Target) -> bool:
    try:
        raw = read_named(file.absolute(), path, limit=_LARGEST)[1]
    except FileRefused:
        return False
    words = raw.decode("utf-8", "replace").split()
    targets = {named for key, named in pairwise(words) if key == "target:"}
    return digest in words and (not targets or bool(targets & target.called))
