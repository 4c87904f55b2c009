"""What `apply` has come to, where those who reviewed its plans look."""

from __future__ import annotations

from collections.abc import Sequence

import click

from runner.app.queries import view_of
from runner.app.session import Session
from runner.cli.printing import append_summary, say_in_comment
from runner.errors import BackfillError
from runner.output.ledger import ledger_markdown
from runner.output.markdown import MAX_COMMENT
from runner.output.run_markdown import run_markdown
from runner.planning.ledger import Entry


def tell_applied(
    session: Session,
    entries: Sequence[Entry],
    ran: Sequence[str],
    error: BackfillError | None,
    *,
    target: str,
    summary_file: str | None,
    comment: bool,
) -> None:
    """`error`: what ended it early. That it cannot be told ends nothing: it is said."""
    table = ledger_markdown(entries, target, error, link=_job(session))
    if summary_file:
        append_summary(summary_file, table, "the log has it")
    if not comment:
        return
    anew = bool(ran or error or any(entry.standing == "changed" for entry in entries))
    parts = [table, *_runs(session, entries, ran, MAX_COMMENT - len(table))]
    try:
        say_in_comment("apply", "\n".join(parts), anew=anew)
    except BackfillError as refused:
        click.echo(f"note: no comment: {refused}", err=True)


def _runs(session: Session, entries: Sequence[Entry], ran: Sequence[str], room: int) -> list[str]:
    runs = [entry.run.run_id for entry in entries if entry.run and entry.name in ran]
    if not runs:
        return []
    store = session.store
    views = [view_of(store, store.find(run)) for run in runs]
    share = room // len(views) - 1
    return [text for view in views if len(text := run_markdown(view, share)) <= share]


def _job(session: Session) -> str | None:
    """The address of the job in Actions."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, run = map(session.environ.get, names)
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else None
