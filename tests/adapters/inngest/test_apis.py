"""The Event API and REST API adapters, given single answers of a server."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any

import httpx
import pytest

from runner.adapters.http import Unanswered, open_client, retry_after
from runner.adapters.inngest.event_api import HttpEventApi
from runner.adapters.inngest.http import Retry, moment_of
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.adapters.inngest.target import Target, resolve
from runner.errors import BackfillError, KeyRefused, TargetDown, TargetError
from runner.execution.ports import Answer
from runner.execution.seeds import internal_ids
from runner.model import Job, Patience
from runner.output.words import machine_time

KEY = "super-secret-event-key"
SIGNING = "super-secret-signing-key"
ID = "01" + "A" * 24
JOB = "01J" + "B" * 23
ENV = {"INNGEST_EVENT_KEY": KEY, "INNGEST_SIGNING_KEY": SIGNING, "INNGEST_ENV": "branch"}
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def real_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sleeps take no time here."""
    monkeypatch.setattr("runner.model.patience.FIRST", 10.0)


def _retry(slept: list[float] | None = None, notes: list[str] | None = None) -> Retry:
    async def sleep(seconds: float) -> None:
        if slept is not None:
            slept.append(seconds)

    return Retry(sleep, Random(0), (notes if notes is not None else []).append)  # noqa: S311


def send(handler: Handler, count: int = 1, **retry: Any) -> Answer:
    async def main() -> Answer:
        async with open_client(httpx.MockTransport(handler)) as client:
            api = HttpEventApi(client, resolve("http://server", ENV), _retry(**retry))
            return await api.send(b'[{"name":"a"}]', count, "1,AAAAAAAAAAAAAA==")

    return asyncio.run(main())


def ask(handler: Handler, target: Target | None = None) -> list[Job]:
    async def main() -> list[Job]:
        async with open_client(httpx.MockTransport(handler)) as client:
            api = HttpJobsApi(client, target or resolve("http://server", ENV), _retry())
            return await api.jobs("01ID")

    return asyncio.run(main())


def ok(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, text=f'{{"ids":["{ID}"],"status":200}}')


def test_a_send_is_one_post_with_key_seed_environment_and_body() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return ok(request)

    assert send(handler) == Answer((ID,))
    (request,) = seen
    assert request.method == "POST"
    assert str(request.url) == f"http://server/e/{KEY}"
    assert request.headers["x-inngest-event-id-seed"] == "1,AAAAAAAAAAAAAA=="
    assert request.headers["x-inngest-env"] == "branch"
    assert request.headers["content-type"] == "application/json"
    assert request.content == b'[{"name":"a"}]'
    assert "authorization" not in request.headers


def test_no_answer_in_time_is_tried_again_and_marked_as_maybe_taken() -> None:
    tries = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise httpx.ReadTimeout("slow", request=request)
        return ok(request)

    notes: list[str] = []
    assert send(handler, notes=notes).resent
    assert tries == 4
    assert re.fullmatch(
        r"sending to http://server: no answer in time; "
        r"trying again in 0\.\ds \(try 2, for 10s more\)",
        notes[0],
    )


def test_a_refused_connection_has_taken_nothing() -> None:
    faults = [httpx.ConnectError("refused")]

    def handler(request: httpx.Request) -> httpx.Response:
        if faults:
            raise faults.pop()
        return ok(request)

    assert not send(handler).resent


def test_waits_grow_have_jitter_and_end_with_the_patience() -> None:
    slept: list[float] = []
    with pytest.raises(TargetDown):
        send(lambda _: httpx.Response(503), slept=slept)
    assert sum(slept) == pytest.approx(10, abs=0.2)
    *grown, _ = slept
    assert all(0.5 * 0.2 * 2**n <= wait <= 0.2 * 2**n for n, wait in enumerate(grown, 1))


