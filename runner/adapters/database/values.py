"""Convert a database's values to JSON, by the rules of docs/database.md.

PostgreSQL's values come as text, with the number of their type; arrays of them come as lists. Types
without a rule stay text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import orjson

from runner.model import Json, QueryRefused

Convert: TypeAlias = Callable[[Any], Json]
_TEXT = "leave the column out, or cast it to text"
_WIDEST = 1 << 64
_DIGITS = 20  # of the widest whole number
_MANY_DIGITS = re.compile(rf"[0-9]{{{_DIGITS - 1}}}")  # of a number that may be wider
_MAX_MADE = 256 << 20  # bytes that the JSON in an answer may take in memory
_INTERVAL = re.compile(
    r"(?:(?P<years>[-+]?\d+) years? ?)?(?:(?P<months>[-+]?\d+) mons? ?)?"
    r"(?:(?P<days>[-+]?\d+) days? ?)?"
    r"(?:(?P<sign>[-+]?)(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d(?:\.\d+)?))?"
)
_DAY, _MONTH, _YEAR = 86_400, 30, 365  # nearly as in PostgreSQL's driver and its extract(epoch)


class Unfit(ValueError):
    """A value has no JSON form; its arguments are the reason and a hint."""


def columns(
    names: Sequence[str], values: Sequence[Sequence[Any]], converts: Sequence[Convert | None]
) -> list[Sequence[Json]]:
    """Convert by column: most columns need no conversion, and converting each value costs more than
    reading its row."""
    return [
        column if convert is None else _converted(name, column, convert)
        for name, column, convert in zip(names, values, converts, strict=True)
    ]


def refuse_twins(names: Sequence[str]) -> None:
    """Refuse an answer with two columns of one name: one of them would be lost."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise QueryRefused(f"two columns are named `{twice}`", "rename one with `as`")


def _converted(name: str, column: Sequence[Any], convert: Convert) -> Sequence[Json]:
    found: list[Json] = []
    try:
        for value in column:
            found.append(None if value is None else convert(value))  # noqa: PERF401 - its length
    except Unfit as error:
        raise unfit(name, len(found) + 1, str(error.args[0]), error.args[1]) from None
    return found


def unfit(column: str, row: int, why: str, hint: str = _TEXT) -> QueryRefused:
    return QueryRefused(f"its column `{column}` in row {row:,} {why}", hint)


def of_sqlite(value: Any) -> Json:
    if isinstance(value, bytes):
        return refuse_bytes(value, "hex(COLUMN)")
    return finite(value) if isinstance(value, float) else value


def finite(value: float) -> Json:
    """Convert NaN and infinities to None: they are no data."""
    return value if math.isfinite(value) else None


def refuse_bytes(_value: Any, written: str = "encode(COLUMN, 'hex')") -> Json:
    """Refuse bytes; `written`: the SQL that converts them to text."""
    raise Unfit("has bytes, which JSON cannot hold", f"leave it out, or {written}")


def number(text: str) -> Json:
    """Keep a whole number exact, whatever its scale; others are as close as JSON allows."""
    whole, _, fraction = text.partition(".")
    if fraction.strip("0"):
        return _near(text)
    if len(whole) <= _DIGITS and whole.lstrip("-").isdigit():
        value = int(whole)
        if -(_WIDEST >> 1) <= value < _WIDEST:
            return value
    elif not whole.lstrip("-").isdigit():
        return None  # NaN and the infinities
    hint = "cast it to text for its digits, or to float8 for its size"
    raise Unfit("has a whole number of more than 64 bits", hint)


def _near(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Unfit("has a number that is too large for JSON", _TEXT)
    return value


def moment(text: str) -> str:
    """Format as ISO 8601, in UTC if there is a zone; a time that Python cannot represent stays as
    the database wrote it."""
    try:
        value = datetime.fromisoformat(text)
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    except (ValueError, OverflowError):  # infinity, BC, years of five digits
        return text


def seconds(text: str) -> Json:
    """Return an interval's length; a month has 30 days, a year 365."""
    found = _INTERVAL.fullmatch(text)
    if not text or found is None:
        return None  # infinity
    parts = {key: int(found[key] or 0) for key in ("years", "months", "days", "h", "m")}
    days = parts["years"] * _YEAR + parts["months"] * _MONTH + parts["days"]
    time = parts["h"] * 3600 + parts["m"] * 60 + float(found["s"] or 0)
    return days * _DAY + (-time if found["sign"] == "-" else time)


class Parsed:
    """Parses JSON in columns for one answer, up to a limit of memory."""

    def __init__(self) -> None:
        self._made = 0

    def __call__(self, text: str) -> Json:
        self._made += len(text) + 60 * text.count(",") + 240 * (text.count("{") + text.count("["))
        if self._made > _MAX_MADE:
            raise Unfit("has too much JSON", "narrow the query, or cast to text")
        try:
            found = orjson.loads(text)  # a wider whole number is as close as 53 bits allow
            return json.loads(text, parse_int=number) if _MANY_DIGITS.search(text) else found
        except (json.JSONDecodeError, RecursionError):
            why = (
                "has JSON that cannot be read: nested too deep, not UTF-8, or with too large "
                "a number"
            )
            raise Unfit(why, _TEXT) from None


def each(convert: Convert) -> Convert:
    """Apply a conversion to an array of any dimensions."""

    def nested(value: Any) -> Json:
        if isinstance(value, list):
            return [nested(member) for member in value]
        return None if value is None else convert(value)

    return nested


def by_type() -> dict[str, Convert]:
    """Return conversions by PostgreSQL's name of the type, for one answer."""
    parsed = Parsed()
    return {
        "bytea": refuse_bytes,
        "float4": finite,
        "float8": finite,
        "numeric": number,
        "timestamp": moment,
        "timestamptz": moment,
        "interval": seconds,
        "json": parsed,
        "jsonb": parsed,
    }
