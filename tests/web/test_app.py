"""The web application over HTTP: read-only, guarded, and quick to report changes."""

from __future__ import annotations

import base64
import re
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path

import httpx
import pytest

from runner.cli.ui import Journals
from tests.cli.conftest import Jobs, Start, served
from tests.ports import free_port
from tests.types import Backfill
from tests.web.conftest import HOSTILE, Hostile, web

Target = Callable[[Jobs], AbstractContextManager[str]]
Plan = Callable[..., Path]
TOKEN = "a token of some length"  # noqa: S105 - nobody's


@pytest.fixture
def failed(backfill: Backfill, target: Target, plan: Plan) -> None:
    """Make a run with hostile messages."""
    with target(Hostile()) as url:
        path = plan(10, "on_failure: continue\nbatch_size: 4\ndelay: 100ms\n")
        assert backfill("run", path, "--target", url).status == 1


def test_the_runs_and_each_of_them_have_a_page(site: str, failed: None) -> None:
    listed = httpx.get(f"{site}/")
    assert listed.status_code == 200
    link = re.search(r'href="(/runs/\w{26})"', listed.text)
    assert link
    page = httpx.get(site + link[1])
    assert page.status_code == 200
    for words in ("9 completed", "1 failed", "Events over time", "batch_size: 4", "backfill retry"):
        assert words in page.text
    rows = httpx.get(f"{site}{link[1]}/events.csv")
    assert rows.headers["content-type"].startswith("text/csv")
    assert len(rows.text.splitlines()) == 11


def test_hostile_words_stay_words(site: str, failed: None) -> None:
    page = httpx.get(f"{site}/runs/latest").text
    assert HOSTILE not in page
    assert "&lt;script&gt;document.title=" in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert page.count("<script") == 1, "its own"


def test_a_run_that_is_not_there_is_404_with_words(site: str) -> None:
    for path in ("/runs/01NONE", "/runs/01NONE/events.csv", "/live/runs/01NONE"):
        answer = httpx.get(site + path)
        assert (answer.status_code, answer.text) == (404, "there is no run 01NONE")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("/?state=bogus", "there is no state `bogus`"),
        ("/runs/latest?outcome=bogus", "there is no outcome `bogus`"),
        ("/runs/latest?stage=abc", "there is no stage `abc`"),
        ("/runs/latest?stage=9", "there is no stage `9`"),
        ("/runs/latest?page=0", "there is no page `0`"),
        ("/runs/latest?page=x", "there is no page `x`"),
        ("/?stat=failed", "there is no key `stat` here"),
        ("/runs/latest?outcomes=failed", "there is no key `outcomes` here"),
        ("/runs/latest?stage=1&stage=2", "`stage` is given 2 times"),
        ("/runs/latest/events.csv?outcome=failed", "there is no key `outcome` here"),
        (f"/runs/latest?q={'x' * 201}", "the search is too long"),
        ("/runs/latest?q=a%00", "the search has a NUL character"),
    ],
)
def test_what_no_page_shows_is_refused_in_words(
    site: str, failed: None, query: str, message: str
) -> None:
    answer = httpx.get(site + query)
    assert (answer.status_code, answer.text) == (400, message)
    page = httpx.get(site + query, headers={"accept": "text/html"})
    assert page.status_code == 400
    assert "Not understood" in page.text
    assert re.search("from 1|there are: |give it once|all events|at most", page.text)


def test_a_page_behind_the_last_is_not_said_to_be_all(site: str, failed: None) -> None:
    page = httpx.get(f"{site}/runs/latest?page=99").text
    assert ("No event is on page 99" in page, "No event matches" in page) == (True, False)


def test_what_an_address_leaves_empty_is_all(site: str, failed: None) -> None:
    whole, empty = (
        [
            httpx.get(f"{site}{path}{query}").text.count("<tr")
            for path, query in (("/", state), ("/runs/latest", rest))
        ]
        for state, rest in (("", ""), ("?plan=&state=", "?q=&stage=&outcome=&page="))
    )
    assert whole == empty


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/runs/latest", "/live/", "/nowhere"])
def test_nothing_but_reading_is_answered(site: str, method: str, path: str) -> None:
    answer = httpx.request(method, site + path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/assets/page.css", "/nowhere", "/runs/01NONE"])
def test_every_answer_has_the_strict_headers(site: str, path: str) -> None:
    headers = httpx.get(site + path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; ")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8321", 200),
        ("127.0.0.1", 200),
        ("[::1]:8321", 200),
        ("backfill.example.com", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8321", 421),
        ("", 421),
    ],
)
def test_a_name_that_was_made_to_point_here_is_refused(
    pages: Journals, host: str, status: int
) -> None:
    with served(web(pages, hosts=["backfill.example.com"])) as url:
        assert httpx.get(url, headers={"host": host}).status_code == status


