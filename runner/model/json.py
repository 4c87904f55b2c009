"""JSON values."""

from __future__ import annotations

from typing import Any, TypeAlias

Json: TypeAlias = Any  # what a payload or an attribute may hold
Data: TypeAlias = dict[str, Json]


def as_compared(value: float) -> str:
    """A figure with all of its digits: a rounded one may contradict what is said of it."""
    whole = isinstance(value, int) or (value.is_integer() and abs(value) < _PLAIN)
    return str(int(value)) if whole else repr(value)


_PLAIN = 1e15
