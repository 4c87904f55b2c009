"""What a change to a plan does: to items, operations, pacing and payloads."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, NamedTuple

import orjson

from runner.model import (
    MAX_NAMED,
    NOT_SELECTED,
    ExecutionPlan,
    Json,
    Problem,
    Selectors,
    Stage,
    frozen,
    group_skipped,
)
from runner.planning.event_blocks import parted, without
from runner.spec.units import counted, format_duration

_OF_PLAN = (
    "name",
    "on_failure",
    "max_failures",
    "approval",
    "requires",
    "schedule",
    "give_up_after",
    "if_empty",
    "accept",
    "guards",
    "checks",
    "coverage",
    "handlers",
)
ChangeKind = Literal["added", "removed", "moved", "changed"]
Fate = Literal["added", "removed", "changed", "same", "invalid"]


class PlanChange(NamedTuple):
    """One difference between two plans; those that add or remove events come first.

    `operation` is None if it concerns the whole plan. `total` counts the items concerned, of which
    `items` are the first; it is 0 if it concerns no particular items.
    """

    kind: ChangeKind
    operation: str | None
    what: str
    total: int = 0
    items: tuple[str, ...] = ()

    @property
    def counts_events(self) -> bool:
        """Whether it adds or removes events."""
        return self.what in ("events", "the operation")


@frozen
class Difference:
    """All changes from one plan to another; empty exactly if both send the same, at the same time
    and under the same conditions."""

    changes: tuple[PlanChange, ...]
    events: tuple[int, int]
    batches: tuple[int, int]
    duration: tuple[float, float]


def compare(
    old: ExecutionPlan,
    new: ExecutionPlan,
    *,
    selectors: Selectors | None = None,
    targets: tuple[str, str] = ("", ""),
) -> Difference:
    """Compare two plans, which go to these `targets`.

    `selectors`: those applied to both; a plan that they select completely is not marked as partial.
    """
    before, after = ({one.name: one for one in _operations(plan)} for plan in (old, new))
    changes = [*_of_plan(old, new), *_of_operations(before, after)]
    for name in after:
        if name in before:
            changes += _of_operation(before[name], after[name])
    first, second = (one.partial.selectors if one.partial else selectors for one in (old, new))
    changes += _of_skipped(old, new, parts=bool(first) and first == second)
    changes.sort(key=lambda change: not change.counts_events)
    # The digest of a part also covers what was not selected.
    if not changes and (old.facts != new.facts if first or second else old.digest != new.digest):
        changes.append(PlanChange("changed", None, "the database's questions or answers"))
    changes += _changed(None, "target", *targets)
    return Difference(
        tuple(changes),
        (old.events, new.events),
        (old.batches, new.batches),
        (old.duration, new.duration),
    )


def _of_plan(old: ExecutionPlan, new: ExecutionPlan) -> Iterable[PlanChange]:
    for name in _OF_PLAN:
        yield from _changed(None, name, _setting(old, name), _setting(new, name))
    for key in dict.fromkeys([*old.metadata, *new.metadata]):
        if key != "name":
            yield from _changed(None, key, old.metadata.get(key), new.metadata.get(key))


def _setting(plan: ExecutionPlan, name: str) -> Any:
    if name == "approval" and plan.approval is not None:
        over = f" over {counted(plan.approval, 'event')}" if plan.approval else ""
        return f"required{over}"
    if name == "schedule":
        return plan.schedule and plan.schedule.words
    if name == "give_up_after":
        return _duration(plan.give_up_after)
    return _plain(getattr(plan, name))


class _Operation(NamedTuple):
    """What a plan sends for one operation, which may share its stage with others."""

    name: str
    stage: Stage

    @property
    def event(self) -> str:
        return dict(self.stage.members).get(self.name, self.stage.event)

    @property
    def beside(self) -> str | None:
        """The operations that share its stage."""
        return ", ".join(name for name in self.stage.operations if name != self.name) or None

    def events(self) -> Iterable[tuple[str, bytes]]:
        """Its items and payloads, as if it had a stage of its own."""
        events = self.stage.items.raw()
        if not self.stage.members:
            return events
        return (
            (item, without(cell, "name", "operation"))
            for item, cell in events
            if parted(cell)["operation"] == self.name
        )


def _operations(plan: ExecutionPlan) -> Iterable[_Operation]:
    return (_Operation(name, stage) for stage in plan.stages for name in stage.operations)


def _of_operations(
    before: Mapping[str, _Operation], after: Mapping[str, _Operation]
) -> Iterable[PlanChange]:
    for name in [name for name in before if name not in after]:
        items = [item for item, _ in before[name].events()]
        yield PlanChange("removed", name, "the operation", len(items), tuple(items[:MAX_NAMED]))
    for name in [name for name in after if name not in before]:
        items = [item for item, _ in after[name].events()]
        yield PlanChange("added", name, "the operation", len(items), tuple(items[:MAX_NAMED]))
    common = [name for name in before if name in after]
    if common != [name for name in after if name in before]:
        order = ", ".join(after)
        yield PlanChange("moved", None, f"the order of the operations, which is now {order}")


def _of_operation(one: _Operation, other: _Operation) -> Iterable[PlanChange]:
    name, old, new = one.name, one.stage, other.stage
    yield from _changed(name, "event", one.event, other.event)
    for what in ("for_each", "wait", "canary", "deferred"):
        yield from _changed(name, what.replace("_", " "), getattr(old, what), getattr(new, what))
    yield from _changed(name, "shares its stage with", one.beside, other.beside)
    if one.beside == other.beside:  # otherwise these cover the other operations too
        yield from _changed(name, "needs", _plain(old.needs), _plain(new.needs))
    yield from _changed(name, "batch_size", old.pacing.batch_size, new.pacing.batch_size)
    was, now = (stage.cap and stage.cap.events for stage in (old, new))
    yield from _changed(name, "max_in_flight", was, now)
    for what, before, after in (
        ("delay", old.pacing.delay, new.pacing.delay),
        ("timeout", old.timeout, new.timeout),
        ("queue_timeout", old.queue_timeout, new.queue_timeout),
        ("start", old.begins, new.begins),
    ):
        yield from _changed(name, what, _duration(before), _duration(after))
    if asdict(old.pacing) != asdict(new.pacing) and (
        (old.pacing.batch_size, old.pacing.delay) == (new.pacing.batch_size, new.pacing.delay)
    ):
        yield PlanChange("changed", name, "the pacing")
    yield from _changed(name, "until", _plain(old.until), _plain(new.until))
    travels = _travelling(old, new)
    for change in _of_items(name, _payloads(one), _payloads(other)):
        if change.what not in travels:
            yield change


def _travelling(old: Stage, new: Stage) -> set[str]:
    """Return the payload changes that only repeat a change of pacing, which is reported once."""
    sizes, delays = (
        (old.pacing.batch_size, new.pacing.batch_size),
        (old.pacing.delay, new.pacing.delay),
    )
    found = set()
    if sizes[0] != sizes[1]:
        found.add(f"payload `batch_size`: {_shown(sizes[0])} → {_shown(sizes[1])}")
    if delays[0] != delays[1]:
        was, now = (round(delay * 1000) for delay in delays)
        found.add(f"payload `delay_ms`: {_shown(was)} → {_shown(now)}")
    return found


def _of_items(
    name: str, old: Mapping[str, bytes], new: Mapping[str, bytes]
) -> Iterable[PlanChange]:
    for kind, items in (
        ("removed", [item for item in old if item not in new]),
        ("added", [item for item in new if item not in old]),
    ):
        if items:
            yield PlanChange(kind, name, "events", len(items), tuple(items[:MAX_NAMED]))  # type: ignore[arg-type]
    place = {item: at for at, item in enumerate(new)}
    moved = _moved([item for item in old if item in new], place)
    if moved:
        yield PlanChange("moved", name, "moved in the order", len(moved), tuple(moved[:MAX_NAMED]))
    groups: dict[str, list[str]] = {}
    for item, data in old.items():
        if item in new and new[item] != data:
            for what in _payload(_members(data), _members(new[item])):
                groups.setdefault(what, []).append(item)
    for what, items in groups.items():
        yield PlanChange("changed", name, what, len(items), tuple(items[:MAX_NAMED]))


def _moved(common: Sequence[str], place: Mapping[str, int]) -> list[str]:
    """Return the fewest items that must move: all but a longest subsequence that keeps its
    order."""
    ends: list[int] = []
    best: list[str] = []
    previous: dict[str, str | None] = {}
    for item in common:
        at = bisect_left(ends, place[item])
        previous[item] = best[at - 1] if at else None
        if at == len(ends):
            ends.append(place[item])
            best.append(item)
        else:
            ends[at], best[at] = place[item], item
    kept: set[str] = set()
    one = best[-1] if best else None
    while one is not None:
        kept.add(one)
        one = previous[one]
    return [item for item in common if item not in kept]


def _payloads(operation: _Operation) -> dict[str, bytes]:
    """Payloads by item; a number distinguishes repeated items."""
    found: dict[str, bytes] = {}
    seen: Counter[str] = Counter()
    for item, data in operation.events():
        seen[item] += 1
        found[item if seen[item] == 1 else f"{item} #{seen[item]}"] = data
    return found


def _members(cell: bytes) -> dict[str, Json]:
    """The members of a payload, and the event's own."""
    own = parted(cell)
    data: dict[str, Json] = own.pop("data")
    return {**data, **{f"event.{key}": value for key, value in own.items()}}


