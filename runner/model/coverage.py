"""How much of an item's data is there."""

from __future__ import annotations

from collections.abc import Sequence

from runner.model.value import frozen


@frozen
class Covered:
    """One item: `percent` is None where there is nothing to cover, never 0 or 100; `there`: has
    the database any row of it?

    `before` is `done` before the run, where that is known.
    """

    of: str
    item: str
    total: int
    done: int
    pending: int | None = None
    last_sync: str | None = None
    before: int | None = None
    there: bool = True

    @property
    def missing(self) -> int:
        return max(0, self.total - self.done)

    @property
    def percent(self) -> float | None:
        """Rounded down: 100 is all, and nothing is more than that."""
        return self._rounded(100)

    @property
    def percent_text(self) -> str:
        return f"{self._rounded(10) or 0.0:.1f}"

    def _rounded(self, parts: int) -> float | None:
        if not self.total or not self.there:
            return None
        return min(self.done, self.total) * 100 * parts // self.total / parts

    @property
    def gained(self) -> int | None:
        return None if self.before is None else self.done - self.before

    @classmethod
    def unknown(cls, of: str, item: str) -> Covered:
        return cls(of, item, 0, 0, there=False)

    @classmethod
    def total_of(cls, rows: Sequence[Covered]) -> Covered:
        """All rows of one coverage as one."""
        # What one has too much of is not what another lacks.
        befores = [min(row.before, row.total) for row in rows if row.before is not None]
        pendings = [row.pending for row in rows if row.pending is not None]
        return cls(
            rows[0].of,
            "all",
            sum(row.total for row in rows),
            sum(min(row.done, row.total) for row in rows),
            sum(pendings) if pendings else None,
            max((row.last_sync for row in rows if row.last_sync), default=None),
            sum(befores) if befores else None,
            all(row.there for row in rows),
        )
