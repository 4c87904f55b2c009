"""What may hold a run back: guards, as plans write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class GithubGuard:
    """Hold while fewer than `remaining` points of GitHub's hourly rate limit are left."""

    remaining: int


@dataclass(frozen=True, slots=True)
class HttpGuard:
    """Hold unless a GET of `url` answers 2xx."""

    url: str


@dataclass(frozen=True, slots=True)
class SqlGuard:
    """Hold unless the one value that `query` gives lies within the bounds; without bounds, while
    it is false."""

    query: str
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True, slots=True)
class CommandGuard:
    """Hold unless the program exits with 0; no shell is involved."""

    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileGuard:
    """Hold while the file exists."""

    path: str


GuardSpec: TypeAlias = GithubGuard | HttpGuard | SqlGuard | CommandGuard | FileGuard
