"""`backfill ui`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from runner.app.session import Session
from runner.cli.options import pass_session, state_option
from runner.errors import NoState, UsageError

if TYPE_CHECKING:
    from runner.adapters.journal.store import StateReader
    from runner.adapters.web.app import Mark

_RUNS = 200  # the latest ones, in the list
_SHORTEST = 16  # characters of a token


@click.command(
    "ui",
    epilog="\b\nExamples:\n  backfill ui\n  BACKFILL_UI_TOKEN=... backfill ui --host 0.0.0.0 "
    "--token-env BACKFILL_UI_TOKEN --allow-host backfill.example.com",
)
@state_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8321, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--token-env",
    metavar="NAME",
    help="Ask for the token that this environment variable holds, as the password.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name under which browsers reach it, beside its address and localhost.",
)
@pass_session
def ui_command(
    session: Session,
    host: str,
    port: int,
    token_env: str | None,
    hosts: tuple[str, ...],
) -> None:
    """Serve the runs as web pages that follow what happens: progress, timeline, failures.

    It only reads. It listens on this machine alone, unless --host says otherwise; beyond this
    machine a token is demanded.
    """
    from runner.adapters.door import Door, hosts_of
    from runner.adapters.serve import serve
    from runner.adapters.web.app import create_app
    from runner.output.page import asset

    token = _token(session, host, token_env)
    store = _state(session)
    assets = {name: asset(name) for name in ("page.css", "live.js")}
    app = create_app(Journals(store), assets, token=token)
    door = Door(max_body=0, hosts=hosts_of((host, *hosts)))
    shown = f"[{host}]" if ":" in host else host
    ready = f"the runs in {store.where}: http://{shown}:{port}/   (^C ends it)"
    serve(app, host, port, door, on_listening=lambda: click.echo(ready, err=True))


def _state(session: Session) -> StateReader:
    """Made where there is none: the page may be opened before the first run."""
    try:
        return session.reader
    except NoState:
        return session.store


def _token(session: Session, host: str, name: str | None) -> str | None:
    if name is None:
        if not _is_loopback(host):
            message = f"{host} can be reached from other machines, and no token is asked for"
            raise UsageError(message, hint="--token-env NAME names the variable that holds one")
        return None
    token = session.environ.get(name, "")
    if len(token) < _SHORTEST:
        message = f"{name} holds no token of {_SHORTEST} characters or more"
        raise UsageError(message, hint="as `openssl rand -hex 16` makes one")
    return token


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Journals:
    """What the pages show of a state. Meets `runner.adapters.web.app.Pages`."""

    store: StateReader

    def runs(self) -> str:
        from runner.output.page import runs_page

        return runs_page(self.store.runs(limit=_RUNS), self.store.where)

    def run(self, run_id: str) -> str:
        from runner.app.queries import failed_events, view_of
        from runner.output.page import MAX_ROWS, run_page

        view = view_of(self.store, self.store.find(run_id))
        csv = f"/runs/{view.record.id}/events.csv"
        failed = failed_events(self.store, view, MAX_ROWS)
        return run_page(view, standalone=False, failed=failed, csv=csv)

    def events(self, run_id: str) -> Iterator[str]:
        from runner.output.run import events_csv

        return events_csv(self.store.events(self.store.find(run_id)))

    def mark(self, run_id: str | None) -> Mark:
        from runner.adapters.web.app import Mark

        if run_id is None:
            return Mark(self.store.mark(None), final=False)
        record = self.store.find(run_id)
        return Mark(self.store.mark(record), final=record.status != "running")