def _basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("", 401),
        (_basic("wrong"), 401),
        (_basic(TOKEN[:-1]), 401),
        ("Basic ???", 401),
        (f"Digest {TOKEN}", 401),
        ("Bearer wrong", 401),
        (_basic(TOKEN), 200),
        (f"Bearer {TOKEN}", 200),
    ],
)
@pytest.mark.parametrize("path", ["/", "/assets/live.js"])
def test_with_a_token_nothing_is_seen_without_it(
    pages: Journals, path: str, authorization: str | None, status: int
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    with served(web(pages, token=TOKEN)) as url:
        answer = httpx.get(url + path, headers=headers)
    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert TOKEN not in answer.text


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["--host", "::"], {}, "other machines can reach ::, and no token is required"),
        (["--host", "example.com"], {}, "other machines can reach example.com"),
        (
            ["--token-env", "UI_TOKEN"],
            {},
            "UI_TOKEN does not hold a token of at least 16 characters",
        ),
        (["--token-env", "UI_TOKEN"], {"UI_TOKEN": "short"}, "UI_TOKEN does not hold a token"),
    ],
)
def test_beyond_this_machine_a_token_is_demanded(
    backfill: Backfill, arguments: list[str], env: dict[str, str], said: str
) -> None:
    done = backfill("ui", *arguments, env=env)
    assert done.status == 2
    assert said in done.err
    assert "short" not in done.err


def test_changes_are_told_as_they_happen_and_so_is_the_end(
    site: str, start: Start, target: Target, plan: Plan
) -> None:
    """As the page gets them: after each, the page has what the journal has."""
    jobs = Jobs()
    with target(jobs) as url:
        process = start("run", plan(6, "batch_size: 1\ndelay: 200ms\n"), "--target", url)
        jobs.wait_for(1)
        run = re.search(r'href="(/runs/\w{26})"', httpx.get(site).text)
        assert run
        with httpx.stream("GET", f"{site}/live{run[1]}", timeout=30) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
        assert process.wait(30) == 0
    assert names[-1] == "end"
    assert names.count("change") >= 3
    assert "6/6 sent" in httpx.get(f"{site}/runs/latest").text


@pytest.mark.parametrize("ended", ["incomplete", "sent", "failed"])
def test_the_page_of_a_run_that_may_go_on_hears_that_it_does(
    site: str, backfill: Backfill, target: Target, plan: Plan, ended: str
) -> None:
    """It used to hear that nothing would change again, and showed the old state forever."""
    jobs = Jobs(failing=["o/r0"] if ended == "failed" else [])
    with target(jobs) as url:
        path = plan(2, {"incomplete": "batch_size: 1\nmax_failures: 1\n"}.get(ended, ""))
        if ended == "incomplete":
            jobs.failing = {"o/r0"}
        arguments = ["--no-wait"] if ended == "sent" else []
        backfill("run", path, "--target", url, "--yes", *arguments)
        assert backfill("status", "latest").out.startswith(ended.upper())
        with httpx.stream("GET", f"{site}/live/runs/latest", timeout=30) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: change"
            backfill("resume", "latest", "--yes", "--past-failures")
            heard = list(islice(lines, 3))
    assert "event: change" in heard


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        ([signal.SIGTERM], ""),
        ([signal.SIGINT], "interrupted"),
        ([signal.SIGINT, signal.SIGINT], "interrupted"),
    ],
    ids=["asked to end", "^C", "^C twice"],
)
def test_the_command_serves_and_ends_at_once_and_quietly_although_a_page_listens(
    start: Start, site: str, failed: None, signals: list[signal.Signals], said: str
) -> None:
    port = free_port()
    process = start("ui", "--port", port)
    assert process.stderr is not None
    assert f"http://127.0.0.1:{port}/" in process.stderr.readline()
    address = f"http://127.0.0.1:{port}/"
    deadline = time.monotonic() + 20
    while True:
        try:
            assert httpx.get(address).status_code == 200
            break
        except httpx.ConnectError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with httpx.stream("GET", f"{address}live/", timeout=10) as answer:
        next(answer.iter_lines())
        for each in signals:
            process.send_signal(each)
            time.sleep(0.02)
        assert process.wait(10) is not None
    assert process.stderr.read().strip() == said
