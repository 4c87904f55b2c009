"""What would go wrong, before anything is sent: the target, its functions, its keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches

from runner.errors import KeyRefused, TargetError
from runner.execution.ports import Hello, Listener, Probe, Seen
from runner.model import ExecutionPlan, Finding

MAX_SKEW = 30.0  # seconds; the protocol bears more, people who compare times do not
_SIGNING = "signkey-"


def examine_keys(event_key: str | None, signing_keys: Sequence[str]) -> list[Finding]:
    """Their form alone; no key is ever part of a finding."""
    found = []
    if not event_key:
        mend = "set INNGEST_EVENT_KEY, or INNGEST_PRODUCTION_EVENT_KEY for cloud"
        found.append(Finding("event key", "fail", "there is none", mend))
    elif event_key.startswith(_SIGNING):
        mend = "event keys are made under Manage > Event Keys"
        found.append(Finding("event key", "fail", "it is a signing key", mend))
    if signing_keys and event_key in signing_keys:
        mend = "set INNGEST_SIGNING_KEY to the signing key"
        found.append(Finding("signing key", "fail", "it is the event key", mend))
    return found


async def examine_target(probe: Probe, name: str, *, follows: bool) -> list[Finding]:
    """Whether the server is there, takes the event key, and lets its jobs be followed.

    `follows`: a signing key is there, or none is needed.
    """
    try:
        hello = await probe.hello()
    except TargetError as error:
        return [Finding("target", "fail", str(error), error.hint)]
    version = f", version {hello.version}" if hello.version else ""
    found = [Finding("target", "ok", f"{name} answers{version}"), *_skew(hello)]
    try:
        await probe.accept()
        found.append(Finding("event key", "ok", "accepted (asked without an event)"))
    except TargetError as error:
        found.append(Finding("event key", "fail", str(error), error.hint))
    if not follows:
        mend = "set INNGEST_SIGNING_KEY; without it, send with --no-wait"
        found.append(Finding("signing key", "warn", "none: jobs cannot be followed", mend))
        return found
    try:
        await probe.follow()
        found.append(Finding("signing key", "ok", "jobs can be followed"))
    except KeyRefused as error:
        found.append(Finding("signing key", "fail", str(error), error.hint))
    except TargetError as error:
        found.append(Finding("target", "fail", str(error), error.hint))
    return found


def listening(
    plan: ExecutionPlan,
    listeners: Sequence[Listener] | None,
    seen: Callable[[str], Seen | None] = lambda _: None,
) -> list[Finding]:
    """Which functions the plan's events start; where the server cannot tell, what `seen` has."""
    events = {stage.event: stage.operation for stage in plan.stages}
    if listeners is None:
        return [_from_the_past(event, seen(event)) for event in events]
    return [_heard(event, listeners) for event in events]


def _heard(event: str, listeners: Sequence[Listener]) -> Finding:
    functions = sorted({one.function for one in listeners if one.hears(event)})
    if functions:
        return Finding("listeners", "ok", f"`{event}` starts {', '.join(functions)}")
    known = sorted({one.event for one in listeners})
    near = get_close_matches(event, known, n=1)
    if near:
        mend = f"did you mean `{near[0]}`?"
    elif known:
        mend = f"functions listen to: {', '.join(known[:10])}"
    else:
        mend = "no app is connected to this server: start your worker, and sync it"
    message = f"no function listens to `{event}`: it would be accepted, and nothing would run"
    return Finding("listeners", "fail", message, mend)


def _from_the_past(event: str, seen: Seen | None) -> Finding:
    if seen is None:
        mend = "`canary: 1` in the plan tries one event before the others"
        return Finding("listeners", "warn", f"the server does not tell who hears `{event}`", mend)
    if seen.jobs:
        return Finding("listeners", "ok", f"`{event}` started jobs in run {seen.run_id}")
    message = f"`{event}` started no job in run {seen.run_id}, and the server does not tell why"
    return Finding("listeners", "warn", message, "look at whether its function is deployed")


def _skew(hello: Hello) -> list[Finding]:
    if hello.skew is None:
        return []
    apart = f"{abs(hello.skew):,.0f} s"
    if abs(hello.skew) <= MAX_SKEW:
        return [Finding("clock", "ok", f"within {MAX_SKEW:.0f} s of the server's")]
    which = "behind" if hello.skew > 0 else "ahead of"
    mend = "set this machine's clock by NTP: what is newer than the run is told by it"
    return [Finding("clock", "warn", f"{apart} {which} the server's", mend)]
