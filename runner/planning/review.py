"""What a change to a folder of plans does: each plan file by itself, and all of them in figures."""

from __future__ import annotations

from typing import Literal

from runner.model import ExecutionPlan, Problem, frozen
from runner.planning.compare import Difference, compare

Fate = Literal["added", "removed", "changed", "same", "invalid"]


@frozen
class Review:
    """What becomes of one plan file.

    `plan` is what it sends from now on, or did so far where it is removed; None where it is
    invalid. `was`: where the file stood before, if it was renamed. `note` says what kept the two
    from being compared. `target`: where its events go, for people. `applied`: the run that has
    applied it as it was, so that merging does not run it.
    """

    path: str
    fate: Fate
    plan: ExecutionPlan | None = None
    difference: Difference | None = None
    was: str | None = None
    problems: tuple[Problem, ...] = ()
    note: str | None = None
    target: str | None = None
    applied: str | None = None

    @property
    def events(self) -> int:
        """How many more events there are."""
        if self.difference:
            before, after = self.difference.events
            return after - before
        if self.plan is None:
            return 0
        return -self.plan.events if self.fate == "removed" else self.plan.events


def review(
    path: str,
    before: ExecutionPlan | None,
    after: ExecutionPlan | None,
    *,
    was: str | None = None,
    note: str | None = None,
) -> Review:
    """One of the two is there, or both are."""
    if after is None:
        return Review(path, "removed", before, was=was, note=note)
    if before is None:
        return Review(path, "added", after, was=was, note=note)
    found = compare(before, after)
    return Review(path, "changed" if found.changes else "same", after, found, was, note=note)
