"""Write files completely or not at all, and never over a file that the command has read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from runner.errors import UsageError
from runner.spec.files import FileRefused, followed, odd_kind

_HINTS = {
    errno.ENOSPC: "free some space, or name a file on another disk",
    errno.EDQUOT: "free some space, or name a file on another disk",
    errno.EFBIG: "raise the limit to a file's size, or name a file elsewhere",
    errno.ENOENT: "make its folder first, or name a file elsewhere",
    errno.ENOTDIR: "make its folder first, or name a file elsewhere",
}
_FOLDER_HINT = "name a file in a folder that you may write to"
_LINKED = "name the file itself"


class CannotWrite(UsageError):
    """Names the path, the reason and what to do; the old file is unchanged."""


class ExistsAlready(CannotWrite):
    pass


def write_file(
    path: str | Path,
    content: bytes | str | Iterable[str],
    *,
    anew: bool = False,
    private: bool = False,
) -> int:
    """Write a file, and return its size. The content goes to a sibling that replaces the file once
    it is on disk; of a link, the target is replaced. `anew`: only if nothing exists there.
    `private`: only for its owner.

    Raises `CannotWrite`.
    """
    with _in_words(path):
        real, mode = _place(path)
        beside = real.with_name(f".{real.name[:200]}.{os.urandom(4).hex()}")
        try:
            file = os.open(
                beside,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                0o600 if private else 0o666,
            )
            with os.fdopen(file, "wb") as out:
                if mode is not None:
                    os.fchmod(file, mode)
                for part in _encoded(content):
                    out.write(part)
                out.flush()
                os.fsync(file)
                size = os.fstat(file).st_size
            if anew:
                real.hardlink_to(beside)
            else:
                beside.replace(real)
        finally:
            with suppress(OSError):  # already gone if it has replaced the file
                beside.unlink()
    return size


def append_file(path: str | Path, text: str, *, limit: int) -> bool:
    """Append the text, after an empty line, completely or not at all; False if the file would
    exceed the limit. Raises `CannotWrite`."""
    with _in_words(path):
        real, _ = _place(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(real, flags, 0o666)
        with os.fdopen(file, "wb", buffering=0) as out:
            there = os.fstat(file).st_size
            raw = (("\n" if there else "") + text).encode()
            if there + len(raw) > limit:
                return False
            try:
                if out.write(raw) < len(raw):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file)
            except OSError:
                os.ftruncate(file, there)
                raise
    return True


def make_folder(path: Path) -> None:
    """Create a folder and its parents; no link may lead out of the repository. Raises
    `CannotWrite`."""
    with _in_words(path):
        followed(path).mkdir(parents=True, exist_ok=True)


def open_lock(path: Path) -> IO[str]:
    """Open an empty file for locking. Raises `CannotWrite`."""
    with _in_words(path):
        return path.open("w", encoding="utf-8")


def refuse_overwriting(written: Mapping[str, str | None], used: Iterable[str]) -> None:
    """Raise `UsageError` if an option names a file to write that the command uses otherwise, or
    that another option names too. `written`: by option."""
    named = {option: path for option, path in written.items() if path}
    used = list(used)
    for option, path in named.items():
        for other in used:
            if _same(path, other):
                which = f"{os.path.relpath(other)}, which this command uses"
                raise UsageError(
                    f"{option} {path} would overwrite {which}", hint="name another file"
                )
        for twin, other in named.items():
            if twin != option and _same(path, other):
                raise UsageError(f"{option} and {twin} name the same file", hint="name two")


def _same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:  # one of them does not exist yet
        return os.path.realpath(one) == os.path.realpath(other)


def _place(path: str | Path) -> tuple[Path, int | None]:
    """Return the file to write, and its mode if it exists. Devices, pipes and folders are never
    replaced, and `-`, which elsewhere means stdin or stdout, is refused."""
    if str(path) == "-":
        raise FileRefused(
            "it is not the name of a file", "name a file; write `./-` for a file named `-`"
        )
    if odd_kind(Path(path)):
        raise FileRefused(
            "it exists and is not a file", "name a file; to keep what is printed, use `> FILE`"
        )
    real = followed(path)
    try:
        return real, stat.S_IMODE(real.stat().st_mode)
    except FileNotFoundError:
        return real, None


def _encoded(content: bytes | str | Iterable[str]) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    for part in [content] if isinstance(content, str) else content:
        yield part.encode("utf-8", "replace")


@contextmanager
def _in_words(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileRefused as refused:
        message = f"{path} cannot be written: {refused}"
        raise CannotWrite(message, hint=refused.hint or _LINKED) from None
    except FileExistsError:
        raise ExistsAlready(f"{path} exists already", hint="choose another name") from None
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror or error}"
        raise CannotWrite(message, hint=_HINTS.get(error.errno or 0, _FOLDER_HINT)) from None
