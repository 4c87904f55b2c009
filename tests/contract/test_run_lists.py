"""``/v2/runs``, with which many jobs are followed: the embedded server's is like a live one's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.target import COMPLETES, FAILS, HOLDS, UNHEARD, Target, eventually, unique

pytestmark = pytest.mark.anyio


async def listed(target: Target, since: str, **query: Any) -> list[Any]:
    """Return all pages, oldest first."""
    asked = {"from": since, "timeField": "queuedAt", "order": "asc", **query}
    found: list[Any] = []
    while True:
        response = await target.client.get("/v2/runs", params=asked)
        assert response.status_code == 200, response.text
        answer = response.json()
        found += answer.get("data", [])
        if not answer["page"].get("hasMore"):
            return found
        asked["cursor"] = answer["page"]["cursor"]


async def now(target: Target) -> str:
    answer = (await target.client.get("/v2/runs", params={"limit": 1})).json()
    return str(answer["metadata"]["fetchedAt"])


async def of(target: Target, since: str, id_: str, **query: Any) -> Any:
    """Return the only run of the event; a live server shows it a moment late."""

    async def look() -> Any:
        runs = await listed(target, since, **query)
        return next((run for run in runs if run["trigger"]["eventIds"] == [id_]), None)

    return await eventually(look)


async def test_a_run_that_has_completed_names_its_event_and_its_end(target: Target) -> None:
    since = await now(target)
    id_ = (await target.send({"name": COMPLETES, "data": {"n": 1}}))[0]
    run = await of(target, since, id_, status="COMPLETED")
    ended = run.get("endedAt") if target.live else run["endedAt"]  # a live server may omit it
    assert (ended or run["queuedAt"]) >= run["queuedAt"] >= since[:19]
    assert run["function"]["id"]
    assert "output" not in run


async def test_a_failed_run_has_its_error_with_its_output(target: Target) -> None:
    since = await now(target)
    id_ = (await target.send({"name": FAILS, "data": {}}))[0]
    run = await of(target, since, id_, status=["FAILED", "CANCELLED"], includeOutput="true")
    assert run["output"]["error"]["name"] == "ValueError"
    assert run["output"]["error"]["message"] == "there is no such repository"


async def test_a_run_that_goes_on_is_in_the_list_of_such(target: Target) -> None:
    since = await now(target)
    id_ = (await target.send({"name": HOLDS, "data": {}}))[0]
    run = await of(target, since, id_, status=["QUEUED", "RUNNING"])
    assert "endedAt" not in run
    await target.client.delete(f"/v1/runs/{run['id']}")


async def test_pages_hold_every_run(target: Target) -> None:
    since = await now(target)
    ids = await target.send(*({"name": COMPLETES, "data": {"n": n}} for n in range(25)))

    async def look() -> Any:
        # A live server may omit some completed runs forever.
        status = {} if target.live else {"status": "COMPLETED"}
        runs = await listed(target, since, limit=10, **status)
        found = {event for run in runs for event in run["trigger"]["eventIds"]}
        return found if found >= set(ids) else None

    assert await eventually(look)


async def test_an_event_that_starts_nothing_is_in_no_list(target: Target) -> None:
    since = await now(target)
    silent = (await target.send({"name": UNHEARD, "data": {}, "id": unique()}))[0]
    heard = (await target.send({"name": COMPLETES, "data": {}}))[0]
    await of(target, since, heard)
    assert silent not in {
        e for run in await listed(target, since) for e in run["trigger"]["eventIds"]
    }


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"limit": "101"}, "Limit cannot exceed 100"),
        ({"limit": "-1"}, "Limit must be at least 1"),
        ({"cursor": "no cursor"}, "Cursor is invalid"),
        ({"status": "DONE"}, "Status is invalid"),
        ({"order": "up"}, "order is invalid"),
        ({"timeField": "bornAt"}, "timeField is invalid"),
    ],
)
async def test_what_is_asked_wrong_is_said(
    target: Target, query: dict[str, str], message: str
) -> None:
    response = await target.client.get("/v2/runs", params=query)
    assert response.status_code == 400
    assert response.json() == {"errors": [{"code": "invalid_field_format", "message": message}]}
