"""A branch of a repository elsewhere, and the files of one of its commits."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from runner.adapters.git import GitFailed, git
from runner.errors import LockHeld, PreflightRefused, UsageError
from runner.spec.secrets import find

_FETCH_SECONDS = 600.0  # of a first fetch, which brings the whole history


@dataclass(frozen=True, slots=True)
class Mirror:
    """A folder of git's that follows one branch; nothing else writes there."""

    folder: Path
    repository: str
    branch: str

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder where it is not there yet; it is this process's alone within the block.

        Raises `UsageError`, and `LockHeld` where another process follows the same.
        """
        _refuse_keys(self.repository)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                message = f"another `backfill sync` follows {self.branch} here"
                raise LockHeld(message, hint="`backfill status` says which") from None
            self._make()
            yield

    def _make(self) -> None:
        try:
            git(self.folder, "check-ref-format", "--branch", self.branch)
        except GitFailed:
            raise UsageError(f"--branch {self.branch} is no name of a branch") from None
        # What a process that was killed has left: nobody else can be at work in there.
        for left in (self.folder / ".git").rglob("*.lock"):
            left.unlink(missing_ok=True)
        if not (self.folder / ".git").exists():
            git(self.folder, "init", "--quiet")
        git(self.folder, "config", "remote.origin.url", self.repository)

    def fetch(self) -> str:
        """The commit that the branch is at now. Raises `GitFailed`."""
        refs = f"+refs/heads/{self.branch}:{self._ref}"
        git(self.folder, "fetch", "--quiet", "--no-tags", "origin", refs, seconds=_FETCH_SECONDS)
        return git(self.folder, "rev-parse", "--verify", f"{self._ref}^{{commit}}").strip()

    def leads_to(self, earlier: str, commit: str) -> bool:
        """Is the earlier commit part of the later one's history? No also for one that is lost."""
        try:
            git(self.folder, "merge-base", "--is-ancestor", earlier, commit)
        except GitFailed:
            return False
        return True

    def refuse_unsigned(self, commit: str, allowed_signers: str | None) -> None:
        """Raises `PreflightRefused` where git knows no good signature of the commit.

        `allowed_signers`: ssh's file of that name; else what git is configured with.
        """
        config = []
        if allowed_signers:
            # A signature of another kind would be looked up elsewhere: those programs say no.
            values = (
                f"gpg.ssh.allowedSignersFile={Path(allowed_signers).resolve()}",
                "gpg.program=false",
                "gpg.x509.program=false",
            )
            config = [word for value in values for word in ("-c", value)]
        try:
            git(self.folder, *config, "verify-commit", commit)
        except GitFailed as error:
            said = str(error).removeprefix("git: ")
            message = f"{commit[:12]} has no signature that counts ({said})"
            raise PreflightRefused(message, hint="sign it with a key that is known here") from None

    def check_out(self, commit: str) -> Path:
        """The files as they are in the commit; what else lies in the folder stays."""
        git(self.folder, "checkout", "--quiet", "--force", "--detach", commit)
        return self.folder

    @property
    def _ref(self) -> str:
        return f"refs/remotes/origin/{self.branch}"


def _refuse_keys(repository: str) -> None:
    """The address is shown, and kept in the state. `git@host:path` and its like hold no key."""
    url = urlsplit(repository)
    web = url.scheme in ("http", "https")
    if url.password or (web and ("@" in url.netloc or url.query)) or find(repository):
        hint = "leave it out of the address, and let git's credential helper or ssh have it"
        raise UsageError("--repo holds a user or a key", hint=hint)
