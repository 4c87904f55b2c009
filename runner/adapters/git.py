"""git, as it is installed: plan files as they were at a revision."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import UsageError


@contextmanager
def checked_out(revision: str, path: str) -> Iterator[str]:
    """The plan file as it was at the revision, with all files that it may be made of beside it.

    Raises `UsageError` where there is no git, no such revision, or no such file in it.
    """
    file = Path(path).resolve()
    top = Path(_git(file.parent, "rev-parse", "--show-toplevel").strip().decode())
    commit = _commit(top, revision)
    with tempfile.TemporaryDirectory(prefix="backfill-") as folder:
        tree = Path(folder) / "tree"
        _git(top, "clone", "--quiet", "--shared", "--no-checkout", str(top), str(tree))
        _git(tree, "checkout", "--quiet", "--detach", commit)
        there = tree / file.relative_to(top.resolve())
        if not there.is_file():
            raise UsageError(f"{path} is not there in {revision}", hint="was it named otherwise?")
        yield str(there)


def changed_since(revision: str, folder: Path) -> set[Path]:
    """The files that differ from the revision, also those that are not committed yet."""
    top = Path(_git(folder, "rev-parse", "--show-toplevel").strip().decode())
    commit = _commit(top, revision)
    changed = _git(top, "diff", "--name-only", "-z", commit)
    new = _git(top, "ls-files", "--others", "--exclude-standard", "-z")
    names = (changed + new).decode(errors="surrogateescape").split("\0")
    return {(top / name).resolve() for name in names if name}


def _commit(top: Path, revision: str) -> str:
    try:
        found = _git(
            top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
        )
    except UsageError:
        hint = "OLD is a plan file, a saved plan, or git revisions as in main..HEAD"
        message = f"there is no file and no git revision `{revision}`"
        raise UsageError(message, hint=hint) from None
    return found.strip().decode()


def _git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - no shell
    except OSError:
        raise UsageError("git is not installed, and a revision is git's") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"git: {said[0] if said else 'it failed'}")
    return done.stdout
