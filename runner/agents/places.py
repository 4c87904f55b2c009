"""What an agent may name: files of the repository that the server works in, and known targets."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from runner.adapters.inngest.target import NAMES
from runner.app.preflight import FOLDER
from runner.errors import UsageError
from runner.spec.files import FileRefused, repository_of, within

_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def inside(name: str) -> str:
    """`name`, of a file in the repository of the working directory or, without one, below that.

    Raises `UsageError`.
    """
    if name == "-":
        raise UsageError("`-` is stdin, which the protocol has", hint="name a file")
    try:
        real = within(name)
    except FileRefused as refused:
        message = f"{name} cannot be used: {refused}"
        raise UsageError(message, hint=refused.hint or "name a file of this repository") from None
    if not real.is_relative_to(root := _root()):
        hint = "name a file of it, by a path relative to the working directory"
        raise UsageError(f"{name} lies outside {root}, which this server works in", hint=hint)
    return name


def _root() -> Path:
    here = Path.cwd()
    return (repository_of(here) or here).resolve()


def to_write(name: str) -> str:
    """The same of a file that is written: no approval is, and nothing of git's or of a CI's."""
    given, real = Path(name), Path(inside(name)).resolve()
    parts = {part.casefold() for part in (*given.parts, *real.relative_to(_root()).parts)}
    if FOLDER in parts:
        hint = "a person writes what approves a plan; name a file elsewhere"
        raise UsageError(f"{name} lies in a folder of approvals", hint=hint)
    if any(part.startswith(".") and part.strip(".") for part in parts):
        raise UsageError(f"{name} is hidden, or in a hidden folder", hint="name a file elsewhere")
    return name


def known_target(name: str | None) -> str | None:
    """Keys go to targets: an address is one of this machine, or is what an environment names."""
    if name is None or name in NAMES:
        return name
    try:
        local = urlsplit(name).hostname in _LOCAL
    except ValueError:
        local = False
    if not local:
        hint = "write embedded, dev or cloud; or name an environment whose `target` it is: `env`"
        raise UsageError(f"target {name!r} is no address that an agent may name", hint=hint)
    return name
