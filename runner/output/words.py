"""The wording that all forms of output share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from runner.model import (
    IN_WORDS,
    MAX_NAMED,
    CommandGuard,
    ExecutionPlan,
    FailureGroup,
    FileGuard,
    GithubGuard,
    GuardSpec,
    HttpGuard,
    Note,
    Outcome,
    Round,
    RunLine,
    RunView,
    SqlGuard,
    Stage,
    StageRecord,
    StageSpec,
    Totals,
    Verdict,
    Waiting,
    WindowGuard,
)
from runner.model.value import as_compared
from runner.output.text import shortened
from runner.planning.estimate import last_start, needed
from runner.spec.units import counted, format_delay, format_duration

_NONE_JUST_NOW = "no worker drives it just now; if none comes"


def outcomes(found: Mapping[Outcome, int]) -> list[str]:
    """Return each outcome that occurs, with its count."""
    return [f"{found[name]:,} {word}" for name, word in IN_WORDS.items() if found.get(name)]


def lost(found: Mapping[Outcome, int]) -> list[str]:
    """Return the outcomes other than `completed`."""
    return outcomes({name: number for name, number in found.items() if name != "completed"})


def other_failures(view: RunView, shown: Sequence[FailureGroup]) -> str | None:
    """Return how many more events failed than the shown groups have, and where to see them."""
    more = sum(view.outcomes.values()) - sum(group.events for group in shown)
    events = f"`backfill events {view.record.id} --failed`"
    return f"{more:,} more, with other messages: {events}" if more else None


def still_open(view: RunView, stage: StageRecord) -> str | None:
    """Count the stage's events without an outcome, and say whether their jobs are followed; None if
    there are none."""
    if not stage.open:
        return None
    left = "not followed to the end" if view.record.follow else "not followed"
    return f"{stage.open:,} {'running' if view.follows else left}"


def made_good(view: RunView) -> str | None:
    if not view.made_good:
        return None
    were = "was" if len(view.made_good) == 1 else "were"
    return f"{len(view.made_good):,} of them {were} made good by later attempts"


def waiting(wait: Waiting, now: float) -> str:
    """Describe a wait: for which event and how long, or the next attempt and until when."""
    text = wait.reason
    if wait.kind == "room":
        text += f", the oldest for {_span(now - wait.since)}" if wait.since is not None else ""
        text += f": {wait.item}" if wait.item is not None else ""
    elif wait.item is not None:
        text += f": {wait.item}"
        text += " not started" if wait.kind == "queued" else ""
        text += f" for {_span(now - wait.since)}" if wait.since is not None else ""
        text += f", times out in {_span(wait.until - now)}" if wait.until is not None else ""
    elif wait.again is not None:
        text += f": trying again in {_span(wait.again - now)}"
        text += f" (try {wait.tries:,})" if wait.tries is not None else ""
        text += f", for {_span(wait.until - now)} more" if wait.until is not None else ""
    return text


def _span(seconds: float) -> str:
    return format_duration(max(0, round(seconds)))


def nobody(view: RunView | RunLine) -> str:
    """Say that no process drives the run, since when, and what to do."""
    since = f"; the last sign of life was at {moment(view.silent)} UTC" if view.silent else ""
    if view.record.wanted == "cancel":
        return f"no process is there to cancel it: backfill cancel {view.record.id}{since}"
    return f"no process drives it: backfill resume {view.record.id}{since}"


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def moment_after(at: float, since: float) -> str:
    """Return the moment, without its date if it is that of `since`."""
    day, time = moment(at).split()
    return time if day == moment(since)[:10] else f"{day} {time}"


def machine_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(at: float, now: float) -> str:
    """Say how long ago, as people do."""
    seconds = max(0.0, now - at)
    for unit, size, most in (("s", 1, 90), ("m", 60, 90), ("h", 3600, 36), ("d", 86400, 30)):
        if seconds < most * size:
            return f"{seconds // size:.0f}{unit} ago"
    return moment(at)[:10]


def took(seconds: float) -> str:
    """Format a duration, as precisely as people want it."""
    digits = 3 if seconds < 1 else 1 if seconds < 60 else 0
    return format_duration(round(seconds, digits))


def driven_by(view: RunView) -> str:
    """Say who started the run and who drives it."""
    record, holder = view.record, view.holder
    if holder == record.started_by:
        return f"started and driven by {holder}"
    return f"started by {record.started_by}" + (f", driven by {holder}" if holder else "")


def noted(note: Note) -> str:
    """Return the message, with who did or requested it."""
    return f"{note.message}, by {note.who}" if note.who else note.message


def standing(line: RunLine) -> str | None:
    """Say what an unfinished run waits for, or that nobody drives it, if so."""
    if line.record.status != "running":
        return None
    if late := unattended(line):
        return late
    if line.holder is None:
        return nobody(line)
    if line.waiting:
        return f"waiting: {waiting(line.waiting, line.now)}"
    return f"waiting: {line.holder}" if line.submission and line.submission.waits else None


def unattended(view: RunView | RunLine) -> str | None:
    """Say what to do if a submitted run is due, and no worker has it."""
    if view.record.status != "running" or view.submission is None or not view.submission.late:
        return None
    if view.record.wanted == "cancel":
        return nobody(view)
    begin = "no worker has come" if view.holder is None else _NONE_JUST_NOW
    return (
        f"{begin}: is `backfill serve` running, with this state, and does the server "
        f"reach it? `backfill resume {view.record.id} --detach` submits the run again"
    )


def in_round(begun: Round | None) -> list[str]:
    """Return a drain's round, and its figure before it."""
    if begun is None or begun.left is None:
        return []
    left = f"{int(begun.left):,}" if float(begun.left).is_integer() else as_compared(begun.left)
    if begun.number == 1 and not begun.events:  # as where the goal was reached already
        return [f"at {left}"]
    return [f"round {begun.number:,}", f"at {left} before it"]


