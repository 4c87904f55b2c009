"""Following by lists: what is requested, how answers are used, and when they are not trusted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx
import pytest

from runner.adapters.http import open_client
from runner.adapters.inngest.event_api import HttpEventApi, trace_context
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.adapters.inngest.target import resolve
from runner.errors import KeyRefused
from runner.execution.ports import Listed, ListsTooLong
from runner.model import Function, Job, Trigger

ENV = {
    "INNGEST_EVENT_KEY": "super-secret-event-key",
    "INNGEST_SIGNING_KEY": "old-key",
    "INNGEST_SIGNING_KEY_FALLBACK": "new-key",
    "INNGEST_ENV": "branch",
}
Handler = Callable[[httpx.Request], httpx.Response]
SINCE = 1_750_000_000.0


async def _at_once(_: float) -> None:
    pass


def _retry() -> Retry:
    return Retry(_at_once, Random(0), lambda _: None)  # noqa: S311


def listed(
    handler: Handler,
    most: Callable[[], int] = lambda: 100,
    of: Sequence[Function] | None = None,
) -> Sequence[Listed] | None:
    async def main() -> Sequence[Listed] | None:
        async with open_client(httpx.MockTransport(handler)) as client:
            api = HttpJobsApi(client, resolve("http://server", ENV), _retry())
            with suppress(KeyRefused):
                await api.probe()
            return await api.listed(SINCE, of, most)

    return asyncio.run(main())


def job_id(name: str) -> str:
    """Return a ULID that ends with the name."""
    return f"{name.upper():0>26}"


def event_id(name: str) -> str:
    return f"0E{name.upper():0>24}"[:26]


def run(id_: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": job_id(id_),
        "status": status,
        "function": {"id": "sync"},
        "trigger": {"eventIds": [event_id(id_)]},
        **more,
    }


ENDED = {"endedAt": "2026-01-01T00:00:00Z"}


class Server:
    """Lists of runs, in pages; asserts method, path, key, environment and parameters."""

    def __init__(self, runs: list[dict[str, Any]], page: int = 2, ahead: float = 0.0) -> None:
        self.runs, self.page, self.ahead = runs, page, ahead
        self.asked: list[httpx.QueryParams] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["x-inngest-env"] == "branch"
        if request.headers["authorization"] != "Bearer new-key":
            return httpx.Response(401, text="Authentication failed")
        if request.url.path.startswith("/v1/events/"):
            return httpx.Response(200, json={"data": []})
        assert (request.method, request.url.path) == ("GET", "/v2/runs")
        query = request.url.params
        self.asked.append(query)
        now = datetime.now(UTC) + timedelta(seconds=self.ahead)
        metadata = {"fetchedAt": now.isoformat()}
        wanted = [one for one in self.runs if one["status"] in query.get_list("status")]
        start = int(query.get("cursor", 0))
        shown, end = wanted[start : start + self.page], start + self.page
        page: dict[str, Any] = {"limit": self.page}
        if end < len(wanted):
            page |= {"cursor": str(end), "hasMore": True}
        answer = {"metadata": metadata, "page": page, **({"data": shown} if shown else {})}
        return httpx.Response(200, json=answer)


def test_all_pages_of_all_lists_are_read_with_the_key_that_holds() -> None:
    server = Server(
        [
            run("a", "QUEUED"),
            run("b", "RUNNING"),
            run("c", "RUNNING"),
            run("d", "COMPLETED", **ENDED),
            run("e", "FAILED", output={"error": {"name": "E", "message": "no"}}, **ENDED),
            run("f", "CANCELLED", **ENDED),
        ]
    )
    found = listed(server)
    assert found is not None
    said = [(e, job.id, job.status, job.ended, job.message) for e, job in found]
    assert said == [
        (event_id("a"), job_id("a"), "Scheduled", False, None),
        (event_id("b"), job_id("b"), "Running", False, None),
        (event_id("c"), job_id("c"), "Running", False, None),
        (event_id("d"), job_id("d"), "Completed", True, None),
        (event_id("e"), job_id("e"), "Failed", True, "E: no"),
        (event_id("f"), job_id("f"), "Cancelled", True, None),
    ]
    assert found[0].job.url == f"http://server/run?runID={job_id('a')}"
    first, *others = server.asked
    assert dict(first) == {"limit": "1"}
    for query in others:
        assert (query["timeField"], query["order"], query["limit"]) == ("queuedAt", "asc", "100")
    states = [query.get_list("status") for query in others]
    assert states[0] == states[1] == ["QUEUED", "RUNNING"], "what goes on is read first"
    with_output = [query.get_list("status") for query in others if "includeOutput" in query]
    assert with_output == [["FAILED", "CANCELLED"]]


@pytest.mark.parametrize("circle", [["a"], ["a", "b"], ["a", "b", "c", "b"]])
def test_pages_that_go_round_in_a_circle_are_read_once(circle: list[str]) -> None:
    """Otherwise a run would request pages forever, and never give up an event."""
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v2/runs":
            return httpx.Response(200, json={"data": []})
        cursor = request.url.params.get("cursor")
        at = circle.index(cursor) + 1 if cursor else 0
        asked.append(cursor or "")
        page = {"hasMore": True, "cursor": circle[at % len(circle)]}
        return httpx.Response(200, json={"data": [run("a", "COMPLETED", **ENDED)], "page": page})

    assert {job.id for _, job in listed(handler) or ()} == {job_id("a")}
    assert len(asked) <= 1 + 3 * (2 + len(circle))


def test_the_lists_are_asked_in_the_time_of_the_servers_clock() -> None:
    server = Server([], ahead=3600.0)
    assert listed(server) == []
    asked = datetime.fromisoformat(server.asked[1]["from"]).timestamp()
    assert asked == pytest.approx(SINCE + 3600, abs=5)


def test_a_job_that_was_skipped_is_left_to_an_answer_about_its_event() -> None:
    """/v2 shows skipped and overflowed jobs as queued and ended."""
    assert listed(Server([run("a", "QUEUED", **ENDED)])) == []


BATCH = "01M8755KXN2SFHTDHPPGWYMSMP"


def batch(handler: Handler) -> Sequence[str]:
    async def main() -> Sequence[str]:
        async with open_client(httpx.MockTransport(handler)) as client:
            api = HttpJobsApi(client, resolve("http://server", ENV), _retry())
            assert await api.batch(BATCH) == await api.batch(BATCH)
            return await api.batch(BATCH)

    return asyncio.run(main())


def test_a_job_with_a_batch_says_so_and_the_dashboards_api_names_its_events_once() -> None:
    """As on a live server: /v2 names one event of a batch, the dashboard's API all of them."""
    batched = run(BATCH, "COMPLETED", **ENDED)
    batched["trigger"] |= {"isBatch": True, "batchId": "01B"}
    found = listed(Server([batched, run("b", "COMPLETED", **ENDED)])) or ()
    assert [(event, job.batch) for event, job in found] == [
        (event_id(BATCH), True),
        (event_id("b"), False),
    ]
    questions, events = [], [event_id(name) for name in ("1", "2", "3")]

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v0/gql"
        assert "authorization" not in request.headers, "the dashboard asks for no key"
        questions.append(request.url.params["query"])
        return httpx.Response(200, json={"data": {"runTrigger": {"IDs": events}}})

    assert batch(handler) == events
    assert questions == [f'query{{runTrigger(runID:"{BATCH}"){{IDs}}}}']


