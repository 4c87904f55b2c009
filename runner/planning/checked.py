"""What checks, coverage and the ledger say of a plan at one moment, and whether all holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.model import CheckResult, Covered, frozen
from runner.planning.ledger import LedgerEntry
from runner.spec.units import counted


@frozen
class Checked:
    """What the checks and the coverage of a plan say now; `skipped`: checks that need a run.
    `ledger`: how the plan stands on the target `applied`, where that was asked."""

    plan: str
    checks: tuple[CheckResult, ...]
    coverage: Mapping[str, Sequence[Covered]]
    skipped: tuple[str, ...] = ()
    applied: str | None = None
    ledger: LedgerEntry | None = None

    @property
    def ok(self) -> bool:
        """Does all hold that could be asked?"""
        return not self.unmet

    @property
    def unmet(self) -> tuple[str, ...]:
        """What does not hold, in words. Coverage has no bound of its own: where a check could be
        asked, the checks say how much is enough; else every item is to be covered."""
        found = [f"the check `{one.name}`: {one.words}" for one in self.checks if not one.ok]
        if not self.checks:
            found += [
                f"the coverage `{name}`: {lack}"
                for name, rows in self.coverage.items()
                if (lack := _lack(rows))
            ]
        if self.ledger and self.ledger.state != "applied":
            found.append(f"{self.plan} is not applied to {self.applied}: {_stands(self.ledger)}")
        return tuple(found)


def _lack(rows: Sequence[Covered]) -> str | None:
    """The first item that is not covered, and how many more there are; no data is a lack too."""
    lacking = [row for row in rows if row.missing or not row.there]
    if not lacking:
        return None if any(row.total for row in rows) else "no data: there is nothing to cover"
    first, more = lacking[0], len(lacking) - 1
    said = f"{first.item} has no row"
    if first.there:
        said = f"{first.item} has {first.done:,} of {first.total:,}"
    return f"{said}, and {counted(more, 'other', 'are')} not covered" if more else said


def _stands(found: LedgerEntry) -> str:
    if found.run is None:
        return "it has not been run there"
    run = f"run {found.run.run_id}"
    said = {
        "changed": f"its files have changed since {run}",
        "sent": f"{run} was sent and not followed",
        "unfinished": f"{run} has not come to its end",
        "partial": f"{run} was for a part of it",
    }
    return said.get(found.state, f"{run} is {found.run.status}")