def _payload(old: dict[str, Json], new: dict[str, Json]) -> Iterable[str]:
    found = False
    for key in dict.fromkeys([*old, *new]):
        if key not in new:
            yield f"payload `{key}` is removed"
        elif key not in old:
            yield f"payload `{key}` is new: {_shown(new[key])}"
        elif _written(old[key]) != _written(new[key]):
            yield f"payload `{key}`: {_shown(old[key])} → {_shown(new[key])}"
        else:
            continue
        found = True
    if not found:
        yield "the payload's keys are in a different order"


def _of_skipped(old: ExecutionPlan, new: ExecutionPlan, *, parts: bool) -> Iterable[PlanChange]:
    before, after = set(old.skipped), set(new.skipped)
    if parts:
        left_out = {one for one in before ^ after if one.reason == NOT_SELECTED}
        before, after = before | left_out, after | left_out
    for kind, skipped, word in (
        ("added", [one for one in new.skipped if one not in before], "newly skipped"),
        ("removed", [one for one in old.skipped if one not in after], "no longer skipped"),
    ):
        for group in group_skipped(skipped):
            what = f"{word}: {group.reason}"
            yield PlanChange(kind, group.operation, what, group.total, group.items)  # type: ignore[arg-type]


def _changed(operation: str | None, what: str, old: Any, new: Any) -> Iterable[PlanChange]:
    if old == new and _written(old) == _written(new):
        return
    before, after = _by_name(old), _by_name(new)
    if before is None or after is None:
        yield PlanChange("changed", operation, f"{what}: {_shown(old)} → {_shown(new)}")
        return
    for key in dict.fromkeys([*before, *after]):
        was, now = before.get(key), after.get(key)
        kind: ChangeKind = "added" if key not in before else "removed"
        if isinstance(now if kind == "added" else was, dict | list) and None in (was, now):
            yield PlanChange(kind, operation, f"{what}: {key}")
        else:
            yield from _changed(operation, f"{what}: {key}", was, now)


