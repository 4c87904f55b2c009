"""Serve as a worker: drive submitted runs, as a function of an Inngest server."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner.adapters.inngest.target import read_origin
from runner.app.session import Session
from runner.errors import BackfillError, PreflightRefused, UsageError
from runner.model import Observer, frozen

if TYPE_CHECKING:
    from runner.adapters.door import Door
    from runner.adapters.worker.app import Worker
    from runner.app.schedules import Firing
    from runner.app.worker import Worker as StepWorker

PATIENCE = 60  # seconds for a request in flight to end after SIGTERM
_MAX_BODY = 4 * 1024 * 1024  # bytes; the engine sends no more, and has workers fetch the rest
_SIGNING_KEY = re.compile(r"((signkey-\w+-)?([0-9a-fA-F]{2})+)?")  # as server and SDK read it
_LOG = logging.getLogger("backfill.worker")


@frozen
class ServeOptions:
    """Where to listen. `url`: where the server reaches this process. `target`: where scheduled
    plans send to. `grace`: how many seconds to wait for an event's job to appear."""

    host: str
    port: int
    url: str | None = None
    target: str | None = None
    grace: float | None = None


def serve_runs(
    session: Session,
    plans: Sequence[str],
    options: ServeOptions,
    observer: Callable[[str], Observer],
) -> None:
    """Serve until a signal ends it, and log what happens. `observer`: makes one for a run's id.

    Raises `PreflightRefused` without the SDK, without a key that it can use, and, as `UsageError`,
    for a target that no scheduled run can go to.
    """
    from runner.adapters.door import authority, serve
    from runner.app.worker import Worker as StepWorker

    store, host, port = session.store, options.host, options.port
    place = _origin(session, options)
    if session.state_file is not None:
        _LOG.warning("the state is a file: all processes that share it must be on this machine")
    firings = _firings(session, plans, place, options.target, observer)

    def opened() -> Session:
        return Session(session.state, environ=session.environ, clock=session.clock)

    steps = StepWorker(opened, observer, plans, options.grace)
    worker = _worker(session, steps, lambda: _missing(session) or steps.unknown(), place, firings)

    def say() -> None:
        served = f"http://{authority(host, port)} for {worker.client.api_origin}"
        _LOG.info("serving runs of %s on %s", store.where, served)
        for firing in firings:
            when = firing.schedule
            _LOG.info("%s is started at %s, %s", firing.name, when.cron, when.timezone)

    serve(
        worker.app,
        host,
        port,
        _door(session, place, host),
        patience=PATIENCE,
        on_listening=say,
        on_stop=steps.stop,
    )


def _firings(
    session: Session,
    plans: Sequence[str],
    place: str | None,
    target: str | None,
    observer: Callable[[str], Observer],
) -> list[Firing]:
    from runner.adapters.worker.request import plans_app_of
    from runner.app.schedules import Firing, scheduled
    from runner.app.submit import refuse_embedded

    app = plans_app_of(session.store.identity, place)
    found = [
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
    for firing in found:
        refuse_embedded(session.target(firing.target, firing.path))
    if target and not found:
        message = "--target does nothing: none of PLANS has a schedule"
        raise UsageError(message, hint="leave it out: submitted runs have their own targets")
    return found


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
    """Create the worker. Raises `PreflightRefused` without the SDK, or without a usable key."""
    if missing := _missing_key(session):
        hint = "or INNGEST_DEV for a dev server, which needs none"
        raise PreflightRefused(
            f"{missing}: without it, forged requests cannot be detected", hint=hint
        )
    for name in ("INNGEST_SIGNING_KEY", "INNGEST_SIGNING_KEY_FALLBACK"):
        if not _SIGNING_KEY.fullmatch(session.environ.get(name, "")):
            hint = (
                "a signing key is hexadecimal, with or without a prefix signkey-...-: make "
                "one with `openssl rand -hex 32`"
            )
            raise PreflightRefused(f"{name} is not a signing key", hint=hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK's own, at its import
            from runner.adapters.worker.app import create_worker
    except ImportError:
        from runner.adapters.extras import how_to_install

        hint = how_to_install("inngest")
        raise PreflightRefused("serving runs needs Inngest's SDK", hint=hint) from None
    return create_worker(worker, ready, url, _LOG, firings)


def _origin(session: Session, options: ServeOptions) -> str | None:
    """Return the URL that the server calls; None if somebody else tells it."""
    if options.url:
        return read_origin(options.url, "--url")
    if not _dev(session):
        return None
    from runner.adapters.door import authority

    host = "127.0.0.1" if options.host == "0.0.0.0" else options.host  # noqa: S104
    return f"http://{authority(host, options.port)}"


def _door(session: Session, place: str | None, host: str) -> Door:
    """Return the door of the server. A dev server does not sign, so check the host name instead."""
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
