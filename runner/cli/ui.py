"""`backfill ui`."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from threading import Event
from typing import TYPE_CHECKING

import click

from runner.app.session import Session
from runner.cli.options import pass_session, read_host_names, state_option
from runner.errors import BackfillError, UsageError
from runner.model import LOST, OPEN_OUTCOMES, OUTCOMES, STATES, EventFilter, frozen
from runner.spec.document import echo

if TYPE_CHECKING:
    from runner.adapters.journal.state import StateReader
    from runner.adapters.web.app import Mark

_RUNS = 200  # in the list, the latest ones
_SHORTEST = 16  # characters of a token
_LONGEST = 200  # characters of a search
_PAGE = re.compile("[1-9][0-9]{0,6}", re.ASCII)


@click.command(
    "ui",
    epilog="\b\nExamples:\n  backfill ui\n  BACKFILL_UI_TOKEN=... backfill ui --host 0.0.0.0 "
    "--token-env BACKFILL_UI_TOKEN --allow-host backfill.example.com",
)
@state_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8321, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--token-env",
    metavar="NAME",
    help="Require the token in this environment variable as the password.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    callback=read_host_names,
    metavar="NAME",
    help="Accept requests for this host name too, besides the address and localhost.",
)
@pass_session
def ui_command(
    session: Session,
    host: str,
    port: int,
    token_env: str | None,
    hosts: tuple[str, ...],
) -> None:
    """Serve the runs as web pages that update themselves: progress, timeline, failures.

    The pages only read. The server listens on this machine only, unless --host says otherwise;
    beyond this machine a token is required.
    """
    from runner.adapters.door import Door, authority, hosts_of, serve
    from runner.adapters.web.app import create_app
    from runner.output.page import ASSETS, asset

    token = _token(session, host, token_env)
    store = _state(session)
    assets = {name: asset(name) for name in ASSETS}
    stopped = Event()
    app = create_app(Journals(store), assets, token=token, ends=stopped.is_set)
    door = Door(max_body=0, hosts=hosts_of((host, *hosts)))
    ready = f"the runs in {store.where}: http://{authority(host, port)}/   (^C ends it)"
    serve(
        app,
        host,
        port,
        door,
        on_listening=lambda: click.echo(ready, err=True),
        on_stop=stopped.set,
    )


def _state(session: Session) -> StateReader:
    """Open the state; create one if needed, as the page may be opened before the first run."""
    return session.reader if session.has_state else session.store


def _token(session: Session, host: str, name: str | None) -> str | None:
    if name is None:
        if not _is_loopback(host):
            message = f"other machines can reach {host}, and no token is required"
            raise UsageError(
                message,
                hint="put a token into an environment variable and name it with --token-env NAME",
            )
        return None
    token = session.environ.get(name, "")
    if len(token) < _SHORTEST:
        message = f"{name} does not hold a token of at least {_SHORTEST} characters"
        raise UsageError(message, hint="make one with `openssl rand -hex 16`")
    return token


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@frozen
class Journals:
    """The content of the pages of a state. Meets `runner.adapters.web.app.Pages`."""

    store: StateReader

    def runs(self, asked: Mapping[str, str]) -> str:
        from runner.app.queries import list_runs
        from runner.output.page import runs_page

        plans = self.store.plan_names()
        plan, state = asked.get("plan", ""), asked.get("state", "")
        states = {state} if _known("state", state, STATES) else set[str]()
        found = list_runs(self.store, plan=plan or None, states=states, limit=_RUNS)
        return runs_page(
            found,
            self.store.where,
            now=time.time(),
            plans=plans,
            plan=plan,
            state=state,
            most=_RUNS,
        )

    def run(self, run_id: str, asked: Mapping[str, str]) -> str:
        from runner.app.queries import events_page, view_of
        from runner.output.page import run_page

        view = view_of(self.store, self.store.find(run_id))
        csv = f"/runs/{view.record.id}/events.csv"
        stages = [str(stage.number) for stage in view.stages]
        number = _page(asked.get("page", ""))
        listing = events_page(self.store, view, _filter(asked, stages), number)
        return run_page(view, listing, standalone=False, csv=csv)

    def error(self, title: str, error: BackfillError) -> str:
        from runner.output.page import error_page

        return error_page(title, str(error), error.hint)

    def events(self, run_id: str) -> Iterator[str]:
        from runner.output.run import events_csv

        return events_csv(self.store.events(self.store.find(run_id)))

    def mark(self, run_id: str | None) -> Mark:
        from runner.adapters.web.app import Mark

        if run_id is None:
            return Mark(self.store.mark(None), final=False)
        record = self.store.find(run_id)
        # Other runs that have ended may be resumed while their page is open, and the latest one
        # may become another.
        final = run_id == record.id and record.status in ("completed", "cancelled")
        return Mark(self.store.mark(record), final=final)


def _filter(asked: Mapping[str, str], stages: Sequence[str]) -> EventFilter:
    stage = _known("stage", asked.get("stage", ""), stages)
    outcome = _known("outcome", asked.get("outcome", ""), (*OUTCOMES, LOST, *OPEN_OUTCOMES))
    text = asked.get("q", "").strip()
    if len(text) > _LONGEST:
        raise _bad("the search is too long", f"use at most {_LONGEST} characters")
    if "\0" in text:  # PostgreSQL takes none
        raise _bad("the search has a NUL character", "leave it out for all events")
    return EventFilter(text, int(stage) if stage else None, outcome or None)


def _page(written: str) -> int:
    if written and not _PAGE.fullmatch(written):
        raise _bad(f"there is no page {echo(written)}", "pages are numbers, from 1")
    return int(written or "1")


def _known(key: str, written: str, known: Collection[str]) -> str:
    """Check the value of `key` in an address: empty, or one of those known."""
    if written and written not in known:
        raise _bad(f"there is no {key} {echo(written)}", f"there are: {', '.join(known)}")
    return written


def _bad(message: str, hint: str) -> UsageError:
    from runner.adapters.web.app import BadQuery

    return BadQuery(message, hint=hint)
