"""How plans stand on a target, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence

import click

from runner.output.escape import visible
from runner.output.run_text import moment
from runner.planning.ledger import Entry

_COLORS = {"pending": "cyan", "applied": "green", "changed": "yellow", "failed": "red",
           "unfinished": "yellow"}  # fmt: skip


def ledger_text(entries: Sequence[Entry], *, color: bool) -> str:
    lines = []
    for entry in entries:
        word = f"{entry.standing:10}"
        word = click.style(word, fg=_COLORS[entry.standing]) if color else word
        run = f"  run {entry.run.run_id}, {moment(entry.run.at)} UTC" if entry.run else ""
        lines.append(f"{word}  {visible(entry.name)}  {visible(entry.path)}{run}")
    return "\n".join(lines)


def ledger_json(entries: Sequence[Entry]) -> list[dict[str, object]]:
    return [
        {
            "name": entry.name,
            "path": entry.path,
            "state": entry.standing,
            "depends_on": list(entry.depends_on),
            "run_id": entry.run.run_id if entry.run else None,
            "status": entry.run.status if entry.run else None,
        }
        for entry in entries
    ]
