"""A target to which nothing is sent."""

from __future__ import annotations

from typing import NamedTuple


class TargetHold(NamedTuple):
    """Why, by whom, since when and until when (seconds since 1970): None until it is taken back.
    `address`: what the target meant, see `Target.address`."""

    target: str
    address: str
    reason: str
    holder: str
    since: float
    until: float | None
