"""Types of the fixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Result(Protocol):
    @property
    def status(self) -> int: ...

    @property
    def out(self) -> str: ...

    @property
    def err(self) -> str: ...


class Backfill(Protocol):
    def __call__(self, *arguments: str | Path, env: dict[str, str] | None = None) -> Result: ...
