"""What the web pages of `ui` show of a state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runner.adapters.journal.store import StateReader
from runner.adapters.web.app import Mark
from runner.cli.view import failed_events, view_of
from runner.output.page import run_page, runs_page
from runner.output.run_json import events_csv

_RUNS = 200  # the latest ones, in the list


@dataclass(frozen=True, slots=True)
class Journals:
    """Meets `runner.adapters.web.app.Pages`."""

    store: StateReader

    def runs(self) -> str:
        return runs_page(self.store.runs(limit=_RUNS), self.store.where)

    def run(self, run_id: str) -> str:
        view = view_of(self.store, self.store.find(run_id))
        csv = f"/runs/{view.record.id}/events.csv"
        failed = failed_events(self.store, view)
        return run_page(view, standalone=False, failed=failed, csv=csv)

    def events(self, run_id: str) -> Iterator[str]:
        return events_csv(self.store.events(self.store.find(run_id)))

    def mark(self, run_id: str | None) -> Mark:
        if run_id is None:
            return Mark(self.store.mark(None), final=False)
        record = self.store.find(run_id)
        return Mark(self.store.mark(record), final=record.status != "running")
