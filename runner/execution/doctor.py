"""Find what would go wrong before anything is sent: the target, its functions, its keys, and the
plan's questions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from runner.errors import BackfillError, KeyRefused, TargetError
from runner.execution.judge import GRANT, NEEDED, blinded
from runner.execution.ports import Hello, LastSent, Probe
from runner.model import (
    BoundQuestion,
    Database,
    ExecutionPlan,
    Fact,
    Finding,
    Function,
    GithubGuard,
    Json,
    Level,
    LiveDatabase,
    Query,
    QueryRefused,
    Rate,
    RowSecurity,
    Selection,
    Stage,
    Table,
    span,
)
from runner.spec.document import did_you_mean
from runner.spec.units import counted, format_duration

MAX_SKEW = 30.0  # seconds; the protocol tolerates more, but people compare times
_SIGNING = "signkey-"
_PATH = re.compile(r"event\.data\.([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")


def event_key_variables(variable: Callable[[str], str]) -> str:
    """Name the variables to set for the hosted service; `variable`: see `Target.variable`."""
    usual = ("INNGEST_EVENT_KEY", "INNGEST_PRODUCTION_EVENT_KEY")
    return ", or ".join(dict.fromkeys(map(variable, usual)))


def examine_keys(
    event_key: str | None, signing_keys: Sequence[str], variable: Callable[[str], str] = str
) -> list[Finding]:
    """Check only the form of the keys; no key is ever part of a finding. `variable` maps the usual
    name of a variable to the one in use."""
    found = []
    if not event_key:
        hint = f"set {event_key_variables(variable)}"
        found.append(Finding("event key", "fail", "it is not set", hint))
    elif event_key.startswith(_SIGNING):
        hint = "create event keys under Manage > Event Keys"
        found.append(Finding("event key", "fail", "it is a signing key", hint))
    if signing_keys and event_key in signing_keys:
        hint = f"set {variable('INNGEST_SIGNING_KEY')} to the signing key"
        found.append(Finding("signing key", "fail", "it is the event key", hint))
    return found


def failed(about: str, error: BackfillError) -> Finding:
    """The finding for an error that would end a run."""
    return Finding(about, "fail", str(error), error.hint, away=isinstance(error, TargetError))


async def examine_target(
    probe: Probe, name: str, *, follows: bool, variable: Callable[[str], str] = str
) -> list[Finding]:
    """Check that the server answers, takes the event key, and lets its jobs be followed.

    `follows`: there is a signing key, or none is needed; `variable`: see `examine_keys`.
    """
    try:
        hello = await probe.hello()
    except TargetError as error:
        return [failed("target", error)]
    version = f", version {hello.version}" if hello.version else ""
    found = [Finding("target", "ok", f"{name} answers{version}"), *_skew(hello)]
    try:
        await probe.accept()
        found.append(Finding("event key", "ok", "accepted (asked without an event)"))
    except TargetError as error:
        found.append(failed("event key", error))
    found += await _api_key(probe)
    if not follows:
        hint = f"set {variable('INNGEST_SIGNING_KEY')}, or send with --no-wait"
        found.append(Finding("signing key", "warn", "not set: jobs cannot be followed", hint))
        return found
    try:
        doubt = await probe.follow()
        if doubt:
            hint = "is its REST API at this address?"
            found.append(Finding("target", "warn", doubt, hint))
        else:
            found.append(Finding("signing key", "ok", "jobs can be followed"))
    except KeyRefused as error:
        found.append(failed("signing key", error))
    except TargetError as error:
        found.append(failed("target", error))
    return found


async def _api_key(probe: Probe) -> list[Finding]:
    """Check the key for the routes under /v2, which list functions and jobs."""
    try:
        useful = await probe.api_key()
    except KeyRefused as error:
        message = f"{error}: the signing key is used instead"
        return [Finding("API key", "warn", message, error.hint)]
    except TargetError as error:
        return [Finding("API key", "warn", str(error), error.hint)]
    if useful is None:
        return []
    if useful:
        return [Finding("API key", "ok", "accepted: functions and jobs can be listed")]
    hint = "it is not needed there: the signing key is enough"
    return [Finding("API key", "warn", "the server has no routes that accept it", hint)]


def listening(
    plan: ExecutionPlan,
    functions: Sequence[Function] | None,
    last_sent: Callable[[str], LastSent | None] = lambda _: None,
) -> list[Finding]:
    """Find which functions the plan's events start, and their limits for so many; if the server
    does not list functions, use what `last_sent` knows."""
    stages = {event: stage for stage in plan.stages for event in stage.event_names}
    if functions is None:
        return [_from_the_past(event, last_sent(event)) for event in stages]
    found: list[Finding] = []
    for event, stage in stages.items():
        hearing = [one for one in functions if one.hears(event)]
        found += _heard(event, hearing, functions)
        for one in hearing:
            found += _paused(one, event, hearing) or _limits(one, stage)
    return found


def _heard(event: str, hearing: Sequence[Function], functions: Sequence[Function]) -> list[Finding]:
    if hearing:
        names = ", ".join(sorted(one.name for one in hearing if not one.paused))
        return [Finding("listeners", "ok", f"`{event}` starts {names}")] if names else []
    known = sorted({trigger.event for one in functions for trigger in one.triggers})
    if near := did_you_mean(event, known):
        hint = near
    elif known:
        hint = f"functions listen to: {', '.join(known[:10])}"
    else:
        hint = "no app is connected to this server: start your worker and sync it"
    message = f"no function listens to `{event}`: the server would accept it, but nothing would run"
    return [Finding("listeners", "fail", message, hint)]


def _paused(one: Function, event: str, hearing: Sequence[Function]) -> list[Finding]:
    if not one.paused:
        return []
    level: Level = "fail" if all(other.paused for other in hearing) else "warn"
    message = f"`{one.name}` is paused: `{event}` does not start it"
    return [Finding("listeners", level, message, "unpause it in the server's dashboard")]


def _limits(one: Function, stage: Stage) -> list[Finding]:
    """Warn of configuration that drops or delays events of the stage at its pace."""
    return [
        Finding(about, "warn", f"`{one.name}`: {message}; {_sent(stage)}", hint)
        for about, message, hint in (*_limited(one, stage), *_keeping(one, stage))
    ]


def _limited(one: Function, stage: Stage) -> Iterator[tuple[str, str, str]]:
    lasts = (stage.batches - 1) * stage.pacing.mean
    if rate := one.rate_limit:
        # A tenth of the limit passes at once, the rest evenly.
        at_once = 1 + rate.limit // 10
        if _most(stage, rate.key) > at_once + lasts * rate.limit / rate.period:
            hint = "raise it, or send more slowly: `batch_size` and `delay`"
            yield "rate limit", f"its rate limit is {_figure(rate)}, and it drops the rest", hint
    if rate := one.throttle:
        most = _most(stage, rate.key)
        if most > rate.limit + lasts * rate.limit / rate.period:
            needs = format_duration(round(most / rate.limit * rate.period))
            hint = f"expect about {needs}, and set `timeout` to more than that"
            yield "throttle", f"its throttle is {_figure(rate)}", hint


def _figure(rate: Rate) -> str:
    return f"{rate.limit:,} in {span(rate.period)}{_each(rate.key)}"


def _each(key: str | None) -> str:
    return f" of each `{key}`" if key else ""


def _keeping(one: Function, stage: Stage) -> Iterator[tuple[str, str, str]]:
    """Yield settings by which a function works on only one of many events."""
    hint = "send it fewer events, or change the function"
    if (rest := one.debounce) and _most(stage, rest.key) > 1:
        keeps = f"its debounce keeps only the latest event{_each(rest.key)} and drops the others"
        yield "debounce", keeps, hint
    if (single := one.singleton) and _most(stage, single.key) > 1:
        others = "cancelled" if single.cancels else "dropped"
        one_job = f"it is a singleton: one job at a time{_each(single.key)}"
        yield "singleton", f"{one_job}; others are {others}", hint


def _sent(stage: Stage) -> str:
    pacing = stage.pacing
    if stage.batches < 2 or not pacing.delay:
        return f"the plan sends {stage.total:,} at once"
    return (
        f"the plan sends {stage.total:,}, {pacing.batch_size:,} every "
        f"{format_duration(pacing.delay)}"
    )


def _most(stage: Stage, key: str | None) -> int:
    """Return how many of its events are known to share one value of the key."""
    if key is None or not stage.total:
        return stage.total
    path = _PATH.fullmatch(key.strip())
    if path is None:
        return 1
    names = path[1].split(".")
    values: Counter[str] = Counter()
    for planned in stage.planned():
        value: Json = planned.event.data
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        values[repr(value)] += 1
    return max(values.values())


def _from_the_past(event: str, last_sent: LastSent | None) -> Finding:
    if last_sent is None:
        hint = "use `canary: 1` in the plan to try one event before the others"
        return Finding(
            "listeners",
            "warn",
            f"the server does not tell which functions listen to `{event}`",
            hint,
        )
    if last_sent.jobs:
        return Finding("listeners", "ok", f"`{event}` started jobs in run {last_sent.run_id}")
    message = (
        f"`{event}` started no job in run {last_sent.run_id}, and the server does not tell why"
    )
    return Finding("listeners", "warn", message, "check that its function is deployed")


def _skew(hello: Hello) -> list[Finding]:
    if hello.skew is None:
        return []
    apart = f"{abs(hello.skew):,.0f} s"
    which = _way(-hello.skew, MAX_SKEW)
    if which is None:
        return [Finding("clock", "ok", f"within {MAX_SKEW:.0f} s of the server's")]
    hint = "set this machine's clock by NTP: a run and its jobs are dated by it"
    return [Finding("clock", "warn", f"{apart} {which} the server's", hint)]


def _way(ahead: float, most: float) -> str | None:
    """Say in which direction a clock differs from another by more than `most`."""
    if ahead > most:
        return "ahead of"
    return "behind" if ahead < -most else None


_DATABASE_SKEW = 2.0  # seconds; people compare the times of a run with those of a database
_BLIND = "grant its role SELECT, or add a policy that shows it rows: an anonymous key reads none"


def examine_facts(facts: Sequence[Fact]) -> list[Finding]:
    """Check what the plan was built from. Zero rows everywhere suggest missing permissions."""
    if len(facts) > 1 and not any(fact.rows for fact in facts):
        names = ", ".join(fact.name for fact in facts)
        return [Finding("database", "fail", f"zero rows everywhere ({names})", _BLIND)]
    found = []
    for fact in facts:
        rows = counted(fact.rows, "row")
        hint = None if fact.rows else "are the tables empty, or may this role not read them?"
        level = "ok" if fact.rows else "warn"
        found.append(Finding("database", level, f"{fact.name}: {rows}", hint))  # type: ignore[arg-type]
    return found


def examine_questions(plan: ExecutionPlan, database: LiveDatabase, now: datetime) -> list[Finding]:
    """Ask every check, goal and coverage once, as a run that starts `now` would: what it names must
    exist, and what it counts must be visible.

    Raises `TargetError` and `PreflightRefused` if the database cannot be asked at all.
    """
    found, blank, unsure = list[Finding](), list[bool](), False
    started = {"run_started_at": now.isoformat()}
    for name, question, columns in _questions(plan):
        query, parameters = question.query, question.parameters
        try:
            table = database.ask(query, {**started, **parameters})
            security = database.row_security(query, {**started, **parameters})
        except QueryRefused as error:
            found.append(Finding("database", "fail", f"{name}: {error}", error.hint))
            continue
        unsure |= security is None
        missing = [column for column in columns if column not in table.columns]
        if missing:
            hint = f"it gives: {', '.join(table.columns)}"
            message = f"{name} gives no column `{missing[0]}`"
            found.append(Finding("database", "fail", message, hint))
        else:
            rows = counted(len(table.rows), "row")
            found.append(Finding("database", "ok", f"{name}: {rows}"))
            nothing = _blank(table)
            if question.items or question.of is None:  # a figure about no items means nothing
                blank.append(nothing)
            values = [value for row in table.rows for value in row]
            truths = all(isinstance(value, bool) for value in values)
            found += _secured(name, security or (), nothing or truths)
    # Where the database tells which tables a role may not see, zeros are what is there.
    if unsure and len(blank) > 1 and all(blank) and not any(fact.rows for fact in plan.facts):
        found.append(Finding("database", "fail", "only zeros everywhere", _BLIND))
    return found


def examine_migrations(
    plan: ExecutionPlan, database: Database, table: str, column: str
) -> list[Finding]:
    """Check that the migrations named by checks are applied."""
    found = []
    for version in sorted({check.migration for check in plan.checks if check.migration}):
        wanted = Query(Selection(table, (column,), {column: version}))
        try:
            applied = database.ask(wanted, {}).rows
        except QueryRefused as error:
            hint = "name its table in backfill.yaml: `migrations: {table: ..., column: ...}`"
            message = f"cannot tell whether {version} is applied: {error}"
            found.append(Finding("migration", "fail", message, hint))
            continue
        if applied:
            found.append(Finding("migration", "ok", f"{version} is applied"))
        else:
            message = f"{version} is not applied: {table} does not have it"
            found.append(Finding("migration", "fail", message, "apply it first"))
    return found


def examine_github(plan: ExecutionPlan, remaining: int, limit: int, reset: str) -> Finding:
    """Check that the rate limit suffices for the plan; otherwise a guard has to wait."""
    points = plan.needs.github_points
    left = f"{remaining:,} of {counted(limit, 'point', 'are')} left until {reset}"
    if points <= remaining:
        return Finding("github", "ok", left)
    left += f", and the plan needs about {points:,.0f}"
    if any(isinstance(guard, GithubGuard) for guard in plan.guards):
        return Finding("github", "ok", f"{left}; its guard waits for more")
    hint = "add `guards: [{github: {remaining: 500}}]`, which waits for more, or send less"
    return Finding("github", "fail", left, hint)


def examine_clocks(plan: ExecutionPlan, database: LiveDatabase) -> list[Finding]:
    """Compare the clocks of the plan's databases with this machine's."""
    found = []
    answered = (question.query.database for _, question, _ in _questions(plan))
    for name in dict.fromkeys(answered):
        whose = f"the clock of the database{f' `{name}`' if name else ''}"
        try:
            clock = database.clock(name)
        except QueryRefused as error:
            found.append(Finding("clock", "fail", f"{whose} cannot be read: {error}", error.hint))
            continue
        zone = f"its session's time zone is {clock.zone}"
        which = _way(clock.ahead, _DATABASE_SKEW)
        if which is None:
            message = f"{whose} is within {_DATABASE_SKEW:g} s of this machine's; {zone}"
            found.append(Finding("clock", "ok", message))
            continue
        message = f"{whose} is {abs(clock.ahead):,.1f} s {which} this machine's; {zone}"
        found.append(Finding("clock", "warn", message, "set both clocks by NTP"))
    return found


def _secured(name: str, security: Sequence[RowSecurity], blank: bool) -> Iterator[Finding]:
    if blank and (blind := blinded(security)):
        yield Finding("database", "fail", f"{name}: {blind}: 0 would prove nothing", GRANT)
    elif tables := [f"`{one.table}`" for one in security]:
        message = f"{name}: row-level security filters {', '.join(tables)}"
        yield Finding(
            "database", "warn", message, "rows that this role does not see are not counted"
        )


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
    """Whether the table has no rows, or only zeros and NULLs."""
    return not any(value not in (0, None) for row in table.rows for value in row)