def test_where_a_server_cannot_name_the_events_of_a_batch_there_are_none() -> None:
    assert batch(lambda _: httpx.Response(404)) == []


@pytest.mark.parametrize(
    ("of", "asked"),
    [
        (None, None),
        ([Function(("a-f", "f"), (Trigger("e"),), "a"), Function(("b-g", "g"), (), "b")], "ab fg"),
        ([Function(("a-f", "f"), (), "a"), Function(("x-g", "uuid"))], None),
    ],
)
def test_lists_are_of_the_functions_that_matter_where_it_is_known_how_they_name_them(
    of: Sequence[Function] | None, asked: str | None
) -> None:
    server = Server([run("a", "RUNNING")])
    assert listed(server, of=of)
    for query in server.asked[1:]:
        apps, functions = query.get_list("appId"), query.get_list("functionId")
        assert (apps, functions) == (([], []) if asked is None else (["a", "b"], ["f", "g"]))


def test_lists_that_are_too_long_to_be_worth_it_are_not_read_on() -> None:
    server = Server([run(str(n), "COMPLETED", **ENDED) for n in range(20)], page=1)
    with pytest.raises(ListsTooLong):
        listed(server, most=lambda: 5)
    assert len(server.asked) == 1 + 5


def test_lists_that_grow_with_what_is_sent_meanwhile_are_read_to_their_end() -> None:
    """A sweep begins with few open events; thousands more may be sent during it."""
    server = Server([run(str(n), "COMPLETED", **ENDED) for n in range(20)], page=1)
    found = listed(server, most=lambda: 2 + len(server.asked))
    assert [event for event, _ in found or ()] == [event_id(f"{n}") for n in range(20)]


