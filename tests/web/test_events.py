"""The events page lists the run's events that were requested: each once, in order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from runner.model import FAILURES, LOST, EventFilter, EventRecord
from tests.web.states import Player, failed

FILTERS = [
    EventFilter(text, stage, outcome)
    for text in ("", "SERVICE-1", "bad gateway", "%", "éCHEC", "nothing like it")
    for stage in (None, 1, 2)
    for outcome in (None, "completed", "failed", LOST, "running", "unfollowed", "unsent")
]


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    """A stopped run of 120 events in two stages: some failed, some were never sent."""
    made = Player(tmp_path_factory.mktemp("state"))
    failed(made)
    run = made.begin("stopped", "repos: [a/b, a/service-1, d/e]\noperations: [sync, embed]\n", 60)
    run.send(1, 2, 0, lambda at: "Échec: it broke" if at else None)
    run.pass_time(1, 1, None)
    run.send(1, 1, 1e6, lambda _: None)
    yield made
    made.store.close()


def _is_like(event: EventRecord, wanted: EventFilter) -> bool:
    said = f"{event.item}\n{event.message or ''}".lower()
    is_lost = wanted.outcome == LOST and event.outcome in FAILURES
    return (
        (not wanted.text or wanted.text.lower() in said)
        and wanted.stage in (None, event.stage)
        and (wanted.outcome in (None, event.outcome) or is_lost)
    )


@pytest.mark.parametrize("plan", ["onboard-acme", "stopped"])
def test_page_after_page_gives_just_what_is_wanted(player: Player, plan: str) -> None:
    store = player.store
    record = store.find(f"latest:{plan}")
    everything = list(store.events(record))
    assert {event.outcome for event in everything} >= {"completed", "failed"}
    for wanted in FILTERS:
        pages = (store.find_events(record, wanted, 7, skip) for skip in count(0, 7))
        found = [event.position for page in iter(lambda: next(pages), []) for event in page]  # noqa: B023
        assert found == [one.position for one in everything if _is_like(one, wanted)], wanted
