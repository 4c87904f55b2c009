"""`backfill report`."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

import click

from runner.adapters.files import write_file
from runner.app.session import Session
from runner.cli.completion import complete_run
from runner.cli.options import env_option, format_option, given, pass_session, state_option
from runner.cli.printing import print_json, write_page
from runner.errors import UsageError
from runner.model import EventPage, RunView


@click.command(
    "report",
    epilog="\b\nExamples:\n  backfill report latest --html run.html"
    "\n  backfill report 01M8 --format markdown | gh pr comment 12 --body-file -"
    "\n  backfill report latest --format junit > backfill.xml"
    "\n  backfill report latest --compare-with plan.yaml --env production",
)
@click.argument("run", default="latest", shell_complete=complete_run)
@state_option
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    help="Write a self-contained HTML page. If it has no room for all events, FILE.csv lists them.",
)
@click.option(
    "--compare-with",
    "plan",
    metavar="PLAN",
    type=click.Path(dir_okay=False),
    help="Treat RUN as a rehearsal of PLAN with some of its items: estimate a run of all of PLAN.",
)
@env_option
@format_option("markdown", "json", "junit")
@pass_session
def report_command(
    session: Session, run: str, html: str | None, plan: str | None, form: str
) -> None:
    """Report on RUN: as an HTML page to share, as Markdown for a pull request, or for a machine.

    With --compare-with, RUN is the rehearsal of a plan (`run --sample 5 --env staging`). Show how
    many of its events were sent, how long its jobs take and what the coverage has gained, and
    estimate how long the whole plan will take in the environment that --env names.
    """
    from runner.app.queries import view_of

    if given("env") and not plan:
        raise UsageError("--env does nothing without --compare-with")
    if given("form") and html and not plan:
        raise UsageError("--format does nothing with --html, which writes an HTML page")
    store = session.reader
    if plan:
        _compare(session, run, plan, form, html)
        return
    if html:
        written = {"--html": html, "--html, and its CSV,": f"{html}.csv"}
        session.refuse_to_write(written, [])
    view = view_of(store, store.find(run))
    if html:
        _write_page(session, view, html)
    elif form == "json":
        from runner.output.run import report_json

        print_json(report_json(view))
    elif form == "junit":
        from runner.output.junit import write_junit

        sys.stdout.writelines(write_junit(view, store.events(view.record)))
    else:
        from runner.output.run import run_markdown

        click.echo(run_markdown(view), nl=False)


def _compare(session: Session, run: str, plan: str, form: str, html: str | None) -> None:
    from runner.app.queries import rehearsed
    from runner.output.rehearsal import rehearsal_json, rehearsal_markdown

    if html or form == "junit":
        raise UsageError("--compare-with prints only Markdown or JSON")
    found = rehearsed(session, run, plan)
    if form == "json":
        print_json(rehearsal_json(found))
    else:
        click.echo(rehearsal_markdown(found), nl=False)


def _write_page(session: Session, view: RunView, path: str) -> None:
    from runner.app.queries import events_to_send_round
    from runner.output.page import MAX_ROWS, run_page
    from runner.output.run import events_csv

    csv, also = Path(f"{path}.csv"), ""
    cut = view.record.planned > MAX_ROWS
    listing = EventPage(events_to_send_round(session.reader, view, MAX_ROWS))
    page = run_page(view, listing, standalone=True, csv=f"./{quote(csv.name)}" if cut else None)
    if cut:  # written first, as the page links to it
        write_file(csv, events_csv(session.reader.events(view.record)))
        also = f", and all events in {csv}"
    write_page(path, page, also)
