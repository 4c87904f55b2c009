"""What a plan leaves out, by operation and reason: a thousand of a kind are one group."""

from __future__ import annotations

from collections.abc import Iterable

from runner.model import Skipped, SkippedGroup

MAX_NAMED = 5


def grouped(skipped: Iterable[Skipped]) -> list[SkippedGroup]:
    """In first-seen order; without items where the whole operation is left out."""
    groups: dict[tuple[str, str], tuple[int, list[str]]] = {}
    for entry in skipped:
        total, items = groups.get((entry.operation, entry.reason), (0, []))
        if entry.item is not None:
            total += 1
            items += [entry.item] if len(items) < MAX_NAMED else []
        groups[entry.operation, entry.reason] = total, items
    return [
        SkippedGroup(operation, reason, total, tuple(items))
        for (operation, reason), (total, items) in groups.items()
    ]
