"""What would go wrong with a plan's questions, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from runner.model import (
    Database,
    ExecutionPlan,
    Fact,
    Finding,
    GithubGuard,
    Measure,
    Query,
    QueryRefused,
    Selection,
    Table,
)

_BLIND = "grant its role SELECT, or a policy that shows rows: an anonymous key reads none"


def examine_facts(facts: Sequence[Fact]) -> list[Finding]:
    """What the plan was built from. Zero rows everywhere smells of permissions."""
    if len(facts) > 1 and not any(fact.rows for fact in facts):
        names = ", ".join(fact.name for fact in facts)
        return [Finding("database", "fail", f"zero rows everywhere ({names})", _BLIND)]
    found = []
    for fact in facts:
        rows = f"{fact.rows:,} row{'' if fact.rows == 1 else 's'}"
        mend = None if fact.rows else "is there nothing, or may this role not read it?"
        level = "ok" if fact.rows else "warn"
        found.append(Finding("database", level, f"{fact.name}: {rows}", mend))  # type: ignore[arg-type]
    return found


def examine_questions(plan: ExecutionPlan, database: Database, now: datetime) -> list[Finding]:
    """Every check, goal and coverage asked once, as by a run that starts `now`: what it names must
    be there.

    Raises `TargetError` and `PreflightRefused` where the database cannot be asked at all.
    """
    found, blank = [], 0
    started = {"run_started_at": now.isoformat()}
    for name, measure, columns in _questions(plan):
        try:
            table = database.ask(measure.query, {**started, **measure.parameters})
        except QueryRefused as error:
            found.append(Finding("database", "fail", f"{name}: {error}", error.hint))
            continue
        missing = [column for column in columns if column not in table.columns]
        blank += _blank(table)
        if missing:
            mend = f"it gives: {', '.join(table.columns)}"
            message = f"{name} gives no column `{missing[0]}`"
            found.append(Finding("database", "fail", message, mend))
        else:
            rows = f"{len(table.rows):,} row{'' if len(table.rows) == 1 else 's'}"
            found.append(Finding("database", "ok", f"{name}: {rows}"))
    asked = sum(finding.level == "ok" for finding in found)
    if asked > 1 and blank == asked and not any(fact.rows for fact in plan.facts):
        found.append(Finding("database", "fail", "nothing but zeros everywhere", _BLIND))
    return found


def examine_migrations(
    plan: ExecutionPlan, database: Database, table: str, column: str
) -> list[Finding]:
    """Those that checks name must be applied."""
    found = []
    for version in sorted({check.migration for check in plan.checks if check.migration}):
        wanted = Query(Selection(table, (column,), {column: version}))
        try:
            applied = database.ask(wanted, {}).rows
        except QueryRefused as error:
            mend = "name its table in backfill.yaml: `migrations: {table: ..., column: ...}`"
            message = f"whether {version} is applied cannot be told: {error}"
            found.append(Finding("migration", "fail", message, mend))
            continue
        if applied:
            found.append(Finding("migration", "ok", f"{version} is applied"))
        else:
            message = f"{version} is not applied: {table} does not have it"
            found.append(Finding("migration", "fail", message, "apply it first"))
    return found


def examine_github(plan: ExecutionPlan, remaining: int, limit: int, reset: str) -> Finding:
    """Whether the rate limit is enough for the plan; a guard waits where it is not."""
    points = plan.needs.github_points
    said = f"{remaining:,} of {limit:,} points are left until {reset}"
    if points <= remaining:
        return Finding("github", "ok", said)
    said += f", and the plan needs about {points:,.0f}"
    if any(isinstance(guard, GithubGuard) for guard in plan.guards):
        return Finding("github", "ok", f"{said}; its guard waits for more")
    mend = "add `guards: [{github: {remaining: 500}}]`, which waits for more, or send less"
    return Finding("github", "fail", said, mend)


def _questions(plan: ExecutionPlan) -> Iterator[tuple[str, Measure, Sequence[str]]]:
    for check in plan.checks:
        columns = [check.expect.column] if check.expect.column else []
        name = f"check {check.name}"
        yield name, Measure(name, check.query, check.parameters), columns
    for stage in plan.stages:
        if until := stage.until:
            name = f"until of {stage.operation}"
            yield name, Measure(name, until.query, until.parameters), [until.expect.column or ""]
    for measure in plan.coverage:
        yield f"coverage {measure.name}", measure, ("item", "total", "done")


def _blank(table: Table) -> bool:
    """No row, or nothing but zeros and NULLs in it."""
    return not any(value not in (0, None) for row in table.rows for value in row)
