"""`backfill coverage`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence

import click

from runner.cli.common import (
    build,
    format_option,
    open_databases,
    open_store,
    plan_argument,
    plan_options,
    read_variables,
    state_option,
    timings_option,
    wants_color,
)
from runner.errors import PreflightRefused, RunFailed, UsageError
from runner.model import Covered, ExecutionPlan, QueryRefused, Table


@click.command(
    "coverage",
    short_help="Show how much of the data is there.",
    epilog="\b\nExamples:\n  backfill coverage plan.yaml\n"
    "  backfill coverage plan.yaml --run latest\n"
    "  backfill coverage plan.yaml --format csv > coverage.csv",
)
@plan_argument
@plan_options
@state_option
@timings_option
@click.option("--run", "run", metavar="RUN", help="What this run has gained: before and after it.")
@format_option("text", "json", "csv")
def coverage_command(
    plan: str,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    state: str | None,
    run: str | None,
    form: str,
    *,
    strict: bool,
) -> None:
    """Ask the database how much is there, for each repository of PLAN.

    The questions are the `coverage` of the plan and its catalogs. Nothing is sent. With --run, the
    figures are those from before and after that run; without those of after, of before and now.
    """
    built = build(plan, read_variables(variables, var_files), strict=strict)
    if not built.execution_plan.coverage:
        hint = "add `coverage: {name: {query: ...}}` to the catalog or the plan"
        raise UsageError(f"{plan} has no coverage to ask for", hint=hint)
    before, after = _kept(run, state, built.execution_plan) if run else ({}, {})
    _print(_covered(plan, built.execution_plan, before, after), form)


def _covered(
    path: str, plan: ExecutionPlan, before: Mapping[str, Table], after: Mapping[str, Table]
) -> Mapping[str, Sequence[Covered]]:
    from runner.execution.coverage import covered

    database, found = open_databases(path), {}
    for name, query, parameters in plan.coverage:
        try:
            now = after[name] if name in after else database.ask(query, parameters)
            found[name] = covered(name, now, before.get(name))
        except QueryRefused as error:
            message = f"the database refuses the coverage `{name}`: {error}"
            raise PreflightRefused(message, hint=error.hint) from None
        except ValueError as error:
            raise RunFailed(str(error)) from None
    return found


def _kept(
    run: str, state: str | None, plan: ExecutionPlan
) -> tuple[Mapping[str, Table], Mapping[str, Table]]:
    """What the journal has of before and after the run."""
    from runner.execution.check import AFTER, BEFORE, coverage_key

    store = open_store(state)
    journal = store.reading(store.find(run))
    before, after = (
        {
            measure.name: Table(tuple(kept[0]), tuple(map(tuple, kept[1])))
            for measure in plan.coverage
            if (kept := journal.remembered(coverage_key(measure.name, when))) is not None
        }
        for when in (BEFORE, AFTER)
    )
    if not before:
        raise UsageError(f"run {run} has not written down what the coverage was before it")
    return before, after


def _print(found: Mapping[str, Sequence[Covered]], form: str) -> None:
    from runner.output.coverage import coverage_json, write_coverage_csv, write_coverage_text

    if form == "json":
        click.echo(json.dumps(coverage_json(found), indent=2))
    elif form == "csv":
        write_coverage_csv(found, sys.stdout)
    else:
        out = sys.stdout
        width = shutil.get_terminal_size((100, 24)).columns if out.isatty() else 120
        write_coverage_text(found, out, color=wants_color(out), width=width)
