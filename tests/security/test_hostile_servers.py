"""What a hostile server may answer: each ends within time and memory, with a message, and is not
believed."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from random import Random

import pytest

from runner.adapters.database.rest import Rest
from runner.adapters.http import open_client
from runner.adapters.inngest.cancel_api import HttpCancelApi
from runner.adapters.inngest.event_api import HttpEventApi
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.adapters.inngest.probe import HttpProbe
from runner.adapters.inngest.target import resolve
from runner.errors import BackfillError, TargetDown, TargetError, UsageError
from runner.execution.ports import Answer as Taken
from runner.model import Patience, Query, QueryRefused, Selection
from tests.depth import some
from tests.security.servers import Answer, drip, flood, json_answer, serving, whole, zeros

SECONDS = 0.5  # for an exchange; normally 30
EVENT = "01M8755KXN2SFHTDHPPGWYMSMP"
JOB = "01M8755KXN2SFHTDHPPGWYMSMQ"
HEAD = b"HTTP/1.1 200 OK\r\n"
FINE = {"ids": [EVENT], "status": 200}
JOBS = {"data": [{"run_id": JOB, "status": "Running", "function_id": "f"}]}
GZIP = "content-encoding: gzip"


def _retry() -> Retry:
    return Retry(asyncio.sleep, Random(0), lambda _: None, patience=Patience(0))  # noqa: S311


def send(origin: str, count: int = 1, seconds: float = SECONDS) -> Taken:
    async def main() -> Taken:
        async with open_client(env={}, seconds=seconds) as client:
            api = HttpEventApi(client, resolve(origin, {"INNGEST_EVENT_KEY": "s3cret"}), _retry())
            return await api.send(b"[{}]", count, "1,AAAAAAAAAAAAAA==")

    return asyncio.run(main())


def follow(origin: str, seconds: float = SECONDS) -> object:
    async def main() -> object:
        async with open_client(env={}, seconds=seconds) as client:
            api = HttpJobsApi(client, resolve(origin, {}), _retry())
            return await api.jobs(EVENT), await api.listed(time.time(), None, lambda: 20)

    return asyncio.run(main())


def look(origin: str) -> object:
    async def main() -> object:
        async with open_client(env={}, seconds=SECONDS) as client:
            target = resolve(origin, {})
            probe = HttpProbe(client, target, HttpJobsApi(client, target, _retry()))
            await probe.hello()
            return await probe.functions()

    return asyncio.run(main())


def cancel(origin: str) -> object:
    async def main() -> object:
        async with open_client(env={}, seconds=SECONDS) as client:
            return await HttpCancelApi(client, resolve(origin, {}), _retry()).cancel(JOB)

    return asyncio.run(main())


def ask(origin: str) -> object:
    database = Rest(origin, "sb_secret_0123", env={}, sleep=lambda _: None)
    try:
        return database.ask(Query(Selection("t", ("id",))), {}).rows
    finally:
        database.close()


def test_an_ordinary_answer_of_each_kind_is_taken() -> None:
    zipped = gzip.compress(json.dumps(FINE).encode())
    for answer in (
        json_answer(FINE),
        whole(zipped, GZIP),
        whole(zipped, "content-encoding: x-gzip"),
    ):
        with serving(answer) as origin:
            assert send(origin, seconds=10).ids == (EVENT,)
    informed = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3
    body = json.dumps(FINE).encode()
    slow = HEAD + f"content-length: {len(body)}\r\n\r\n".encode() + body
    with serving(lambda connection, _: connection.sendall(informed + slow)) as origin:
        assert send(origin, seconds=10).ids == (EVENT,)
    with serving(whole(b'[{"id": 1}]', "content-range: 0-0/1")) as origin:
        assert ask(origin) == ((1,),)


ENDLESS = {
    "a drip of a body": drip(HEAD + b"content-length: 1000000\r\n\r\n", b"x"),
    "a drip of a chunked body": drip(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a drip of a header": drip(HEAD + b"x-long: ", b"x"),
    "a drip of headers": drip(HEAD, b"x: y\r\n"),
    "a drip of 1xx": drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "a flood of 1xx": flood(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
    "silence": lambda *_: time.sleep(3),
}


@pytest.mark.parametrize("answer", ENDLESS.values(), ids=ENDLESS.keys())
def test_an_exchange_has_a_deadline_as_a_whole(answer: Answer) -> None:
    began = time.monotonic()
    with serving(answer) as origin, pytest.raises(BackfillError, match="no answer in time"):
        send(origin)
    assert time.monotonic() - began < SECONDS + 1.5


NOT_THE_PROTOCOLS = {
    "endless headers": (flood(HEAD, b"x: " + b"y" * 1000 + b"\r\n"), "does not answer in HTTP"),
    "no HTTP": (
        lambda connection, _: connection.sendall(b"SSH-2.0-x\r\n\r\n"),
        "does not answer in HTTP",
    ),
    "gzip twice": (whole(zeros(1), "content-encoding: gzip, gzip"), "encoded as `gzip, gzip`"),
    "two headers of gzip": (whole(zeros(1), GZIP, GZIP), "encoded as `gzip, gzip`"),
    "brotli": (whole(b"x", "content-encoding: br"), "encoded as `br`"),
    "zstd": (whole(b"x", "content-encoding: zstd"), "encoded as `zstd`"),
    "a false gzip": (whole(b'{"ids": []}', GZIP), "not valid gzip"),
    "half a gzip": (whole(gzip.compress(b"x" * 999)[:-9], GZIP), "before its gzip is complete"),
    "invalid UTF-8": (whole(b'{"ids": ["\xff\xfe"]}'), "not Inngest's"),
    "a deep answer": (whole(b"[" * 200_000 + b"]" * 200_000), "not Inngest's"),
    "an infinite number": (whole(b'{"ids": [], "status": 1e400}'), "not Inngest's"),
    "NaN": (whole(b'{"ids": [], "status": NaN}'), "not Inngest's"),
    "a page": (whole(b"<html>\x00</html>"), "not Inngest's"),
    "nothing": (whole(b""), "not Inngest's"),
    "an id that is none": (json_answer({"ids": ["../../v1/x"]}), "invalid ids"),
    "a lower-case id": (json_answer({"ids": [EVENT.lower()]}), "invalid ids"),
    "an id with a NUL": (json_answer({"ids": ["\0" * 26]}), "invalid ids"),
    "an id beyond time": (json_answer({"ids": ["8" + EVENT[1:]]}), "invalid ids"),
    "numbers for ids": (json_answer({"ids": [7]}), "invalid ids"),
    "too many ids": (json_answer({"ids": [EVENT, JOB]}), "invalid ids"),
    "a redirect": (whole(b"", "location: http://x.test/", status="302 Found"), "redirects"),
    "a redirect to no address": (
        whole(b"", "location: http://[", status="302 Found"),
        "redirects",
    ),
    "an upgrade": (whole(b"", status="304 Not Modified"), "redirects"),
}


@pytest.mark.parametrize(
    ("answer", "words"), NOT_THE_PROTOCOLS.values(), ids=NOT_THE_PROTOCOLS.keys()
)
def test_what_is_not_the_protocol_ends_at_once_with_6(answer: Answer, words: str) -> None:
    asked: list[bytes] = []

    def once(connection: socket.socket, head: bytes) -> None:
        asked.append(head)
        answer(connection, head)

    with serving(once) as origin, pytest.raises(TargetError) as error:
        send(origin, seconds=10)
    assert words in str(error.value)
    assert len(asked) == 1
    assert not isinstance(error.value, TargetDown), "it is not tried again, however patient"
    assert "s3cret" not in f"{error.value} {error.value.hint}"


def test_one_id_for_ten_events_is_not_believed() -> None:
    words = "invalid ids, not one for each event, or in another"
    same = json_answer({"ids": [EVENT] * 10})
    with serving(same) as origin, pytest.raises(TargetError, match=words):
        send(origin, 10)
    ids = [f"{EVENT[:-1]}{n}" for n in range(10)]
    with serving(json_answer({"ids": ids})) as origin:
        assert send(origin, 10, 10).ids == tuple(ids)


@pytest.mark.parametrize("id_", ["../x", "", None, 7, "a" * 26, EVENT + "\n", [EVENT]])
def test_jobs_are_known_by_ids_alone(id_: object) -> None:
    answer = json_answer({"data": [{"run_id": id_}]})
    with serving(answer) as origin, pytest.raises(TargetError, match="invalid ids"):
        follow(origin, seconds=10)


def test_a_broken_connection_may_pass_and_is_tried_again() -> None:
    def cut(connection: socket.socket, _: bytes) -> None:
        connection.sendall(HEAD + b"content-length: 100\r\n\r\nx")

    for answer in (cut, lambda *_: None):
        with serving(answer) as origin, pytest.raises(TargetDown, match="connection broke"):
            send(origin, seconds=10)


def test_a_key_does_not_follow_a_redirect() -> None:
    heads: list[bytes] = []

    def elsewhere(connection: socket.socket, head: bytes) -> None:
        heads.append(head)

    with serving(elsewhere) as other:
        moved = whole(b"", f"location: {other}/e/x", status="307 Temporary Redirect")
        for use in (send, follow, cancel, ask, look):
            with serving(moved) as origin, pytest.raises((BackfillError, QueryRefused)):
                use(origin)
    assert heads == []


def test_a_client_does_not_show_the_keys_in_its_headers() -> None:
    async def shown() -> str:
        async with open_client(env={}, headers={"authorization": "Bearer s3cret"}) as client:
            return repr(client)

    assert "s3cret" not in asyncio.run(shown())


def test_no_cookie_is_kept() -> None:
    heads: list[bytes] = []

    def baked(connection: socket.socket, head: bytes) -> None:
        heads.append(head)
        whole(b"{}", "set-cookie: spy=1; path=/")(connection, head)

    async def twice(origin: str) -> None:
        async with open_client(env={}) as client:
            for _ in range(2):
                await client.exchange("GET", origin)

    with serving(baked) as origin:
        asyncio.run(twice(origin))
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


ROWS = {
    "1e400": b'[{"id": 1e400}]',
    "NaN": b'[{"id": NaN}]',
    "-Infinity": b'[{"id": -Infinity}]',
    "a number of 400 digits": b'[{"id": ' + b"9" * 400 + b"}]",
    "a number beyond 64 bits": b'[{"id": 99999999999999999999}]',
    "a number beyond 64 bits within another value": b'[{"id": {"a": [1, -99999999999999999999]}}]',
    "a deep value": b'[{"id": ' + b"[" * 500 + b"]" * 500 + b"}]",
    "a deeper value": b'[{"id": ' + b"[" * 90_000 + b"]" * 90_000 + b"}]",
    "not UTF-8": b'[{"id": "\xff"}]',
    "a lone surrogate": b'[{"id": "\\ud800"}]',
    "no rows": b'{"id": 1}',
}


@pytest.mark.parametrize("body", ROWS.values(), ids=ROWS.keys())
def test_rows_that_would_not_come_through_whole_are_refused_in_words(body: bytes) -> None:
    answer = whole(body, "content-range: 0-0/1")
    with serving(answer) as origin, pytest.raises((TargetError, QueryRefused)):
        ask(origin)


@pytest.mark.parametrize("range_", ["0-0/" + "9" * 5000, "x", "0-0/\u0661", "9-0/1"])
def test_a_range_that_is_none_is_refused(range_: str) -> None:
    answer = whole(b'[{"id": 1}]', f"content-range: {range_}")
    with serving(answer) as origin, pytest.raises((TargetError, QueryRefused)):
        ask(origin)


@pytest.mark.parametrize("key", ["sb_publishable_abc", "x.eyJyb2xlIjoiYW5vbiJ9.y"])
def test_a_key_for_browsers_is_refused_in_words(key: str) -> None:
    with pytest.raises(UsageError, match="SUPABASE_SECRET_KEY has a key for browsers") as error:
        Rest("https://x.test", key, env={})
    assert key not in f"{error.value} {error.value.hint}"


_CHILD = """
import asyncio, sys
from runner.adapters.http import AnswerTooLarge, open_client
from runner.adapters.inngest.http import json_of
async def one(client):
    try:
        _, body = await client.exchange("GET", sys.argv[1])
        json_of(body)
        return "read"
    except AnswerTooLarge as error:
        return str(error)
