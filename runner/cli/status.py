"""`backfill status`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from runner.app.session import Session
from runner.cli.completion import complete_run
from runner.cli.main import status_of
from runner.cli.options import format_option, pass_session, state_option
from runner.cli.printing import display, people, print_json, wants_color
from runner.model import RunRecord, RunView, StageRecord, SyncRecord, TargetHold
from runner.output import words
from runner.output.run import status_json, write_view
from runner.output.state import write_holds, write_syncs

if TYPE_CHECKING:
    from runner.adapters.journal.state import StateReader

_EVERY = 1.0  # seconds between two looks


@click.command(
    "status",
    epilog="\b\nExamples:\n  backfill status\n  backfill status 01M8 --watch"
    "\n  backfill status latest:refresh --format json | jq .left",
)
@click.argument("run", default="latest", shell_complete=complete_run)
@state_option
@click.option(
    "--watch", is_flag=True, help="Keep watching until the run ends; exit with its status."
)
@format_option("text", "json")
@pass_session
def status_command(session: Session, run: str, form: str, *, watch: bool) -> int:
    """Show where RUN stands: its stages, what it waits for, how long it will take, what failed.

    Also show how each `backfill sync` of this state goes, and which targets are held.

    RUN is an id, the beginning of one, `latest`, or `latest:NAME`, the last run of the plan of that
    name. It may be driven by any process on any machine that uses this state store. Without
    --watch, the exit status is 0; with it, it is that of the run, or 7 if no process drives it any
    more.
    """
    store = session.reader
    syncs, holds = store.syncs(), store.holds()
    if (syncs or holds) and run == "latest" and not watch and not store.runs(limit=1):
        _print(None, syncs, holds, form)
        return 0
    record = store.find(run)
    view = _watch(store, record, form) if watch else store.glance(record)
    _print(view, syncs, holds, form)
    return status_of(view.record.status) if watch else 0


def _print(
    view: RunView | None, syncs: Sequence[SyncRecord], holds: Sequence[TargetHold], form: str
) -> None:
    now = time.time()
    if form == "json":
        print_json(status_json(view, syncs, now, holds))
        return
    out = people()
    if view:
        write_view(view, out, color=wants_color(sys.stdout))
    write_syncs(syncs, now, out, color=wants_color(sys.stdout))
    write_holds(holds, out)


def _watch(store: StateReader, record: RunRecord, form: str) -> RunView:
    """Report every change, as the process that drives the run does."""
    told: dict[int, StageRecord] = {}
    noted, unattended = 0, None
    with display(form) as observer:
        view = store.glance(record)
        if view.record.status == "running":
            observer.started(record.id, view.plan)
        while True:
            driven = view.record.status == "running" and view.holder is not None
            for stage in view.stages:
                progress = stage if driven else stage._replace(followed=False)
                if told.get(progress.number) != progress:
                    told[progress.number] = progress
                    observer.progress(progress)
            notes = store.notes(record)
            for note in notes[noted:]:
                observer.note(words.noted(note))
            noted = len(notes)
            if (hint := words.unattended(view)) and view.holder and view.holder != unattended:
                unattended = view.holder
                observer.note(view.holder)
                observer.note(hint)
            if not driven:
                return view
            time.sleep(_EVERY)
            record = store.find(record.id)
            view = store.glance(record)
