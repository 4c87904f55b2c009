"""A local server that accepts events as Inngest does, and remembers when: ``POST /e/<key>``.

It does as little as such a server can, so that the sender is measured: it parses the array, derives
the ids from the seed header as the real server does, and answers. It uses none of the project's
code: else the limit would rise with each gain of ours. Two addresses are for the harness: `/times`
returns and forgets what it saw, `/bodies` writes the requests to its folder.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from ulid import ULID

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _CROCKFORD for b in _CROCKFORD]  # ten bits each
_UNSEEDED = "1700000000000,AAAAAAAAAAAAAA=="


@dataclass(slots=True)
class Sink:
    folder: Path
    seen: list[tuple[float, float, int]] = field(default_factory=list)
    requests: list[tuple[str, bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, kept alive until the client leaves."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                arrived = time.perf_counter()
                path, headers = _parse(head)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                if path.startswith("/e/"):
                    kind, answer, count = "text/plain", *self._take(headers, body)
                    writer.write(_response(kind, answer))
                    await writer.drain()
                    self.seen.append((arrived, time.perf_counter(), count))
                else:
                    writer.write(_response("application/json", self._control(path)))
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _take(self, headers: dict[str, str], body: bytes) -> tuple[bytes, int]:
        count = len(orjson.loads(body))
        seed = headers.get("x-inngest-event-id-seed", _UNSEEDED)
        self.requests.append((seed, body))
        return orjson.dumps({"ids": list(_ids(seed, count)), "status": 200}), count

    def _control(self, path: str) -> bytes:
        if path == "/bodies":
            for number, (seed, body) in enumerate(self.requests):
                (self.folder / f"{number:06}.seed").write_text(seed, encoding="utf-8")
                (self.folder / f"{number:06}.json").write_bytes(body)
            return b"{}"
        answer = json.dumps(self.seen).encode()
        self.seen.clear()
        self.requests.clear()
        return answer


def _ids(seed: str, count: int) -> Iterator[str]:
    """Yield internal ids: the last four bytes of the seed's entropy, plus index + 1."""
    milliseconds, _, encoded = seed.partition(",")
    entropy = base64.b64decode(encoded)
    common = str(ULID(int(milliseconds).to_bytes(6, "big") + entropy))[:19]
    low, high = int.from_bytes(entropy[6:], "big"), (entropy[5] & 7) << 32
    for index in range(count):
        tail = high | ((low + index + 1) & 0xFFFFFFFF)
        yield (
            f"{common}{_CROCKFORD[tail >> 30]}"
            f"{_PAIRS[tail >> 20 & 1023]}{_PAIRS[tail >> 10 & 1023]}{_PAIRS[tail & 1023]}"
        )


def _parse(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return first.split(" ")[1], {name.lower(): value.strip() for name, _, value in pairs}


def _response(kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def main(folder: Path) -> None:
    """Serve on a free loopback port, and print it on stdout; end when stdin closes."""
    server = await asyncio.start_server(Sink(folder).serve, "127.0.0.1", 0, limit=2**20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
