"""A branch of a repository elsewhere, and the files of one of its commits."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from runner.adapters.files import make_folder, open_lock
from runner.adapters.git import OFF, Git, GitFailed, Repository, configured, variables_of
from runner.adapters.git_files import Commit, Disk, Entry, Names, objects_of, trail
from runner.errors import LockHeld, PreflightRefused, UsageError
from runner.model import frozen
from runner.spec.secrets import find

_FETCH_SECONDS = 600.0  # of a first fetch, which brings the whole history
_MAX_FILES = 200_000

# How the user's own git proves who it is, and gets there.
_AUTHENTICATION = (
    "SSH_AUTH_SOCK",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_ASKPASS",
    "GNUPGHOME",
    "USER",
    "LOGNAME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
)
_HTTPS = (
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    *(name for word in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for name in (word, word.lower())),
)
_SCHEMES = {"https": "https", "ssh": "ssh", "git+ssh": "ssh", "ssh+git": "ssh", "file": "file"}
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"


@frozen
class Mirror:
    """A folder that follows one branch; nothing else writes there.

    The branch's files are in it, as we write them, and what git keeps is in `.git`.
    """

    folder: Path
    repository: str
    branch: str
    environ: Mapping[str, str]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder where it is not there yet; it is this process's alone within the block.

        Raises `UsageError`, and `LockHeld` where another process follows the same.
        """
        _refuse_keys(self.repository)
        transport_of(self.repository)
        make_folder(self._git_folder)
        with open_lock(self._git_folder / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                message = f"another `backfill sync` follows {self.branch} here"
                raise LockHeld(message, hint="`backfill status` says which") from None
            self._make()
            yield

    def _make(self) -> None:
        try:
            self._git("check-ref-format", "--branch", self.branch)
        except GitFailed:
            raise UsageError(f"--branch {self.branch} is no name of a branch") from None
        # What a process that was killed has left: nobody else can be at work in there.
        for left in self._git_folder.rglob("*.lock"):
            left.unlink(missing_ok=True)
        if not (self._git_folder / "HEAD").exists():
            self._git("init", "--quiet", "--bare", "--template=")
        (self._git_folder / "config").write_text(_CONFIG, encoding="utf-8")  # whatever it held

    def fetch(self) -> str:
        """The commit that the branch is at now. Raises `GitFailed`."""
        self._git(
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--",
            self.repository,
            f"+refs/heads/{self.branch}:{self._ref}",
            seconds=_FETCH_SECONDS,
        )
        return self._git("rev-parse", "--verify", f"{self._ref}^{{commit}}").strip()

    def leads_to(self, earlier: str, commit: str) -> bool:
        """Is the earlier commit part of the later one's history? No also for one that is lost."""
        try:
            self._git("merge-base", "--is-ancestor", earlier, commit)
        except GitFailed:
            return False
        return True

    def refuse_unsigned(self, commit: str, allowed_signers: str | None) -> None:
        """Raises `PreflightRefused` where git knows no good signature of the commit.

        `allowed_signers`: ssh's file of that name; else what git is configured with.
        """
        values: tuple[str, ...] = ()
        if allowed_signers:
            # A signature of another kind would be looked up elsewhere: those programs say no.
            values = (
                f"gpg.ssh.allowedSignersFile={Path(allowed_signers).resolve()}",
                "gpg.program=false",
                "gpg.x509.program=false",
            )
        try:
            self._git("verify-commit", commit, options=configured(values))
        except GitFailed as error:
            reason = f" ({error.reason})" if error.reason else ""
            message = f"{commit[:12]} has no signature that counts{reason}"
            raise PreflightRefused(message, hint="sign it with a key that is known here") from None

    def check_out(self, commit: str) -> list[Path]:
        """Write the files as they are in the commit; those of an earlier one go, and whatever else
        lies in the folder stays. Links that lead out of the repository are left out: where they
        would be."""
        repository = Repository(
            self.folder, self._git_folder, self._called(), "sha1", shallow=False
        )
        with objects_of(repository) as objects:
            files, disk = Commit(objects, commit, self.folder), Disk(repository)
            found = dict(_files(files))
            links = (path for path, entry in found.items() if entry.kind == "link")
            outside = [path for path in links if not trail(files, path)]
            for path in outside:
                del found[path]
            written = self._git_folder / "written"
            before = _listed(written)
            _list(written, before | found.keys())
            for path in before - found.keys():
                _remove(self.folder, path)
            for path, entry in found.items():
                _clear_way(self.folder, path)
                place = self.folder.joinpath(*path)
                if disk.entry(path) != entry:
                    place.unlink(missing_ok=True)
                    files.write(path, entry)
                elif entry.kind == "file":
                    place.chmod(0o755 if entry.runs else 0o644)
            _list(written, found)
        return [self.folder.joinpath(*path) for path in outside]

    def _git(
        self, *arguments: str, seconds: float | None = None, options: tuple[str, ...] = ()
    ) -> str:
        called = self._called(options)
        return called(*arguments, seconds=seconds) if seconds else called(*arguments)

    def _called(self, options: tuple[str, ...] = ()) -> Git:
        transport = transport_of(self.repository)
        more = (*_AUTHENTICATION, *(_HTTPS if transport == "https" else ()))
        protocols = "https:ssh:file" if transport == "file" else "https:ssh"
        variables = variables_of(self.environ, more) | {"GIT_ALLOW_PROTOCOL": protocols}
        pinned = (f"--git-dir={self._git_folder}", *configured(OFF), *options)
        return Git(pinned, variables)

    @property
    def _git_folder(self) -> Path:
        return self.folder / ".git"

    @property
    def _ref(self) -> str:
        return f"refs/remotes/origin/{self.branch}"


def transport_of(repository: str) -> str:
    """`https`, `ssh` or `file`. Raises `UsageError` for an address of another kind."""
    scheme, found, _ = repository.partition("://")
    if found and "::" not in scheme:
        transport = _SCHEMES.get(scheme.lower())
    elif repository.startswith("-") or re.match(r"[A-Za-z0-9][A-Za-z0-9+.-]*::", repository):
        transport = None  # git would start a program of that name
    else:
        transport = "ssh" if ":" in repository.partition("/")[0] else "file"
    if transport is None:
        message = "--repo wants an address of https or ssh, or a folder"
        hint = "as in https://github.com/acme/plans, git@github.com:acme/plans, or ."
        raise UsageError(message, hint=hint)
    return transport


def _files(commit: Commit) -> Iterator[tuple[Names, Entry]]:
    """Files and links of the whole commit. Raises `UsageError` where they are too many."""
    folders: list[Names] = [()]
    count = 0
    for folder in folders:
        for name in commit.names(folder):
            path = (*folder, name)
            entry = commit.entry(path)
            count += 1
            if count > _MAX_FILES:
                message = f"{commit.commit[:12]} has more than {_MAX_FILES:,} files"
                raise UsageError(message, hint="keep plans in a repository of their own")
            if entry and entry.kind == "folder":
                folders.append(path)
            elif entry and entry.kind in ("file", "link"):
                yield path, entry


def _listed(file: Path) -> set[Names]:
    names = file.read_bytes().split(b"\0")[:-1] if file.exists() else []
    return {tuple(os.fsdecode(name).split("/")) for name in names}


def _list(file: Path, paths: Collection[Names]) -> None:
    file.write_bytes(b"".join(os.fsencode("/".join(path)) + b"\0" for path in paths))


def _remove(root: Path, path: Names) -> None:
    """A file or link, and folders that are empty without it; nothing where a link leads."""
    places = [root.joinpath(*path[:end]) for end in range(1, len(path) + 1)]
    if any(place.is_symlink() for place in places[:-1]):
        return
    with suppress(OSError):
        places[-1].unlink(missing_ok=True)
        for folder in reversed(places[:-1]):
            folder.rmdir()


def _clear_way(root: Path, path: Names) -> None:
    """What stands where the file, or a folder on the way to it, is to be."""
    for end in range(1, len(path) + 1):
        place = root.joinpath(*path[:end])
        try:
            folder = stat.S_ISDIR(place.lstat().st_mode)
        except FileNotFoundError:
            return
        if end == len(path) and folder:
            shutil.rmtree(place)
        elif end == len(path) or not folder:
            place.unlink()


def _refuse_keys(repository: str) -> None:
    """The address is shown, and kept in the state. `git@host:path` and its like hold no key."""
    url = urlsplit(repository)
    web = url.scheme in ("http", "https")
    if url.password or (web and ("@" in url.netloc or url.query)) or find(repository):
        hint = "leave it out of the address, and let git's credential helper or ssh have it"
        raise UsageError("--repo holds a user or a key", hint=hint)
