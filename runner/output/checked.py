"""What a plan's checks, coverage and ledger say now, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TextIO

from runner.output.colors import styled
from runner.output.coverage import coverage_json, write_coverage_text
from runner.output.escape import visible
from runner.output.ledger import ledger_json, ledger_text
from runner.output.summary import checks_text
from runner.planning.checked import Checked
from runner.spec.secrets import redact

_NEEDS_RUN = "it compares with what was there before a run: only a run asks it"


def write_checked_text(found: Checked, out: TextIO, *, color: bool, width: int) -> None:
    lines = checks_text(found.checks, color=color)
    if found.skipped:
        lines += [] if lines else ["checks:"]
        lines += [f"  skipped  {visible(name)}: {_NEEDS_RUN}" for name in found.skipped]
    out.writelines(f"{line}\n" for line in lines)
    if found.coverage:
        write_coverage_text(found.coverage, out, color=color, width=width)
    if found.ledger:
        entry = ledger_text([found.ledger], color=color)
        out.write(f"on {visible(found.applied or '')}: {entry}\n")
    unmet = [visible(redact(one)) for one in found.unmet]
    verdict = "does not hold: " + "; ".join(unmet) if unmet else "all hold"
    if color:
        verdict = styled(verdict, "red" if unmet else "green", bold=True)
    out.write(f"{verdict}\n")


def checked_json(found: Checked) -> dict[str, object]:
    return {
        "apiVersion": "backfill/v1",
        "kind": "CheckResult",
        "plan": found.plan,
        "ok": found.ok,
        "unmet": [redact(one) for one in found.unmet],
        "checks": [
            asdict(check) | {"message": check.message and redact(check.message)}
            for check in found.checks
        ],
        "skipped": [{"name": name, "reason": _NEEDS_RUN} for name in found.skipped],
        "coverage": coverage_json(found.coverage),
        "target": found.applied,
        "ledger": ledger_json([found.ledger])[0] if found.ledger else None,
    }
