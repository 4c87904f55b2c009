"""What sender and follower rely on, checked against the embedded server and, if
BACKFILL_TEST_INNGEST_URL names one, a live Inngest dev server."""

from __future__ import annotations

import base64
import secrets
import time
from hashlib import sha256
from typing import Any

import httpx
import pytest
from ulid import ULID

from tests.contract.target import (
    COMPLETES,
    EVENT_KEY,
    FAILS,
    HOLDS,
    SIGNING_KEY,
    STARTS_TWO,
    UNHEARD,
    Target,
    eventually,
    unique,
)

pytestmark = pytest.mark.anyio

NO_ULID = "0" * 26  # well-formed, but unknown
TEXT, JSON = "text/plain; charset=utf-8", "application/json"


def answer(response: httpx.Response) -> tuple[int, str, Any]:
    return response.status_code, response.headers["content-type"], response.json()


class TestTakingEvents:
    async def test_an_object_is_taken_as_one_event(self, target: Target) -> None:
        status, content_type, body = answer(await target.post({"name": UNHEARD, "data": {}}))
        assert (status, content_type) == (200, TEXT)
        assert list(body) == ["ids", "status"]
        assert body["status"] == 200
        assert [str(ULID.from_str(id_)) for id_ in body["ids"]] == body["ids"]

    async def test_an_array_gets_one_internal_id_an_event_in_order(self, target: Target) -> None:
        events = [{"name": UNHEARD, "data": {"n": n}} for n in range(3)]
        ids = await target.send(*events)
        assert [(await target.stored(id_))["data"]["n"] for id_ in ids] == [0, 1, 2]

    @pytest.mark.parametrize("body", [b"", b" \n", b"[]"])
    async def test_nothing_sent_is_200_with_one_empty_id(self, target: Target, body: bytes) -> None:
        assert answer(await target.post(body)) == (200, TEXT, {"ids": [""], "status": 200})

    @pytest.mark.parametrize(
        ("event", "error"),
        [
            ({"data": {}}, "event name is empty"),
            ({"name": ""}, "event name is empty"),
            (None, "event name is empty"),
            ({"name": "inngest/x"}, "event name is reserved for internal use: inngest/x"),
            ({"name": "InnGest/x"}, "event name is reserved for internal use: InnGest/x"),
            ({"name": UNHEARD, "ts": 12}, "timestamp is before Jan 1, 1980"),
            ({"name": UNHEARD, "ts": -1}, "timestamp is before Jan 1, 1980"),
            ({"name": UNHEARD, "ts": 4_102_444_800_001}, "timestamp is after Jan 1, 2100"),
        ],
    )
    async def test_a_bad_event_is_400_with_the_reason_and_one_empty_id(
        self, target: Target, event: Any, error: str
    ) -> None:
        refused = {"ids": [""], "status": 400, "error": error}
        assert answer(await target.post([event])) == (400, TEXT, refused)

    @pytest.mark.parametrize(
        ("event", "words"),
        [
            ({"name": 5}, "number name string"),
            ({"name": UNHEARD, "data": "text"}, "string data"),
            ({"name": UNHEARD, "data": [1]}, "array data"),
            ({"name": UNHEARD, "id": 5}, "number id string"),
            ({"name": UNHEARD, "ts": "1700000000000"}, "string ts int"),
            ({"name": UNHEARD, "ts": 1.5}, "number ts int"),
            ({"name": UNHEARD, "ts": True}, "bool ts int"),
            ("text", "string"),
        ],
    )
    async def test_a_field_of_the_wrong_type_is_400_and_named(
        self, target: Target, event: Any, words: str
    ) -> None:
        status, content_type, body = answer(await target.post([event]))
        assert (status, content_type, body["ids"], body["status"]) == (400, TEXT, [""], 400)
        assert all(word in body["error"] for word in ["cannot unmarshal", *words.split()])

    @pytest.mark.parametrize("body", [b"{", b'{"name": "a"', b"nonsense", b"5", b'"text"'])
    async def test_a_body_that_holds_no_events_is_400(self, target: Target, body: bytes) -> None:
        headers = {"content-type": "application/json"}
        response = await target.client.post(f"/e/{EVENT_KEY}", content=body, headers=headers)
        status, content_type, found = answer(response)
        assert (status, content_type, found["ids"], found["status"]) == (400, TEXT, [""], 400)
        assert found["error"]

    async def test_missing_and_null_fields_are_taken(self, target: Target) -> None:
        before = int(time.time() * 1000)
        bare, null = await target.send(
            {"name": UNHEARD}, {"name": UNHEARD, "data": None, "id": None, "ts": None}
        )
        for internal_id in (bare, null):
            event = await target.stored(internal_id)
            assert (event["data"], event["id"]) == (None, internal_id)
            assert event["ts"] >= before

    async def test_events_before_a_bad_one_are_taken_and_those_after_it_are_not(
        self, target: Target
    ) -> None:
        name = unique("contract/partial")
        response = await target.post([{"name": name}, {"name": ""}, {"name": name}])
        status, _, body = answer(response)
        assert (status, body["status"], body["error"]) == (400, 400, "event name is empty")
        (taken,) = body["ids"]
        await target.stored(taken)
        listed = await target.get("/v1/events", name=name)
        assert [event["internal_id"] for event in listed] == [taken]

    async def test_5000_events_are_taken_at_once(self, target: Target) -> None:
        ids = await target.send(*[{"name": UNHEARD}] * 5_000)
        assert len(set(ids)) == 5_000

    async def test_of_5001_events_the_first_5000_are_taken_though_the_answer_is_400(
        self, target: Target
    ) -> None:
        status, _, body = answer(await target.post([{"name": UNHEARD}] * 5_001))
        assert (status, body["status"]) == (400, 400)
        assert body["error"] == "Cannot have more than 5000 events in a batch"
        # A live server may lose the race for the last event.
        assert len(body["ids"]) in ((4_999, 5_000) if target.live else (5_000,))
        await target.stored(body["ids"][4_998])

    async def test_an_event_over_3_mib_is_400(self, target: Target) -> None:
        large = {"name": UNHEARD, "data": {"text": "x" * (3 * 1024 * 1024)}}
        status, _, body = answer(await target.post([{"name": UNHEARD}, large]))
        assert (status, len(body["ids"])) == (400, 1)
        assert body["error"].startswith("Event is over the max size: Max 3145728 bytes / Size ")

    async def test_events_may_be_over_3_mib_together(self, target: Target) -> None:
        await target.send(*[{"name": UNHEARD, "data": {"text": "x" * (2 * 1024 * 1024)}}] * 2)

    async def test_a_post_without_key_is_redirected(self, target: Target) -> None:
        response = await target.client.post("/e/", json={"name": UNHEARD})
        assert (response.status_code, response.headers["location"]) == (303, "/e")

    async def test_events_are_only_posted(self, target: Target) -> None:
        response = await target.client.get(f"/e/{EVENT_KEY}")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")

    async def test_a_wrong_event_key_is_401(self, locked: Target) -> None:
        response = await locked.client.post("/e/wrong", json={"name": UNHEARD})
        refusal = {"status": 401, "message": "", "error": "Event key not found"}
        assert answer(response) == (401, JSON, refusal)
        assert (await locked.post({"name": UNHEARD})).status_code == 200


