"""The pages of runs in every state, at three widths, light and dark.

With BACKFILL_TEST_SCREENSHOTS=FOLDER the tests leave pictures there, which CI keeps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cli.ui import Journals
from tests.cli.conftest import served
from tests.depth import crossed
from tests.web.browser import NEEDS_CHROMIUM, fits, is_accessible
from tests.web.conftest import web
from tests.web.states import STATES, Player

pytestmark = NEEDS_CHROMIUM

WIDTHS = {"phone": 390, "laptop": 1280, "wide": 1920}
SEEN = {
    "empty": ("There is no run yet", "backfill run plan.yaml"),
    "running": ("running", "100/200 sent, 85 completed, 14 running, 1 failed", "it broke"),
    "held": ("sync waits: production is held: incident 4711, ask Kim",),
    "away": ("does not answer (ConnectError): trying again in", "server away"),
    "failed": ("failed", "backfill retry", "GitHub answers 502 for {item}: Bad gateway"),
    "cancelled": ("cancelled", "Why it ended: cancelled by an operator", "2m paused"),
    "ten_thousand_failures": ("10,000 failed", 'relation "pull_requests_0" does not exist'),
    "finished": ("completed", "Coverage: embeddings", "+60", "-delay: 1m", "+delay: 30s"),
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A state for each name, played once for all tests."""
    made: dict[str, Player] = {}

    def play(name: str) -> Player:
        if name not in made:
            made[name] = Player(tmp_path_factory.mktemp(name))
            STATES[name](made[name])
        return made[name]

    yield play
    for player in made.values():
        player.store.close()


COMPLAINTS: list[str] = []


@pytest.fixture(scope="module")
def opened(browser: Any) -> Iterator[Any]:
    """One page, shared by all tests: a new one takes a process and a second."""
    page = browser.new_page()
    page.on("console", lambda said: COMPLAINTS.append(said.text) if said.type == "error" else 0)
    page.on("pageerror", lambda error: COMPLAINTS.append(str(error)))
    yield page
    page.close()


@pytest.fixture
def page(opened: Any) -> Iterator[Any]:
    COMPLAINTS.clear()
    opened.set_viewport_size({"width": WIDTHS["laptop"], "height": 720})
    opened.emulate_media(color_scheme="light")
    yield opened
    opened.goto("about:blank")
    complaints = list(COMPLAINTS)
    assert not [said for said in complaints if "ERR_INCOMPLETE_CHUNKED" not in said]  # it was left


def _pictures(page: Any, name: str) -> None:
    """Check each width in both schemes: nothing is cut off, and titles and filters take one
    line."""
    folder = os.environ.get("BACKFILL_TEST_SCREENSHOTS")
    for width, scheme in crossed(WIDTHS, ("dark", "light")):
        page.set_viewport_size({"width": WIDTHS[width], "height": 900})
        assert fits(page), width
        for one in page.locator("h1, .filters label").all():
            assert one.evaluate("it => it.offsetHeight") < 45, width
        page.emulate_media(color_scheme=scheme)
        if folder:
            page.screenshot(path=Path(folder) / f"{name}-{width}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("name", STATES)
def test_a_run_in_this_state_is_told_at_every_width(page: Any, played: Any, name: str) -> None:
    with served(web(Journals(played(name).store))) as url:
        page.goto(url if name == "empty" else f"{url}/runs/latest")
        text = page.inner_text("main")
        for words in SEEN[name]:
            assert words in text
        assert len(page.content()) < 300_000, "ten thousand events make no larger page"
        _pictures(page, name)
        is_accessible(page)
        page.goto("about:blank")  # its event stream must end before the server does


def test_the_list_tells_of_all_of_them(page: Any, tmp_path: Path) -> None:
    """With retries beside their runs, filters, and ids that are shortened and copied whole."""
    player = Player(tmp_path)
    for name in ("finished", "failed", "held"):
        STATES[name](player)
    first = player.store.find("latest:onboard-acme").id
    again = player.begin("onboard-acme", "repos: [acme/service-4]\noperations: [sync]\n", 9, first)
    again.batches(1, 1, size=1)
    again.finish("completed")
    with served(web(Journals(player.store))) as url:
        page.goto(url)
        rows = page.get_by_role("row")
        assert rows.count() == 6
        newest, oldest = rows.nth(1).inner_text(), rows.nth(5).inner_text()
        for words in ("completed", "production: cloud", "1 / 1", "retries", "s ago"):
            assert words in newest
        assert "40 / 40" not in oldest
        assert "80 / 80" in oldest
        assert "retried by" in page.get_by_role("row", name="failed ").nth(0).inner_text()
        shown = page.locator(".run .id").first
        assert shown.evaluate("it => it.clientWidth < it.scrollWidth"), "it is short"
        shown.click()
        assert page.evaluate("getSelection().toString()") == again.journal.run_id
        _pictures(page, "list")
        is_accessible(page)
        page.get_by_label("Plan").select_option("refresh-after-schema-change")
        page.get_by_role("button", name="Filter").click()
        page.get_by_role("link", name="Clear").wait_for()
        assert rows.count() == 3
        page.get_by_label("State").select_option("failed")
        page.get_by_role("button", name="Filter").click()
        page.get_by_text("No run matches").wait_for()
        page.goto("about:blank")


def test_events_are_searched_and_filtered_and_stay_so_while_the_run_goes_on(
    page: Any, tmp_path: Path
) -> None:
    player = Player(tmp_path)
    run = player.begin("nightly", "repos: [a/b, a/c, d/e]\noperations: [sync, embed]\n", 60)
    run.send(1, 2, 0, lambda at: "it broke" if at else None)
    run.pass_time(1, 1, None)
    with served(web(Journals(player.store))) as url:
        page.goto(f"{url}/runs/latest")
        table = page.get_by_role("region", name="Events of the run").get_by_role("row")
        assert table.count() == 7
        page.get_by_label("Search").fill("A/")
        page.get_by_role("button", name="Filter").click()
        page.wait_for_url("**q=A*")
        assert table.count() == 5
        page.get_by_role("combobox", name="Stage").select_option("1")
        page.get_by_role("button", name="Filter").click()
        page.wait_for_url("**stage=1**")
        page.get_by_label("Search").fill("half a wo")
        page.evaluate("window.stayed = true")
        run.send(1, 1, 0, lambda _: None)
        run.pass_time(1, 1, None)
        page.get_by_text("3/3 sent").wait_for(timeout=10_000)
        assert page.get_by_label("Search").input_value() == "half a wo"
        assert table.count() == 3
        page.get_by_role("link", name="failed 1").click()
        page.wait_for_url("**outcome=failed**")
        assert table.count() == 2
        assert (
            page.get_by_role("link", name="01")
            .first.get_attribute("href")
            .endswith(page.locator(".events .job .id").inner_text())
        )
        page.goto("about:blank")


def test_a_run_that_is_not_there_is_a_page_with_a_way_back(browser: Any, site: str) -> None:
    page = browser.new_page()
    for path, words in (("/runs/01NONE", "there is no run 01NONE"), ("/nowhere", "no such page")):
        assert page.goto(f"{site}{path}").status == 404
        assert words in page.inner_text("main")
        is_accessible(page)
        page.get_by_role("link", name="All runs").click()
        page.get_by_text("There is no run yet").wait_for()
    page.close()
