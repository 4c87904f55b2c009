"""The order of items within a stage."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from runner.model import Json, OrderKey, Repositories
from runner.spec.units import PRIORITIES


def ordered(rows: Repositories, keys: Sequence[OrderKey]) -> tuple[array[int], list[str]]:
    """Indexes of `rows` by `keys`, and the attributes that no row has.

    Priorities order by rank, numbers before text, missing values come last whichever way a key
    points, ties keep the written order.
    """
    columns: list[list[Json]] = [[] for _ in keys]
    if keys:
        for row in rows:
            for key, column in zip(keys, columns, strict=True):
                column.append(_comparable(key.attribute, row.get(key.attribute)))
    indexes = list(range(len(rows)))
    unknown = []
    for key, column in reversed(list(zip(keys, columns, strict=True))):
        kinds = {type(value) is str for value in column if value is not None}
        if not kinds:
            unknown.append(key.attribute)
            continue
        if len(kinds) == 2:
            column = [None if value is None else (type(value) is str, value) for value in column]
        present = [index for index in indexes if column[index] is not None]
        missing = [index for index in indexes if column[index] is None]
        present.sort(key=column.__getitem__, reverse=key.descending)
        indexes = present + missing
    return array("L", indexes), list(reversed(unknown))


def _comparable(attribute: str, value: Json) -> Json:
    if attribute == "priority":
        return PRIORITIES.get(value) if isinstance(value, str) else None
    if value is None or isinstance(value, int | float | str):
        return value
    return str(value)
