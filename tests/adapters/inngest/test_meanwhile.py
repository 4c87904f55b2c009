"""What is done while a request is under way, on a real connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from random import Random

import pytest

from runner.adapters.http import open_client
from runner.adapters.inngest.event_api import HttpEventApi
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.target import resolve
from runner.execution.ports import Answer


def _body(size: int) -> bytes:
    return b'[{"name":"app/sync","data":{"x":"' + b"y" * size + b'"}}]'


@pytest.mark.parametrize("size", [440_000, 20_000_000])
def test_the_server_has_the_whole_request_while_the_sender_does_other_things(size: int) -> None:
    """The server answers only once the sender has done them, and would wait for ever else; and the
    request is of a known length, in one piece, as servers without chunked requests want it."""
    done, arrived, body = threading.Event(), threading.Event(), _body(size)
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        assert await reader.readexactly(len(body)) == body
        arrived.set()
        await asyncio.to_thread(done.wait, 30)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-length: 51\r\n\r\n"
            b'{"ids":["00000000000000000000000001"],"status":200}'
        )
        await writer.drain()
        writer.close()

    def meanwhile() -> Iterator[None]:
        """Each step blocks the sender's event loop: what is left of the body leaves it between."""
        for _ in range(300):
            if arrived.wait(0.1):
                done.set()
                return
            yield

    async def main(port: int) -> Answer:
        async def sleep(_: float) -> None:
            raise AssertionError("the request was made again")

        async with open_client(None) as client:
            target = resolve(f"http://127.0.0.1:{port}", {"INNGEST_EVENT_KEY": "key"})
            api = HttpEventApi(client, target, Retry(sleep, Random(0), print))  # noqa: S311
            return await api.send(body, 1, "1,AAAAAAAAAAAAAA==", meanwhile)

    ports: list[int] = []
    ready, over = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def server() -> None:
        loops.append(asyncio.get_running_loop())
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.append(listening.sockets[0].getsockname()[1])
        ready.set()
        async with listening:
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(server()))
    thread.start()
    try:
        assert ready.wait(30)
        assert asyncio.run(main(ports[0])) == Answer(("00000000000000000000000001",))
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join(30)
    (head,) = heads
    assert head.startswith("POST /e/key HTTP/1.1\r\n")
    assert f"content-length: {len(body)}" in head.lower()
    assert "transfer-encoding" not in head.lower()
