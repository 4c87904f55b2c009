"""What a rehearsal shows of the whole plan."""

from __future__ import annotations

from runner.output.markdown import cell, code
from runner.planning.rehearsal import Rehearsal
from runner.spec.units import counted, format_duration


def rehearsal_markdown(found: Rehearsal) -> str:
    run, plan = found.events
    lines = [
        f"### Rehearsal of {code(found.plan)}: {run:,} of {counted(plan, 'event')}",
        "",
        f"Run {code(found.run_id)} on {code(found.place)}.",
        f"The whole takes {cell(found.whole.words)}.",
        "",
        "| operation | run | plan | completed | p50 | p95 |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {cell(one.operation)} | {one.run:,} | {one.plan:,} | {one.completed:,} "
        f"| {_time(one.p50)} | {_time(one.p95)} |"
        for one in found.operations
    ]
    if found.coverage:
        lines.append("")
    for name, total in found.coverage.items():
        gained = "" if total.gained is None else f" ({total.gained:+,})"
        share = "no data" if total.percent is None else f"{total.percent_text} %"
        figures = f"{total.done:,} of {total.total:,}{gained}, {share}"
        lines.append(f"- coverage {cell(name)}: {figures}")
    return "\n".join(lines) + "\n"


def rehearsal_json(found: Rehearsal) -> dict[str, object]:
    run, plan = found.events
    return {
        "apiVersion": "backfill/v1",
        "kind": "Rehearsal",
        "run_id": found.run_id,
        "place": found.place,
        "plan": found.plan,
        "events": {"run": run, "plan": plan},
        "operations": [
            {
                "operation": one.operation,
                "run": one.run,
                "plan": one.plan,
                "completed": one.completed,
                "p50_s": one.p50,
                "p95_s": one.p95,
            }
            for one in found.operations
        ],
        "whole": {"seconds": found.whole.seconds, "basis": found.whole.basis},
        "coverage": {
            name: {"total": total.total, "done": total.done, "gained": total.gained}
            for name, total in found.coverage.items()
        },
    }


def _time(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(round(seconds, 1))
