"""What `apply` has come to, where those who reviewed its plans look."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from runner.adapters.journal.store import Store
from runner.cli.github import say_in_comment
from runner.cli.summary_file import append_summary
from runner.cli.view import view_of
from runner.errors import BackfillError
from runner.output.ledger import ledger_markdown
from runner.output.markdown import MAX_COMMENT
from runner.output.run_markdown import run_markdown
from runner.planning.ledger import Entry


def tell_applied(
    entries: Sequence[Entry],
    ran: Sequence[str],
    error: BackfillError | None,
    state: str,
    *,
    target: str,
    summary_file: str | None,
    comment: bool,
) -> None:
    """`error`: what ended it early. That it cannot be told ends nothing: it is said."""
    table = ledger_markdown(entries, target, error, link=_job())
    if summary_file:
        append_summary(summary_file, table, "the log has it")
    if not comment:
        return
    anew = bool(ran or error or any(entry.standing == "changed" for entry in entries))
    parts = [table, *_runs(entries, ran, state, MAX_COMMENT - len(table))]
    try:
        say_in_comment("apply", "\n".join(parts), anew=anew)
    except BackfillError as refused:
        click.echo(f"note: no comment: {refused}", err=True)


def _runs(entries: Sequence[Entry], ran: Sequence[str], state: str, room: int) -> list[str]:
    runs = [entry.run.run_id for entry in entries if entry.run and entry.name in ran]
    if not runs:
        return []
    with Store(state) as store:
        views = [view_of(store, store.find(run)) for run in runs]
        share = room // len(views) - 1
        return [text for view in views if len(text := run_markdown(view, share)) <= share]


def _job() -> str | None:
    """The address of the job in Actions."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, run = map(os.environ.get, names)
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else None
