"""What is done while a request is under way, on a real connection."""

from __future__ import annotations

import asyncio
import threading
from random import Random

from runner.adapters.http import open_client
from runner.adapters.inngest.event_api import HttpEventApi
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.target import resolve
from runner.execution.ports import Answer

_BODY = b'[{"name":"app/sync","data":{"x":"' + b"y" * 440_000 + b'"}}]'


def test_the_server_has_the_whole_request_while_the_sender_does_other_things() -> None:
    """The server answers only after the sender has done them, so that otherwise both would wait
    forever; the request has a content length and is not chunked, for servers that do not support
    chunks."""
    done, arrived = threading.Event(), threading.Event()
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        assert await reader.readexactly(len(_BODY)) == _BODY
        arrived.set()
        await asyncio.to_thread(done.wait, 30)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-length: 51\r\n\r\n"
            b'{"ids":["00000000000000000000000001"],"status":200}'
        )
        await writer.drain()
        writer.close()

    def meanwhile() -> None:
        """Block the sender's event loop: the whole body must have been sent before."""
        assert arrived.wait(30)
        done.set()

    async def main(port: int) -> Answer:
        async def sleep(_: float) -> None:
            raise AssertionError("the request was made again")

        async with open_client(None) as client:
            target = resolve(f"http://127.0.0.1:{port}", {"INNGEST_EVENT_KEY": "key"})
            api = HttpEventApi(client, target, Retry(sleep, Random(0), print))  # noqa: S311
            return await api.send(_BODY, 1, "1,AAAAAAAAAAAAAA==", meanwhile)

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
    assert f"content-length: {len(_BODY)}" in head.lower()
    assert "transfer-encoding" not in head.lower()
