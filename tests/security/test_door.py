"""The worker's door: only the engine can start or change anything, and nobody else learns
anything."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import jcs  # type: ignore[import-untyped]
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from runner.adapters.worker.app import create_worker
    from runner.adapters.worker.registration import Signatures
from runner.adapters.door import Door, hosts_of
from tests.cli.conftest import served
from tests.depth import crossed
from tests.support import SIGNING_KEY
from tests.worker.test_registration import Server

OURS, EVIL = "http://worker:8322", "evil.example.com"
OTHER_KEY = "ab" * 16
LOG = logging.getLogger("test.door")
ANY, NAMED = Door(4 << 20), Door(4 << 20, hosts_of(["worker"]), "--url")
METHODS = ["GET", "POST", "PUT"]
STATE = "0a1b2c3d"
RUN = f"backfill-{STATE}-run"


class Driver:
    identity = STATE

    def __init__(self) -> None:
        self.asked: list[str] = []

    def drive_step(self, request: Mapping[str, Any], _: object) -> Mapping[str, Any]:
        self.asked.append(request["run"])
        return {"status": "completed", "why": "", "until": 0.0}

    def give_up(self, _: Mapping[str, Any], why: str) -> None:
        raise AssertionError(why)


@dataclass
class Site:
    server: Server
    client: httpx.Client
    driver: Driver
    bodies: Iterator[str] = field(default_factory=lambda: (f"RUN{n}" for n in range(1000)))

    def ask(self, method: str, signed: Signed, host: str | None = None, **headers: str) -> Any:
        content = b"" if method == "GET" else self.body(method)
        given = dict(headers) | ({"host": host} if host else {})
        signature = signed(content)
        if signature is not None:
            given["x-inngest-signature"] = signature
        return self.send(method, content, given)

    def send(self, method: str, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        query = {"fnId": RUN, "stepId": "step"}
        url = "/api/inngest"
        return self.client.request(method, url, params=query, content=content, headers=headers)

    def body(self, method: str) -> bytes:
        """Write the body as the engine does: its keys in no order, its numbers in any form."""
        if method == "PUT":
            return json.dumps({"url": f"http://{EVIL}/api/inngest"}).encode()
        data = {"run": next(self.bodies), "b": 1.50e3, "a": "\u20ac"}
        event = {"name": "backfill/run.requested", "data": data, "ts": 0}
        context = {"run_id": "01K", "attempt": 0, "stack": {"stack": [], "current": 0}}
        context |= {"disable_immediate_execution": False, "max_attempts": 11}
        body = {"event": event, "events": [event], "ctx": context, "steps": {}, "use_api": False}
        return json.dumps(body).encode()

    @property
    def touched(self) -> bool:
        return bool(self.server.urls or self.driver.asked)


Signed = Callable[[bytes], str | None]


def signature(body: bytes, key: str = SIGNING_KEY, age: float = 0.0) -> str:
    at = str(round(time.time() - age))
    signed = (jcs.canonicalize(json.loads(body)) if body else b"") + at.encode()
    return f"t={at}&s={hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()}"


REFUSED: dict[str, Signed] = {
    "unsigned": lambda _: None,
    "empty": lambda _: "",
    "no signature": lambda _: f"t={time.time():.0f}&s=",
    "without a time": lambda body: signature(body).partition("&")[2],
    "of another body": lambda _: signature(b'{"a": 1}'),
    "by another key": lambda body: signature(body, OTHER_KEY),
    "by an empty key": lambda body: signature(body, ""),
    "old": lambda body: signature(body, age=303),
    "of the future": lambda body: signature(body, age=-70),
    "another time": lambda body: "t=" + str(round(time.time()) - 1) + signature(body)[12:],
    "twice": lambda body: signature(body) + "&" + signature(body),
    "no number": lambda body: "t=1e9&s=" + signature(body)[15:],
}
TAKEN: dict[str, Signed] = {
    "now": signature,
    "nearly old": lambda body: signature(body, age=290),
    "a little ahead": lambda body: signature(body, age=-50),
    "by the other key": lambda body: signature(body, "cd" * 16),
}


@pytest.fixture
def new_site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    for name in ("INNGEST_DEV", "INNGEST_SIGNING_KEY", "INNGEST_SIGNING_KEY_FALLBACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INNGEST_ENABLE_UNAUTHED_SYNC", "1")  # the SDK would accept it
    with ExitStack() as stack:

        def make(*, url: str | None = OURS, door: Door = ANY, **env: str) -> Site:
            server, driver = Server(), Driver()
            monkeypatch.setenv("INNGEST_BASE_URL", stack.enter_context(served(server.app)))
            for name, value in env.items():
                monkeypatch.setenv(name, value)
            worker = create_worker(driver, lambda: None, url, LOG)
            address = stack.enter_context(served(worker.app, door))
            client = stack.enter_context(httpx.Client(base_url=address, timeout=20))
            return Site(server, client, driver)

        yield make


@pytest.fixture
def keyed(new_site: Callable[..., Site]) -> Site:
    keys = {"INNGEST_SIGNING_KEY_FALLBACK": "cd" * 16}
    return new_site(INNGEST_SIGNING_KEY=f"signkey-prod-{SIGNING_KEY}", **keys)


@pytest.mark.parametrize("host", [None, EVIL])
@pytest.mark.parametrize("method", METHODS)
def test_where_there_is_a_key_what_the_engine_did_not_sign_changes_nothing_and_learns_nothing(
    keyed: Site, method: str, host: str | None
) -> None:
    for name, signed in REFUSED.items():
        more = {"x-inngest-sync-kind": "in_band"} if name == "unsigned" else {}
        answer = keyed.ask(method, signed, host, **more)
        assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"}), name
    assert not keyed.touched
    control = keyed.ask(method, signature, host)
    assert control.status_code in (200, 206), control.text
    assert keyed.touched == (method != "GET")


@pytest.mark.parametrize(("name", "method"), crossed(TAKEN, METHODS))
def test_what_the_engine_signed_is_taken_once(keyed: Site, method: str, name: str) -> None:
    content = b"" if method == "GET" else keyed.body(method)
    given = TAKEN[name](content)
    assert given is not None
    for other in METHODS:  # as a stranger who has intercepted it would send it, to any route
        for status in ((200, 206), (401,)) if other == method else ():
            answer = keyed.send(method, content, {"x-inngest-signature": given})
            assert answer.status_code in status
    for other in METHODS:
        answer = keyed.send(other, content, {"x-inngest-signature": given, "host": EVIL})
        assert answer.status_code == 401, other
    assert len(keyed.driver.asked) == (method == "POST")
    assert keyed.server.urls == ([f"{OURS}/api/inngest"] if method == "PUT" else [])


@pytest.mark.parametrize("function", [RUN, "backfill-none", "", "other"])
def test_without_a_signature_nobody_finds_out_which_functions_there_are(
    keyed: Site, function: str
) -> None:
    query = {"fnId": function, "stepId": "step"}
    answer = keyed.client.post("/api/inngest", params=query, content=keyed.body("POST"))
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})


def test_the_address_that_is_registered_is_our_own_however_the_engine_asks(keyed: Site) -> None:
    """Even with the header of a server that wants the functions in the answer itself."""
    asked = keyed.ask("PUT", signature, EVIL, **{"x-inngest-sync-kind": "in_band"})
    assert asked.status_code == 200
    assert asked.json()["url"] == f"{OURS}/api/inngest"
    assert EVIL not in asked.text
    assert keyed.server.urls == []
    hostile = {"x-forwarded-host": EVIL, "forwarded": f"host={EVIL}"}
    assert keyed.ask("PUT", TAKEN["nearly old"], EVIL, **hostile).status_code == 200
    assert keyed.server.urls == [f"{OURS}/api/inngest"]


def test_without_an_address_of_its_own_a_worker_registers_none(
    new_site: Callable[..., Site],
) -> None:
    site = new_site(url=None, INNGEST_SIGNING_KEY=SIGNING_KEY)
    answer = site.ask("PUT", signature)
    assert answer.status_code == 400
    assert answer.json() == {
        "message": "This worker was not told where it is: start it with --url."
    }
    assert not site.touched


@pytest.mark.parametrize("host", ["worker:8322", "localhost:8322", "127.0.0.1", "[::1]:1"])
def test_at_a_dev_server_an_unsigned_put_registers_our_own_address_again(
    new_site: Callable[..., Site], host: str
) -> None:
    site = new_site(INNGEST_DEV="1", door=NAMED)
    for _ in range(5):  # a flood of these does not become a flood of registrations
        answer = site.ask("PUT", REFUSED["unsigned"], host, **{"x-forwarded-host": EVIL})
        assert answer.status_code == 200, answer.text
    assert site.server.urls == [f"{OURS}/api/inngest"]


STRANGE: list[dict[str, str]] = [
    {"host": EVIL},
    {"origin": f"https://{EVIL}"},
    {"host": f"worker.{EVIL}"},
    {"origin": "null"},
    {"host": "127.0.0.1.evil.example:8322"},
    {"origin": "http://[evil"},
    {"origin": "http://203.0.113.5"},  # an address, too, is a site of its own
    {"origin": "http://[2001:db8::1]:8322"},
]
OWN_PAGES = [("http://localhost:3000", "worker:8322"), ("http://127.0.0.1:1", "localhost:8322")]
OWN_PAGES += [("http://worker", "127.0.0.1"), ("http://192.0.2.7:8322", "192.0.2.7:8322")]


@pytest.mark.parametrize(("headers", "method"), crossed(STRANGE, METHODS))
def test_at_a_dev_server_no_page_of_another_site_starts_anything(
    new_site: Callable[..., Site], method: str, headers: dict[str, str]
) -> None:
    status = 421 if "host" in headers else 403
    site = new_site(INNGEST_DEV="1", door=NAMED)
    answer = site.ask(method, REFUSED["unsigned"], **headers)
    reads = method == "GET" and "origin" in headers
    assert answer.status_code == (200 if reads else status)
    assert not site.touched
    assert site.ask("POST", REFUSED["unsigned"], "worker:8322").status_code in (200, 206)
    assert site.touched


@pytest.mark.parametrize(("origin", "host"), OWN_PAGES)
def test_a_page_of_this_machine_may_post(
    new_site: Callable[..., Site], origin: str, host: str
) -> None:
    site = new_site(INNGEST_DEV="1", door=NAMED)
    answer = site.ask("POST", REFUSED["unsigned"], host, origin=origin)
    assert answer.status_code in (200, 206)


def test_where_there_is_a_key_a_dev_server_is_no_reason_to_register_for_anybody(
    new_site: Callable[..., Site],
) -> None:
    site = new_site(INNGEST_DEV="1", INNGEST_SIGNING_KEY=SIGNING_KEY)
    assert site.ask("PUT", REFUSED["unsigned"]).status_code == 401
    assert site.ask("PUT", REFUSED["by another key"]).status_code == 401
    assert not site.touched
    in_band = {"x-inngest-sync-kind": "in_band"}
    assert site.ask("PUT", signature, EVIL, **in_band).status_code == 200
    assert site.server.urls == [f"{OURS}/api/inngest"]


def test_the_pages_of_health_say_nothing_of_what_is_behind_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INNGEST_SIGNING_KEY", SIGNING_KEY)
    monkeypatch.delenv("INNGEST_DEV", raising=False)
    asked = []

    def missing() -> str:
        asked.append(1)
        return "postgresql://user:secret@db.internal/runs: plan nightly, key abcd"

    worker = create_worker(Driver(), missing, OURS, LOG)
    with served(worker.app) as url, httpx.Client(base_url=url) as client:
        answers = [client.get("/readyz") for _ in range(20)]
        alive = client.get("/healthz")
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    why = "the state cannot be reached, or is not the one of the runs: see this process's log"
    for answer in answers:
        assert (answer.status_code, answer.json()) == (503, {"status": "not ready", "why": why})
    assert len(asked) < 10, "whoever asks often does not ask the state as often"


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff\xfe", b"[" * 1_000_000, b'"\\ud800"', b"NaN", b"1" * 5_000, b'{"a":1e999}'],
)
def test_what_is_no_json_of_the_engine_is_refused_in_words(body: bytes) -> None:
    given = f"t={time.time():.0f}&s={'0' * 64}"
    assert Signatures([SIGNING_KEY]).refusal(given, body) is not None


def test_the_memory_of_signatures_is_bounded_and_forgets_the_old_ones_first() -> None:
    now = [1_000_000.0]
    bodies = [json.dumps({"n": n}).encode() for n in range(30)]

    def at(body: bytes) -> str:
        signed = jcs.canonicalize(json.loads(body)) + b"1000000"
        return f"t=1000000&s={hmac.new(SIGNING_KEY.encode(), signed, hashlib.sha256).hexdigest()}"

    kept = Signatures([SIGNING_KEY], lambda: now[0], remembered=10)
    assert [kept.refusal(at(body), body) for body in bodies] == [None] * 30
    assert len(kept._taken) == 10
    assert [kept.refusal(at(body), body) for body in bodies[20:]] == [
        "it was processed already"
    ] * 10
    now[0] += 301
    assert "301 s old" in str(kept.refusal(at(bodies[29]), bodies[29]))
