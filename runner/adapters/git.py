"""git, as it is installed: plan files as they were at a revision, and what has changed since."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.errors import UsageError

SECONDS = 120.0  # of one call: a server that does not answer must not hold a command for ever

_OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


class GitFailed(UsageError):
    """git itself says no."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths below one root: `files` are there now and differ; `was` has, for a renamed one, its
    earlier path."""

    files: frozenset[Path]
    was: Mapping[Path, Path]
    gone: frozenset[Path]


def top_of(path: Path) -> Path:
    """The root of the work tree that the file or folder is in. Raises `UsageError`."""
    folder = path if path.is_dir() else path.parent
    return Path(git(folder, "rev-parse", "--show-toplevel").strip()).resolve()


@contextmanager
def checked_out(revision: str, top: Path) -> Iterator[Path]:
    """The repository's files as they were at the revision, in a folder that goes with the block.

    Raises `UsageError` where there is no git or no such revision.
    """
    commit = commit_of(top, revision)
    with tempfile.TemporaryDirectory(prefix="backfill-") as folder:
        tree = Path(folder).resolve() / "tree"
        git(top, "clone", "--quiet", "--shared", "--no-checkout", "--", str(top), str(tree))
        git(tree, "checkout", "--quiet", "--detach", commit)
        yield tree


def parted(top: Path, revision: str, branch: str = "HEAD") -> str:
    """The commit at which the branch has left the revision: what came there since is not its own.

    The revision itself where nothing is common, as in a shallow clone.
    """
    commit = commit_of(top, revision)
    try:
        return git(top, "merge-base", commit, commit_of(top, branch)).strip()
    except GitFailed:
        return commit


def changes(top: Path, before: str, after: str | None, root: Path) -> Changes:
    """From one commit to another, or to the files as they are, also those not committed yet."""
    between = [before] if after is None else [before, after]
    changed: dict[str, list[str]] = {}
    parts = iter(git(top, "diff", "--name-status", "--find-renames", "-z", *between).split("\0"))
    for status in parts:
        if status:
            count = 2 if status[0] == "R" else 1
            changed.setdefault(status[0], []).extend(next(parts) for _ in range(count))
    if after is None:
        new = git(top, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
        changed["?"] = [name for name in new if name]
    renamed = iter(changed.pop("R", []))
    was = {root / now: root / then for then, now in zip(renamed, renamed, strict=True)}
    gone = frozenset(root / name for name in changed.pop("D", []))
    files = {root / name for names in changed.values() for name in names}
    return Changes(frozenset(files | set(was)), was, gone)


def commit_of(top: Path, revision: str) -> str:
    try:
        return git(
            top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
        ).strip()
    except GitFailed:
        hint = "OLD is a plan file, a saved plan, or git revisions as in main..HEAD"
        message = f"there is no file and no git revision `{revision}`"
        raise UsageError(message, hint=hint) from None


def git(folder: Path, *arguments: str, seconds: float = SECONDS) -> str:
    """What git prints, with names of files that are no UTF-8 as Python has them.

    Raises `GitFailed`. It asks nobody for a password: there may be nobody.
    """
    command = ["git", "-C", str(folder), *arguments]
    # A hook of git's has its own repository in the environment; `folder` is meant here.
    env = {name: value for name, value in os.environ.items() if name not in _OF_HOOKS}
    env |= {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            command, capture_output=True, check=False, env=env, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise GitFailed(f"git {arguments[0]}: no answer within {seconds:g}s") from None
    except OSError:
        raise UsageError("git is not installed, and a revision is git's") from None
    if done.returncode:
        said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise GitFailed(f"git: {said[-1].strip() if said else 'it failed'}")
    return done.stdout.decode(errors="surrogateescape")
