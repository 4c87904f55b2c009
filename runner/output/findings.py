"""What a doctor has found, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence

from runner.model import Finding
from runner.output.colors import styled
from runner.output.escape import visible
from runner.output.words import counted

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


def findings_text(findings: Sequence[Finding], *, color: bool) -> str:
    """A line each, its hint below it, and a verdict at the end."""
    wide = max((len(finding.about) for finding in findings), default=0)
    lines = []
    for about, level, message, hint in findings:
        mark, paint = _MARKS[level]
        mark = styled(mark, paint, bold=True) if color else mark
        lines.append(f" {mark} {about:<{wide}}  {visible(message)}")
        if hint and level != "ok":
            lines.append(f"   {'':<{wide}}  → {visible(hint)}")
    return "\n".join([*lines, "", verdict(findings)])


def verdict(findings: Sequence[Finding]) -> str:
    fails = sum(finding.level == "fail" for finding in findings)
    warnings = sum(finding.level == "warn" for finding in findings)
    if fails:
        said = f"{counted(fails, 'fault')} that would keep a run from doing its work"
        return said + (f", {counted(warnings, 'warning')}" if warnings else "")
    return f"Fit to run, with {counted(warnings, 'warning')}." if warnings else "Fit to run."


def findings_json(findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "ok": not any(finding.level == "fail" for finding in findings),
        "findings": [finding._asdict() for finding in findings],
    }
