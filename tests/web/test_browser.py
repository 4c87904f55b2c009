"""The pages in a real browser, for a person, a keyboard and a screen reader.

Without Chromium these tests are skipped, and say so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from runner.cli.ui import Journals
from runner.errors import TargetError
from runner.output.words import moment
from tests.cli.conftest import Jobs, Start, served
from tests.depth import some
from tests.types import Backfill
from tests.web.browser import NEEDS_CHROMIUM, is_accessible
from tests.web.conftest import Hostile, web
from tests.web.states import Player, names

pytestmark = NEEDS_CHROMIUM

Target = Callable[[Jobs], AbstractContextManager[str]]
Plan = Callable[..., Path]
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
SLOW = "batch_size: 1\ndelay: 300ms\non_failure: continue\n"
PANES = ("The plan file", "Events of the run")

COMPLAINTS: list[str] = []


@pytest.fixture(scope="module", params=some(WIDTHS, 1))
def opened(request: pytest.FixtureRequest, browser: Any) -> Iterator[Any]:
    """One page at one of two widths, shared by all tests: a new one takes a process and a
    second."""
    width, height = WIDTHS[request.param]
    scheme = "dark" if request.param == "phone" else "light"
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.on("console", lambda said: COMPLAINTS.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: COMPLAINTS.append(str(error)))
    page.on("requestfailed", lambda asked: COMPLAINTS.append(f"{asked.url} {asked.failure}"))
    yield page
    context.close()


@pytest.fixture
def page(request: pytest.FixtureRequest, opened: Any, site: str) -> Iterator[Any]:
    """The shared page; it leaves the site before that stops, and errors on its console fail the
    test."""
    COMPLAINTS.clear()
    yield opened
    if folder := os.environ.get("BACKFILL_TEST_SCREENSHOTS"):
        name = request.node.name.replace("[", "-").rstrip("]")
        opened.screenshot(path=f"{folder}/{name}.png", full_page=True)
    opened.goto("about:blank")
    complaints = list(COMPLAINTS)
    assert not [said for said in complaints if "ERR_ABORTED" not in said]  # from leaving the page


def test_a_finished_run(
    page: Any, site: str, backfill: Backfill, target: Target, plan: Plan
) -> None:
    with target(Jobs()) as url:
        assert (
            backfill("run", plan(12, "batch_size: 4\ndelay: 100ms\n"), "--target", url).status == 0
        )
    page.goto(site)
    page.get_by_role("link", name="test").click()
    page.get_by_role("heading", level=1).wait_for()
    assert "completed" in page.inner_text("h1")
    assert "12/12 sent, 12 completed" in page.inner_text("main")
    assert page.get_by_role("region", name="Events of the run").get_by_role("row").count() == 13
    is_accessible(page)


def test_a_failed_run_with_hostile_words(
    page: Any, site: str, backfill: Backfill, target: Target, plan: Plan
) -> None:
    with target(Hostile()) as url:
        assert backfill("run", plan(30, "on_failure: continue\n"), "--target", url).status == 1
    page.goto(f"{site}/runs/latest")
    assert "failed" in page.inner_text("h1")
    assert "taken over" not in page.title()
    failures = page.get_by_role("list", name="Failures by message")
    assert "<script>" in failures.inner_text()
    assert failures.get_by_role("link").first.get_attribute("href").startswith("http://127.0.0.1")
    is_accessible(page)


def test_a_running_run_changes_without_reloading(
    page: Any, site: str, start: Start, target: Target, plan: Plan
) -> None:
    """What was opened stays open, the focus stays where it was, and the page is never reloaded."""
    jobs = Jobs(failing=["o/r0"])
    with target(jobs) as url:
        process = start("run", plan(12, SLOW), "--target", url)
        jobs.wait_for(2)
        page.goto(f"{site}/runs/latest")
        page.evaluate("window.stayed = true")
        page.get_by_text("The plan file", exact=True).click()
        page.get_by_text("The plan file", exact=True).focus()
        assert "running" in page.inner_text("#live")
        is_accessible(page)
        page.get_by_text("12/12 sent, 11 completed, 1 failed").wait_for(timeout=20_000)
        page.get_by_text("backfill retry").wait_for()
        assert process.wait(20) == 1
    assert "failed" in page.inner_text("#live")
    assert page.evaluate("window.stayed") is True
    assert page.get_by_role("region", name="The plan file").is_visible()
    assert page.evaluate("document.activeElement.textContent") == "The plan file"


class _MayBeAway(Journals):
    """The pages of a state that is away while `away` is set."""

    away = Event()

    def _look(self) -> None:
        if self.away.is_set():
            raise TargetError("the state in state.db cannot be used: it is away")

    def run(self, run_id: str, asked: Mapping[str, str]) -> str:
        self._look()
        return super().run(run_id, asked)

    def mark(self, run_id: str | None) -> Any:
        self._look()
        return super().mark(run_id)


@pytest.mark.parametrize(
    ("kind", "why"),
    [("state", "the state in state.db cannot be used: it is away"),
     ("server", "its server does not answer")],
)  # fmt: skip
def test_a_page_that_cannot_be_renewed_says_so_until_it_can(
    browser: Any, tmp_path: Path, kind: str, why: str
) -> None:
    """It used to show for ever what it had shown last, and after the state had been away it heard
    of no change any more."""
    player = Player(tmp_path)
    run = player.begin("nightly", "repos: [a/b, a/c, d/e]\noperations: [sync]\n", 60)
    run.send(1, 1, 0, lambda _: None)
    run.pass_time(1, 1, None)
    pages = _MayBeAway(player.store)
    pages.away.clear()
    with served(web(pages)) as url, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{url}/runs/latest")
        stale = page.get_by_role("alert")
        assert not stale.is_visible()
        for sent in (2, 3)[: 1 if kind == "state" else 2]:
            if kind == "state":
                with page.expect_response(lambda answer: "/live/" in answer.url) as refused:
                    pages.away.set()
                assert refused.value.status == 503
            else:
                context.set_offline(True)
                page.evaluate("renew()")
            stale.wait_for()
            assert re.fullmatch(rf"Not updated since \S+ \S+ UTC: {why}", stale.inner_text())
            run.send(1, 1, 0, lambda _: None)
            run.pass_time(1, 1, None)
            pages.away.clear()
            context.set_offline(False)
            page.get_by_text(f"{sent}/3 sent").wait_for(timeout=10_000)
            assert not stale.is_visible()
            page.wait_for_function("events.readyState === EventSource.OPEN")
        run.finish("completed")
        page.get_by_role("heading", name="completed").wait_for(timeout=10_000)
        page.goto("about:blank")


def test_on_the_way_back_a_filter_says_what_is_shown(browser: Any, tmp_path: Path) -> None:
    """The browser put back what had been chosen, beside runs and events that were not filtered."""
    player = Player(tmp_path)
    for name in ("daily", "nightly"):
        run = player.begin(name, "repos: [a/b]\noperations: [sync, embed]\n", 60)
        run.send(1, 1, 0, lambda _: None)
        run.pass_time(1, 1, None)
        run.finish("completed")
    with served(web(Journals(player.store))) as url, browser.new_context() as context:
        page = context.new_page()
        for path, label, chosen in (("/", "Plan", "daily"), ("/runs/latest", "Stage", "1")):
            page.goto(url + path)
            page.get_by_role("combobox", name=label).select_option(chosen)
            page.get_by_role("button", name="Filter").click()
            page.get_by_role("link", name="Clear").wait_for()
            page.go_back()
            page.get_by_role("link", name="Clear").wait_for(state="detached")
            page.wait_for_load_state("load")  # a browser puts back by then
            assert page.get_by_role("combobox", name=label).input_value() == ""
        page.goto("about:blank")


def test_what_was_scrolled_stays_where_it_is_while_a_run_goes_on(
    browser: Any, tmp_path: Path
) -> None:
    player = Player(tmp_path)
    run = player.begin("nightly", names(60) + "operations: [sync]\n", 60)
    run.send(1, 1, 0, lambda _: None)
    run.pass_time(1, 1, None)
    with served(web(Journals(player.store))) as url, browser.new_context() as context:
        page = context.new_page()
        page.set_viewport_size({"width": 700, "height": 600})
        page.goto(f"{url}/runs/latest")
        page.get_by_text("The plan file", exact=True).click()
        panes = [page.get_by_role("region", name=name) for name in PANES]
        wide = [pane.evaluate("it => (it.scrollLeft = 9, it.scrollLeft)") for pane in panes]
        assert wide[0] == 9
        run.send(1, 1, 0, lambda _: "it broke")
        run.pass_time(1, 1, None)
        page.get_by_text("2/60 sent").wait_for(timeout=10_000)
        assert [pane.evaluate("it => it.scrollLeft") for pane in panes] == wide
        page.goto("about:blank")


def test_the_page_of_the_latest_run_goes_on_to_the_next(browser: Any, tmp_path: Path) -> None:
    """Also if the one that it shows has ended for good, and its title too."""
    player = Player(tmp_path)
    first = player.begin("nightly", "repos: [a/b]\noperations: [sync]\n", 60).finish("completed")
    with served(web(Journals(player.store))) as url, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{url}/runs/latest")
        assert first in page.title()
        again = player.begin("nightly", "repos: [a/c]\noperations: [sync]\n", 30)
        page.get_by_role("heading", name="running").wait_for(timeout=10_000)
        assert again.journal.run_id in page.title()
        page.goto("about:blank")


def test_a_run_whose_process_died_says_how_to_go_on(
    page: Any, site: str, start: Start, target: Target, plan: Plan
) -> None:
    jobs = Jobs()
    with target(jobs) as url:
        process = start("run", plan(12, SLOW), "--target", url)
        jobs.wait_for(2)
        page.goto(f"{site}/runs/latest")
        process.kill()
        process.wait()
        page.get_by_text("No process drives this run any more").wait_for(timeout=20_000)
    assert "dead" in page.inner_text("h1")


def test_the_keyboard_reaches_everything(
    page: Any, site: str, backfill: Backfill, target: Target, plan: Plan
) -> None:
    with target(Hostile()) as url:
        backfill("run", plan(10, "on_failure: continue\n"), "--target", url)
    page.goto(f"{site}/runs/latest")
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 40)"))
    assert reached[0] == "Skip to the content"
    page.goto(f"{site}/runs/latest")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for words in ("backfill", "The plan file", "All events as CSV"):
        assert words in reached


def test_a_report_is_one_page_that_asks_for_nothing(
    page: Any, tmp_path: Path, pages: Any, backfill: Backfill, target: Target, plan: Plan
) -> None:
    with target(Hostile()) as url:
        backfill("run", plan(30, "on_failure: continue\n"), "--target", url)
    file = tmp_path / "run.html"
    assert backfill("report", "--html", file).status == 0
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{file}")
    assert asked == [f"file://{file}"]
    assert "failed" in page.inner_text("h1")
    assert page.evaluate("getComputedStyle(document.querySelector('.tiles')).display") == "grid"
    rows = page.locator("tr[data-outcome]:visible")
    assert rows.first.get_attribute("data-outcome") == "failed", "they come first"
    page.get_by_role("searchbox").fill("O/R17")
    assert page.inner_text("#shown") == "1 of 30 shown"
    page.get_by_role("searchbox").fill("completed")
    assert page.inner_text("#shown") == "0 of 30 shown", "as on the page of `ui`"
    page.get_by_role("searchbox").fill("")
    page.get_by_role("combobox", name="Outcome").select_option("failed")
    assert rows.count() == 3
    is_accessible(page)


def test_a_run_over_days_has_days_and_a_phone_has_the_words_of_a_wide_screen(
    browser: Any, tmp_path: Path
) -> None:
    """It seemed to have ended on the day it began; on a phone, what was cancelled had "failed"."""
    player = Player(tmp_path)
    run = player.begin("long", "repos: [a/b]\noperations: [sync]\n", 90_000)
    run.send(1, 1, 0, lambda _: "it broke")
    player.now += 86_400
    run.journal.note("a day later")
    run.pass_time(60, 1, None)
    run.finish("failed")
    ended = moment(player.now)
    with served(web(Journals(player.store))) as url, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{url}/runs/latest")
        assert f"UTC to {ended};" in page.inner_text("main")
        assert ended[:10] in page.locator(".notes time").last.inner_text()
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto(url)
        after = "getComputedStyle(document.querySelector('td.lost'), '::after').content"
        assert page.evaluate(after) == '" not completed"'
        page.goto("about:blank")


def test_a_preview_is_such_a_page_too(
    page: Any, tmp_path: Path, backfill: Backfill, plan: Plan
) -> None:
    file = tmp_path / "plan.html"
    path = plan(40, "batch_size: 5\ndelay: 2s\n")
    assert backfill("plan", path, "--html", file).status == 0
    page.goto(f"file://{file}")
    assert "40 events, 8 batches, 1 stage" in page.inner_text("main")
    is_accessible(page)


def test_an_empty_list_says_how_to_begin(page: Any, site: str) -> None:
    page.goto(site)
    assert "There is no run yet" in page.inner_text("main")
    is_accessible(page)
