"""How plans stand on a target, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence

from runner.errors import BackfillError
from runner.output import words
from runner.output.colors import styled
from runner.output.escape import visible
from runner.output.markdown import MAX_CHARACTERS, cell, code, fitting, with_more
from runner.planning.ledger import LedgerEntry, PlanState
from runner.spec.secrets import redact

_COLORS = {"pending": "cyan", "applied": "green", "changed": "yellow", "failed": "red",
           "unfinished": "yellow", "sent": "yellow"}  # fmt: skip


def ledger_text(entries: Sequence[LedgerEntry], *, color: bool) -> str:
    lines = []
    for entry in entries:
        word = f"{entry.state:10}"
        word = styled(word, _COLORS[entry.state]) if color else word
        run = f"  run {entry.run.run_id}, {words.moment(entry.run.at)} UTC" if entry.run else ""
        lines.append(f"{word}  {visible(entry.name)}  {visible(entry.path)}{run}")
    return "\n".join(lines)


def ledger_json(entries: Sequence[LedgerEntry]) -> list[dict[str, object]]:
    return [
        {
            "name": entry.name,
            "path": entry.path,
            "state": entry.state,
            "depends_on": list(entry.depends_on),
            "run_id": entry.run.run_id if entry.run else None,
            "status": entry.run.status if entry.run else None,
        }
        for entry in entries
    ]


def ledger_markdown(
    entries: Sequence[LedgerEntry], target: str, error: BackfillError | None, *, link: str | None
) -> str:
    """How the plans stand after `apply`, and what ended it early; at most half a comment."""
    states = [entry.state for entry in entries]
    counts = [
        f"{words.counted(states.count(one), 'plan')} {one}" for one in _ORDER if one in states
    ]
    sign = "✅" if error is None and set(states) <= {"applied"} else "❌"
    blocks = [f"### {sign} Backfill plans → {code(target)}: {', '.join(counts) or 'none'}"]
    if error:
        hint = f" {cell(redact(error.hint))}" if error.hint else ""
        blocks.append(f"**{cell(redact(str(error)))}**{hint}")
    if entries:
        rows = [
            f"| {cell(entry.name)} | {entry.state} | {entry.run.run_id if entry.run else ''} |"
            for entry in sorted(entries, key=lambda entry: _ORDER.index(entry.state))
        ]
        kept = ["| plan | | run |", "|---|---|---|", *fitting(rows, MAX_CHARACTERS // 2)]
        blocks.append(with_more(kept, len(rows) + 2, "\n"))
    if link:
        blocks.append(f"[The job](<{link}>)")
    return "\n\n".join(blocks) + "\n"


_ORDER: tuple[PlanState, ...] = ("failed", "unfinished", "sent", "changed", "pending", "applied")
