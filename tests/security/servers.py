"""A server on loopback that answers with the given bytes, for as long as it is told."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[socket.socket, bytes], None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Yield the server's origin. `answer` gets each connection, with the head of its request."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def take() -> None:
            while not over.is_set():
                with suppress(OSError):
                    connection, _ = listening.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.settimeout(10)
                answer(connection, read_head(connection))

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)


def read_head(connection: socket.socket) -> bytes:
    read = b""
    while b"\r\n\r\n" not in read:
        part = connection.recv(65536)
        read += part
        if not part or not read[:1].isalpha():  # not HTTP: a server answers that at once
            break
    head, _, body = read.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    left = int(lengths[0].partition(b":")[2]) - len(body) if lengths else 0
    while left > 0:
        left -= len(connection.recv(65536)) or left
    return head


def whole(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return lambda connection, _: connection.sendall(
        "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    )


def drip(head: bytes, drop: bytes) -> Answer:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(drop)
            time.sleep(0.02)

    return answer


def flood(head: bytes, part: bytes) -> Answer:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(part)

    return answer


def zeros(mebibytes: int) -> bytes:
    """Return so many MiB of zeros, as gzip: a thousandth of the size."""
    return gzip.compress(bytes(mebibytes * 1024 * 1024), 1)


def json_answer(value: object) -> Answer:
    return whole(json.dumps(value).encode())
