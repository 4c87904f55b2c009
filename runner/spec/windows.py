"""Windows of time: from a day or time to another, each as long as the last."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from runner.model import Data, frozen
from runner.spec.units import parse_duration, parse_time

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


def windows(begins: str, ends: str, every: str) -> Windows:
    """Raises ValueError with what is wrong, after the key that is at fault and a colon."""
    first, last = _time("from", begins), _time("to", ends)
    seconds = parse_duration(every)
    if not seconds:
        raise ValueError("every: a window of no length never comes to an end")
    if first >= last:
        raise ValueError(f"to: `{ends}` does not come after `{begins}`, and it is exclusive")
    days = seconds % _DAY == 0
    found = Windows(first, last, timedelta(seconds=seconds), days)
    if (last - first).total_seconds() / seconds > MAX_WINDOWS:
        raise ValueError(f"every: they come to more than {MAX_WINDOWS:,} windows")
    for key, time, written in (("from", first, begins), ("to", last, ends)):
        if days and time.timetuple()[3:6] != (0, 0, 0):
            raise ValueError(f"{key}: `{written}` is no whole day, and `every: {every}` is days")
    return found


def _time(key: str, written: str) -> datetime:
    try:
        return parse_time(written).astimezone(UTC)
    except (ValueError, OverflowError):
        message = f"{key}: `{written}` is no day or time; write it as 2026-01-31"
        raise ValueError(f"{message} or 2026-01-31T12:00:00Z") from None
