"""`backfill serve`."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from runner.adapters.extras import how_to_install
from runner.adapters.inngest.target import read_origin
from runner.app.session import Session
from runner.cli.completion import complete_target
from runner.cli.options import (
    env_option,
    format_option,
    given,
    pass_session,
    read_duration,
    state_option,
)
from runner.cli.printing import print_json, width_of
from runner.errors import BackfillError, PreflightRefused, UsageError
from runner.model import Observer

if TYPE_CHECKING:
    from runner.adapters.door import Door
    from runner.adapters.worker.app import Worker
    from runner.app.schedules import Firing
    from runner.app.worker import Worker as StepWorker

_MAX_BODY = 4 * 1024 * 1024  # as the engine sends at most: it has the rest fetched
_PATIENCE = 60  # seconds for a request in flight to end after SIGTERM
_SIGNING_KEY = re.compile(r"((signkey-\w+-)?([0-9a-fA-F]{2})+)?")  # as server and SDK take it
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
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8322, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--url",
    envvar=["INNGEST_SERVE_ORIGIN", "INNGEST_SERVE_HOST"],
    metavar="URL",
    help="Where the Inngest server reaches this process; it is told so. "
    "[env: INNGEST_SERVE_ORIGIN; default: this machine, where INNGEST_DEV is set]",
)
@click.option(
    "--target",
    "-t",
    metavar="TARGET",
    shell_complete=complete_target,
    help="Where plans with a schedule send to.  [default: dev where INNGEST_DEV is set; or cloud]",
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
    help="How to write on stderr what happens.",
)
@click.option(
    "--list",
    "listed",
    is_flag=True,
    help="Only list the PLANS that have a schedule, the next one first, and when each is due.",
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
    environment names. It listens at /api/inngest; /healthz and /readyz tell whether it is well.

    The engine waits between batches, and this process works only when something is to be sent or
    looked at. Several share the work where they share the state; killed, their runs go on in
    others. Plans with a part that is only known later need their files: PLANS are the files and
    folders to look in, where they are known by their contents.

    Those of PLANS that have a `schedule` are started when they are due.
    """
    if listed:
        _list(session, plans, form)
        return
    if given("form"):
        raise UsageError("--format does nothing without --list", hint="see --log-format")
    from runner.adapters.serve import serve
    from runner.adapters.worker.request import plans_app_of
    from runner.app.schedules import Firing, scheduled
    from runner.app.worker import Worker as StepWorker
    from runner.output.progress import LogObserver

    _log_to_stderr(log_format)
    store = session.store
    place = _origin(session, url, host, port)
    if session.state_file is not None:
        _LOG.warning("the state is a file: all that share it must be on this machine")

    def observer(run: str) -> Observer:
        return LogObserver(_LOG, run)

    app = plans_app_of(store.identity, place)
    firings = [
        Firing(
            one.plan.name,
            one.plan.path,
            one.schedule,
            session.state,
            app,
            target or _default_target(session, one.plan.path),
            session.environment_name,
            session.environ,
            observer,
        )
        for one in scheduled(session, plans, datetime.now(UTC))
    ]
    steps = StepWorker(session.state, session.environ, observer, plans, grace)
    worker = _worker(session, steps, lambda: _missing(session) or steps.unknown(), place, firings)
    door = _door(session, place, host)

    def say() -> None:
        served = f"http://{host}:{port} for {worker.client.api_origin}"
        _LOG.info("serving runs of %s on %s", store.where, served)
        for firing in firings:
            when = firing.schedule
            _LOG.info("%s is started at %s, %s", firing.name, when.cron, when.timezone)

    serve(worker.app, host, port, door, patience=_PATIENCE, on_listening=say, on_stop=steps.stop)


def _list(session: Session, paths: Sequence[str], form: str) -> None:
    from runner.app.schedules import scheduled
    from runner.output.schedules import schedules_json, schedules_text

    if not paths:
        raise UsageError("--list wants PLANS", hint="as in `backfill serve --list plans/`")
    found = scheduled(session, paths, datetime.now(UTC))
    if form == "json":
        print_json(schedules_json(found))
    else:
        click.echo(schedules_text(found, width=width_of(sys.stdout)), nl=False)


def _default_target(session: Session, plan: str) -> str:
    environment = session.environment(plan)
    if environment and environment.target:
        return environment.target
    return "dev" if _dev(session) else "cloud"


def _worker(
    session: Session,
    worker: StepWorker,
    ready: Callable[[], str | None],
    url: str | None,
    firings: Sequence[Firing],
) -> Worker:
    """Raises `PreflightRefused` without the SDK, or without a key that it can use."""
    if missing := _missing_key(session):
        hint = "or INNGEST_DEV for a dev server, which asks for none"
        raise PreflightRefused(f"{missing}: requests could not be told from forged ones", hint=hint)
    for name in ("INNGEST_SIGNING_KEY", "INNGEST_SIGNING_KEY_FALLBACK"):
        if not _SIGNING_KEY.fullmatch(session.environ.get(name, "")):
            hint = "it is hexadecimal, with or without signkey-...- before: `openssl rand -hex 32`"
            raise PreflightRefused(f"{name} has not the form of a signing key", hint=hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK's own, at its import
            from runner.adapters.worker.app import create_worker
    except ImportError:
        hint = how_to_install("inngest")
        raise PreflightRefused("serving runs needs Inngest's SDK", hint=hint) from None
    return create_worker(worker, ready, url, _LOG, firings)


def _origin(session: Session, url: str | None, host: str, port: int) -> str | None:
    """Where the server is told to find this process; None: somebody else tells it."""
    if url:
        return read_origin(url, "--url")
    if not _dev(session):
        return None
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104


def _door(session: Session, place: str | None, host: str) -> Door:
    """Without signatures, as at a dev server, the name that is asked for is what there is."""
    from runner.adapters.door import Door, hosts_of

    if not _dev(session):
        return Door(_MAX_BODY)
    named = urlsplit(place).hostname if place else None
    return Door(_MAX_BODY, hosts_of(filter(None, (host, named))), "--url")


def _missing(session: Session) -> str | None:
    from runner.adapters.journal.store import Store

    try:
        with Store(session.state):
            return None
    except BackfillError as error:
        return str(error)


def _missing_key(session: Session) -> str | None:
    return (
        None
        if _dev(session) or session.environ.get("INNGEST_SIGNING_KEY")
        else "set INNGEST_SIGNING_KEY"
    )


def _dev(session: Session) -> bool:
    return session.environ.get("INNGEST_DEV", "0").lower() not in ("", "0", "false")


def _log_to_stderr(form: str) -> None:
    from runner.output.progress import JsonLines, TextLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    _LOG.handlers[:] = [handler]
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
