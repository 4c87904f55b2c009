"""A page of thousands of events stays small, and the CSV beside it has all of them."""

from __future__ import annotations

from pathlib import Path

from runner.app.queries import events_to_send_round, view_of
from runner.execution.ports import Answer, Chunk, Control, Observation
from runner.execution.seeds import internal_ids
from runner.model import EventPage, Job, SentEvent
from runner.output.markdown import MAX_CHARACTERS
from runner.output.page import MAX_ROWS, run_page
from runner.output.run import events_csv, run_markdown
from tests.depth import depth
from tests.support import lines_of, make_plan, new_store, repos, start_journal

MANY, BATCH = depth(3_000, 10_000), 50
LIMIT = 100 * MANY  # bytes: one megabyte for 10,000 events
SEED = "1750000000000,AAAAAAAAAAAAAA=="


def test_it_is_small_although_every_event_failed_in_its_own_way(tmp_path: Path) -> None:
    body = f"{repos(MANY)}operations: [sync]\nbatch_size: {BATCH}\n"
    plan, store = make_plan(tmp_path, body), new_store(tmp_path)
    journal = start_journal(store, plan)
    names = [f"o/r{n}" for n in range(MANY)]
    for number, first in enumerate(range(0, MANY, BATCH)):
        positions = range(first, first + BATCH)
        chunk = Chunk(
            number, 1, number + 1, "sync", "app/sync", SEED, b"", positions,
            lines_of(positions), 1.0, 1.0,
        )  # fmt: skip
        journal.begin_chunk(chunk, Control())
        journal.accept(chunk, Answer(tuple(internal_ids(SEED, range(BATCH)))))
        journal.record(
            [
                Observation(
                    SentEvent(at, 1, "sync", names[at], "app/sync", number, "i", 1.0),
                    (Job(f"job-{at}", "f", "Failed", True, "x", f"https://x.test/{at}"),),
                    "failed",
                    f"fault {at}: " + "it did not work out " * 10,
                )
                for at in positions
            ]
        )
        journal.note(f"batch {number} has failed")
    journal.end("failed")
    view = view_of(store, store.find("latest"))
    listing = EventPage(events_to_send_round(store, view, MAX_ROWS))
    page = run_page(view, listing, standalone=True, csv="run.html.csv")
    assert len(page.encode()) < LIMIT
    assert f"{MANY:,} failed" in page
    assert f"… and {MANY - MAX_ROWS:,} more" in page
    assert 'href="run.html.csv"' in page
    rows = "".join(events_csv(store.events(view.record))).splitlines()
    assert len(rows) == MANY + 1
    assert len(run_markdown(view)) <= MAX_CHARACTERS