@pytest.mark.parametrize("status", [408, 429, 500, 503, 599])
@pytest.mark.parametrize(("given", "until"), [(None, 600.0), (60.0, 60.0)])
def test_once_a_request_was_taken_patience_is_long_and_no_wait_is_over_ten_seconds(
    status: int, given: float | None, until: float
) -> None:
    slept: list[float] = []
    answers = [httpx.Response(200, text=f'{{"ids":["{ID}"]}}')]

    async def main() -> None:
        def handler(_: httpx.Request) -> httpx.Response:
            return answers.pop() if answers else httpx.Response(status)

        retry = _retry(slept)
        retry.patience = Patience() if given is None else Patience(given)
        async with open_client(httpx.MockTransport(handler)) as client:
            api = HttpEventApi(client, resolve("http://server", ENV), retry)
            await api.send(b"[{}]", 1, "1,AAAAAAAAAAAAAA==")
            await api.send(b"[{}]", 1, "1,AAAAAAAAAAAAAA==")

    with pytest.raises(TargetDown):
        asyncio.run(main())
    assert sum(slept) == pytest.approx(until, abs=0.5)
    assert max(slept) <= 10


def test_requests_that_fail_side_by_side_are_noted_once_a_wait() -> None:
    notes: list[str] = []
    faults = [Unanswered("no connection", maybe_taken=False)] * 16

    async def attempt() -> None:
        if faults:
            raise faults.pop()

    async def main() -> None:
        async def sleep(_: float) -> None:
            await asyncio.sleep(0)

        retry = Retry(sleep, Random(0), notes.append)  # noqa: S311
        await asyncio.gather(*(retry("asking", attempt) for _ in range(16)))

    asyncio.run(main())
    assert len(notes) == 1


def test_a_retry_after_beyond_the_bound_ends_the_tries() -> None:
    slept: list[float] = []
    answer = httpx.Response(429, headers={"retry-after": "3600"})
    with pytest.raises(TargetError, match="429"):
        send(lambda _: answer, slept=slept)
    assert slept == []


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_seconds_or_a_date(form: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=1000))
    wait = retry_after({"retry-after": "1000" if form == "seconds" else date})
    assert wait is not None
    assert 900 < wait <= 1001


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"retry-after": "soon"},
        {"retry-after": "-1"},
        {"retry-after": "1 Jan 99999999999 1:1:1"},
    ],
)
def test_an_unreadable_retry_after_is_none(headers: dict[str, str]) -> None:
    assert retry_after(headers) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(302, headers={"location": "http://evil/"}), "redirects"),
        (httpx.Response(200, text="<html>proxy</html>"), "not Inngest's"),
        (httpx.Response(200, text="[]"), "not Inngest's"),
        (httpx.Response(404, text="nope"), "not Inngest's"),
        (httpx.Response(200, text='{"ids":["",""],"status":200}'), "0 ids for 1 event"),
        (httpx.Response(200, text='{"ids":[1],"status":200}'), "invalid ids"),
        (httpx.Response(200, text='{"ids":[{}],"status":200}'), "invalid ids"),
        (httpx.Response(400, text=f'{{"ids":["{ID}"],"error":"x"}}'), "refuses the request"),
        (httpx.Response(401, text="{}"), "refuses the event key"),
        (httpx.Response(503, text="busy"), "the server answers 503"),
    ],
)
def test_an_answer_that_is_no_success_says_why_and_never_the_key(
    answer: httpx.Response, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(BackfillError, match=words) as caught:
        send(lambda _: answer)
    assert KEY not in f"{caught.value} {caught.value.hint} {caplog.text}"


def test_redirects_are_not_followed() -> None:
    hosts: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(307, headers={"location": "http://evil/"})

    with pytest.raises(TargetError):
        send(handler)
    assert hosts == ["server"]


def test_empty_ids_of_a_refused_first_event_are_dropped() -> None:
    answer = httpx.Response(400, text='{"ids":[""],"status":400,"error":"name is empty"}')
    assert send(lambda _: answer, count=2) == Answer((), "name is empty")


@pytest.mark.parametrize(
    ("status", "places"), [(200, [1, 0, 2]), (200, [0, 2, 1]), (400, [1]), (400, [0, 2])]
)
def test_ids_of_the_seed_in_another_order_are_no_answer(status: int, places: list[int]) -> None:
    """Otherwise one event could get another's job, end and retry."""
    ids = internal_ids("1,AAAAAAAAAAAAAA==", range(3))
    answer = {"ids": [ids[place] for place in places], "status": status, "error": "bad"}
    with pytest.raises(TargetError, match="or in another order"):
        send(lambda _: httpx.Response(status, json=answer), count=3)


@pytest.mark.parametrize(
    "text",
    ['{{"ids":{},"status":200}}', '{{"ids":{},"status":200}}\n', '{{"status":200, "ids":{}}}'],
)
def test_the_ids_of_the_seed_are_the_answer_however_they_are_written(text: str) -> None:
    ids = internal_ids("1,AAAAAAAAAAAAAA==", range(3))
    answer = httpx.Response(200, text=text.format(json.dumps(ids, separators=(",", ":"))))
    assert send(lambda _: answer, count=3) == Answer(tuple(ids))


@pytest.mark.parametrize("ids", [[ID], internal_ids("1,AAAAAAAAAAAAAA==", range(1))])
def test_the_answer_to_the_request_before_is_no_answer(ids: list[str]) -> None:
    """A proxy that keeps answers would complete, with other events' jobs, what was never sent."""

    async def main() -> None:
        answer = httpx.Response(200, json={"ids": ids, "status": 200})
        async with open_client(httpx.MockTransport(lambda _: answer)) as client:
            api = HttpEventApi(client, resolve("http://server", ENV), _retry())
            assert (await api.send(b"[{}]", 1, "1,AAAAAAAAAAAAAA==")).ids == tuple(ids)
            with pytest.raises(TargetError, match="answers 200 with invalid ids"):
                await api.send(b"[{}]", 1, "2,AAAAAAAAAAAAAA==")

    asyncio.run(main())


def run(**fields: Any) -> dict[str, Any]:
    return {"run_id": JOB, "function_id": "F", "status": "Completed", "ended_at": "t"} | fields


def jobs_of(*runs: dict[str, Any]) -> list[Job]:
    return ask(lambda _: httpx.Response(200, json={"data": list(runs)}))


def test_jobs_are_asked_for_past_the_cache_with_the_signing_key() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"data": []})

    ask(handler)
    (request,) = seen
    assert request.method == "GET"
    assert request.url.path == "/v1/events/01ID/runs"
    assert request.url.query
    assert request.headers["authorization"] == f"Bearer {SIGNING}"