async def main():
    async with open_client(env={}, seconds=20) as client:
        print(set(await asyncio.gather(*(one(client) for _ in range(int(sys.argv[2]))))))
asyncio.run(main())
# What getrusage says begins with the most that the parent had.
most = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
print(most // 1024)
"""
LARGE: dict[str, tuple[Callable[[], Answer], str, int]] = {
    "a gzip bomb": (lambda: whole(zeros(500), GZIP), "larger than 64 MiB", 4),
    "an endless body": (lambda: flood(HEAD + b"\r\n", b"x" * 65536), "larger than 64 MiB", 4),
    "many values": (lambda: _values(b"[],", 9_000_000), "values", 1),
    "the control": (lambda: _values(b"1,", 1_000_000), "read", 4),
}


def _values(one: bytes, count: int) -> Answer:
    return whole(gzip.compress(b"[" + one * count + b"1]", 1), GZIP)


@pytest.mark.parametrize(("answer", "words", "times"), some(LARGE.values(), 2))
def test_large_answers_stay_within_a_gibibyte(
    answer: Callable[[], Answer], words: str, times: int
) -> None:
    with serving(answer()) as origin:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, origin, str(times)],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    assert words in done.stdout, done.stderr
    assert int(done.stdout.split()[-1]) < 1024


def _random_answer(random: Random) -> Answer:
    """Valid answers of the APIs, with something replaced, cut, doubled or wrapped."""
    values: list[object] = [
        None, True, -1, 10**30, 1e308, "", "x" * 300, "\0", EVENT, [], {}, [EVENT], {"error": []},
    ]  # fmt: skip
    keys = ["ids", "data", "page", "status", "error", "run_id", "trigger", "id", "message", "code"]

    def value(depth: int) -> object:
        if depth == 0 or random.random() < 0.3:
            return random.choice(values)
        if random.random() < 0.5:
            return [value(depth - 1) for _ in range(random.randrange(3))]
        return {random.choice(keys): value(depth - 1) for _ in range(random.randrange(4))}

    body = json.dumps(random.choice([FINE, JOBS, value(4), value(4), value(4)])).encode()
    if random.random() < 0.2:
        place = random.randrange(len(body))
        body = body[:place] + random.randbytes(random.randrange(4)) + body[place + 1 :]
    status = random.choice(
        ["200 OK"] * 6 + ["201 Created", "400 X", "404 X", "409 X", "413 X", "500"]
    )
    headers = random.choice([(), ("content-range: 0-0/1",), ("retry-after: 9e9",), ("date: soon",)])
    return whole(body, *headers, status=status)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_server_answers_is_an_answer_or_an_error_in_words(seed: int) -> None:
    random = Random(seed)  # noqa: S311
    for use in (send, follow, look, cancel, ask):
        with serving(_random_answer(random)) as origin:
            said = "an answer"
            try:
                use(origin)
            except (BackfillError, QueryRefused) as error:
                said = str(error)
            assert 0 < len(said) < 1_000
            assert "\0" not in said
