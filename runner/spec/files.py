"""Open the files that a plan, a folder or an option names; nothing else opens a user's file.

A path is checked before it is opened, the open file is checked again, and a refused file gives none
of its bytes.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

ENDINGS = (".test.yaml", ".test.yml")  # of plan tests
PROJECT = "backfill.yaml"  # shared by the plans beside and below it
MAX_YAML = 64 * 1024 * 1024
MAX_DATA = 128 * 1024 * 1024  # bytes of a data file or a saved plan
_MIB = 1024 * 1024
_CHUNK = 64 * 1024
_BUFFER = 256 * 1024  # fits into a core's cache

# A descriptor that the caller's shell opened, as in `backfill plan <(render)`.
_HANDED = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,5})|/dev/stdin|-")
_LFS = b"version https://git-lfs.github.com/spec/"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileRefused(Exception):
    """`str()` completes "NAME cannot be read: "; `hint` says what to do."""

    def __init__(self, why: str, hint: str | None = None) -> None:
        super().__init__(why)
        self.hint = hint


class TooLarge(FileRefused):
    def __init__(self, limit: int) -> None:
        super().__init__(f"the file has more than {limit // _MIB or 1} MiB", "make it smaller")


def read_plan(path: str | Path, *, limit: int = MAX_YAML) -> bytes:
    """Read a plan, or another file whose place a stranger may have chosen: see `within`.

    Raises `FileRefused`.
    """
    if (handed := _HANDED.fullmatch(str(path))) and str(path) != "-":
        return _from_descriptor(int(handed[1] or 0), limit)
    return _read(within(path), limit)


def read_named(name: str | Path, plan: str | Path, *, limit: int = MAX_YAML) -> tuple[Path, bytes]:
    """Read a file that a plan names, relative to the plan and in the same repository; return its
    path too. Raises `FileRefused`."""
    real = within(_real(plan).parent / name, plan)
    return real, _read(real, limit)


def read_given(path: str | Path, *, limit: int = MAX_YAML) -> bytes:
    """Read a file that an option names, wherever it is; `-` is stdin. Raises `FileRefused`."""
    if handed := _HANDED.fullmatch(str(path)):
        return _from_descriptor(int(handed[1] or 0), limit)
    return _read(_real(path), limit)


def digest_of(path: str | Path, *, limit: int = MAX_DATA) -> str:
    """Return the SHA-256 of a file in hexadecimal, in little memory. Raises `FileRefused`."""
    from hashlib import sha256

    digest = sha256()
    if handed := _HANDED.fullmatch(str(path)):
        digest.update(_from_descriptor(int(handed[1] or 0), limit))
        return digest.hexdigest()
    with _opened(_real(path), limit) as (file, size):
        buffer = bytearray(min(size, _BUFFER) + 1)
        while found := os.readv(file, [buffer]):
            digest.update(memoryview(buffer)[:found])
            if (size := size - found) < 0:
                raise _grown()
    return digest.hexdigest()


def ends_with(path: Path, end: bytes) -> bool:
    """Whether this is a regular file with that end."""
    if not path.is_file():
        return False
    with suppress(OSError), path.open("rb") as file:
        file.seek(-len(end), os.SEEK_END)
        return file.read() == end
    return False


def within(path: str | Path, plan: str | Path | None = None) -> Path:
    """Resolve all links, and check that the file is in the repository of `plan` (by default, of the
    path itself): the nearest folder above with a `.git`, else the folder that it is in.

    Raises `FileRefused`.
    """
    real = _real(path)
    with _refusing():
        if not real.is_relative_to(_root(path if plan is None else plan)):
            raise _outside()
    return real


def followed(path: str | Path) -> Path:
    """Resolve all links of a path to write to; none may leave its repository. Raises
    `FileRefused`."""
    real = _real(path)
    with _refusing():
        _root(path)
    return real


def repository_of(folder: Path) -> Path | None:
    """Return the nearest folder with a `.git`, this one or above; links are not resolved."""
    places = (folder, *folder.parents)
    return next((place for place in places if os.path.lexists(place / ".git")), None)


def find_project(plan: str) -> Path | None:
    """Return the nearest project file at or above the plan's folder, but not above its
    repository."""
    try:
        folder = Path(plan).resolve().parent
    except (OSError, RuntimeError, ValueError):  # the plan's reader reports why
        return None
    top = repository_of(folder)
    for place in (folder, *folder.parents):
        path = place / PROJECT
        if path.exists() or path.is_symlink():
            return path
        if place == top:
            break
    return None


def as_seen_here(path: Path) -> Path:
    """Return the path relative to the working directory if it is inside: that is how editors, code
    scanning and annotations know files."""
    with suppress(OSError):  # the working directory is gone
        here = Path.cwd()
        return path.relative_to(here) if path.is_relative_to(here) else path
    return path


def strange_name(path: str | Path) -> str | None:
    """Return what is wrong with a name that none of our files can have."""
    name = str(path)
    if "\0" in name:
        return "its name has a zero byte in it"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return None


def _root(path: str | Path) -> Path:
    """Find the repository's root; refuse a path that leaves a repository by one of its links."""
    absolute = Path.cwd() / path
    walked = Path(absolute.anchor)
    for part in absolute.parts[1:]:
        walked = _real(walked).parent if part == ".." else walked / part
        if walked.is_symlink():
            holder = repository_of(walked.parent)
            if holder and not _real(walked).is_relative_to(_real(holder)):
                raise _outside()
    return _real(repository_of(walked.parent) or walked.parent)