def test_a_terminal_status_without_its_end_is_not_the_end() -> None:
    """A live server sets the status up to 160 ms before the output and `ended_at`."""
    (job,) = jobs_of(run(ended_at=None))
    assert not job.ended


def test_a_server_that_does_not_tell_when_a_job_ended_is_taken_at_its_status() -> None:
    (job,) = ask(lambda _: httpx.Response(200, json=[{"run_id": JOB, "status": "Completed"}]))
    assert job.ended


@pytest.mark.parametrize("status", ["Completed", "Failed", "Cancelled", "Overflowed", "Skipped"])
def test_terminal_statuses_end(status: str) -> None:
    (job,) = jobs_of(run(status=status))
    assert job.ended


@pytest.mark.parametrize("status", ["Scheduled", "Running", "Unknown"])
def test_other_statuses_go_on(status: str) -> None:
    (job,) = jobs_of(run(status=status, ended_at=None))
    assert not job.ended


@pytest.mark.parametrize("late", ["Scheduled", "Running", "Unknown"])
@pytest.mark.parametrize(
    ("status", "message"), [("Completed", None), ("Failed", "ValueError: no"), (None, None)]
)
def test_an_end_beside_a_status_from_before_it_is_told_by_the_answer_about_the_job(
    late: str, status: str | None, message: str | None
) -> None:
    """A live server whose traces came out of order shows the old status with the event forever."""

    def handler(request: httpx.Request) -> httpx.Response:
        alone = run(status=status or late, output={"name": "ValueError", "message": "no"})
        if request.url.path == f"/v1/runs/{JOB}":
            return httpx.Response(200, json={"data": alone})
        return httpx.Response(200, json={"data": [run(status=late, output=None)]})

    (job,) = ask(handler)
    assert (job.status, job.ended) == (status or late, status is not None)
    assert status is None or job.message == message


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"name": "ValueError", "message": "no"}, "ValueError: no"),
        (json.dumps({"name": "ValueError", "message": "no"}), "ValueError: no"),
        ({"message": "no"}, "no"),
        ("plain words", "plain words"),
        (None, None),
    ],
)
def test_a_failed_jobs_message_is_its_own(output: Any, message: str | None) -> None:
    (job,) = jobs_of(run(status="Failed", output=output))
    assert job.message == message


