"""`backfill sync`."""

from __future__ import annotations

import signal

import click

from runner.app.session import Session
from runner.app.variables import read_variables
from runner.cli.main import ERROR_STATUS, status_of
from runner.cli.options import (
    format_option,
    pass_session,
    plan_options,
    policy_option,
    read_duration,
    state_option,
    target_option,
)
from runner.cli.printing import Terminal, print_error, print_json
from runner.errors import Interrupted, UsageError
from runner.execution.context import RunOptions
from runner.output.ledger import synced_json

_STOPPED = 7


@click.command(
    "sync",
    epilog="\b\nExamples:"
    "\n  backfill sync --repo git@github.com:acme/plans --target cloud --yes"
    "\n  backfill sync --repo . --branch main --path plans/ --every 30s"
    "\n  backfill sync --repo https://github.com/acme/plans --once --allowed-signers signers",
)
@click.option(
    "--repo",
    required=True,
    metavar="URL|PATH",
    help="The repository: a URL or a folder, as for `git clone`.",
)
@click.option("--branch", default="main", show_default=True, help="The branch to follow.")
@click.option(
    "--path", default="plans/", show_default=True, help="The folder of plans in the repository."
)
@click.option(
    "--every",
    callback=read_duration,
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="How often to fetch.",
)
@click.option(
    "--once", is_flag=True, help="Fetch and apply once, and exit with the status of `apply`."
)
@click.option(
    "--signed", is_flag=True, help="Apply only commits with a signature that git can verify."
)
@click.option(
    "--allowed-signers",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Apply only commits that are signed with a key of this file (ssh's allowed_signers "
    "format).",
)
@click.option(
    "--allow-force-push",
    is_flag=True,
    help="Go on even if the branch was rewritten after a commit that was applied.",
)
@plan_options
@policy_option
@target_option
@state_option
@click.option(
    "--detach", is_flag=True, help="Leave the runs to the workers, as `run --detach` does."
)
@click.option(
    "--yes",
    "-y",
    is_flag=True,
    help="Send to targets beyond this machine without asking for confirmation.",
)
@format_option("text", "json")
@pass_session
def sync_command(
    session: Session,
    repo: str,
    branch: str,
    path: str,
    every: float,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str | None,
    allowed_signers: str | None,
    form: str,
    *,
    once: bool,
    signed: bool,
    allow_force_push: bool,
    strict: bool,
    detach: bool,
    yes: bool,
) -> int:
    """Follow BRANCH of a git repository, and apply the plans of PATH that are pending.

    Each time, it fetches the branch and does what `backfill apply --resume` does with the files of
    its latest commit. What cannot be fetched, is refused or fails is reported, shown by `backfill
    status`, and tried again the next time. A branch that was rewritten is refused (5), and so is a
    commit without a signature if one is required (4). SIGTERM and ^C end it after the request in
    flight.
    """
    from runner.app.apply import ApplyOptions
    from runner.app.sync import SyncOptions, sync

    _refuse_unreadable(allowed_signers, var_files)
    if form == "json" and not once:
        raise UsageError(
            "--format json needs --once", hint="add --once, or use `backfill status --format json`"
        )
    session.reporter = Terminal(session, "text", results=form == "text")
    session.confirm = None  # nobody may be at the terminal
    how = ApplyOptions(
        target,
        read_variables(variables, var_files),
        resume=True,
        detach=detach,
        run=RunOptions(yes=yes),
        strict=strict,
    )
    options = SyncOptions(repo, branch, path, every, how, signed, allowed_signers, allow_force_push)
    found = sync(session, options, once=once, report=print_error)
    if found.stopped is signal.SIGINT:
        return ERROR_STATUS[Interrupted]
    if found.error and not found.stopped:
        raise found.error
    if form == "json":
        entries = found.applied.entries if found.applied else None
        print_json(synced_json(found.commit, entries, found.target))
    elif once and found.commit and found.idle:
        click.echo(f"nothing is pending: {found.commit[:12]} is applied")
    if found.applied and found.applied.open:
        return status_of(found.applied.open)
    return _STOPPED if found.amid else 0


def _refuse_unreadable(allowed_signers: str | None, var_files: tuple[str, ...]) -> None:
    """Check files before the first look: git would call every signature bad, and stdin is read
    only once."""
    from runner.spec.files import FileRefused, read_given

    if "-" in var_files:
        raise UsageError("`sync` takes no --var-file from stdin", hint="name a file")
    try:
        if allowed_signers:
            read_given(allowed_signers)
    except FileRefused as error:
        message = f"--allowed-signers {allowed_signers} cannot be read: {error}"
        raise UsageError(message, hint=error.hint) from None
