"""`backfill mcp`."""

from __future__ import annotations

import click

from runner.adapters.extras import how_to_install
from runner.cli.options import env_option, state_option
from runner.cli.printing import environment
from runner.errors import UsageError


@click.command(
    "mcp",
    epilog="\b\nExamples:\n  claude mcp add backfill -- backfill mcp\n"
    "  backfill mcp --env staging --state postgresql://db.example.com/backfill",
)
@env_option
@state_option
def mcp_command(env: str | None, state: str | None) -> None:
    """Serve the commands as tools to an agent: the Model Context Protocol on stdin and stdout.

    The tools are named after the commands and return their JSON documents. They read within the
    repository of the working directory, and write only what `init` and `plan --out` write. `run`,
    `resume`, `retry`, `pause` and `cancel` work on the target `embedded`; on others, only if a
    person has approved the digest of the saved plan by a file in `approvals/` beside the plan.
    """
    try:
        from runner.agents.server import Place, serve
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in ("anyio", "mcp", "mcp_types"):
            raise
        message = f"`backfill mcp` needs the MCP SDK, version 2 or newer: {missing.name} is missing"
        raise UsageError(message, hint=how_to_install("mcp")) from None
    serve(Place(environment(), state, env))
