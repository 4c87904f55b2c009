"""Files of a commit and of the work tree, read by us, so that no filter or hook applies.

Both implement `Side`, so one comparison serves two commits, or a commit and the work tree. Paths
are tuples of names, relative to the repository's root.
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import IO, Literal, Protocol

from runner.adapters.git import SECONDS, GitFailed, Repository, failed
from runner.errors import UsageError
from runner.model import frozen

Names = tuple[str, ...]
Kind = Literal["file", "folder", "link", "module", "other"]

_MAX_FOLDER = 64 * 2**20  # bytes of the listing of one folder
_MAX_FILE = 2**30  # bytes
_MAX_LINKS = 40  # in a chain of links
_MAX_FOLDERS = 20_000  # searched for renamed files
_CHUNK = 2**16
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\n"
)
_MAX_POINTER = 1024  # bytes, as in Git LFS


@frozen
class Entry:
    kind: Kind
    oid: str = ""  # git's digest of a file or a link
    runs: bool = field(default=False, compare=False)  # executable


class Side(Protocol):
    """The repository's files at one time; `root` is the folder where they can be read."""

    @property
    def root(self) -> Path: ...

    def entry(self, path: Names) -> Entry | None:
        """Return what is at the path; a link is not followed."""

    def target(self, path: Names) -> str:
        """Return where a link leads."""

    def names(self, path: Names) -> Sequence[str]:
        """Return the sorted names in a folder; empty for anything else."""

    def read(self, path: Names, limit: int) -> bytes | None:
        """Read a regular file of at most `limit` bytes."""

    def pointer(self, path: Names) -> str | None:
        """Return the SHA-256 of the Git LFS file, if the path is a pointer to one."""

    def bring(self, path: Names) -> None:
        """Make the file, and links on the way to it, readable below `root`."""


Trail = tuple[tuple[Names, Entry | None], ...]


def trail(side: Side, path: Names) -> Trail | None:
    """Return every link on the way, and what is at its end (None: nothing).

    None if it leads out of the repository, or in circles.
    """
    steps: list[tuple[Names, Entry | None]] = []
    done: Names = ()
    left = list(path)
    while left:
        name = left.pop(0)
        if name == "..":
            if not done:
                return None
            done = done[:-1]
            continue
        here = (*done, name)
        entry = side.entry(here)
        if entry is None:
            return (*steps, (here, None))
        if entry.kind == "link":
            to = side.target(here)
            steps.append((here, entry))
            if to.startswith("/") or len(steps) > _MAX_LINKS:
                return None
            left[:0] = names_of(to)
            continue
        done = here
    end = side.entry(done)
    return (*steps, (done, Entry("folder") if end and end.kind == "folder" else end))


def names_of(path: str) -> Names:
    return tuple(name for name in path.split("/") if name not in ("", "."))


def differs(old: Side, new: Side, path: Names) -> bool:
    """Whether the path is another file now, or leads to another; also true if it leads out of the
    repository, where nothing is known."""
    before, now = trail(old, path), trail(new, path)
    if before is None or now is None:
        return True
    return before != now and not _same_pointer(old, before, new, now)


