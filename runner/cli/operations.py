"""`backfill operations`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from runner.cli.options import format_option
from runner.cli.printing import people, print_json, wants_color
from runner.errors import InvalidPlan
from runner.model import Data
from runner.output.operations import operations_json
from runner.output.text import styled, visible
from runner.spec.catalog import CatalogEntry


@click.command(
    "operations",
    epilog="\b\nExamples:\n  backfill operations\n  backfill operations plan.yaml --format json",
)
@click.argument("plan", required=False, type=click.Path(dir_okay=False))
@format_option("text", "json")
def operations_command(plan: str | None, form: str) -> None:
    """List the operations of PLAN's catalogs; without PLAN, those of the built-in catalog."""
    from runner.spec.load import read_catalog

    catalog, problems = read_catalog(plan)
    if problems:
        raise InvalidPlan(tuple(problems))
    entries = list(catalog.values())
    if form == "json":
        print_json(operations_json(entries))
        return
    out, color = people(), wants_color(sys.stdout)
    for entry in entries:
        out.write(f"{styled(entry.name, None, bold=True) if color else entry.name}\n")
        out.writelines(f"  {visible(line)}\n" for line in _lines(entry))


def _lines(entry: CatalogEntry) -> Iterator[str]:
    if entry.description:
        yield entry.description
    yield f"sends  {entry.event}, for each {_runs_for(entry)}"
    if entry.after:
        yield f"after  {', '.join(entry.after)}"
    yield from _further(entry.spec)


# Further keys of an entry, shown as they are written.
_SHORT = ("when", "repeat", "group", "id", "at", "throttle", "max_in_flight", "resolve")


def _further(spec: Data) -> Iterator[str]:
    for key in _SHORT:
        if key in spec:
            value = spec[key]
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{key}  {text}"
    for name, advice in spec.get("warn", {}).items():
        yield f"warns  {name}: {advice['message']}"
    if checks := [check["name"] for check in spec.get("checks", ())]:
        yield f"checks  {', '.join(checks)}"
    if "until" in spec:
        yield "until  its goal is reached, it is sent again in rounds"


def _runs_for(entry: CatalogEntry) -> str:
    return {"row": "row of a query", "once": "plan"}.get(entry.for_each, entry.for_each)
