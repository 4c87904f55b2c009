"""Approvals: files that name the very digest of what may be sent."""

from __future__ import annotations

import os
from pathlib import Path

from runner.errors import PreflightRefused
from runner.model import ExecutionPlan

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
    if folder.is_dir() and any(_names(file, plan.digest) for file in folder.iterdir()):
        return
    shown = os.path.relpath(folder)
    message = (
        f"{plan.name} demands an approval of what it sends, and no file in {shown} names its digest"
    )
    hint = f"whoever has reviewed it adds {shown}/{plan.name}.yaml with: digest: {plan.digest}"
    raise PreflightRefused(message, hint=hint)


def _names(file: Path, digest: str) -> bool:
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST:
            return False
        return digest in file.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