def were_sent(totals: Totals) -> str:
    return f"{totals.sent:,} of {counted(totals.planned, 'event', 'were')} sent"


def runs_for(stage: Stage) -> str:
    if stage.for_each == "once":
        return "the plan"
    noun = stage.for_each if stage.for_each in ("repo", "workspace", "row") else "item"
    counts = counted(stage.total, "event" if stage.repeated else noun)
    return counts + (" today" if stage.deferred else "")


def pacing(stage: StageSpec) -> str:
    """Describe the pacing; a cap that the events do not reach is left out."""
    some = not stage.batches or (stage.cap is not None and stage.total > stage.cap.events)
    cap = f", at most {stage.cap.events:,} in flight" if stage.cap and some else ""
    if stage.batches == 1:
        return f"1 batch{cap}"
    size, delay = stage.pacing.batch_size, format_delay(stage.pacing.delay, stage.pacing.jitter)
    if not stage.batches:
        return f"batches of {size:,}, {delay} apart{cap}"
    canary = f"{stage.canary:,} alone, then " if stage.canary else ""
    batches = stage.batches - bool(stage.canary)
    return f"{canary}{batches:,} x {size:,}, {delay} apart{cap}"


def until(stage: StageSpec) -> str:
    if stage.begins is not None:
        return f"scheduled, {offset(stage, 1)} to {offset(stage, stage.batches)}"
    if stage.until is None and stage.wait == "sent":
        return "sent"
    done = f"jobs completed, {format_duration(stage.timeout)}"  # rounds wait for theirs, too
    return f"{done}; until {stage.until.expect.words}" if stage.until else done


def queries(plan: ExecutionPlan) -> list[tuple[str, str]]:
    """Return the queries that were asked for the plan, and that will be, with what they are for."""
    lines = []
    for fact in plan.facts:
        later = ", asked again when its stage starts" if fact.deferred else ""
        lines.append((f"{fact.name}: {counted(fact.rows, 'row')}{later}", fact.query))
    for stage in plan.stages:
        if stage.until:
            most = counted(stage.until.max_rounds, "round")
            goal = f"until {stage.until.expect.words}, {most} at most"
            lines.append((f"{stage.operation}: {goal}", stage.until.question.query.text))
    for check in plan.checks:
        when = f"after {check.operation}" if check.moment == "after" else check.moment
        limit = f", within {format_duration(check.timeout)}" if check.timeout else ""
        question = check.question
        each = f", for each of {counted(len(question.items), 'item')}" if question.key else ""
        head = f"check {check.name} ({when}{limit}): {check.expect.words}{each}"
        lines.append((head, check.question.query.text))
    return lines


