"""Approvals of what a plan sends: files in `approvals` beside it that name its digest."""

from __future__ import annotations

import os
import re
from pathlib import Path

from runner.adapters.inngest.target import Target, one_spelling
from runner.errors import PreflightRefused
from runner.model import ExecutionPlan
from runner.spec.files import FileRefused, read_named

FOLDER = "approvals"
_LARGEST = 64 * 1024  # bytes; larger files are not read
# An approval that names a target or an environment, in whatever notation, counts for no other.
_KEPT_TO = re.compile(r"\b(?:target|environment)s?[ \t]*[:=][ \t]*([^\r\n]*)", re.IGNORECASE)
_DIGEST = re.compile(r"\bsha256:[0-9a-f]{64}\b")
_AROUND = "\"'`[]{}()"


def refuse_unapproved(plan: ExecutionPlan, target: Target) -> None:
    """Raise `PreflightRefused` if the plan needs an approval and no file gives it.

    The digest covers everything that decides what is sent, so an approval never covers a later
    version of the plan. Any file in the folder `approvals` beside the plan that contains the digest
    counts.
    """
    if not plan.needs_approval or approved(plan.path, plan.digest, target):
        return
    message = (
        f"{plan.name} needs an approval, but no file in "
        f"{os.path.relpath(_approvals(plan.path))} names its digest for {target.name}"
    )
    raise PreflightRefused(message, hint=how_to_approve(plan.path, plan.name, plan.digest))


def approved(path: str, digest: str, target: Target, *, by_name: bool = False) -> bool:
    """Tell whether a file in the plan's `approvals` folder names the digest, and names this target
    or, unless it must be there `by_name`, none."""
    folder = _approvals(path)
    return folder.is_dir() and any(
        _names(file, path, digest, target, by_name=by_name) for file in folder.iterdir()
    )


def how_to_approve(path: str, name: str, digest: str) -> str:
    """Return what the reviewer does, and why the approval that is there does not count."""
    folder = _approvals(path)
    file = folder / f"{name}.yaml"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    if here := next((one for one in files if _has(digest, _read(one, path))), None):
        shown = os.path.relpath(here)
        return (
            f"{shown} names {digest}, but not this target; after a review, the reviewer adds it "
            "there"
        )
    if file in files:
        why = "does not name it"
        if _DIGEST.search(_read(file, path)):
            why = "names another digest, as what would be sent has changed since"
        shown = os.path.relpath(file)
        return f"{shown} {why}; after a review, the reviewer writes there: digest: {digest}"
    return f"after a review, the reviewer adds {os.path.relpath(file)} with: digest: {digest}"


def _approvals(path: str) -> Path:
    return Path(path).parent / FOLDER


def _read(file: Path, path: str) -> str:
    """Return the text of a file beside the plan; empty if it cannot be read."""
    try:
        raw = read_named(file.absolute(), path, limit=_LARGEST)[1]
    except FileRefused:
        return ""
    return raw.decode("utf-8-sig", "replace")


def _has(digest: str, text: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(digest)}(?!\w)", text))


def _names(file: Path, path: str, digest: str, target: Target, *, by_name: bool) -> bool:
    text = _read(file, path)
    if not _has(digest, text):
        return False
    written = _KEPT_TO.findall(text)
    named = {word for line in written for one in line.split(",") for word in one.split()[:1]}
    if not written:
        return not by_name
    return any(one_spelling(word.strip(_AROUND)) in target.called for word in named)
