"""`backfill sync`."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import click

from runner.adapters.git_mirror import Mirror
from runner.app.session import Session
from runner.cli.options import (
    pass_session,
    plan_options,
    read_duration,
    read_variables,
    state_option,
    target_option,
)
from runner.errors import PreflightRefused, UsageError
from runner.model import SyncRecord

_FOLDER = ".backfill/sync"
_SHORTEST = 1.0  # seconds between two looks


@click.command(
    "sync",
    epilog="\b\nExamples:"
    "\n  backfill sync --repo git@github.com:acme/plans --target cloud --yes"
    "\n  backfill sync --repo . --branch main --path plans/ --every 30s"
    "\n  backfill sync --repo https://github.com/acme/plans --once --allowed-signers signers",
)
@click.option("--repo", required=True, metavar="URL|PATH", help="The repository, as git has it.")
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
    help="How often to look.",
)
@click.option("--once", is_flag=True, help="Look once, and exit as `apply` does.")
@click.option("--signed", is_flag=True, help="Apply only commits with a signature that git knows.")
@click.option(
    "--allowed-signers",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="... by a key of this file (the form of ssh's allowed signers).",
)
@click.option(
    "--allow-force-push",
    is_flag=True,
    help="Go on although the branch no longer leads on from what was applied.",
)
@plan_options
@target_option
@state_option
@click.option(
    "--detach", is_flag=True, help="Hand the plans over to the workers, as `run --detach` does."
)
@click.option(
    "--yes", "-y", is_flag=True, help="Send to targets beyond this machine: nobody is asked."
)
@pass_session
def sync_command(
    session: Session,
    repo: str,
    branch: str,
    path: str,
    every: float,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    target: str,
    allowed_signers: str | None,
    *,
    once: bool,
    signed: bool,
    allow_force_push: bool,
    strict: bool,
    detach: bool,
    yes: bool,
) -> int:
    """Follow BRANCH of a git repository, and apply the plans of PATH that are pending.

    Each look fetches the branch and does what `backfill apply --resume` does with the files of its
    latest commit. What cannot be fetched, is refused or fails is said, kept for `backfill status`,
    and tried again at the next look. A branch that was rewritten is refused (5), as is a commit
    without a signature where one is demanded (4). SIGTERM and ^C end it after the request in
    flight.
    """
    from runner.adapters.journal.leases import who
    from runner.adapters.journal.store import Store
    from runner.cli.syncing import Following, Syncing

    if every < _SHORTEST:
        raise UsageError("--every is at least 1s")
    read_variables(variables, var_files)
    _refuse_unreadable(allowed_signers, var_files)
    resolved = session.target(target)
    if not (yes or resolved.local):
        raise PreflightRefused(f"nobody is asked before events go to {target}", hint="say --yes")
    if Path(repo).is_dir():
        repo = str(Path(repo).resolve())
    # By address, so that `dev` here and `dev` there are two.
    named = "\n".join((repo, branch, path, resolved.address))
    sync_id = hashlib.sha256(named.encode()).hexdigest()[:16]
    mirror = Mirror(Path(_FOLDER).resolve() / sync_id, repo, branch, session.environ)
    url = _absolute(session)
    record = SyncRecord(sync_id, repo, branch, path, target, every, who(), time.time())
    arguments = ["--target", target, "--resume"]
    arguments += [f"--var={one}" for one in variables]
    arguments += [f"--var-file={Path(one).resolve()}" for one in var_files]
    flags = {"--yes": yes, "--strict": strict, "--detach": detach}
    arguments += [flag for flag, said in flags.items() if said]
    following = Following(mirror, path, signed or bool(allowed_signers), allowed_signers,
                          allow_force_push)  # fmt: skip
    with mirror.opened(), Store(url) as store:
        return Syncing(following, store, url, record, arguments).run(once=once)


def _absolute(session: Session) -> str:
    """The same state for the processes that apply, wherever they run."""
    file = session.state_file
    return session.state if file is None else f"sqlite:///{file.resolve()}"


def _refuse_unreadable(allowed_signers: str | None, var_files: tuple[str, ...]) -> None:
    """Before the first look: git would call every signature bad, and stdin is read once."""
    from runner.spec.files import Refused, read_given

    if "-" in var_files:
        raise UsageError("--var-file - is read once, and `sync` goes on", hint="name a file")
    try:
        if allowed_signers:
            read_given(allowed_signers)
    except Refused as error:
        message = f"--allowed-signers {allowed_signers} cannot be read: {error}"
        raise UsageError(message, hint=error.hint) from None
