"""A git branch whose plans are applied as they come. Times: seconds since 1970."""

from __future__ import annotations

from typing import Literal

from runner.model.value import frozen

SyncOutcome = Literal["starting", "applying", "applied", "failed", "refused", "unreachable"]
Health = Literal["healthy", "failed", "refused", "unreachable", "silent", "ended"]

_SILENT = 3  # times the interval between two looks, without any
_SHORTEST = 30.0  # seconds


@frozen
class SyncRecord:
    """What a `backfill sync` does, and what came of its last look.

    `seen` is the commit that the branch was at, `applied` the last one all of whose plans are
    applied; `ended_at` is None while the process has not said its end.
    """

    id: str
    repository: str
    branch: str
    path: str
    target: str
    every: float
    holder: str
    checked_at: float
    outcome: SyncOutcome = "starting"
    message: str | None = None
    seen: str | None = None
    applied: str | None = None
    applied_at: float | None = None
    ended_at: float | None = None

    def health(self, now: float) -> Health:
        """``silent``: it has not looked for so long that its process must be gone."""
        if self.ended_at is not None and self.outcome in ("starting", "applying", "applied"):
            return "ended"
        if self.ended_at is None and now - self.checked_at > max(_SHORTEST, _SILENT * self.every):
            return "silent"
        match self.outcome:
            case "starting" | "applying" | "applied":
                return "healthy"
            case "failed" | "refused" | "unreachable":
                return self.outcome
