"""What a server answers is a stranger's: ids and words are looked at before they are used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from runner.adapters.http import parsed
from runner.errors import TargetError
from runner.spec.units import parse_time

_ALPHABET = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's
_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_SHOWN = 60  # characters
_HINT = "is there a proxy in between, or another server at this address?"


def is_id(value: object) -> bool:
    """Is it a ULID, as the ids of events and jobs are?"""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def are_ids(values: Sequence[Any]) -> bool:
    """Are all of them, and no two the same? A request has thousands, so they are joined first."""
    try:
        joined = "".join(values).encode("ascii")
    except (TypeError, UnicodeEncodeError):
        return False
    form = {len(one) for one in values} <= {26} and not joined.translate(None, _ALPHABET)
    return (
        form and {one[0] for one in values} <= set("01234567") and len(set(values)) == len(values)
    )


def moment_of(written: object) -> float | None:
    """A time in ISO 8601, in seconds since 1970; None for anything else."""
    try:
        return parse_time(written).timestamp()
    except (ValueError, OverflowError):
        return None


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