class TestInternalIds:
    SEED = "1743130137367,eii2YKXRVTJPuA=="
    IDS = ("01JQDAE4RQF8MBCR55T5AK4KXS", "01JQDAE4RQF8MBCR55T5AK4KXT")

    async def test_a_seed_decides_the_internal_ids(self, target: Target) -> None:
        """The time is the seed's; the last four bytes count up from the seed's, plus one."""
        ids = await target.send({"name": UNHEARD}, {"name": UNHEARD}, seed=self.SEED)
        assert tuple(ids) == self.IDS

    async def test_the_counter_wraps_without_carrying_over(self, target: Target) -> None:
        ids = await target.send({"name": UNHEARD}, seed="1743130137367,////////////Pw==")
        assert ids == ["01JQDAE4RQZZZZZZZZZZZZZZT0"]

    @pytest.mark.parametrize(
        "seed",
        [
            "nonsense",
            "0,eii2YKXRVTJPuA==",
            "-5,eii2YKXRVTJPuA==",
            "1743130137367,eii2",
            "1743130137367,eii2YKXRVTJPuA",
            "1743130137367,eii2YKX_____Pw==",
            "999999999999999999,eii2YKXRVTJPuA==",
            "1743130137367,eii2YKXRVTJPuA==,",
        ],
    )
    async def test_an_invalid_seed_is_ignored(self, target: Target, seed: str) -> None:
        (first,) = await target.send({"name": UNHEARD}, seed=seed)
        (second,) = await target.send({"name": UNHEARD}, seed=seed)
        assert first != second
        assert abs(ULID.from_str(first).timestamp - time.time()) < 3600

    async def test_the_same_body_under_the_same_seed_takes_effect_once(
        self, target: Target
    ) -> None:
        """The request is repeated after a lost answer: the same ids and one run, with or without an
        `id`."""
        entropy = base64.b64encode(secrets.token_bytes(10)).decode()
        seed = f"{int(time.time() * 1000)},{entropy}"
        events = [{"name": COMPLETES}, {"name": COMPLETES, "id": unique()}]
        ids = await target.send(*events, seed=seed)
        assert await target.send(*events, seed=seed) == ids
        await target.ended((await target.send({"name": COMPLETES}))[0])
        for internal_id in ids:
            assert (await target.ended(internal_id))["status"] == "Completed"


