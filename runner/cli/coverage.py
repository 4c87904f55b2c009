"""`backfill coverage`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import click

from runner.app.session import Session
from runner.app.variables import read_variables
from runner.cli.options import (
    collection_option,
    format_option,
    pass_session,
    plan_argument,
    plan_options,
    selector_options,
    state_option,
    timings_option,
)
from runner.cli.printing import people, print_json, wants_color, width_of
from runner.model import Covered, Selectors


@click.command(
    "coverage",
    epilog="\b\nExamples:\n  backfill coverage plan.yaml\n"
    "  backfill coverage plan.yaml --run latest\n"
    "  backfill coverage plan.yaml --format csv > coverage.csv",
)
@plan_argument
@plan_options
@selector_options
@collection_option
@state_option
@timings_option
@click.option("--run", "run", metavar="RUN", help="Show the coverage before and after this run.")
@format_option("text", "json", "csv")
@pass_session
def coverage_command(
    session: Session,
    plan: str,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    run: str | None,
    form: str,
    *,
    strict: bool,
    selectors: Selectors,
) -> None:
    """Ask the database how much of the data is there, for each item of PLAN.

    The queries are the `coverage` of the plan and its catalogs. Nothing is sent. With --run, show
    the figures from before that run and from after it; if it has none from after it, those of now.
    """
    from runner.app.queries import coverage

    overrides = read_variables(variables, var_files)
    found = coverage(
        session, plan, variables=overrides, strict=strict, run=run, selectors=selectors
    )
    _print(found, form)


def _print(found: Mapping[str, Sequence[Covered]], form: str) -> None:
    from runner.output.coverage import coverage_json, write_coverage_csv, write_coverage_text

    if form == "json":
        print_json(coverage_json(found))
    elif form == "csv":
        write_coverage_csv(found, sys.stdout)
    else:
        out = people()
        write_coverage_text(found, out, color=wants_color(out), width=width_of(out))