def deferred(plan: ExecutionPlan) -> str | None:
    names = [f"`{stage.operation}`" for stage in plan.stages if stage.deferred]
    if not names:
        return None
    verb = "is" if len(names) == 1 else "are"
    when = "resolved at the start of the stage: the figures above are today's"
    return f"{', '.join(names)} {verb} {when}"


def offset(stage: StageSpec, batch: int) -> str:
    """Return when a batch of a scheduled stage starts, relative to the run's start."""
    return f"+{format_duration(stage.at(batch) or 0.0)}"


def partial(selectors: str) -> str:
    return f"partial: {selectors}; it does not count as applied"


def of_first(run_id: str) -> str:
    """Say where to read what a retry has not sent; a cancelled run does not go on."""
    return f"`backfill status {run_id}` says what is left of that run"


def control(plan: ExecutionPlan) -> list[str]:
    """Return lines on what part it is, what starts it, recorded facts, verdicts, and what may pause
    the run or end it early."""
    lines = []
    if plan.partial:
        lines.append(partial(plan.partial.selectors.words))
    elif plan.schedule:  # which starts no part
        lines.append(f"started by its schedule: {plan.schedule.words}")
    if at := plan.answered_at:
        answered = datetime.fromisoformat(at).astimezone(UTC)
        lines.append(f"from answers of {answered:%Y-%m-%d %H:%M:%S} UTC")
    lines += [verdict(one) for one in plan.verdicts]
    if limit := plan.max_failures:
        many, share = counted(limit.count or 0, "event", "have"), (limit.ratio or 0) * 100
        most = many if limit.count else f"more than {share:g}% of its events have"
        lines.append(f"ends once {most} failed")
    if plan.needs_approval:
        lines.append(f"needs an approval of {plan.digest}")
    if needs := needed(plan.needs):
        lines.append(f"takes about {needs}")
    if plan.guards:
        lines.append(f"before each batch asks: {', '.join(map(guard, plan.guards))}")
    return lines


def verdict(one: Verdict) -> str:
    if one.holds:
        return f"rule {one.name} holds"
    level = "" if one.level == "mandatory" else ", which is advice"
    why = f": {one.message}" if one.message else ""
    return f"rule {one.name} does not hold{level}: {one.reason}{why}"


def guard(spec: GuardSpec) -> str:
    match spec:
        case GithubGuard():
            return f"github ({counted(spec.remaining, 'point')})"
        case HttpGuard():
            return f"http ({spec.url.partition('?')[0]})"
        case SqlGuard():
            return f"sql ({shortened(spec.query, 40)})"
        case CommandGuard():
            return f"command ({shortened(' '.join(spec.arguments), 40)})"
        case FileGuard():
            return f"file ({spec.path})"
        case WindowGuard():
            return f"window ({spec.words})"


def totals_line(plan: ExecutionPlan) -> str:
    parts = [
        counted(plan.events, "event"),
        counted(plan.batches, "batch"),
        counted(len(plan.stages), "stage"),
    ]
    if plan.scheduled and plan.stages:
        last = plan.stages[-1]
        return f"{', '.join(parts)}; sent at once, the last one to start at " + offset(
            last, last.batches
        )
    waits = [f"{format_duration(plan.duration)} of pacing"] if plan.duration else []
    if starts := max((last_start(stage) for stage in plan.stages if stage.own), default=0.0):
        waits.append(f"the last one to start at {moment(starts)} UTC")
    if waits:
        return f"{', '.join(parts)}; {', '.join(waits)}, plus the jobs' time"
    return f"{', '.join(parts)}; no pacing: it takes as long as its jobs"


def named(items: Sequence[str], total: int) -> str:
    """Name the first few items, and count the others."""
    shown = items[:MAX_NAMED]
    more = total - len(shown)
    text = ", ".join(shown)
    return f"{text}, +{more:,} more" if more > 0 else text
