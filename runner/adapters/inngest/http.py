"""Requests to an Inngest server, with retries; no key ever reaches a message."""

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
    """Repeats attempts; the sleep and the randomness are passed in."""

    sleep: Callable[[float], Awaitable[None]]
    random: Random
    note: Callable[[str], None]
    stopped: Callable[[], bool] = lambda: False  # no further try once the run is to stop
    away: Callable[[Waiting | None], None] = lambda _: None  # receives what is waited for
    patience: Patience = field(default_factory=Patience)
    clock: Callable[[], float] = time.monotonic
    _is_away: bool = False
    _noted: dict[str, float] = field(default_factory=dict)  # until when each is not repeated

    async def __call__(
        self, what: str, attempt: Callable[[], Awaitable[Any]], most: float | None = None
    ) -> Any:
        """Call `attempt` again while it raises `Unanswered`; raise `TargetDown` when the patience,
        or `most` seconds, are over."""
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
            # A sleep that ends early, as with a test's clock, still counts as waited.
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
                hint = "once it answers again, `backfill resume RUN` continues the run"
                raise TargetDown(f"{what}: {fault}", hint=hint) from None

    async def patiently(
        self, what: str, attempt: Callable[[], Awaitable[Any]], most: float | None = None
    ) -> Any:
        """The same for other servers than Inngest's, whose attempts raise `TargetDown`."""
        down: list[TargetDown] = []

        async def once() -> Any:
            try:
                return await attempt()
            except TargetDown as error:
                down.append(error)
                raise Unanswered(
                    str(error), maybe_taken=False, wait=error.wait, answered=True
                ) from None

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
        """Report a retry; for requests that fail side by side, report only the first."""
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
    """Try once. Raises `Unanswered` for what may be tried again, else `TargetError`."""
    response, body = await client.exchange(method, url, **arguments)
    status = response.status_code
    if status in (408, 429) or (status >= 500 and status != 501):
        wait = retry_after(response.headers)
        raise Unanswered(
            f"the server answers {status}", maybe_taken=status != 429, wait=wait, answered=True
        )
    if status < 200 or 300 <= status < 400:
        message = f"the server redirects ({status}), and keys are not sent to another address"
        raise TargetError(message, hint="use the address that it redirects to as --target")
    return response, body


def is_id(value: object) -> bool:
    """Whether it is a ULID, as the ids of events and jobs are."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def are_ids(values: Sequence[Any]) -> bool:
    """Whether all are ULIDs and distinct. They are joined first, since a request has thousands."""
    try:
        joined = "".join(values).encode("ascii")
    except (TypeError, UnicodeEncodeError):
        return False
    form = {*map(len, values)} <= {26} and not joined.translate(None, _ALPHABET)
    return form and {*joined[::26]} <= {*b"01234567"} and len({*values}) == len(values)


def moment_of(written: object) -> float | None:
    """Parse an ISO 8601 time into seconds since 1970; None for anything else, and for what rounds
    up to the year 10000."""
    try:
        at = parse_time(written).timestamp()
        datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError):
        return None
    return at


def json_of(body: bytes) -> Any:
    """Parse JSON whatever the content type, since servers answer as text/plain; None if it is
    invalid."""
    try:
        return parsed(body)
    except ValueError:
        return None


def object_of(body: bytes) -> dict[str, Any]:
    found = json_of(body)
    return found if isinstance(found, dict) else {}


def words(value: object, most: int = _SHOWN) -> str:
    """Format a text or a number, cut at `most` characters; empty for anything else."""
    if not isinstance(value, str | int | float):
        return ""
    return str(value)[:most].replace("\0", "\N{REPLACEMENT CHARACTER}")


def not_inngests(name: str, status: int) -> TargetError:
    """The error for an unexpected body; it is not retried, since the answer would be the same."""
    return TargetError(f"{name} answers {status} with a body that is not Inngest's", hint=_HINT)


def no_ids(name: str, status: int) -> TargetError:
    return TargetError(
        f"{name} answers {status} with invalid ids, not one for each event, or in another order",
        hint=_HINT,
    )
