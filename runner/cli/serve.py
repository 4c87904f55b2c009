"""`backfill serve`."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from runner.adapters.inngest.target import read_origin
from runner.adapters.journal import DEFAULT_STATE
from runner.cli.common import open_store, read_duration, state_file, state_option
from runner.cli.completion import complete_target
from runner.errors import BackfillError, PreflightRefused

if TYPE_CHECKING:
    from runner.adapters.door import Door
    from runner.adapters.worker.app import Worker
    from runner.cli.firing import Firing
    from runner.cli.serving import Carried

_MAX_BODY = 4 * 1024 * 1024  # as the engine sends at most: it has the rest fetched
_PATIENCE = 60  # seconds for a request in flight to end after SIGTERM
_SIGNING_KEY = re.compile(r"((signkey-\w+-)?([0-9a-fA-F]{2})+)?")  # as server and SDK take it
_LOG = logging.getLogger("backfill.worker")


@click.command(
    "serve",
    short_help="Carry out submitted runs, as a function of Inngest.",
    epilog="\b\nExamples:\n  backfill serve --state postgresql://backfill@db/backfill plans/"
    "\n  backfill serve --host 0.0.0.0 --url http://worker:8322 --log-format json",
)
@click.argument("plans", nargs=-1, type=click.Path(exists=True))
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
def serve_command(
    plans: tuple[str, ...],
    state: str | None,
    host: str,
    port: int,
    url: str | None,
    target: str | None,
    grace: float | None,
    log_format: str,
) -> None:
    """Carry out runs that were submitted: a function of the Inngest server that the environment
    names, at /api/inngest; /healthz and /readyz say how this process is.

    The engine waits between batches, and this process works only when something is to be sent or
    looked at. Several share the work where they share the state; killed, their runs go on in
    others. Plans that find things out while they run need their files: PLANS are files and folders
    in which they are found again by their contents.

    Those of PLANS that have a `schedule` are started when they are due.
    """
    from runner.adapters.serve import serve
    from runner.cli.firing import Firing
    from runner.cli.ledger import scheduled_plans
    from runner.cli.portions import Portions
    from runner.cli.serving import Carried
    from runner.output.log import LogObserver

    _log_to_stderr(log_format)
    store = open_store(state)
    where = state or DEFAULT_STATE
    if state_file(where) is not None:
        _LOG.warning("the state is a file: all that share it must be on this machine")
    firings = [
        Firing(plan.name, plan.path, schedule, where, target or _default_target(), _LOG)
        for plan, schedule in scheduled_plans(plans)
    ]
    portions = Portions(where, lambda run: LogObserver(_LOG, run), plans, grace)
    place = _origin(url, host, port)
    worker = _worker(
        Carried(portions), lambda: _missing(where) or portions.unknown(), place, firings
    )
    door = _door(place, host)

    def say() -> None:
        served = f"http://{host}:{port} for {worker.client.api_origin}"
        _LOG.info("serving runs of %s on %s", store.where, served)
        for firing in firings:
            when = firing.schedule
            _LOG.info("%s is started at %s, %s", firing.name, when.cron, when.timezone)

    serve(worker.app, host, port, door, patience=_PATIENCE, on_listening=say, on_stop=portions.stop)


def _default_target() -> str:
    return "dev" if _dev() else "cloud"


def _worker(
    carrier: Carried,
    ready: Callable[[], str | None],
    url: str | None,
    firings: Sequence[Firing],
) -> Worker:
    """Raises `PreflightRefused` without the SDK, or without a key that it can use."""
    if missing := _missing_key():
        hint = "or INNGEST_DEV for a dev server, which asks for none"
        raise PreflightRefused(f"{missing}: requests could not be told from forged ones", hint=hint)
    for name in ("INNGEST_SIGNING_KEY", "INNGEST_SIGNING_KEY_FALLBACK"):
        if not _SIGNING_KEY.fullmatch(os.environ.get(name, "")):
            hint = "it is hexadecimal, with or without signkey-...- before: `openssl rand -hex 32`"
            raise PreflightRefused(f"{name} has not the form of a signing key", hint=hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK's own, at its import
            from runner.adapters.worker.app import create_worker
    except ImportError:
        hint = "install it: pip install 'backfill[inngest]'"
        raise PreflightRefused("serving runs needs Inngest's SDK", hint=hint) from None
    return create_worker(carrier, ready, url, _LOG, firings)


def _origin(url: str | None, host: str, port: int) -> str | None:
    """Where the server is told to find this process; None: somebody else tells it."""
    if url:
        return read_origin(url, "--url")
    if not _dev():
        return None
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104


def _door(place: str | None, host: str) -> Door:
    """Without signatures, as at a dev server, the name that is asked for is what there is."""
    from runner.adapters.door import Door, hosts_of

    if not _dev():
        return Door(_MAX_BODY)
    named = urlsplit(place).hostname if place else None
    return Door(_MAX_BODY, hosts_of(filter(None, (host, named))), "--url")


def _missing(state: str) -> str | None:
    from runner.adapters.journal.store import Store

    try:
        with Store(state):
            return None
    except BackfillError as error:
        return str(error)


def _missing_key() -> str | None:
    return None if _dev() or os.environ.get("INNGEST_SIGNING_KEY") else "set INNGEST_SIGNING_KEY"


def _dev() -> bool:
    return os.environ.get("INNGEST_DEV", "0").lower() not in ("", "0", "false")


def _log_to_stderr(form: str) -> None:
    from runner.output.log import JsonLines, TextLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    _LOG.handlers[:] = [handler]
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