class TestIdempotency:
    async def test_a_second_event_with_the_same_id_is_stored_and_starts_no_run(
        self, target: Target
    ) -> None:
        id_ = unique()
        (first,) = await target.send({"name": COMPLETES, "id": id_, "data": {"n": 1}})
        await target.ended(first)
        (second,) = await target.send({"name": COMPLETES, "id": id_, "data": {"n": 2}})
        assert second != first
        stored = await target.stored(second)
        assert (stored["id"], stored["data"]) == (id_, {"n": 2})
        await target.ended((await target.send({"name": COMPLETES}))[0])
        assert await target.runs(second) == []

    async def test_the_same_id_starts_another_function(self, target: Target) -> None:
        """Ids are claimed per function, not per event name: so an id must contain the operation."""
        id_ = unique()
        (first,) = await target.send({"name": COMPLETES, "id": id_})
        (second,) = await target.send({"name": FAILS, "id": id_})
        one, other = await target.ended(first), await target.ended(second)
        assert (one["status"], other["status"]) == ("Completed", "Failed")


class TestRuns:
    async def test_a_completed_run_has_its_output_and_end(self, target: Target) -> None:
        (internal_id,) = await target.send({"name": COMPLETES, "data": {"n": 1}})
        run = await target.ended(internal_id)
        assert list(run) == [
            "run_id",
            "run_started_at",
            "function_id",
            "function_version",
            "environment_id",
            "event_id",
            "status",
            "ended_at",
            "output",
        ]
        assert (run["event_id"], run["status"]) == (internal_id, "Completed")
        assert run["output"] == {"echo": {"n": 1}}
        assert run["ended_at"] >= run["run_started_at"]
        alone = await target.get(f"/v1/runs/{run['run_id']}")
        changing = ("environment_id", "function_version")
        assert all(alone[key] == run[key] for key in run if key not in changing)

    async def test_a_failed_run_tells_the_exception(self, target: Target) -> None:
        (internal_id,) = await target.send({"name": FAILS})
        run = await target.ended(internal_id)
        assert run["status"] == "Failed"
        assert sorted(run["output"]) == ["code", "message", "name", "stack"]
        assert run["output"]["code"] == "unknown"  # an error outside any step
        assert run["output"]["name"] == "ValueError"
        assert run["output"]["message"] == "there is no such repository"
        assert run["output"]["stack"].startswith("Traceback (most recent call last):\n")
        assert run["output"]["stack"].endswith("\nValueError: there is no such repository\n")

    async def test_an_event_without_listener_is_taken_and_starts_nothing(
        self, target: Target
    ) -> None:
        (internal_id,) = await target.send({"name": UNHEARD})
        await target.stored(internal_id)
        assert await target.runs(internal_id) == []

    async def test_an_event_starts_a_run_of_each_of_its_functions(self, target: Target) -> None:
        (internal_id,) = await target.send({"name": STARTS_TWO, "id": unique()})

        async def both() -> Any:
            runs = await target.runs(internal_id)
            return runs if len([run for run in runs if run["ended_at"]]) == 2 else None

        runs = await eventually(both)
        assert sorted(run["output"] for run in runs) == ["first", "second"]
        assert len({run["function_id"] for run in runs}) == 2

    async def test_a_run_that_goes_on_has_no_end_and_no_output(self, target: Target) -> None:
        (internal_id,) = await target.send({"name": HOLDS})
        run = await target.going_on(internal_id)
        assert run["ended_at"] is None
        assert "output" not in run

    async def test_delete_cancels_a_run(self, target: Target) -> None:
        (internal_id,) = await target.send({"name": HOLDS})
        run = await target.going_on(internal_id)
        response = await target.client.delete(f"/v1/runs/{run['run_id']}")
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"] == JSON
        ended = await target.ended(internal_id)
        assert (ended["status"], ended["output"]) == ("Cancelled", {})

    async def test_delete_leaves_an_ended_run_as_it_is(self, target: Target) -> None:
        (internal_id,) = await target.send({"name": COMPLETES})
        run = await target.ended(internal_id)
        response = await target.client.delete(f"/v1/runs/{run['run_id']}")
        assert (response.status_code, response.content) == (200, b"")
        assert await target.ended(internal_id) == run

    async def test_an_event_of_the_future_is_scheduled_at_once(self, target: Target) -> None:
        in_an_hour = int((time.time() + 3600) * 1000)
        (internal_id,) = await target.send({"name": COMPLETES, "ts": in_an_hour})
        run = await target.one_run(internal_id, lambda run: run["status"] == "Scheduled")
        assert run["ended_at"] is None
        await target.client.delete(f"/v1/runs/{run['run_id']}")
        assert (await target.ended(internal_id))["status"] == "Cancelled"


