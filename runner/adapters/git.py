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
    """Paths below one root: `files` are there now and differ, those of `gone` are there no more;
    `was` has, for a renamed one, its earlier path, which is gone as well."""

    files: frozenset[Path]
    was: Mapping[Path, Path]
    gone: frozenset[Path]


def place_of(path: str | Path) -> Path:
    """Where a file stands: its folder is looked up, and the file itself not followed if a link."""
    named = Path.cwd() / path
    return named.resolve() if named.name == ".." else named.parent.resolve() / named.name


def top_of(path: str | Path) -> Path:
    """The root of the work tree that the file or folder is in. Raises `UsageError`."""
    place = place_of(path)
    folder = place if place.is_dir() and not place.is_symlink() else place.parent
    try:
        return Path(git(folder, "rev-parse", "--show-toplevel").strip()).resolve()
    except GitFailed as error:
        raise UsageError(f"{path}: {error}", hint="a revision is one of its repository's") from None


def below(top: Path, path: str | Path) -> Path:
    """The path from the root of the work tree on. Raises `UsageError` for one outside of it."""
    place = place_of(path)
    if not place.is_relative_to(top):
        raise UsageError(f"{path} is not in the repository {top}")
    return place.relative_to(top)


@contextmanager
def checked_out(revision: str, top: Path) -> Iterator[Path]:
    """The repository's files as they were at the revision, in a folder that goes with the block.

    By an index of its own, so that nothing of the repository changes, and git brings what a
    partial clone lacks. Raises `UsageError` where there is no git or no such revision.
    """
    commit = commit_of(top, revision)
    with tempfile.TemporaryDirectory(prefix="backfill-") as folder:
        tree, index = Path(folder).resolve() / "tree", Path(folder) / "index"
        tree.mkdir()
        own = {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(tree)}
        git(top, "read-tree", commit, variables=own)
        git(top, "checkout-index", "--all", "--quiet", variables=own)
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
    gone = frozenset(root / name for name in changed.pop("D", [])) | {*was.values()}
    files = {root / name for names in changed.values() for name in names} | set(was)
    files |= {one.resolve() for one in files if one.is_symlink()}  # it leads to another one now
    return Changes(frozenset(files), was, gone)


def commit_of(top: Path, revision: str) -> str:
    try:
        return git(
            top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
        ).strip()
    except GitFailed:
        hint = "OLD is a plan file, a saved plan, or git revisions as in main..HEAD"
        message = f"there is no file and no git revision `{revision}`"
        raise UsageError(message, hint=hint) from None


def git(
    folder: Path,
    *arguments: str,
    seconds: float = SECONDS,
    variables: Mapping[str, str] | None = None,
) -> str:
    """What git prints, with names of files that are no UTF-8 as Python has them.

    Raises `GitFailed`. It asks nobody for a password: there may be nobody.
    """
    command = ["git", "-C", str(folder), *arguments]
    # A hook of git's has its own repository in the environment; `folder` is meant here.
    env = {name: value for name, value in os.environ.items() if name not in _OF_HOOKS}
    env |= {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
        **(variables or {}),
    }
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            command, capture_output=True, check=False, env=env, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise GitFailed(f"git {arguments[0]}: no answer within {seconds:g}s") from None
    except OSError:
        raise UsageError("git is not installed, and a revision is git's") from None
    if done.returncode:
        raise GitFailed(f"git: {_reason(done.stderr.decode(errors='replace'))}")
    return done.stdout.decode(errors="surrogateescape")


def _reason(said: str) -> str:
    """The first line that says so; else the last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = (line for line in lines if line.startswith(("fatal: ", "error: ")))
    return next(fatal, lines[-1] if lines else "it failed")
