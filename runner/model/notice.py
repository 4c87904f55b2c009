"""Who is notified of a run, and of what."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

from runner.model.value import frozen

HookKind = Literal["slack", "webhook"]
Occasion = Literal["started", "held", "failed", "ended"]
OCCASIONS: tuple[Occasion, ...] = get_args(Occasion)


@frozen
class Hook:
    """`variable`: the environment variable that holds its URL; the URL itself is in no value of
    ours. `held_after`: how many seconds a run must be held until that is worth a word."""

    kind: HookKind
    variable: str
    on: tuple[Occasion, ...] = OCCASIONS
    held_after: float = 600.0


class Notice(NamedTuple):
    """What a hook is to be told: `body` is the document, by its published schema; `tries`: how
    often that was tried."""

    number: int
    hook: Hook
    body: dict[str, Any]
    tries: int
