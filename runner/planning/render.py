"""Render, check and pack the events of a plan's operations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import orjson

from runner.model import (
    Amount,
    BackfillPlan,
    Condition,
    Data,
    Json,
    Operation,
    Pacing,
    Payload,
    Problem,
    Skipped,
    frozen,
)
from runner.planning.event_blocks import LARGE, ORDINARY, EventBlocks, Packing, with_own
from runner.planning.flow import flow_of, throttled
from runner.planning.items import LookupErrors, ProblemGroups, Source
from runner.spec.json_limits import MAX_EVENT
from runner.spec.kinds import name_fault
from runner.spec.units import counted, parse_start


@frozen
class Rendered:
    """The result for one operation; `digest` covers its events."""

    items: EventBlocks
    digest: bytes
    skipped: Sequence[Skipped]
    problems: Sequence[Problem]
    warnings: Sequence[Problem]  # from the catalog
    pacing: Pacing  # the pacing that keeps its throttle
    count: int  # of its own events, if several operations share the stage


def render(
    plan: BackfillPlan, operations: Sequence[tuple[Operation, Source]]
) -> Sequence[Rendered]:
    """Render the operations. Those over the same items share one pass: reading a row of a data file
    costs more than rendering an event from it."""
    # An event's own id must be unique among all events of that name: a function starts one job for
    # an id.
    ids: dict[str, set[int]] = {operation.event: set() for operation, _ in operations}
    renderings = [
        _Rendering(plan, operation, source.knows, ids[operation.event])
        for operation, source in operations
    ]
    for members in flow_of(plan):
        shared = Packing(members[0])
        for rendering in renderings:
            if len(members) > 1 and rendering.operation.name in members:
                rendering.events = _Among(rendering.operation, shared, members[0])
    together: dict[int, list[_Rendering]] = {}
    for rendering, (_, source) in zip(renderings, operations, strict=True):
        together.setdefault(id(source), []).append(rendering)
    sources = {id(source): source for _, source in operations}
    for known, source in sources.items():
        _one_pass(plan, source, together[known])
    return [rendering.rendered() for rendering in renderings]


def _one_pass(plan: BackfillPlan, source: Source, renderings: Sequence[_Rendering]) -> None:
    base: Data = {"vars": plan.variables, "plan": plan.metadata, "operation": None}
    others = bool(source.items.kind.parts) or source.items.kind.for_each == "workspace"
    for item, row, context in source.contexts(base):
        named = orjson.dumps(item)
        # Few rows skip anything, and there may be many rows.
        leaves_some = others or "skip" in row or "only" in row
        for rendering in renderings:
            context["operation"] = rendering.described
            reason = source.skips(row, rendering.operation.name) if leaves_some else None
            if reason:
                rendering.skip(item, reason)
            elif rendering.plain:
                rendering.event(item, named, context)
            else:
                rendering.item(item, named, row, context)
    for rendering in renderings:
        rendering.close()


class _Rendering:
    def __init__(
        self,
        plan: BackfillPlan,
        operation: Operation,
        knows: Callable[[str, str], bool],
        ids: set[int],
    ) -> None:
        self.knows = knows  # by root and name: whether any row has it
        self.operation, self.described = operation, _described(operation)
        self.payload, self.contract = operation.payload, operation.contract
        self.accepts, self.when = operation.contract.accepts, operation.when
        self.groups = ProblemGroups(operation.name)
        self.skipped: list[Skipped] = []
        self.spread = _Spread(operation) if operation.throttle else None
        self.events: Packing | _Spread | _Among = self.spread or Packing(operation.event)
        self.shared, self.each = operation.payload.reading("rows")
        self.gathered: _Gathered | None = None
        self.sizes = Counter[int]()  # sizes of groups
        self.own = [one for one in (operation.own_id, operation.at) if one]
        key = operation.throttle and operation.throttle.key
        aside = [one.reading("rows") for one in (*self.own, *([key] if key else ()))]
        self.aside = [each for _, each in aside]  # besides the payload: what a group has in common
        made = (self.shared, *(shared for shared, _ in aside))
        self.beside = [read for one in made for read in one.of_items]  # by shared templates
        self.ids = ids  # hashes of the own ids of all events of that name
        self.large, self.full = 0, False
        self.advice = operation.advice
        self.advised = dict.fromkeys((one.name for one in operation.advice), 0)
        self.repeated = 0
        attributes, ambiguous = plan.found.attributes, plan.found.ambiguous
        self.lookup_errors = [
            LookupErrors(lookup, attributes.get(lookup.name, {}), ambiguous.get(lookup.name, _NONE))
            for lookup in plan.lookups
            if lookup.name in operation.lookups
        ]
        some = (self.when, self.advice, self.lookup_errors, operation.repeat)
        self.plain = operation.group == 1 and not any(some)  # one event for each item

    def skip(self, item: str, reason: str) -> None:
        self.skipped.append(Skipped(self.operation.name, item, reason))

    def item(self, item: str, named: bytes, row: Data, context: Data) -> None:
        """Process an item; `named`: its name as JSON."""
        if self.full:
            return
        if self.lookup_errors and sum(errors.lacks(item, context) for errors in self.lookup_errors):
            return
        when, repeat = self.when, self.operation.repeat
        try:
            if when is not None and not when(context):
                self.skip(item, f"`when: {when.source}` is false")
                return
        except ValueError as error:
            self.groups.add(item, partial(_undecided, when, error, item))
            return
        if repeat is not None:
            self._repeated(item, named, context, repeat)
            return
        self._advise(item, context)
        if self.operation.group > 1:
            self._gather(item, row, context)
        else:
            self.event(item, named, context)

    def _advise(self, item: str, context: Data) -> None:
        for advice in self.advice:
            try:
                self.advised[advice.name] += advice.condition(context)
            except ValueError as error:
                self.groups.add(item, partial(_undecided, advice.condition, error, item))

    def _warnings(self) -> Iterator[Problem]:
        for name, _, message, hint, place in self.advice:
            if count := self.advised[name]:
                text = f"`{self.operation.name}`: {message} ({counted(count, 'item')})"
                yield replace(place, message=text, hint=hint, severity="warning", rule=name)
        if self.sizes.total() > 1 and set(self.sizes) == {1}:
            text = (
                f"`{self.operation.name}`: `group` groups nothing: no two neighbours have the "
                "same rest of the payload"
            )
            hint = "order the items by what differs, or use `rows` instead of `row` in the payload"
            place = self.payload.problem(text)
            yield replace(place, hint=hint, severity="warning", rule="group")

    def _room(self, item: str, data: Data, size: int) -> bool:
        """Whether a large event is still within the limits; if not, record the problem."""
        self.large += size
        if size > MAX_EVENT:
            message = f"the event for {item} has {size:,} bytes, more than {MAX_EVENT:,}"
            hint = "no server accepts it: send only ids, and let the job read the rest"
        elif self.large > LARGE:
            message = f"the events up to {item} have more than {LARGE:,} bytes"
            hint = "send only ids and let the job read the rest, or split the plan"
        else:
            return True
        self.full = self.large > LARGE
        self.groups.add(item, partial(_too_large, self.payload, data, message, hint))
        return False

    def rendered(self) -> Rendered:
        name = self.operation.name
        problems = self.groups.problems()
        problems += [problem for errors in self.lookup_errors for problem in errors.problems(name)]
        items, digest = self.events.packed()
        count = self.events.count if isinstance(self.events, _Among) else items.count
        warnings = tuple(self._warnings())
        pacing = self.spread.pacing if self.spread else self.operation.pacing
        return Rendered(items, digest, self.skipped, problems, warnings, pacing, count)

    def _repeated(self, item: str, named: bytes, context: Data, repeat: Amount) -> None:
        try:
            count = repeat(context)
        except ValueError as error:
            self.groups.add(item, partial(_undecided, repeat, error, item))
            return
        if not count:
            self.skip(item, "`repeat` gives 0")
            return
        self._advise(item, context)
        self.repeated += count
        if self.repeated > _MOST_REPEATED:
            many = ValueError(f"the operation has more than {_MOST_REPEATED:,} events")
            self.groups.add(item, partial(_undecided, repeat, many, item))
            self.full = True
            return
        for index in range(1, count + 1):
            context["repeat"] = {"index": index, "count": count}
            if not self.event(item, named, context):
                break
        context.pop("repeat", None)

    def event(self, item: str, named: bytes, context: Data) -> bool:
        if self.full:
            return False
        try:
            try:
                data = self.payload(context)  # `_rendered`, inlined for speed
            except ValueError:
                data = self.payload.leaving(context, self.knows)
            cell = orjson.dumps(data)
        except (ValueError, TypeError):
            self.groups.add(item, partial(self.payload.explain, context, item, self.knows))
            return False
        return self._put(item, named, data, cell, context)

    def _put(self, item: str, named: bytes, data: Data, encoded: bytes, context: Data) -> bool:
        if len(encoded) > ORDINARY and not self._room(item, data, len(encoded)):
            return False
        if not self.accepts(data):
            self.groups.add(item, partial(self.contract.explain, data, item))
            return False
        if self.own:
            own = self._own(item, context)
            if own is None:
                return False
            encoded = with_own(encoded, **own)
        if self.spread and not self._keyed(self.spread, item, context):
            return False
        self.events.add(named, encoded)
        return True

    def _keyed(self, spread: _Spread, item: str, context: Data) -> bool:
        key = spread.throttle.key
        if key is None:
            spread.keys.append(item)
            return True
        try:
            spread.keys.append(str(key(context)["key"]))
        except ValueError:
            self.groups.add(item, partial(key.explain, context, item))
            return False
        return True

    def _rendered(self, payload: Payload, context: Data) -> Data:
        """Render without the keys whose templates give a missing value."""
        try:
            return payload(context)
        except ValueError:
            return payload.leaving(context, self.knows)

    def _own(self, item: str, context: Data) -> Data | None:
        """Render the event's own id and time; record a problem and return None if one is
        invalid."""
        found: Data = {}
        for template in self.own:
            try:
                found |= self._rendered(template, context)
            except ValueError:
                self.groups.add(item, partial(template.explain, context, item, self.knows))
                return None
        if self.operation.own_id:
            wrong = self._no_id(found.get("id"))
            if wrong:
                self.groups.add(
                    item, partial(_at, self.operation.own_id, f"the id of {item} {wrong}")
                )
                return None
            found["id"] = str(found["id"])
        if self.operation.at and "at" in found:
            try:
                found["ts"] = parse_start(found.pop("at"))
            except ValueError as error:
                message = f"`at` cannot be evaluated for {item}: {error}"
                self.groups.add(item, partial(_at, self.operation.at, message))
                return None
        return found

    def _no_id(self, value: Json) -> str | None:
        if wrong := name_fault(value):
            return wrong
        known = hash(str(value))
        if known in self.ids:
            return f"is also the id of another event: {value}"
        self.ids.add(known)
        return None

    def _gather(self, item: str, row: Data, context: Data) -> None:
        """Add the item to the current group if it matches in all that `rows` does not make."""
        template = self.payload
        try:
            data = self._rendered(self.each, context)
            own: Data = {}
            for template in self.aside:
                own |= self._rendered(template, context)
            template = self.payload
            beside = [_member(context.get(root, {}), name) for root, name in self.beside]
            alike = orjson.dumps([data, own, beside])
        except (ValueError, TypeError):
            alone = {**context, "rows": [row]}
            self.groups.add(item, partial(template.explain, alone, item, self.knows))
            return
        group = self.gathered
        if group is None or group.alike != alike or len(group.rows) == self.operation.group:
            self.close()
            self.gathered = _Gathered(item, dict(context), data, alike, [row])
        else:
            group.rows.append(row)

    def close(self) -> None:
        """Close the current group and put its event."""
        group, self.gathered = self.gathered, None
        if group is None:
            return
        context = {**group.context, "rows": group.rows}
        self.sizes[len(group.rows)] += 1
        more = len(group.rows) - 1
        alone = not more and not _OF_GROUP.search(group.item)
        item = group.item if alone else f"{group.item} +{more:,}"
        try:
            found = {**group.data, **self._rendered(self.shared, context)}
            data = {key: found[key] for key in self.payload.keys if key in found}
            encoded = orjson.dumps(data)
        except (ValueError, TypeError):
            self.groups.add(item, partial(self.payload.explain, context, item, self.knows))
            return
        self._put(item, orjson.dumps(item), data, encoded, context)


@dataclass(slots=True)
class _Gathered:
    """Items for one event; name, context and payload are from the first."""

    item: str
    context: Data
    data: Data
    alike: bytes
    rows: list[Data]


class _Among:
    """Adds an operation's events to those of others, item by item; the first operation returns
    all."""

    def __init__(self, operation: Operation, shared: Packing, first: str) -> None:
        self._operation, self._shared = operation, shared
        self._first = operation.name == first
        self.count = 0

    def add(self, named: bytes, cell: bytes) -> None:
        own = {"name": self._operation.event, "operation": self._operation.name}
        self._shared.add(named, with_own(cell, **own))
        self.count += 1

    def packed(self) -> tuple[EventBlocks, bytes]:
        return self._shared.packed() if self._first else Packing("").packed()


class _Spread:
    """Spreads the events of a key, if there are more of it than the throttle allows at the
    operation's pace."""

    def __init__(self, operation: Operation) -> None:
        assert operation.throttle  # noqa: S101 - made for an operation that has one
        self._operation, self.throttle = operation, operation.throttle
        self.pacing = operation.pacing
        self._events: list[tuple[bytes, bytes]] = []
        self.keys: list[Json] = []  # the throttle's key of each event

    def add(self, named: bytes, cell: bytes) -> None:
        self._events.append((named, cell))

    def packed(self) -> tuple[EventBlocks, bytes]:
        packing = Packing(self._operation.event)
        order, self.pacing = throttled(self.keys, self.throttle, self._operation.pacing)
        for index in order:
            packing.add(*self._events[index])
        return packing.packed()


_NONE: frozenset[object] = frozenset()
# The end of a group's name. A single item with such a name gets ` +0`, since ids contain names.
_OF_GROUP = re.compile(r" \+[\d,]+\Z")
_MOST_REPEATED = 1_000_000  # events of an operation with `repeat`


def _member(item: Data, name: str | None) -> Json:
    """Return the attribute in a list, so that NULL differs from missing; without a name, the whole
    item."""
    return item if name is None else [item[name]] if name in item else []


def _too_large(payload: Payload, data: Data, message: str, hint: str) -> Iterable[Problem]:
    return (payload.largest(data, message, hint),)


def _at(payload: Payload, message: str) -> Iterable[Problem]:
    return (payload.problem(message),)


def _undecided(when: Condition | Amount | None, error: ValueError, item: str) -> Iterable[Problem]:
    return when.explain(error, item) if when else ()


def _described(operation: Operation) -> Data:
    """Return what templates see as `operation`."""
    return {
        "name": operation.name,
        "event": operation.event,
        "batch_size": operation.pacing.batch_size,
        "delay": operation.pacing.delay,
        "delay_ms": round(operation.pacing.delay * 1000),
    }