class TestReading:
    async def test_an_event_is_shown_as_it_is_stored(self, target: Target) -> None:
        ts = int(time.time() * 1000) - 5_000
        data = {"_inngest": {"x": 1}, "repo": "a/b"}
        id_ = unique()
        (internal_id,) = await target.send({"name": UNHEARD, "data": data, "id": id_, "ts": ts})
        event = await target.stored(internal_id)
        received_at = event.pop("received_at")
        assert received_at.endswith("Z")
        assert event == {
            "internal_id": internal_id,
            "account_id": "00000000-0000-0000-0000-000000000000",
            "environment_id": "00000000-0000-0000-0000-000000000000",
            "source": "",
            "source_id": None,
            "id": id_,
            "name": UNHEARD,
            "data": {"repo": "a/b"},
            "ts": ts,
        }

    async def test_answers_carry_when_they_were_made(self, target: Target) -> None:
        response = await target.client.get("/v1/events", params={"limit": "1"})
        assert response.headers["content-type"] == JSON
        assert list(response.json()) == ["data", "metadata"]
        assert response.json()["metadata"]["fetched_at"].endswith("Z")

    async def test_events_are_listed_by_name_latest_first_and_paged(self, target: Target) -> None:
        name = unique("contract/list")
        ids = await target.send(*[{"name": name}] * 3)
        for id_ in ids:
            await target.stored(id_)
        latest = sorted(ids, reverse=True)

        async def page(**query: str) -> list[str]:
            events = await target.get("/v1/events", name=name, **query)
            return [event["internal_id"] for event in events]

        assert await page() == latest
        assert await page(limit="2") == latest[:2]
        assert await page(limit="2", cursor=latest[1]) == latest[2:]
        assert await page(received_after="2100-01-01T00:00:00Z") == []
        assert await page(received_after="2000-01-01") == latest
        assert await page(received_before="2000-01-01T00:00:00Z") == []

    async def test_a_page_has_20_events_and_51_at_most(self, target: Target) -> None:
        name = unique("contract/page")
        for id_ in await target.send(*[{"name": name}] * 60):
            await target.stored(id_)
        for limit, length in {"": 20, "x": 20, "0": 20, "-3": 1, "51": 51, "100": 51}.items():
            assert len(await target.get("/v1/events", name=name, limit=limit)) == length

    @pytest.mark.parametrize(
        ("path", "status", "error"),
        [
            ("/v1/events/nope/runs", 400, "Invalid event ID: nope"),
            ("/v1/events/nope", 400, "Invalid event ID: nope"),
            (f"/v1/events/{NO_ULID}", 404, "Event not found"),
            ("/v1/runs/nope", 400, "Invalid run ID: nope"),
            (f"/v1/runs/{NO_ULID}", 500, f"Unable to load function run: {NO_ULID}"),
            ("/v1/events?cursor=nope", 400, "Invalid cursor query parameter"),
            ("/v1/events?received_after=nope", 400, "Invalid received_after query parameter"),
        ],
    )
    async def test_the_error_of_a_get_hides_behind_200(
        self, target: Target, path: str, status: int, error: str
    ) -> None:
        shown = {"error": error, "data": None, "status": status}
        assert answer(await target.client.get(path)) == (200, JSON, shown)

    @pytest.mark.parametrize(
        ("run_id", "status", "error"),
        [
            ("nope", 400, "Invalid run ID: nope"),
            (NO_ULID, 404, f"Unable to load function run: {NO_ULID}"),
        ],
    )
    async def test_the_error_of_a_delete_does_not_hide(
        self, target: Target, run_id: str, status: int, error: str
    ) -> None:
        response = await target.client.delete(f"/v1/runs/{run_id}")
        shown = {"error": error, "data": None, "status": status}
        assert answer(response) == (status, JSON, shown)

    async def test_an_unknown_event_has_no_runs(self, target: Target) -> None:
        assert await target.runs(NO_ULID) == []

    @pytest.mark.parametrize(
        ("authorization", "status"),
        [
            (None, 401),
            ("Bearer wrong", 401),
            ("Bearer ", 401),
            ("Basic 0123456789abcdef", 401),
            (f"Bearer {SIGNING_KEY}", 200),
            ("bearer 0123456789abcdef", 200),
            ("Bearer signkey-prod-0123456789abcdef", 200),
            (f"Bearer {sha256(bytes.fromhex('0123456789abcdef')).hexdigest()}", 200),
            (f"Bearer signkey-prod-{sha256(bytes.fromhex('0123456789abcdef')).hexdigest()}", 200),
            (f"Bearer {sha256(b'0123456789abcdef').hexdigest()}", 401),
        ],
    )
    async def test_the_bearer_is_the_signing_key_or_its_hash(
        self, locked: Target, authorization: str | None, status: int
    ) -> None:
        headers = {"authorization": authorization} if authorization else {}
        for path in ("/v1/events", f"/v1/events/{NO_ULID}/runs"):
            response = await locked.client.get(path, headers=headers)
            assert response.status_code == status
            if status == 401:
                assert response.headers["content-type"] == TEXT
                assert response.text == "Authentication failed\n"