def _same_pointer(old: Side, before: Trail, new: Side, now: Trail) -> bool:
    """Whether a Git LFS pointer in the commit matches the file in the work tree."""
    (was, _), (place, entry) = before[-1], now[-1]
    if before[:-1] != now[:-1] or was != place or not entry or entry.kind != "file":
        return False
    pointer = old.pointer(was)
    if pointer is None:
        return False
    with _opened(new.root.joinpath(*place)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == pointer


@dataclass
class Disk:
    """The work tree as it is, including uncommitted changes."""

    repository: Repository
    _folders: set[Names] = field(default_factory=set)  # known to be part of this repository

    @property
    def root(self) -> Path:
        return self.repository.top

    def entry(self, path: Names) -> Entry | None:
        """Raises `UsageError` for a folder that is a repository of its own."""
        place = self.root.joinpath(*path)
        try:
            found = place.lstat()
        except (OSError, ValueError):
            return None
        if stat.S_ISDIR(found.st_mode):
            self._refuse_others(path)
            return Entry("folder")
        if stat.S_ISLNK(found.st_mode):
            raw = os.fsencode(self.target(path))
            return Entry("link", self._digest(len(raw), (raw,)))
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_FILE:
            return Entry("other")
        try:
            with _opened(place) as file:
                parts = iter(lambda: file.read(_CHUNK), b"")
                return Entry("file", self._digest(found.st_size, parts))
        except OSError:
            return Entry("other")

    def target(self, path: Names) -> str:
        return str(self.root.joinpath(*path).readlink())

    def names(self, path: Names) -> Sequence[str]:
        try:
            return sorted(one.name for one in self.root.joinpath(*path).iterdir())
        except OSError:
            return ()

    def read(self, path: Names, limit: int) -> bytes | None:
        place = self.root.joinpath(*path)
        try:
            with _opened(place) as file:
                raw = file.read(limit + 1)
        except (OSError, ValueError):
            return None
        return raw if len(raw) <= limit else None

    def pointer(self, path: Names) -> str | None:  # noqa: ARG002 - it has the file itself
        return None

    def bring(self, path: Names) -> None:
        """Do nothing: the file is there."""

    def _digest(self, size: int, parts: Iterator[bytes] | tuple[bytes, ...]) -> str:
        digest = hashlib.new(self.repository.hash, b"blob %d\0" % size, usedforsecurity=False)
        for part in parts:
            digest.update(part)
        return digest.hexdigest()

    def _refuse_others(self, path: Names) -> None:
        if not path or path in self._folders:
            return
        folder = self.root.joinpath(*path)
        if _is_repository(folder):
            raise _of_its_own(path, f"within {self.root}")
        self._folders.add(path)


def _of_its_own(path: Names, where: str) -> UsageError:
    hint = "plans and their files must be in the repository itself"
    return UsageError(f"{'/'.join(path)} is a git repository of its own, {where}", hint=hint)


def _is_repository(folder: Path) -> bool:
    """Whether git would take the folder for a repository."""

    def has(*names: str) -> bool:
        return all(os.path.lexists(folder / name) for name in names)

    return has(".git") or has("HEAD", "objects", "refs") or has("HEAD", "commondir")


@contextmanager
def _opened(place: Path) -> Iterator[BufferedReader]:
    """Open a regular file; links are refused, and pipes and devices do not block."""
    number = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(f"{place} is not a regular file")
        yield file


def gone(old: Side, new: Side, suffixes: Sequence[str]) -> Iterator[Names]:
    """Yield files with one of the suffixes that no longer exist at their old path."""
    folders: list[Names] = [()]
    for folder in folders:
        left = set(old.names(folder)) - set(new.names(folder))
        for name in old.names(folder):
            path = (*folder, name)
            entry = old.entry(path)
            if entry and entry.kind == "file" and name in left and name.endswith(tuple(suffixes)):
                yield path
            elif entry and entry.kind == "folder" and len(folders) < _MAX_FOLDERS:
                folders.append(path)


@dataclass
class Objects:
    """git's stored objects, read through one `git cat-file --batch`. Nothing is fetched."""

    repository: Repository
    process: subprocess.Popen[bytes]
    _left: bytes = b""  # read but not consumed yet

    def read(self, name: str, limit: int) -> tuple[str, bytes] | None:
        """Return the kind and bytes of an object; None if it is larger than `limit`."""
        kind, size = self._ask(name)
        if size > limit:
            for _ in self._parts(size):
                pass
            return None
        return kind, b"".join(self._parts(size))

    def write(self, name: str, file: IO[bytes]) -> None:
        _, size = self._ask(name)
        if size > _MAX_FILE:
            raise UsageError(f"the object {name[:12]} is too large: it has {size:,} bytes")
        for part in self._parts(size):
            file.write(part)

    def _ask(self, name: str) -> tuple[str, int]:
        assert self.process.stdin  # noqa: S101 - it is a pipe
        try:
            self.process.stdin.write(f"{name}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._lost(name) from None
        while b"\n" not in self._left:
            self._more(name)
        line, _, self._left = self._left.partition(b"\n")
        words = line.decode().split(" ")
        if len(words) != 3:
            raise self._lost(name)
        return words[1], int(words[2])

    def _parts(self, size: int) -> Iterator[bytes]:
        left = size + 1  # a line end follows
        while left:
            if not self._left:
                self._more("an object")
            part, self._left = self._left[:left], self._left[left:]
            left -= len(part)
            yield part if left else part[:-1]

    def _more(self, name: str) -> None:
        assert self.process.stdout  # noqa: S101 - it is a pipe
        out = self.process.stdout.fileno()
        if not select.select([out], [], [], SECONDS)[0]:
            raise GitFailed(f"git cat-file: no answer within {SECONDS:g}s")
        part = os.read(out, _CHUNK)
        if not part:
            raise self._lost(name)
        self._left += part

    def _lost(self, name: str) -> GitFailed:
        self.process.kill()
        assert self.process.stderr  # noqa: S101 - it is a pipe
        stderr = self.process.stderr.read(_CHUNK)
        if self.repository.is_partial:  # what git itself says depends on its version
            message = f"this partial clone lacks the object {name[:12]}"
            hint = "clone it without --filter: a review fetches nothing"
            return GitFailed(message, hint=hint)
        return failed(stderr) if stderr else GitFailed(f"git has no object {name[:12]}")


@contextmanager
def objects_of(repository: Repository) -> Iterator[Objects]:
    """Open the repository's objects until the block ends."""
    with repository.git.start("cat-file", "--batch", stdin=subprocess.PIPE) as process:
        try:
            yield Objects(repository, process)
        finally:
            process.kill()


@dataclass
class Commit:
    """The files of one commit, written below `root` on demand. `reviewed`: refuse paths within a
    submodule; otherwise these do not exist."""

    objects: Objects
    commit: str
    root: Path
    reviewed: bool = False
    _folders: dict[str, Mapping[str, Entry]] = field(default_factory=dict)

    def entry(self, path: Names) -> Entry | None:
        found = Entry("folder", f"{self.commit}^{{tree}}")
        for place, name in enumerate(path):
            if found.kind == "module" and self.reviewed:
                raise _of_its_own(path[:place], f"in {self.commit[:12]}")
            if found.kind != "folder" or not (inner := self._folder(found.oid).get(name)):
                return None
            found = inner
        return found

    def target(self, path: Names) -> str:
        return os.fsdecode(self.read(path, _CHUNK) or b"/")

    def names(self, path: Names) -> Sequence[str]:
        found = self.entry(path)
        return list(self._folder(found.oid)) if found and found.kind == "folder" else ()

    def read(self, path: Names, limit: int) -> bytes | None:
        found = self.entry(path)
        if found is None or found.kind not in ("file", "link"):
            return None
        read = self.objects.read(found.oid, limit)
        return read and read[1]

    def pointer(self, path: Names) -> str | None:
        if not (self.objects.repository.folder / "lfs").is_dir():
            return None
        found = _POINTER.match(self.read(path, _MAX_POINTER) or b"")
        return found and found[1].decode()

    def bring(self, path: Names) -> None:
        for place, entry in trail(self, path) or ():
            if entry:
                self.write(place, entry)

    def write(self, path: Names, entry: Entry) -> None:
        """Write one file or link; skip anything else."""
        place = self.root.joinpath(*path)
        if entry.kind not in ("file", "link") or os.path.lexists(place):
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "link":
            place.symlink_to(self.target(path))
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(place, flags, 0o755 if entry.runs else 0o644), "wb") as file:
            if not (pointer := self.pointer(path)) or not self._fetched(pointer, file):
                self.objects.write(entry.oid, file)

    def _fetched(self, digest: str, file: IO[bytes]) -> bool:
        """Copy the file if Git LFS has already fetched it; nothing is fetched."""
        stored = self.objects.repository.folder / "lfs/objects" / digest[:2] / digest[2:4] / digest
        try:
            with _opened(stored) as found:
                if hashlib.file_digest(found, "sha256").hexdigest() != digest:
                    return False
                found.seek(0)
                shutil.copyfileobj(found, file)
        except OSError:
            return False
        return True

    def _folder(self, oid: str) -> Mapping[str, Entry]:
        if oid not in self._folders:
            read = self.objects.read(oid, _MAX_FOLDER)
            if read is None:
                raise UsageError(f"a folder of {self.commit[:12]} is too large")
            self._folders[oid] = dict(_entries(read[1], self.objects.repository.hash))
        return self._folders[oid]


def snapshot(objects: Objects, commit: str, folder: Path) -> Commit:
    """Write files below a folder of its own, marked as a repository, so that paths in a plan are
    resolved within it."""
    (folder / ".git").mkdir(parents=True)
    return Commit(objects, commit, folder, reviewed=True)


def _entries(raw: bytes, algorithm: str) -> Iterator[tuple[str, Entry]]:
    """Parse a tree object: ``MODE NAME NUL DIGEST``, repeated."""
    size, at = hashlib.new(algorithm, usedforsecurity=False).digest_size, 0
    while at < len(raw):
        space = raw.index(b" ", at)
        end = raw.index(b"\0", space)
        mode, name = int(raw[at:space], 8), os.fsdecode(raw[space + 1 : end])
        at = end + 1 + size
        # Names that no checkout may contain are ignored: they would lead elsewhere.
        if name.lower() in ("", ".", "..", ".git") or "/" in name:
            continue
        oid = raw[end + 1 : at].hex()
        yield name, Entry(_KINDS.get(stat.S_IFMT(mode), "other"), oid, runs=bool(mode & 0o111))


_KINDS: Mapping[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    0o160000: "module",  # a commit of another repository
}