def _outside() -> FileRefused:
    hint = "keep it in the plan's repository or, without one, in the plan's folder"
    return FileRefused("it lies outside the plan's repository or folder", hint)


def _real(path: str | Path) -> Path:
    if wrong := strange_name(path):
        raise FileRefused(wrong, "rename the file")
    with _refusing():
        return Path(path).resolve()


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileRefused(error.strerror or str(error)) from None
    except RuntimeError:  # a cycle of links, before Python 3.13
        raise FileRefused(os.strerror(errno.ELOOP)) from None


def _read(real: Path, limit: int) -> bytes:
    with _opened(real, limit) as (file, size):
        return _content(file, size)


@contextmanager
def _opened(real: Path, limit: int) -> Iterator[tuple[int, int]]:
    """Yield a descriptor and the file's size."""
    with _refusing():
        _refuse_odd(real.stat(), limit)
        file = os.open(real, _FLAGS)
        try:
            there = os.fstat(file)
            _refuse_odd(there, limit)
            if real.resolve() != real or not os.path.samestat(there, real.stat()):
                raise FileRefused("it was moved while it was opened", "try again")
            yield file, there.st_size
        finally:
            os.close(file)


def _content(file: int, size: int) -> bytes:
    raw = os.read(file, size + 1)
    while 0 < len(raw) <= size and (more := os.read(file, _CHUNK)):
        raw += more
    if len(raw) > size:  # as in /proc, whose files report no size
        raise _grown()
    if raw.startswith(_LFS):
        raise FileRefused("it is a Git LFS pointer", "get the file itself with `git lfs pull`")
    return raw


def _grown() -> FileRefused:
    return FileRefused(
        "it has more bytes than its size says",
        "name a regular file on a disk that nothing writes to",
    )


def odd_kind(path: Path) -> str | None:
    """Return what kind of thing is there, after all links, if it is not a regular file."""
    with suppress(OSError):
        mode = path.stat().st_mode
        return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")
    return None  # nothing, or not reachable: opening it reports that


def _refuse_odd(found: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise FileRefused(f"it is not a file but {kind}", "name a file")
    if found.st_size > limit:
        raise TooLarge(limit)


def _from_descriptor(number: int, limit: int) -> bytes:
    with _refusing():
        found = os.fstat(number)
        if stat.S_ISREG(found.st_mode):
            _refuse_odd(found, limit)
            os.lseek(number, 0, os.SEEK_SET)
            return _content(number, found.st_size)
        if not stat.S_ISFIFO(found.st_mode) and not stat.S_ISSOCK(found.st_mode):
            raise FileRefused("it is neither a file nor a pipe", "pipe a file into it")
        raw = _drained(number, found.st_dev, found.st_ino)
    if len(raw) > limit:
        raise TooLarge(limit)
    return raw


@cache
def _drained(number: int, _device: int, _inode: int) -> bytes:
    """Read a pipe once and keep its bytes: a plan is read several times."""
    raw = bytearray()
    while len(raw) <= MAX_DATA and (chunk := os.read(number, _CHUNK)):
        raw += chunk
    return bytes(raw)
