"""How much of the data is there, item by item, from the answers to a plan's coverage questions."""

from __future__ import annotations

from collections.abc import Mapping

from runner.model import Covered, Json, Measure, Table

NEEDED = ("item", "total", "done")


def covered(measure: Measure, now: Table, before: Table | None = None) -> list[Covered]:
    """Each item that the question was meant for is there: one without a row is no data.

    Raises ValueError, in words, where the answer is not of the form that coverage has."""
    of, question = measure.name, measure.question
    missing = [name for name in NEEDED if name not in now.columns]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise ValueError(f"the coverage `{of}` gives no column {names}; name them with `as`")
    earlier = {row["item"]: row["done"] for row in before.dicts()} if before else {}
    found = [_row(of, row, earlier) for row in now.dicts()]
    if question.key is None:
        return found
    called = question.by_key()
    there = {called.get(row.item) for row in found}
    return [*found, *(Covered.unknown(of, item) for item in question.items if item not in there)]


def _row(of: str, row: Mapping[str, Json], earlier: Mapping[str, Json]) -> Covered:
    item = str(row["item"])
    figures = {name: row.get(name) for name in ("total", "done", "pending")}
    for name, value in figures.items():
        if name in NEEDED and (isinstance(value, bool) or not isinstance(value, int | float)):
            what = "NULL, which is no data" if value is None else "no number"
            raise ValueError(f"the coverage `{of}` of {item}: `{name}` is {what}")
    pending, last = figures["pending"], row.get("last_sync")
    before = earlier.get(row["item"])
    return Covered(
        of,
        item,
        int(figures["total"] or 0),
        int(figures["done"] or 0),
        None if pending is None else int(pending),
        None if last is None else str(last),
        None if before is None else int(before),
    )
