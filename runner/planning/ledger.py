"""Which plans have been applied where, derived from their runs; and the results of checks and
coverage."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import orjson

from runner.errors import InvalidPlan
from runner.model import BackfillPlan, CheckResult, Covered, Input, Json, Problem, RunStatus, frozen
from runner.spec.dependencies import find_cycle
from runner.spec.units import counted

PlanState = Literal["pending", "partial", "applied", "changed", "sent", "failed", "unfinished"]


class PlanRun(NamedTuple):
    """A run of a plan. `digest` covers its input files and the variables of its command;
    `variables` are all of them, also those of its environment; see `ExecutionPlan`. `done` includes
    its retries. `baseline`, `partial`: see `runner.model.RunRecord`."""

    run_id: str
    status: RunStatus
    digest: str
    done: bool
    at: float
    baseline: str | None = None
    partial: str | None = None
    variables: Mapping[str, Json] | None = None


@frozen
class LedgerEntry:
    """A plan file and its state on one target. `run`: the run that decides the state."""

    name: str
    path: str
    state: PlanState
    run: PlanRun | None
    depends_on: tuple[str, ...]


def inputs_digest(inputs: Iterable[Input], variables: Mapping[str, Json]) -> str:
    """Digest the contents alone: the same files elsewhere are the same plan."""
    value = [[read.sha256 for read in inputs], dict(variables)]
    dumped = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return f"sha256:{hashlib.sha256(dumped).hexdigest()}"


def entry(
    plan: BackfillPlan, variables: Mapping[str, Json], runs: Sequence[PlanRun]
) -> LedgerEntry:
    """Judge a plan by its `runs` on the target, latest first, each with its retries. A partial run
    says nothing about the whole."""
    digest = inputs_digest(plan.inputs, variables)
    whole = [run for run in runs if not run.partial]
    latest = next(iter([*whole, *runs]), None)
    state: PlanState = "pending"
    if latest is not None and latest.partial:
        state = "partial"
    elif latest is not None:
        if latest.done:
            same = latest.digest == digest and latest.variables in (None, plan.variables)
            state = "applied" if same else "changed"
        elif latest.status == "sent":
            state = "sent"
        elif latest.status in ("running", "incomplete"):
            state = "unfinished"
        else:
            state = "failed"
    names = plan.metadata.get("depends_on") or []
    depends_on = tuple(map(str, names)) if isinstance(names, list) else ()
    return LedgerEntry(plan.name, plan.path, state, latest, depends_on)


def in_order(plans: Sequence[BackfillPlan]) -> list[BackfillPlan]:
    """Order plans by `metadata.version`, then by file name, dependencies first.

    Raises `InvalidPlan` if two plans have the same name, and for a cycle, with its path.
    """
    by_name: dict[str, BackfillPlan] = {}
    for plan in sorted(plans, key=_place):
        if plan.name in by_name:
            other = by_name[plan.name].path
            raise _invalid(plan, f"the name `{plan.name}` is already used by {other}")
        by_name[plan.name] = plan
    needs = {
        plan.name: [str(name) for name in plan.metadata.get("depends_on") or ()]
        for plan in by_name.values()
    }
    order, cycle = after_their_needs(needs)
    if cycle:
        raise _invalid(by_name[cycle[0]], in_a_circle(cycle))
    return [by_name[name] for name in order]


def after_their_needs(needs: Mapping[str, Sequence[str]]) -> tuple[list[str], tuple[str, ...]]:
    """Order names after what they need; or return the first cycle, which ends as it begins."""
    if cycle := find_cycle(needs):
        return [], tuple(cycle)
    placed: dict[str, None] = {}
    for root in needs:
        trail = [] if root in placed else [(root, iter(needs[root]))]
        while trail:
            name, rest = trail[-1]
            need = next((one for one in rest if one in needs and one not in placed), None)
            if need is None:
                placed[name] = None
                trail.pop()
            else:
                trail.append((need, iter(needs[need])))
    return list(placed), ()


def in_a_circle(cycle: Sequence[str]) -> str:
    return f"plans depend on each other: {' → '.join(cycle)}"


def _place(plan: BackfillPlan) -> tuple[bool, list[tuple[int, str]], list[tuple[int, str]]]:
    """The sort key; numbers in a version or a file name compare as numbers."""
    version = plan.metadata.get("version")
    return version is None, _natural(str(version or "")), _natural(plan.path)


def _natural(text: str) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", text)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _invalid(plan: BackfillPlan, message: str) -> InvalidPlan:
    return InvalidPlan((Problem(message, plan.path),))


@frozen
class Checked:
    """The current results of a plan's checks and coverage. `skipped`: checks that need a run;
    `ledger`: the state of the plan on the target `applied`, if requested."""

    plan: str
    checks: tuple[CheckResult, ...]
    coverage: Mapping[str, Sequence[Covered]]
    skipped: tuple[str, ...] = ()
    applied: str | None = None
    ledger: LedgerEntry | None = None

    @property
    def ok(self) -> bool:
        """Whether everything that could be asked holds."""
        return not self.unmet

    @property
    def unmet(self) -> tuple[str, ...]:
        """What does not hold, in words. If any check was asked, the checks decide how much coverage
        is enough; otherwise every item must be covered."""
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
    """Name the first item that is not covered and count the others; no data counts as a lack."""
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
        "changed": f"its files or variables have changed since {run}",
        "sent": f"{run} was sent but not followed",
        "unfinished": f"{run} has not ended",
        "partial": f"{run} was only for a part of the plan",
    }
    return said.get(found.state, f"{run} is {found.run.status}")
