"""`backfill ui`."""

from __future__ import annotations

import ipaddress
import os

import click

from runner.cli.common import open_to_read, state_option
from runner.errors import UsageError

_SHORTEST = 16  # characters of a token


@click.command(
    "ui",
    short_help="Serve the runs as web pages, live.",
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
def ui_command(
    state: str | None, host: str, port: int, token_env: str | None, hosts: tuple[str, ...]
) -> None:
    """Serve the runs as web pages that follow what happens: progress, timeline, failures.

    It only reads. It listens on this machine alone, unless --host says otherwise; beyond this
    machine a token is demanded.
    """
    from runner.adapters.door import Door, hosts_of
    from runner.adapters.serve import serve
    from runner.adapters.web.app import create_app
    from runner.cli.pages import Journals
    from runner.output.page import asset

    token = _token(host, token_env)
    store = open_to_read(state)
    assets = {name: asset(name) for name in ("page.css", "live.js")}
    app = create_app(Journals(store), assets, token=token)
    door = Door(max_body=0, hosts=hosts_of((host, *hosts)))
    shown = f"[{host}]" if ":" in host else host
    said = f"the runs in {store.where}: http://{shown}:{port}/   (^C ends it)"
    serve(app, host, port, door, on_listening=lambda: click.echo(said, err=True))


def _token(host: str, name: str | None) -> str | None:
    if name is None:
        if not _is_loopback(host):
            message = f"{host} can be reached from other machines, and no token is asked for"
            raise UsageError(message, hint="--token-env NAME names the variable that holds one")
        return None
    token = os.environ.get(name, "")
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
