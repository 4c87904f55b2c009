"""The senders to compare with: ``senders NAME URL FOLDER [EVENTS]`` posts recorded requests.

The folder has the requests that `backfill` made: NUMBER.json with the bytes of a body, NUMBER.seed
with its seed. None of these senders keeps a journal.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import httpx
import inngest

_PATH = "/e/benchmark"


async def async_client(url: str, folder: Path) -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        for body, headers in _requests(folder):
            answer = await client.post(url + _PATH, content=body, headers=headers)
            answer.raise_for_status()


def sync_client(url: str, folder: Path) -> None:
    with httpx.Client(timeout=30) as client:
        for body, headers in _requests(folder):
            client.post(url + _PATH, content=body, headers=headers).raise_for_status()


def one_each(url: str, folder: Path, events: int) -> None:
    """Post one event per request, as a loop over the repositories does."""
    bodies = [json.dumps([event]).encode() for event in islice(_events(folder), events)]
    headers = {"content-type": "application/json"}
    with httpx.Client(timeout=30) as client:
        for body in bodies:
            client.post(url + _PATH, content=body, headers=headers).raise_for_status()


async def sdk(url: str, folder: Path) -> None:
    """Send with Inngest's own client, as many events at once as our requests have."""
    client = inngest.Inngest(
        app_id="benchmark",
        event_api_base_url=url,
        event_key=_PATH.rpartition("/")[2],
        is_production=False,
    )
    requests = [json.loads(body) for body, _ in _requests(folder)]
    for given in requests:
        events = [
            inngest.Event(name=event["name"], data=event["data"], id=event["id"]) for event in given
        ]
        await client.send(events)


def _requests(folder: Path) -> list[tuple[bytes, dict[str, str]]]:
    return [
        (
            path.read_bytes(),
            {
                "content-type": "application/json",
                "x-inngest-event-id-seed": path.with_suffix(".seed").read_text(encoding="utf-8"),
            },
        )
        for path in sorted(folder.glob("*.json"))
    ]


def _events(folder: Path) -> list[dict[str, object]]:
    return [event for body, _ in _requests(folder) for event in json.loads(body)]


_SENDERS: dict[str, Callable[[str, Path, int], None]] = {
    "async-client": lambda url, folder, _: asyncio.run(async_client(url, folder)),
    "sync-client": lambda url, folder, _: sync_client(url, folder),
    "one-each": one_each,
    "sdk": lambda url, folder, _: asyncio.run(sdk(url, folder)),
}

if __name__ == "__main__":
    name, address, requests, *most = sys.argv[1:]
    _SENDERS[name](address, Path(requests), int(most[0]) if most else 0)
