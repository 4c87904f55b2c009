"""`backfill serve`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from runner.app.session import Session
from runner.cli.completion import complete_target
from runner.cli.options import (
    env_option,
    format_option,
    given,
    pass_session,
    read_duration,
    refuse_beside,
    state_option,
)
from runner.cli.printing import print_json, width_of
from runner.errors import UsageError

_LOG = logging.getLogger("backfill.worker")


@click.command(
    "serve",
    epilog="\b\nExamples:\n  backfill serve --state postgresql://backfill@db/backfill plans/"
    "\n  backfill serve --host 0.0.0.0 --url http://worker:8322 --log-format json"
    "\n  backfill serve --list plans/",
)
@click.argument("plans", nargs=-1, type=click.Path(exists=True))
@env_option
@state_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8322, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--url",
    envvar=["INNGEST_SERVE_ORIGIN", "INNGEST_SERVE_HOST"],
    metavar="URL",
    help="The URL at which the Inngest server reaches this process; the server is told it. "
    "[env: INNGEST_SERVE_ORIGIN; default: this machine, if INNGEST_DEV is set]",
)
@click.option(
    "--target",
    "-t",
    metavar="TARGET",
    shell_complete=complete_target,
    help="Where plans with a schedule send to.  [default: dev if INNGEST_DEV is set, else cloud]",
)
@click.option(
    "--grace",
    callback=read_duration,
    metavar="DURATION",
    help="How long to wait for an event's job to appear.  [default: 20s]",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The format of the log on stderr.",
)
@click.option(
    "--list",
    "listed",
    is_flag=True,
    help="Only list the PLANS that have a schedule, and when each is due next, soonest first.",
)
@format_option("text", "json")
@pass_session
def serve_command(
    session: Session,
    plans: tuple[str, ...],
    host: str,
    port: int,
    url: str | None,
    target: str | None,
    grace: float | None,
    log_format: str,
    form: str,
    *,
    listed: bool,
) -> None:
    """Drive runs that were left to the workers, as a function of the Inngest server that the
    environment names. It listens at /api/inngest; /healthz and /readyz report its health.

    The Inngest server waits between batches; this process works only when there is something to
    send or to look up. Several processes share the work if they share the state; if one is killed,
    others continue its runs. Plans with a part that is only known later need their files: PLANS are
    the files and folders to look in, where they are recognised by their contents.

    Those of PLANS that have a `schedule` are started when they are due.
    """
    if listed:
        refuse_beside("--list", ("host", "port", "url", "target", "grace", "log_format"))
        _list(session, plans, form)
        return
    if given("form"):
        raise UsageError("--format does nothing without --list", hint="see --log-format")
    from runner.app.serve import ServeOptions, serve_runs
    from runner.output.progress import LogObserver

    _log_to_stderr(log_format)
    options = ServeOptions(host, port, url, target, grace)
    serve_runs(session, plans, options, lambda run: LogObserver(_LOG, run))


def _list(session: Session, paths: Sequence[str], form: str) -> None:
    from runner.app.schedules import scheduled
    from runner.output.schedules import schedules_json, schedules_text

    if not paths:
        raise UsageError("--list needs PLANS", hint="name them: `backfill serve --list plans/`")
    found = scheduled(session, paths, datetime.now(UTC))
    if form == "json":
        print_json(schedules_json(found))
    else:
        click.echo(schedules_text(found, width=width_of(sys.stdout)), nl=False)


def _log_to_stderr(form: str) -> None:
    from runner.output.progress import JsonLines, TextLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    _LOG.handlers[:] = [handler]
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
