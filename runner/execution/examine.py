"""What would go wrong with a plan's questions, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from runner.execution.coverage import NEEDED
from runner.execution.sight import GRANT, blinded
from runner.model import (
    BoundQuestion,
    Database,
    ExecutionPlan,
    Fact,
    Finding,
    GithubGuard,
    LiveDatabase,
    Query,
    QueryRefused,
    RowSecurity,
    Selection,
    Table,
)

MAX_SKEW = 2.0  # seconds: people compare what a run and a database say of the time
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


def examine_questions(plan: ExecutionPlan, database: LiveDatabase, now: datetime) -> list[Finding]:
    """Every check, goal and coverage asked once, as by a run that starts `now`: what it names must
    be there, and what it counts must be visible.

    Raises `TargetError` and `PreflightRefused` where the database cannot be asked at all.
    """
    found, blank = [], 0
    started = {"run_started_at": now.isoformat()}
    for name, question, columns in _questions(plan):
        query, parameters = question.query, question.parameters
        try:
            table = database.ask(query, {**started, **parameters})
            security = database.row_security(query, {**started, **parameters}) or ()
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
            found += _secured(name, security, _blank(table))
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


def examine_clocks(plan: ExecutionPlan, database: LiveDatabase) -> list[Finding]:
    """How far the clocks of the databases that it asks are from this machine's."""
    found = []
    asked = (question.query.database for _, question, _ in _questions(plan))
    for name in dict.fromkeys(asked):
        clock = database.clock(name)
        whose = f"the clock of the database{f' `{name}`' if name else ''}"
        zone = f"its session's zone is {clock.zone}"
        if abs(clock.ahead) <= MAX_SKEW:
            message = f"{whose} is within {MAX_SKEW:g} s of this machine's; {zone}"
            found.append(Finding("clock", "ok", message))
            continue
        which = "ahead of" if clock.ahead > 0 else "behind"
        message = f"{whose} is {abs(clock.ahead):,.1f} s {which} this machine's; {zone}"
        found.append(Finding("clock", "warn", message, "set both clocks by NTP"))
    return found


def _secured(name: str, security: Sequence[RowSecurity], blank: bool) -> Iterator[Finding]:
    if blank and (blind := blinded(security)):
        yield Finding("database", "fail", f"{name}: {blind}: 0 would prove nothing", GRANT)
    elif tables := [f"`{one.table}`" for one in security]:
        message = f"{name}: row-level security filters {', '.join(tables)}"
        yield Finding("database", "warn", message, "what this role does not see is not counted")


def _questions(plan: ExecutionPlan) -> Iterator[tuple[str, BoundQuestion, Sequence[str]]]:
    for check in plan.checks:
        columns = [name for name in (check.question.key, check.expect.column) if name]
        yield f"check {check.name}", check.question, columns
    for stage in plan.stages:
        if until := stage.until:
            yield f"until of {stage.operation}", until.question, [until.expect.column or ""]
    for measure in plan.coverage:
        yield f"coverage {measure.name}", measure.question, NEEDED


def _blank(table: Table) -> bool:
    """No row, or nothing but zeros and NULLs in it."""
    return not any(value not in (0, None) for row in table.rows for value in row)
