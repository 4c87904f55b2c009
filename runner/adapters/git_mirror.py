"""Mirror a branch of a remote repository, and write the files of one of its commits."""

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
from runner.adapters.git import OFF, WHOLE, Git, GitFailed, Repository, configured, variables_of
from runner.adapters.git_files import Commit, Disk, Entry, Names, objects_of, trail
from runner.errors import LockHeld, PreflightRefused, TargetError, UsageError
from runner.model import frozen
from runner.spec.secrets import find

_FETCH_SECONDS = 600.0  # for a first fetch, which brings the whole history
_MAX_FILES = 200_000

# Variables with which the user's git authenticates and connects.
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

    We write the branch's files into it; git's own files are in `.git`.
    """

    folder: Path
    repository: str
    branch: str
    environ: Mapping[str, str]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Create the folder if necessary, and lock it for this process within the block.

        Raises `UsageError`, and `LockHeld` if another process follows the same branch.
        """
        _refuse_keys(self.repository)
        transport_of(self.repository)
        self._refuse_links()
        make_folder(self._git_folder)
        with open_lock(self._git_folder / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                message = f"another `backfill sync` on this machine follows {self.branch}"
                raise LockHeld(message, hint="`backfill status` shows which") from None
            self._make()
            yield

    def _refuse_links(self) -> None:
        """A link that came with a checkout may lead to another folder, even to a work tree, which
        would be overwritten."""
        for place in (self.folder.parent, self.folder, self._git_folder):
            if place.is_symlink():
                message = f"{place} is a link, and what it leads to would be overwritten"
                raise UsageError(message, hint="remove it: `backfill sync` makes a folder there")

    def _make(self) -> None:
        try:
            self._git("check-ref-format", "--branch", self.branch)
        except GitFailed:
            raise UsageError(f"--branch {self.branch} is not the name of a branch") from None
        # Locks left by a killed process; nobody else can be working there.
        for left in self._git_folder.rglob("*.lock"):
            left.unlink(missing_ok=True)
        if not (self._git_folder / "HEAD").exists():
            self._git("init", "--quiet", "--bare", "--template=")
        (self._git_folder / "config").write_text(_CONFIG, encoding="utf-8")  # whatever it held

    def fetch(self) -> str:
        """Fetch the branch and return its commit. Raises `GitFailed`, and `TargetError` for a
        shallow clone: git takes no commit from it, and reports no failure."""
        self._git(
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--",
            self.repository,
            f"+refs/heads/{self.branch}:{self._ref}",
            seconds=_FETCH_SECONDS,
        )
        if not (self._git_folder / "FETCH_HEAD").stat().st_size:
            raise TargetError(f"{self.repository} is a shallow clone", hint=WHOLE)
        return self._git("rev-parse", "--verify", "FETCH_HEAD^{commit}").strip()

    def leads_to(self, earlier: str, commit: str) -> bool:
        """Whether the earlier commit is in the later one's history; False if it is lost."""
        try:
            self._git("merge-base", "--is-ancestor", earlier, commit)
        except GitFailed:
            return False
        return True

    def refuse_unsigned(self, commit: str, allowed_signers: str | None) -> None:
        """Raise `PreflightRefused` unless git verifies the commit's signature.

        `allowed_signers`: ssh's file of that name; otherwise git's configuration applies.
        """
        values: tuple[str, ...] = ()
        if allowed_signers:
            # Signatures of other kinds would be looked up elsewhere: these programs reject them.
            values = (
                f"gpg.ssh.allowedSignersFile={Path(allowed_signers).resolve()}",
                "gpg.program=false",
                "gpg.x509.program=false",
            )
        try:
            self._git("verify-commit", commit, options=configured(values))
        except GitFailed as error:
            reason = f" ({error.reason})" if error.reason else ""
            message = f"{commit[:12]} has no valid signature{reason}"
            raise PreflightRefused(
                message, hint="sign it with a key that is trusted here"
            ) from None

    def check_out(self, commit: str) -> tuple[set[Names], list[Path]]:
        """Write the commit's files, and remove those of an earlier commit; other files in the
        folder stay, such as what handlers write.

        Return its files, and the places of its links that lead out of the repository, which are not
        written.
        """
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
        return set(found), [self.folder.joinpath(*path) for path in outside]

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
    """Return `https`, `ssh` or `file`. Raises `UsageError` for other addresses."""
    scheme, found, _ = repository.partition("://")
    if found and "::" not in scheme:
        transport = _SCHEMES.get(scheme.lower())
    elif repository.startswith("-") or re.match(r"[A-Za-z0-9][A-Za-z0-9+.-]*::", repository):
        transport = None  # git would start a program of that name
    else:
        transport = "ssh" if ":" in repository.partition("/")[0] else "file"
    if transport is None:
        message = "--repo needs an address of https or ssh, or a folder"
        hint = "write it like https://github.com/acme/plans, git@github.com:acme/plans, or ."
        raise UsageError(message, hint=hint)
    return transport


def _files(commit: Commit) -> Iterator[tuple[Names, Entry]]:
    """Yield all files and links of the commit. Raises `UsageError` if there are too many."""
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
    """Remove a file or link, and folders left empty; do nothing beyond a link."""
    places = [root.joinpath(*path[:end]) for end in range(1, len(path) + 1)]
    if any(place.is_symlink() for place in places[:-1]):
        return
    with suppress(OSError):
        places[-1].unlink(missing_ok=True)
        for folder in reversed(places[:-1]):
            folder.rmdir()


def _clear_way(root: Path, path: Names) -> None:
    """Remove what is in the way of the file and of its folders."""
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
    """Refuse an address with a key, since it is shown and stored. `git@host:path` and its like hold
    no key."""
    url = urlsplit(repository)
    web = url.scheme in ("http", "https")
    if url.password or (web and ("@" in url.netloc or url.query)) or find(repository):
        hint = "leave it out of the address, and keep it in git's credential helper or in ssh"
        raise UsageError("--repo has a user or a key in it", hint=hint)
