"""``/v2/apps`` and their functions, which tell who listens."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.target import COMPLETES, HOLDS, STARTS_TWO, Target, eventually

pytestmark = pytest.mark.anyio


async def all_of(target: Target, path: str, **query: Any) -> list[Any]:
    """Return all pages."""
    found: list[Any] = []
    while True:
        response = await target.client.get(path, params=query)
        assert response.status_code == 200, response.text
        answer = response.json()
        found += answer.get("data", [])
        if not answer["page"].get("hasMore"):
            return found
        query["cursor"] = answer["page"]["cursor"]


async def functions(target: Target, **query: Any) -> list[Any]:
    return [
        function
        for app in await all_of(target, "/v2/apps")
        for function in await all_of(target, f"/v2/apps/{app['id']}/functions", **query)
    ]


def heard_by(function: Any) -> list[str]:
    return [trigger["value"] for trigger in function["triggers"] if trigger["type"] == "EVENT"]


async def test_each_function_is_told_with_the_event_that_starts_it(target: Target) -> None:
    heard = [event for function in await functions(target) for event in heard_by(function)]
    assert (heard.count(COMPLETES), heard.count(STARTS_TWO)) == (1, 2)


async def test_pages_of_one_come_to_the_same(target: Target) -> None:
    def named(found: list[Any]) -> list[tuple[str, str]]:
        return [(one["app"]["id"], one["id"]) for one in found]

    async def look() -> list[tuple[str, str]] | None:
        """Ask again if an app joined a live server in between."""
        whole = named(await functions(target))
        return whole if named(await functions(target, limit=1)) == whole else None

    whole = await eventually(look)
    assert len(set(whole)) == len(whole)


async def test_lists_of_runs_name_functions_by_these_ids(target: Target) -> None:
    (function,) = [one for one in await functions(target) if heard_by(one) == [COMPLETES]]
    (other,) = [one for one in await functions(target) if heard_by(one) == [HOLDS]]
    (id_,) = await target.send({"name": COMPLETES, "data": {}})

    async def ids(**query: str) -> list[str]:
        runs = await all_of(target, "/v2/runs", **query)
        return [event for run in runs for event in run["trigger"]["eventIds"]]

    async def look() -> bool | None:
        app = function["app"]["id"]
        return id_ in await ids(appId=app, functionId=function["id"]) or None

    assert await eventually(look)
    assert id_ not in await ids(appId=other["app"]["id"], functionId=other["id"])
    assert id_ not in await ids(appId="another")


async def test_an_app_that_is_not_there_has_none(target: Target) -> None:
    assert await all_of(target, "/v2/apps/another/functions") == []


@pytest.mark.parametrize("query", [{"limit": "101"}, {"limit": "-1"}, {"cursor": "none"}])
async def test_a_faulty_question_is_refused(target: Target, query: dict[str, str]) -> None:
    app = (await all_of(target, "/v2/apps"))[0]
    response = await target.client.get(f"/v2/apps/{app['id']}/functions", params=query)
    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "invalid_field_format"
