"""The state of plans on a target, and the results of checks, coverage and the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from runner.errors import BackfillError
from runner.model import RunView
from runner.output import words
from runner.output.coverage import figures_json, write_coverage_text
from runner.output.markdown import (
    MAX_CHARACTERS,
    MAX_COMMENT,
    cell,
    code,
    fitting,
    refusal,
    with_more,
)
from runner.output.run import run_markdown
from runner.output.summary import checks_text
from runner.output.table import Cell, table
from runner.output.text import document, styled, visible
from runner.spec.units import counted

if TYPE_CHECKING:
    from runner.planning.ledger import Checked, LedgerEntry, PlanState

_COLORS = {"pending": "cyan", "applied": "green", "changed": "yellow", "failed": "red",
           "unfinished": "yellow", "sent": "yellow", "partial": "cyan"}  # fmt: skip


def ledger_text(entries: Sequence[LedgerEntry], *, color: bool, width: int | None) -> str:
    headings = ("state", "plan", "file", "run")
    rows = (
        (Cell(entry.state, _COLORS[entry.state]), entry.name, entry.path, _run(entry))
        for entry in entries
    )
    return "\n".join(table(headings, rows, width=width, color=color))


def nothing_pending(plans: int) -> str:
    return f"nothing is pending: {counted(plans, 'plan', 'are')} applied"


def _run(entry: LedgerEntry) -> str:
    run = entry.run
    if run is None:
        return ""
    at = f"{words.moment(run.at)} UTC"
    if run.baseline:
        return f"baseline of {at}: {run.baseline}"
    part = f" ({run.partial})" if run.partial else ""
    return f"{run.run_id}, {at}{part}"


def ledger_json(entries: Sequence[LedgerEntry], target: str) -> dict[str, object]:
    return document("Ledger", target=target, plans=[_entry(entry) for entry in entries])


def synced_json(
    commit: str | None, entries: Sequence[LedgerEntry] | None, target: str
) -> dict[str, object]:
    """Return the result of one look of `sync`; `entries`: None if nothing was pending."""
    plans = None if entries is None else [_entry(entry) for entry in entries]
    return document("SyncResult", commit=commit, target=target, plans=plans)


def _entry(entry: LedgerEntry) -> dict[str, object]:
    return {
        "name": entry.name,
        "path": entry.path,
        "state": entry.state,
        "depends_on": list(entry.depends_on),
        "run_id": entry.run.run_id if entry.run else None,
        "status": entry.run.status if entry.run else None,
        "baseline": entry.run.baseline if entry.run else None,
    }


def ledger_markdown(
    entries: Sequence[LedgerEntry],
    target: str | None,
    error: BackfillError | None,
    *,
    link: str | None,
) -> str:
    """Show the plans after `apply`, and the error that ended it; at most half a comment. `target`:
    None if only the plans would have named it."""
    states = [entry.state for entry in entries]
    counts = [f"{counted(states.count(one), 'plan')} {one}" for one in _ORDER if one in states]
    sign = "✅" if error is None and set(states) <= {"applied"} else "❌"
    where = f" → {code(target)}" if target else ""
    blocks = [f"### {sign} Backfill plans{where}: {', '.join(counts) or 'none'}"]
    if error:
        blocks.append(refusal(error))
    if entries:
        rows = [
            f"| {cell(entry.name)} | {entry.state} | {cell(_run(entry))} |"
            for entry in sorted(entries, key=lambda entry: _ORDER.index(entry.state))
        ]
        kept = ["| plan | | run |", "|---|---|---|", *fitting(rows, MAX_CHARACTERS // 2)]
        blocks.append(with_more(kept, len(rows) + 2, "\n"))
    if link:
        blocks.append(f"[The job](<{link}>)")
    return "\n\n".join(blocks) + "\n"


def with_runs(text: str, views: Sequence[RunView]) -> str:
    """Append the runs to the text, as far as they fit into a comment."""
    share = (MAX_COMMENT - len(text)) // max(1, len(views)) - 1
    runs = (run_markdown(view, share) for view in views)
    return "\n".join([text, *(one for one in runs if len(one) <= share)])


_ORDER: tuple[PlanState, ...] = (
    *("failed", "unfinished", "sent", "changed", "partial", "pending", "applied"),
)


_NEEDS_RUN = "it compares with the values before a run, so only a run can ask it"


def write_checked_text(found: Checked, out: TextIO, *, color: bool, width: int | None) -> None:
    lines = checks_text(found.checks, color=color)
    if found.skipped:
        lines += [] if lines else ["checks:"]
        lines += [f"  skipped  {visible(name)}: {_NEEDS_RUN}" for name in found.skipped]
    out.writelines(f"{line}\n" for line in lines)
    if found.coverage:
        write_coverage_text(found.coverage, out, color=color, width=width)
    if found.ledger:
        entry = ledger_text([found.ledger], color=color, width=None)
        out.write(f"on {visible(found.applied or '')}:\n{entry}\n")
    unmet = [visible(one) for one in found.unmet]
    verdict = "does not hold: " + "; ".join(unmet) if unmet else "all hold"
    if color:
        verdict = styled(verdict, "red" if unmet else "green", bold=True)
    out.write(f"{verdict}\n")


def checked_json(found: Checked) -> dict[str, object]:
    return document(
        "CheckResult",
        plan=found.plan,
        ok=found.ok,
        unmet=found.unmet,
        checks=[asdict(check) for check in found.checks],
        skipped=[{"name": name, "reason": _NEEDS_RUN} for name in found.skipped],
        coverage=figures_json(found.coverage),
        target=found.applied,
        ledger=_entry(found.ledger) if found.ledger else None,
    )
