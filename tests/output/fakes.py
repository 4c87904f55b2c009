"""A name that attacks every form of output, and items without a plan file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from runner.model import Data, Event

HOSTILE = "[red]\x1b[2J\x9b1m\u202e:boom:```\n</details><script>|@team #1"
DANGEROUS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class FakeItems:
    """One event per name; `asked` collects the names whose event was requested."""

    def __init__(
        self, names: Sequence[str], asked: list[str] | None = None, data: Data | None = None
    ) -> None:
        self._names, self._asked, self._data = names, asked if asked is not None else [], data

    def __len__(self) -> int:
        return len(self._names)

    def raw(self, start: int = 0) -> Iterator[tuple[str, bytes]]:
        raise NotImplementedError

    def lines(self, start: int = 0) -> Iterator[list[bytes]]:
        raise NotImplementedError

    def events(self, start: int = 0) -> Iterator[tuple[str, Event]]:
        for name in self._names[start:]:
            self._asked.append(name)
            yield name, Event("app/sync", self._data or {"repo": name})