def answering(answer: httpx.Response) -> Handler:
    """Answer requests for lists in this way; single events have no jobs."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v2/runs":
            return httpx.Response(answer.status_code, content=answer.content)
        return httpx.Response(200, json={"data": []})

    return handler


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, text="404 page not found"),
        httpx.Response(501, json={"errors": [{"code": "not_implemented", "message": "no"}]}),
        httpx.Response(400, json={"errors": [{"code": "invalid_field_format", "message": "no"}]}),
        httpx.Response(200, text="<html>a dashboard</html>"),
        httpx.Response(200, json={"data": []}),
        httpx.Response(200, json={"page": {}, "data": [{"id": "a", "status": "NEW"}]}),
    ],
)
def test_a_server_without_such_lists_has_none(answer: httpx.Response) -> None:
    assert listed(answering(answer)) is None


def test_a_429_is_waited_for() -> None:
    server = Server([run("a", "RUNNING")])
    refused = [httpx.Response(429, headers={"retry-after": "1"})]

    def handler(request: httpx.Request) -> httpx.Response:
        return refused.pop() if refused and request.url.path == "/v2/runs" else server(request)

    found = listed(handler)
    assert [one.job.id for one in found or ()] == [job_id("a")]


def test_a_key_that_is_refused_for_the_lists_alone_is_kept_for_single_events() -> None:
    keys: list[tuple[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        keys.append((request.url.path[:3], request.headers["authorization"]))
        if request.url.path == "/v2/runs":
            return httpx.Response(403, text="not for you")
        return httpx.Response(200, json={"data": []})

    assert listed(handler) is None
    assert keys == [("/v1", "Bearer old-key"), ("/v2", "Bearer old-key")]


def test_a_job_that_was_rerun_by_hand_is_what_its_rerun_came_to() -> None:
    from runner.execution.listeners import verdict

    failed = Job("a", "sync", "Failed", True, "no")
    again = Job("b", "sync", "Completed", True, original="a")
    assert verdict([failed, again]) == ("completed", None)
    assert verdict([failed]) == ("failed", "no")
    assert verdict([failed, Job("c", "other", "Completed", True)]) == ("failed", "no")


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("env", "sent"),
    [
        ({}, {}),
        ({"TRACEPARENT": PARENT}, {"traceparent": PARENT}),
        (
            {"TRACEPARENT": PARENT, "TRACESTATE": "vendor=1"},
            {"traceparent": PARENT, "tracestate": "vendor=1"},
        ),
        ({"TRACEPARENT": "yes", "TRACESTATE": "vendor=1"}, {}),
        ({"TRACEPARENT": f"{PARENT}\r\nx: y"}, {}),
        ({"TRACEPARENT": PARENT, "TRACESTATE": "a\nb"}, {"traceparent": PARENT}),
    ],
)
def test_events_are_sent_with_the_trace_that_the_environment_carries(
    env: dict[str, str], sent: dict[str, str]
) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, text='{"ids":["01AAAAAAAAAAAAAAAAAAAAAAAA"],"status":200}')

    async def main() -> None:
        async with open_client(httpx.MockTransport(handler)) as client:
            target = resolve("http://server", ENV)
            api = HttpEventApi(client, target, _retry(), trace_context(env))
            await api.send(b'[{"name":"a"}]', 1, "1,AAAAAAAAAAAAAA==")

    asyncio.run(main())
    got = {k: v for k, v in seen[0].headers.items() if k.startswith("trace")}
    assert got == sent


def test_a_page_that_is_too_large_is_halved_and_one_job_that_is_comes_without_its_output() -> None:
    """100 failed jobs with 1 MB of output each exceed the size limit of an answer."""
    names = [f"{number:02}" for number in range(20)]
    sizes = {job_id(name): 65 if name == "07" else 11 for name in names}
    asked: list[tuple[int, bool]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v2/runs":
            return httpx.Response(200, json={"data": []})
        query = request.url.params
        start, limit = int(query.get("cursor", 0)), int(query["limit"])
        failed = "FAILED" in query.get_list("status")
        runs = [run(name, "FAILED", **ENDED) for name in names[start : start + limit] if failed]
        with_output = "includeOutput" in query
        if failed:
            asked.append((limit, with_output))
        size = sum(sizes[one["id"]] for one in runs) if with_output else 0
        page = {"cursor": str(start + limit), "hasMore": failed and start + limit < len(names)}
        answer = {"page": page, "data": runs}
        padding = b" " * (min(size, 65) * 1024 * 1024)  # what is beyond the limit is never read
        return httpx.Response(200, content=json.dumps(answer).encode() + padding)

    found = listed(handler)
    assert sorted(one.job.id for one in found or ()) == sorted(map(job_id, names))
    assert asked[:7] == [
        (100, True),
        (50, True),
        (25, True),
        (12, True),
        (6, True),
        (3, True),
        (3, True),
    ]
    assert asked.count((1, False)) == 1