def _by_name(value: Any) -> dict[str, Any] | None:
    """Return the parts of a setting with named parts, such as checks; None if it has none."""
    if value is None or isinstance(value, dict):
        return value or {}
    if isinstance(value, list) and all(isinstance(one, dict) and "name" in one for one in value):
        return {str(one["name"]): one for one in value}
    return None


def _plain(value: Any) -> Any:
    """Convert to JSON values; missing and empty are the same."""
    if value is None or value in ((), {}):
        return None
    return orjson.loads(_written(value))


def _written(value: Any) -> bytes:
    """Encode as it is sent: to Python, true equals 1, and so does 1.0."""
    return orjson.dumps(value, default=list)


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else format_duration(seconds)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:79]}…"


def first_difference(before: ExecutionPlan, after: ExecutionPlan, sent: int) -> str | None:
    """Describe the first of the `sent` events of `before` that `after` lacks at its place; None if
    all agree."""
    first = 0
    for index, old in enumerate(before.stages):
        if first >= sent:
            break
        if index >= len(after.stages):
            return f"`{old.operation}` is no longer in the plan, but its events were sent"
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
                f"`{old.operation}` had {counted(old.total, 'event')} and now has "
                f"{new.total:,}, but events that come after it were sent"
            )
    return None


def _in_stage(old: Stage, new: Stage, first: int, count: int) -> str | None:
    others = new.items.raw()
    for index, (item, data) in zip(range(count), old.items.raw(), strict=False):
        label = f"event {first + index + 1:,} of the plan, `{old.operation}` of"
        other = next(others, None)
        if other is None:
            return f"{label} {item}, was sent and is no longer in the plan"
        if other[0] != item:
            return f"{label} {item}, is now that of {other[0]}"
        if other[1] != data:
            changes = _payload(_members(data), _members(other[1]))
            return f"{label} {item}: {next(iter(changes))}"
    return None


@frozen
class Review:
    """What a change does to one plan file.

    `plan` is what it sends from now on, or what it sent if it was removed; None if it is invalid.
    `was`: the file's old path, if it was renamed. `note`: why the two could not be compared.
    `target`: where its events go, for people. `applied`: the run that has applied it as it was, so
    that merging does not run it.
    """

    path: str
    fate: Fate
    plan: ExecutionPlan | None = None
    difference: Difference | None = None
    was: str | None = None
    problems: tuple[Problem, ...] = ()
    note: str | None = None
    target: str | None = None
    applied: str | None = None

    @property
    def events(self) -> int:
        """How many more events there are than before."""
        if self.difference:
            before, after = self.difference.events
            return after - before
        if self.plan is None:
            return 0
        return -self.plan.events if self.fate == "removed" else self.plan.events


def review(
    path: str,
    before: ExecutionPlan | None,
    after: ExecutionPlan | None,
    *,
    was: str | None = None,
    note: str | None = None,
    targets: tuple[str, str] = ("", ""),
) -> Review:
    """Review a plan file that is valid now (`after`), or removed. `targets`: see `compare`."""
    if after is None:
        return Review(path, "removed", before, was=was, note=note)
    if before is None:
        return Review(path, "added", after, was=was, note=note)
    found = compare(before, after, targets=targets)
    return Review(path, "changed" if found.changes else "same", after, found, was, note=note)
