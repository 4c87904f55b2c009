"""Requests to an Inngest server, tried again with patience; no key ever reaches a message."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from random import Random
from typing import Any

from runner.adapters.http import Answer, Client, Unanswered, parsed, retry_after
from runner.errors import TargetDown, TargetError
from runner.model import Patience, Waiting
from runner.spec.units import parse_time

_ALPHABET = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's
_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_SHOWN = 60  # characters
_HINT = "is there a proxy in between, or another server at this address?"


@dataclass(slots=True)
class Retry:
    """How tries are spaced; the sleep and the randomness are handed in."""

    sleep: Callable[[float], Awaitable[None]]
    random: Random
    note: Callable[[str], None]
    stopped: Callable[[], bool] = lambda: False  # no further try once the run is to stop
    away: Callable[[Waiting | None], None] = lambda _: None  # hears what is waited for meanwhile
    patience: Patience = field(default_factory=Patience)
    clock: Callable[[], float] = time.monotonic
    _is_away: bool = False
    _noted: dict[str, float] = field(default_factory=dict)  # until when each has been said

    async def __call__(
        self, what: str, attempt: Callable[[], Awaitable[Any]], most: float | None = None
    ) -> Any:
        """`attempt`, again while it raises `Unanswered`; `TargetDown` when the time is up, or
        `most` seconds."""
        tries, waited, began = 0, 0.0, self.clock()
        while True:
            try:
                answer = await attempt()
            except Unanswered as error:
                fault = error
            except BaseException:
                self._is_back()
                raise
            else:
                self._is_back()
                return answer
            tries += 1
            # A sleep that is over before its time, as a clock's in tests, has still been waited.
            spent = max(waited, self.clock() - began)
            wait = self.patience.wait(tries, spent, self.random.random(), fault.wait, most)
            if wait is not None and not self.stopped():
                left = min(self.patience.seconds, inf if most is None else most) - spent
                self._say(what, fault, tries + 1, wait, left)
                self._tell(fault, tries + 1, wait, left)
                waited += wait
                await self.sleep(wait)
            if wait is None or self.stopped():
                self._is_back()
                hint = "once it answers again, `backfill resume` continues the run"
                raise TargetDown(f"{what}: {fault}", hint=hint) from None

    async def patiently(
        self, what: str, attempt: Callable[[], Awaitable[Any]], most: float | None = None
    ) -> Any:
        """The same for what is no Inngest server, and raises `TargetDown` where it is away."""
        down: list[TargetDown] = []

        async def once() -> Any:
            try:
                return await attempt()
            except TargetDown as error:
                down.append(error)
                raise Unanswered(str(error), maybe_taken=False, answered=True) from None

        try:
            return await self(what, once, most)
        except TargetDown as error:
            raise down[-1] if down else error from None

    def _tell(self, fault: Unanswered, tries: int, wait: float, left: float) -> None:
        now, self._is_away = time.time(), True
        reason = str(fault) if fault.answered else f"the server does not answer ({fault})"
        until = now + max(wait, left)
        self.away(Waiting(reason, "away", again=now + wait, until=until, tries=tries))

    def _is_back(self) -> None:
        if self._is_away:
            self._is_away = False
            self.away(None)

    def _say(self, what: str, fault: Unanswered, tries: int, wait: float, left: float) -> None:
        """Of requests that fail side by side, the first speaks for the others."""
        now = self.clock()
        if now < self._noted.get(what, now):
            return
        self._noted[what] = now + wait
        self.note(
            f"{what}: {fault}; trying again in {wait:.1f}s (try {tries}, for {_span(left)} more)"
        )


def _span(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 60}m{whole % 60:02}s" if whole >= 60 else f"{whole}s"


async def request(client: Client, method: str, url: str, **arguments: Any) -> Answer:
    """One try. Raises `Unanswered` for what may be tried again, `TargetError` for what may not."""
    response, body = await client.exchange(method, url, **arguments)
    status = response.status_code
    if status in (408, 429) or (status >= 500 and status != 501):
        wait = retry_after(response.headers)
        raise Unanswered(
            f"the server answers {status}", maybe_taken=status != 429, wait=wait, answered=True
        )
    if status < 200 or 300 <= status < 400:
        message = f"the server redirects ({status}), and a key is never sent on"
        raise TargetError(message, hint="give --target the address that it redirects to")
    return response, body


def is_id(value: object) -> bool:
    """Is it a ULID, as the ids of events and jobs are?"""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def are_ids(values: Sequence[Any]) -> bool:
    """Are all of them, and no two the same? A request has thousands, so they are joined first."""
    try:
        joined = "".join(values).encode("ascii")
    except (TypeError, UnicodeEncodeError):
        return False
    form = {*map(len, values)} <= {26} and not joined.translate(None, _ALPHABET)
    return form and {*joined[::26]} <= {*b"01234567"} and len({*values}) == len(values)


def moment_of(written: object) -> float | None:
    """A time in ISO 8601, in seconds since 1970; None for anything else, and for what is rounded to
    the year 10000."""
    try:
        at = parse_time(written).timestamp()
        datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError):
        return None
    return at


def json_of(body: bytes) -> Any:
    """None where it is no JSON: servers answer as text/plain, and only the body says what it is."""
    try:
        return parsed(body)
    except ValueError:
        return None


def object_of(body: bytes) -> dict[str, Any]:
    found = json_of(body)
    return found if isinstance(found, dict) else {}


def words(value: object, most: int = _SHOWN) -> str:
    """A text or a number, in one line's characters; nothing of a value of several parts."""
    if not isinstance(value, str | int | float):
        return ""
    return str(value)[:most].replace("\0", "\N{REPLACEMENT CHARACTER}")


def not_inngests(name: str, status: int) -> TargetError:
    """It is not tried again: what answers so once answers so again."""
    return TargetError(f"{name} answers {status} with a body that is not Inngest's", hint=_HINT)


def no_ids(name: str, status: int) -> TargetError:
    message = f"{name} answers {status} with ids that are none, or not one for each event"
    return TargetError(message, hint=_HINT)
