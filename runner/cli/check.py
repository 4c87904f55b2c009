"""`backfill check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner.app.session import Session
from runner.app.variables import read_variables
from runner.cli.main import ERROR_STATUS
from runner.cli.options import (
    collection_option,
    format_option,
    given,
    pass_session,
    plan_argument,
    plan_options,
    read_duration,
    selector_options,
    state_option,
    target_option,
    timings_option,
)
from runner.cli.printing import people, print_json, wants_color, width_of
from runner.errors import RunFailed
from runner.model import Selectors

if TYPE_CHECKING:
    from runner.planning.ledger import Checked


@click.command(
    "check",
    epilog="\b\nExamples:\n  backfill check plan.yaml\n"
    "  backfill check plan.yaml --applied --target cloud\n"
    "  backfill check plan.yaml --wait 30m && alembic upgrade head",
)
@plan_argument
@plan_options
@selector_options
@collection_option
@target_option
@state_option
@timings_option
@click.option(
    "--applied",
    is_flag=True,
    help="Also require that the ledger has this plan, unchanged, as completed on the target.",
)
@click.option(
    "--wait",
    callback=read_duration,
    default="0s",
    show_default=True,
    metavar="DURATION",
    help="How long to keep asking, every 10 s, until all checks hold.",
)
@format_option("text", "json")
@pass_session
def check_command(
    session: Session,
    plan: str,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str | None,
    wait: float,
    form: str,
    *,
    strict: bool,
    applied: bool,
    selectors: Selectors,
) -> int:
    """Ask the checks and the coverage of PLAN now, as a gate for a migration or a deploy.

    Nothing is sent. The exit status is 0 if all hold, 1 if one does not, and 4 if there is nothing
    to ask. If no check can be asked without a run, every item of the coverage must be covered.
    """
    from runner.app.check import check

    if given("target") and not applied:
        session.reporter.note(
            "--target does nothing without --applied: checks only ask the database"
        )
    found = check(
        session,
        plan,
        variables=read_variables(variables, var_files),
        strict=strict,
        applied=session.named_target(target, plan) if applied else None,
        wait=wait,
        selectors=selectors,
    )
    _print(found, form)
    return 0 if found.ok else ERROR_STATUS[RunFailed]


def _print(found: Checked, form: str) -> None:
    from runner.output.ledger import checked_json, write_checked_text

    if form == "json":
        print_json(checked_json(found))
    else:
        out = people()
        write_checked_text(found, out, color=wants_color(out), width=width_of(out))
