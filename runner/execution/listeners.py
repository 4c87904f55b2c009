"""Decide the outcome of an event whose jobs have ended, or that started none, by the configuration
of the server's functions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from runner.model import Function, Job, Outcome

_ENDINGS: Mapping[str, Outcome] = {
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "skipped": "dropped",
}
_WORSE: Sequence[Outcome] = ("completed", "dropped", "cancelled", "failed")
_MAYBE = (
    "and the server does not list its functions: perhaps none listens, the event's id was seen "
    "within the last 24 hours, or a debounce, a batch, a rate limit, a singleton or a filter keeps "
    "it back"
)


class Ending(NamedTuple):
    outcome: Outcome
    message: str | None = None


@dataclass(slots=True)
class Listeners:
    """The functions that listen to events. `functions`: None if the server does not list them.
    `untold`: functions, as their jobs name them, with jobs for batches of which the server names
    only one event."""

    functions: Sequence[Function] | None = None
    untold: set[str] = field(default_factory=set)
    _of: dict[str, tuple[Function, ...]] = field(default_factory=dict)

    def know(self, functions: Sequence[Function] | None) -> None:
        """Set the functions; keep the known ones if the server does not list them."""
        if functions is not None:
            self.functions = functions
            self._of.clear()

    def of(self, event: str) -> tuple[Function, ...]:
        """Return the functions that listen to the event: first those that take every event, then
        those with only a filter."""
        if event not in self._of:
            heard = [one for one in self.functions or () if one.hears(event)]
            heard.sort(key=lambda one: (any(one.droppers(event)), not one.routes(event)))
            self._of[event] = tuple(heard)
        return self._of[event]

    def among(self, events: Iterable[str]) -> Sequence[Function] | None:
        """Return the functions that the events may start; None if unknown."""
        if self.functions is None:
            return None
        found = [one for event in set(events) for one in self.of(event)]
        return found or None

    def rest(self, event: str) -> float:
        """Return how many seconds a function may hold such an event before its job starts."""
        return max((one.rest for one in self._active(event)), default=0.0)

    def missing(self, event: str, jobs: Sequence[Job]) -> list[Function]:
        """Return the functions that owe the event a job.

        A job of an unknown function (as in answers about one event) counts for a function without a
        job; those that may have dropped the event come last.
        """
        waiting, strangers = list(self._active(event)), 0
        rerun = {job.original for job in jobs}
        for job in (job for job in jobs if job.id not in rerun):
            its = next((one for one in waiting if job.function in one.names), None)
            if its is not None:
                waiting.remove(its)
            elif not any(job.function in one.names for one in self.functions or ()):
                strangers += 1
        return waiting[strangers:]

    def at_once(self, event: str, missing: Sequence[Function]) -> bool:
        """Whether these would have started by now if another function of the event has: what passes
        a filter, a rate limit or a singleton starts at once."""
        return all(not one.rest and any(one.droppers(event)) for one in missing)

    def routed(self, event: str, missing: Sequence[Function]) -> bool:
        """Whether only their filters keep them from having a job: then the event is for others."""
        return all(not one.rest and one.routes(event) for one in missing)

    def ending(
        self, event: str, jobs: Sequence[Job], seconds: float, *, complete: bool, heard: bool
    ) -> Ending:
        """Decide the outcome of an event. `seconds`: how long a job was waited for; `complete`: all
        jobs were looked at, even those that name none of our events; `heard`: other events of this
        name have started jobs."""
        began = verdict(jobs) if jobs else None
        if began and began.outcome != "completed":
            return self._worded(event, began)
        ends = [
            self._absent(one, event, seconds, complete=complete)
            for one in self.missing(event, jobs)
            if not (began and one.routes(event))
        ]
        for kind in ("no_job", "unknown", "dropped"):
            if worst := next((end for end in ends if end.outcome == kind), None):
                return worst
        return began or self._silent(event, heard=heard)

    def _absent(self, one: Function, event: str, seconds: float, *, complete: bool) -> Ending:
        """The ending for a function that owes the event a job and has none."""
        if one.batch and (not complete or self.untold.intersection(one.names)):
            return Ending(
                "unknown",
                f"`{one.name}` takes its events in batches, and the server names only one "
                "event of each: it is not known whether a job had this one",
            )
        if droppers := list(one.droppers(event)):
            return Ending(
                "dropped", f"dropped by `{one.name}`: by its {', or its '.join(droppers)}"
            )
        return Ending(
            "no_job",
            f"`{one.name}` listens to `{event}`, and no job started for it within {seconds:g}s: is "
            "the server behind, or was its id seen within the last 24 hours?",
        )

    def _silent(self, event: str, *, heard: bool) -> Ending:
        """The ending of an event that has no job, and that no function owes one."""
        if self.functions is None and self.untold:
            return Ending(
                "unknown",
                "the server names only one event of each batch, and not the functions "
                "that take batches: it is not known whether a job had this one",
            )
        if self.functions is None:
            message = "no job started for it"
            if heard:
                message = f"no job started for it, although jobs started for other `{event}` events"
            return Ending("no_job", f"{message}, {_MAYBE}")
        if paused := [f"`{one.name}`" for one in self.of(event)]:
            return Ending("no_job", f"no job started: {', '.join(paused)} paused on the server")
        return Ending("no_job", f"no function listens to `{event}`: no job started")

    def _worded(self, event: str, end: Ending) -> Ending:
        """Add what the configuration of the functions tells about an ending."""
        single = [one for one in self.of(event) if one.singleton]
        names = ", ".join(f"`{one.name}`" for one in single)
        if end.outcome == "dropped" and single:
            return Ending("dropped", f"skipped: {names} runs one job at a time (singleton)")
        if end.outcome == "cancelled" and any(
            one.singleton.cancels for one in single if one.singleton
        ):
            by = f"{end.message}; a later event cancels it, as {names} is a singleton that cancels"
            return Ending("cancelled", by)
        return end

    def _active(self, event: str) -> list[Function]:
        return [one for one in self.of(event) if not one.paused]


def verdict(jobs: Sequence[Job]) -> Ending:
    """Return the ending of an event whose jobs have all ended: the worst of them.

    A job that somebody reran by hand counts as its rerun.
    """
    rerun = {job.original for job in jobs}
    ends = [_end(job) for job in jobs if job.id not in rerun]
    return max(ends, key=lambda end: _WORSE.index(end.outcome), default=Ending("completed"))


def _end(job: Job) -> Ending:
    outcome = _ENDINGS.get(job.status.lower(), "failed")
    if outcome == "completed":
        return Ending(outcome)
    if outcome == "dropped":
        why = "its function is paused, a singleton, or has too long a backlog"
        return Ending(outcome, f"the server skipped its job: {why}")
    return Ending(outcome, job.message or f"the job ended as {job.status}")
