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
@click.option("--run", "run", metavar="RUN", help="Compare with what it was before this run.")
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

    The questions are the `coverage` of the plan and its catalogs. Nothing is sent.
    """
    built = build(plan, read_variables(variables, var_files), strict=strict)
    if not built.execution_plan.coverage:
        hint = "add `coverage: {name: {query: ...}}` to the catalog or the plan"
        raise UsageError(f"{plan} has no coverage to ask for", hint=hint)
    before = _before(run, state, built.execution_plan) if run else {}
    _print(_ask(plan, built.execution_plan, before), form)


def _ask(
    path: str, plan: ExecutionPlan, before: Mapping[str, Table]
) -> Mapping[str, Sequence[Covered]]:
    from runner.execution.coverage import covered

    database, found = open_databases(path), {}
    for name, query, parameters in plan.coverage:
        try:
            found[name] = covered(name, database.ask(query, parameters), before.get(name))
        except QueryRefused as error:
            message = f"the database refuses the coverage `{name}`: {error}"
            raise PreflightRefused(message, hint=error.hint) from None
        except ValueError as error:
            raise RunFailed(str(error)) from None
    return found


def _before(run: str, state: str | None, plan: ExecutionPlan) -> Mapping[str, Table]:
    from runner.execution.check import BEFORE, coverage_key

    store = open_store(state)
    journal = store.reading(store.find(run))
    found = {}
    for measure in plan.coverage:
        kept = journal.remembered(coverage_key(measure.name, BEFORE))
        if kept is not None:
            found[measure.name] = Table(tuple(kept[0]), tuple(map(tuple, kept[1])))
    if not found:
        raise UsageError(f"run {run} has not written down what the coverage was before it")
    return found


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
