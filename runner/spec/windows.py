"""Windows of time: from a day or time to another, each as long as the last."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from runner.model import Data, frozen
from runner.spec.units import Faulty, parse_duration, parse_time

MAX_WINDOWS = 1_000_000
_DAY = 86_400.0


@frozen
class Windows:
    """`days`: they are written as days."""

    begins: datetime
    ends: datetime
    every: timedelta
    days: bool

    def __len__(self) -> int:
        return -((self.begins - self.ends) // self.every)

    def __getitem__(self, index: int) -> Data:
        begins = self.begins + index * self.every
        return {
            "from": self._written(begins),
            "to": self._written(min(begins + self.every, self.ends)),
        }

    def __iter__(self) -> Iterator[Data]:
        return map(self.__getitem__, range(len(self)))

    def _written(self, time: datetime) -> str:
        if self.days:
            return time.date().isoformat()
        return time.isoformat().replace("+00:00", "Z")


def windows(begins: str | None, ends: str | None, every: str | None) -> Windows:
    """None: what is written there is refused already. Raises `Faulty`."""
    faults = list[tuple[str, str]]()
    first, last = (_time(key, it, faults) for key, it in (("from", begins), ("to", ends)))
    seconds = parse_duration(every) if every else None
    if seconds == 0.0:
        faults.append(("every", "a window of no length never comes to an end"))
    if first and last and first >= last:
        faults.append(("to", f"`{ends}` does not come after `{begins}`, and it is exclusive"))
    days = seconds is not None and seconds % _DAY == 0
    for key, time, written in (("from", first, begins), ("to", last, ends)):
        if days and seconds and time and time.timetuple()[3:6] != (0, 0, 0):
            faults.append((key, f"`{written}` is no whole day, and `every: {every}` is days"))
    if first and last and seconds and (last - first).total_seconds() / seconds > MAX_WINDOWS:
        faults.append(("every", f"they come to more than {MAX_WINDOWS:,} windows"))
    if faults or not (first and last and seconds):
        raise Faulty(faults)
    return Windows(first, last, timedelta(seconds=seconds), days)


def _time(key: str, written: str | None, faults: list[tuple[str, str]]) -> datetime | None:
    try:
        return parse_time(written).astimezone(UTC) if written else None
    except (ValueError, OverflowError):
        hint = "write it as 2026-01-31 or 2026-01-31T12:00:00Z"
        faults.append((key, f"`{written}` is no day or time; {hint}"))
        return None
