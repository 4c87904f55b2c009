"""A stand-in for Inngest's executor: step memo, sleeps, retries, and signed requests.

It follows the SDK's protocol: a POST has the event and the memo of all steps; 206 answers with the
result of the next step, 200 with the function's output, anything else is retried.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from inngest._internal.net import sign_request, validate_response_sig
    from inngest._internal.server_lib import ServerKind

from tests.cli.conftest import until
from tests.support import SIGNING_KEY

PATH = "/api/inngest"
PLANS = f"{PATH}/plans"
ATTEMPTS = 11


class VirtualClock:
    """Time that passes only by sleeping. Meets `Clock`, and is the engine's clock too."""

    def __init__(self, now: float = 2_000_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float, until: Any) -> None:
        import asyncio

        if not until.is_set():
            self.now += seconds
        await asyncio.sleep(0)

    def wait_until(self, at: float) -> None:
        self.now = max(self.now, at)


class RealClock:
    def wait_until(self, at: float) -> None:
        time.sleep(max(0.0, at - time.time()))


@dataclass
class Ran:
    """The result of a function run: its output or error, and its steps by name, in order."""

    app: str
    function: str = "run"
    id: str = "01K000000000000000000000RN"
    output: Any = None
    error: Any = None
    steps: list[str] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict)
    failed_requests: int = 0


@dataclass
class Engine:
    """`clients`: the workers, called in turn. `between`: called before each request."""

    clients: list[httpx.Client]
    clock: Any
    between: Callable[[Ran], None] = lambda _: None
    events: list[dict[str, Any]] = field(default_factory=list)
    patience: float = 0.0  # real seconds before a failed request is repeated
    app: str = ""  # the app of the workers' state
    _turn: int = 0

    def receive(self, event: Mapping[str, Any]) -> None:
        """Handle the event that requests a run."""
        self.events.append({**event, "ts": 0})

    def run_all(self) -> list[Ran]:
        """Run the function for each event, including those that it sends itself."""
        ran = []
        while self.events:
            ran.append(self.run(self.events.pop(0)))
            if ran[-1].output and "goes_on_in" in ran[-1].output:
                until(lambda: bool(self.events))  # the server delivers it
        return ran

    def fire(self, function: str, run_id: str, at: float = 0) -> Ran:
        """Act as the timer of a function with a cron trigger, at a given time."""
        milliseconds = round(at * 1000)
        timer = {"name": "inngest/scheduled.timer", "id": run_id, "data": {}, "ts": milliseconds}
        return self.run(timer, Ran(f"{self.app}-plans", function, run_id))

    def run(self, event: Mapping[str, Any], ran: Ran | None = None) -> Ran:
        ran, attempt = ran or Ran(event["data"].get("app", self.app)), 0
        while True:
            self.between(ran)
            answer = self._ask(event, ran, attempt)
            if answer is None or (answer.status_code not in (200, 206)):
                ran.failed_requests += 1
                attempt += 1
                final = answer is not None and answer.headers.get("x-inngest-no-retry") == "true"
                if final or attempt >= ATTEMPTS:
                    ran.error = answer.json() if answer is not None else "no answer"
                    return ran
                time.sleep(self.patience)
                continue
            if answer.status_code == 200:
                ran.output = answer.json()
                return ran
            (step,) = answer.json()
            attempt = self._step(step, ran, attempt)

    def _step(self, step: dict[str, Any], ran: Ran, attempt: int) -> int:
        """Put the step's result into the memo; return the attempt of the next request."""
        name, op = step["displayName"], step["op"]
        if op == "StepError":
            assert attempt + 1 < ATTEMPTS, "the SDK says itself that the last attempt has failed"
            ran.failed_requests += 1
            return attempt + 1
        assert step["id"] not in ran.memo, f"the step {name} was carried out twice"
        ran.steps.append(name)
        if op == "StepFailed":
            ran.memo[step["id"]] = {"error": step["error"]}
        elif op == "Sleep":
            self.clock.wait_until(datetime.fromisoformat(step["name"]).timestamp())
            ran.memo[step["id"]] = None
        else:
            assert op == "StepRun", op
            assert len(json.dumps(step["data"])) < 1_000, "what is kept of a step is small"
            ran.memo[step["id"]] = step["data"]
        return 0

    def _ask(self, event: Mapping[str, Any], ran: Ran, attempt: int) -> httpx.Response | None:
        body = {
            "ctx": {
                "attempt": attempt,
                "disable_immediate_execution": False,
                "max_attempts": ATTEMPTS,
                "run_id": ran.id,
                "stack": {"stack": list(ran.memo), "current": len(ran.memo)},
            },
            "event": event,
            "events": [event],
            "steps": ran.memo,
            "use_api": False,
        }
        raw = json.dumps(body).encode()
        signature = sign_request(raw, SIGNING_KEY)
        assert isinstance(signature, str)
        headers = {
            "content-type": "application/json",
            "x-inngest-signature": signature,
            "x-inngest-server-kind": "cloud",
        }
        self._turn += 1
        client = self.clients[self._turn % len(self.clients)]
        try:
            answer = client.post(
                PATH if ran.app == self.app else PLANS,
                params={"fnId": f"{ran.app}-{ran.function}", "stepId": "step"},
                content=raw,
                headers=headers,
            )
        except httpx.TransportError:
            return None
        if answer.status_code in (200, 206):
            proof = validate_response_sig(
                body=answer.content,
                headers=dict(answer.headers),
                mode=ServerKind.CLOUD,
                signing_key=SIGNING_KEY,
            )
            assert not isinstance(proof, Exception), proof
        return answer


def recorded(app: ASGIApp, note: Callable[[list[dict[str, Any]]], None]) -> ASGIApp:
    """Return the application; it calls `note` with the events of each request before it answers."""

    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        more = scope["type"] == "http" and scope["path"].startswith("/e/")
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if not body:
            await app(scope, receive, send)
            return
        if events := json.loads(body):  # none: the request only checks the key
            note(events)

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await app(scope, again, send)

    return recording
