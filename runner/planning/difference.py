"""Where two execution plans part."""

from __future__ import annotations

import orjson

from runner.model import ExecutionPlan, Json, Stage


def first_difference(before: ExecutionPlan, after: ExecutionPlan, sent: int) -> str | None:
    """The first of the first `sent` events of `before` that `after` does not have in its place,
    in words; None where what was sent is a prefix of both."""
    first = 0
    for index, old in enumerate(before.stages):
        if first >= sent:
            break
        if index >= len(after.stages):
            return f"`{old.operation}` is no longer in the plan, and its events were sent"
        new, count = after.stages[index], min(old.total, sent - first)
        if (old.operation, old.event) != (new.operation, new.event):
            return (
                f"stage {index + 1} was `{old.operation}` ({old.event}) and is now "
                f"`{new.operation}` ({new.event})"
            )
        if different := _in_stage(old, new, first, count):
            return different
        first += old.total
        if first < sent and new.total != old.total:
            return (
                f"`{old.operation}` had {old.total:,} events and now has {new.total:,}, and events "
                "that come after it were sent"
            )
    return None


def _in_stage(old: Stage, new: Stage, first: int, count: int) -> str | None:
    others = new.items.raw()
    for index, (item, data) in zip(range(count), old.items.raw(), strict=False):
        label = f"event {first + index + 1:,} of the plan, `{old.operation}` of"
        other = next(others, None)
        if other is None:
            return f"{label} {item}, was sent and is no longer there"
        if other[0] != item:
            return f"{label} {item}, is now that of {other[0]}"
        if other[1] != data:
            return f"{label} {item}: {_payload(orjson.loads(data), orjson.loads(other[1]))}"
    return None


def _payload(old: Json, new: Json) -> str:
    for key in dict.fromkeys([*old, *new]):
        if key not in new:
            return f"`{key}` was {_shown(old[key])} and is gone"
        if key not in old:
            return f"`{key}` is new: {_shown(new[key])}"
        if old[key] != new[key]:
            return f"`{key}` was {_shown(old[key])} and is now {_shown(new[key])}"
    return "its keys are in another order"


def _shown(value: Json) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:80]}…"
