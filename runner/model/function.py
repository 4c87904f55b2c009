"""The functions of a server, as its configuration describes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import NamedTuple

from runner.model.value import frozen


class Trigger(NamedTuple):
    """An event that starts a function; the name may end in ``*``. `condition`: the filter."""

    event: str
    condition: str | None = None

    def hears(self, event: str) -> bool:
        if self.event.endswith("*"):
            return event.startswith(self.event[:-1])
        return event == self.event


class Rate(NamedTuple):
    """`limit` starts in `period` seconds; for each value of `key`, if given."""

    limit: int
    period: float
    key: str | None = None


class Rest(NamedTuple):
    """How many seconds a debounce or a batch may hold an event before its job starts."""

    seconds: float
    key: str | None = None


class Singleton(NamedTuple):
    """One job at a time. `cancels`: a later job cancels the running one; otherwise it is
    dropped."""

    cancels: bool
    key: str | None = None


@frozen
class Function:
    """A function; `names`: how jobs may refer to it, the display name first. `app`: None if
    unknown."""

    names: tuple[str, ...]
    triggers: tuple[Trigger, ...] = field(default=())
    app: str | None = None
    debounce: Rest | None = None
    batch: Rest | None = None
    rate_limit: Rate | None = None
    throttle: Rate | None = None
    singleton: Singleton | None = None
    paused: bool = False

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def rest(self) -> float:
        """Seconds that an event may wait before its job starts."""
        return max(one.seconds if one else 0.0 for one in (self.debounce, self.batch))

    def hears(self, event: str) -> bool:
        return any(trigger.hears(event) for trigger in self.triggers)

    def filters(self, event: str) -> tuple[str, ...]:
        """Return the conditions of the event's triggers; none if a trigger has no condition."""
        heard = [trigger.condition for trigger in self.triggers if trigger.hears(event)]
        return () if None in heard else tuple(filter(None, heard))

    def routes(self, event: str) -> bool:
        """Whether a filter is the only thing that may keep the event from starting a job."""
        return bool(self.filters(event)) and len(list(self.droppers(event))) == 1

    def droppers(self, event: str) -> Iterator[str]:
        """Describe what may keep the event from starting a job."""
        if self.rate_limit:
            rate = self.rate_limit
            yield f"rate limit ({rate.limit:,} in {span(rate.period)}{_each(rate.key)})"
        if self.singleton and not self.singleton.cancels:
            yield f"singleton (one job at a time{_each(self.singleton.key)})"
        if self.debounce:
            rest = self.debounce
            yield f"debounce ({span(rest.seconds)}: the latest event{_each(rest.key)} counts)"
        if filters := self.filters(event):
            yield f"filter ({' or '.join(filters)})"


def span(seconds: float) -> str:
    """Format a configured time in its largest whole unit."""
    for name, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length and not seconds % length:
            return f"{seconds / length:g}{name}"
    return f"{seconds:g}s"


def _each(key: str | None) -> str:
    return f" of each `{key}`" if key else ""
