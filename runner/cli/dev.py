"""`backfill dev`."""

from __future__ import annotations

from pathlib import Path

import click

from runner.cli.options import read_host_names

_MAX_BODY = 16 * 1024 * 1024  # bytes of a request with events


@click.command(
    "dev",
    epilog="\b\nExamples:\n  backfill dev plans/quickstart/plan.yaml"
    "\n  backfill run plan.yaml --target http://127.0.0.1:8288    (in another terminal)",
)
@click.argument("plan", required=False, type=click.Path(dir_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=8288,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="The port to listen on; 8288 is that of an Inngest dev server.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    callback=read_host_names,
    metavar="NAME",
    help="Accept requests for this host name too, besides the address and localhost.",
)
def dev_command(plan: str | None, host: str, port: int, hosts: tuple[str, ...]) -> None:
    """Serve the embedded target on this machine: the Event API and REST API of an Inngest server.

    With PLAN, its `handlers` are the functions that run; without one, events start no job.
    """
    from runner.adapters.door import Door, authority, hosts_of, serve
    from runner.adapters.embedded.engine import Handler
    from runner.adapters.embedded.handlers import load_handlers
    from runner.adapters.embedded.server import create_app
    from runner.spec.load import load_plan
    from runner.spec.units import counted

    handlers: dict[str, Handler] = {}
    if plan:
        loaded = load_plan(plan)
        handlers = load_handlers(loaded.handlers, Path(loaded.path).parent)
    where = f"http://{authority(host, port)}"
    ready = f"serving {counted(len(handlers), 'function')} on {where}; ^C ends it"
    door = Door(_MAX_BODY, hosts_of((host, *hosts)))
    serve(create_app(handlers), host, port, door, on_listening=lambda: click.echo(ready, err=True))
