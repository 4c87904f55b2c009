"""Coverage for people (bars), for spreadsheets (CSV) and for machines (JSON)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

from runner.model import Covered
from runner.output.table import table
from runner.output.text import csv_lines, document, styled, visible

_BAR = 20  # characters
_INDENT = "  "
_MOST = 50  # rows shown to people: those that lack most
_FIELDS = ("of", "item", "total", "done", "missing", "percent", "pending", "last_sync", "gained")


def write_coverage_text(
    found: Mapping[str, Sequence[Covered]], out: TextIO, *, color: bool, width: int | None
) -> None:
    compared = any(row.gained is not None for rows in found.values() for row in rows)
    headings = ["item", ">total", ">with", ">without", ">pending", ">covered"]
    headings += [">gained"] if compared else []
    for name, rows in found.items():
        out.write(f"{styled(visible(name), None, bold=True) if color else visible(name)}\n")
        if not rows:
            out.write("   no data: the query gives no rows\n")
            continue
        shown = _worst(rows)
        cells = (
            [row.item, *_counts(row), _bar(row)]
            + ([_gained(row)] if compared else [])
            + [(row.last_sync or "-")[:19]]
            for row in [*shown, *([Covered.total_of(rows)] if len(rows) > 1 else [])]
        )
        within = None if width is None else width - len(_INDENT)
        lines = table([*headings, "last sync"], cells, width=within, color=color)
        out.writelines(f"{_INDENT}{line}\n" for line in lines)
        if cut := len(rows) - len(shown):
            lacking = sum(map(_lacks, rows)) - sum(map(_lacks, shown))
            out.write(f"   ... and {cut:,} more, {lacking:,} of them not whole (--format json)\n")


def _worst(rows: Sequence[Covered]) -> Sequence[Covered]:
    """Pick as many rows as people read, those that lack most, in the query's order."""
    if len(rows) <= _MOST:
        return rows
    numbers = sorted(range(len(rows)), key=lambda n: (not _lacks(rows[n]), -rows[n].missing))
    return [rows[number] for number in sorted(numbers[:_MOST])]


def _lacks(row: Covered) -> bool:
    return row.percent != 100


def write_coverage_csv(found: Mapping[str, Sequence[Covered]], out: TextIO) -> None:
    covered = (row for rows in found.values() for row in rows)
    out.writelines(csv_lines([_FIELDS]))
    out.writelines(csv_lines(_values(row).values() for row in covered))


def coverage_json(found: Mapping[str, Sequence[Covered]]) -> dict[str, object]:
    return document("Coverage", coverage=figures_json(found))


def figures_json(found: Mapping[str, Sequence[Covered]]) -> dict[str, object]:
    return {
        name: {
            "total": _values(Covered.total_of(rows)) if rows else None,
            "items": [_values(row) for row in rows],
        }
        for name, rows in found.items()
    }


def _values(row: Covered) -> dict[str, object]:
    values = {name: getattr(row, name) for name in _FIELDS}
    return values | {"percent": row.percent}


def _counts(row: Covered) -> list[str]:
    pending = "-" if row.pending is None else f"{row.pending:,}"
    if not row.there:
        return ["-", "-", "-", pending]
    return [f"{row.total:,}", f"{row.done:,}", f"{row.missing:,}", pending]


def _bar(row: Covered) -> str:
    if row.percent is None:
        return "no data"
    full = max(0, int(row.percent / 100 * _BAR))  # rounded down: a full bar means all
    return f"{'█' * full}{'░' * (_BAR - full)} {row.percent_text:>5} %"


def _gained(row: Covered) -> str:
    return "-" if row.gained is None else f"{row.gained:+,}"