def test_the_fallback_key_is_tried_where_the_first_is_refused() -> None:
    target = resolve("http://server", {**ENV, "INNGEST_SIGNING_KEY_FALLBACK": "old"})
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        if seen[-1] != "Bearer old":
            return httpx.Response(401, text="Authentication failed")
        return httpx.Response(200, json={"data": []})

    assert ask(handler, target) == []
    assert seen == [f"Bearer {SIGNING}", "Bearer old"]


@pytest.mark.parametrize("env", [ENV, {}])
def test_a_refused_signing_key_says_so(env: dict[str, str]) -> None:
    words = "refuses the signing key" if env else "requires a signing key"
    with pytest.raises(KeyRefused, match=words):
        ask(lambda _: httpx.Response(401, text="Authentication failed"), resolve("http://s", env))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"error": "database is locked", "data": None, "status": 500}, "database is locked"),
        ({}, "its answer is empty"),  # an error without a message
    ],
)
def test_an_error_behind_a_200_is_tried_again_and_never_taken_for_no_jobs(
    body: Any, says: str
) -> None:
    faults = [httpx.Response(200, json=body)]
    assert ask(lambda _: faults.pop() if faults else httpx.Response(200, json={"data": []})) == []
    with pytest.raises(TargetError, match=says):
        ask(lambda _: httpx.Response(200, json=body))


@pytest.mark.parametrize("body", [{"foo": 1}, {"data": [1]}, {"data": "x"}, "x", None, [[]]])
def test_a_body_of_another_form_is_never_taken_for_no_jobs(body: Any) -> None:
    with pytest.raises(TargetError, match="not Inngest's"):
        ask(lambda _: httpx.Response(200, json=body))


def test_a_key_that_is_rotated_under_many_requests_falls_back_for_all_of_them() -> None:
    target = resolve("http://server", {**ENV, "INNGEST_SIGNING_KEY_FALLBACK": "old"})

    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        right = request.headers["authorization"] == "Bearer old"
        return httpx.Response(200, json={"data": []}) if right else httpx.Response(401)

    async def main() -> list[list[Job]]:
        async with open_client(httpx.MockTransport(handler)) as client:
            api = HttpJobsApi(client, target, _retry())
            return await asyncio.gather(*(api.jobs(f"01ID{n}") for n in range(8)))

    assert asyncio.run(main()) == [[]] * 8


def test_a_key_that_the_server_echoes_is_masked() -> None:
    text = json.dumps({"ids": [""], "status": 400, "error": f"cannot POST /e/{KEY}"})
    answer = send(lambda _: httpx.Response(400, text=text), count=2)
    assert answer.refused == "cannot POST /e/***"
    (job,) = jobs_of(run(status="Failed", output={"name": "E", "message": f"key {SIGNING}"}))
    assert job.message == "E: key ***"


def test_no_further_try_is_made_once_the_run_is_to_stop() -> None:
    tries: list[int] = []

    def handler(_: httpx.Request) -> httpx.Response:
        tries.append(1)
        return httpx.Response(503)

    async def main() -> None:
        retry = Retry(asyncio.sleep, Random(0), print, lambda: True)  # noqa: S311
        async with open_client(httpx.MockTransport(handler)) as client:
            await HttpEventApi(client, resolve("http://s", ENV), retry).send(b"[]", 1, "1,AA==")

    with pytest.raises(TargetError):
        asyncio.run(main())
    assert len(tries) == 1


def test_a_page_of_html_is_never_taken_for_no_jobs() -> None:
    with pytest.raises(TargetError, match="not Inngest's"):
        ask(lambda _: httpx.Response(200, text="<html>"))


def test_a_huge_answer_is_cut_off() -> None:
    async def endless() -> Any:
        while True:
            yield b"x" * 1024 * 1024

    with pytest.raises(TargetError, match="larger than"):
        ask(lambda _: httpx.Response(200, content=endless()))


@pytest.mark.parametrize("zone", ["", "Z", "-14:00", "+14:00"])
@pytest.mark.parametrize("wall", ["9999-12-31T23:59:59.999999", "0001-01-01T00:00:00"])
def test_the_start_of_a_job_can_be_shown(wall: str, zone: str) -> None:
    """A job from the year 10000 in UTC once ended every command that showed it with an internal
    error."""
    at = moment_of(wall + zone)
    assert at is None or machine_time(at)
