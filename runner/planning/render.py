"""The operations of a plan -> their events, rendered, checked and packed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import orjson

from runner.model import (
    Advice,
    Amount,
    BackfillPlan,
    Condition,
    Data,
    Operation,
    Payload,
    Problem,
    Skipped,
)
from runner.planning.event_blocks import LARGE, ORDINARY, EventBlocks, Packing
from runner.planning.items import Source
from runner.planning.problems import LookupErrors, ProblemGroups
from runner.spec.json_limits import MAX_EVENT


@dataclass(frozen=True, slots=True)
class Rendered:
    """What one operation comes to; `digest` covers its events."""

    items: EventBlocks
    digest: bytes
    skipped: Sequence[Skipped]
    problems: Sequence[Problem]
    warnings: Sequence[Problem] = ()  # those of the catalog


def render(
    plan: BackfillPlan, operations: Sequence[tuple[Operation, Source]]
) -> Sequence[Rendered]:
    """What each of the operations comes to. Those over the same items share one pass over them:
    reading a row of a data file costs more than rendering an event of it."""
    renderings = [_Rendering(plan, operation) for operation, _ in operations]
    together: dict[int, list[_Rendering]] = {}
    for rendering, (_, source) in zip(renderings, operations, strict=True):
        together.setdefault(id(source), []).append(rendering)
    sources = {id(source): source for _, source in operations}
    for known, source in sources.items():
        _one_pass(plan, source, together[known])
    return [rendering.rendered() for rendering in renderings]


def _one_pass(plan: BackfillPlan, source: Source, renderings: Sequence[_Rendering]) -> None:
    base: Data = {"vars": plan.variables, "plan": plan.metadata, "operation": None}
    for item, row, context in source.contexts(base):
        named = orjson.dumps(item)
        for rendering in renderings:
            context["operation"] = rendering.described
            reason = source.skips(row, rendering.operation.name)
            if reason:
                rendering.skip(item, reason)
            else:
                rendering.item(item, named, context)


class _Rendering:
    def __init__(self, plan: BackfillPlan, operation: Operation) -> None:
        self.operation, self.described = operation, _described(operation)
        self.payload, self.contract = operation.payload, operation.contract
        self.accepts, self.when = operation.contract.accepts, operation.when
        self.groups = ProblemGroups(operation.name)
        self.skipped: list[Skipped] = []
        self.packing = Packing(operation.event)
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

    def skip(self, item: str, reason: str) -> None:
        self.skipped.append(Skipped(self.operation.name, item, reason))

    def item(self, item: str, named: bytes, context: Data) -> None:
        """`named`: the item as JSON."""
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
        for advice in self.advice:
            self._advise(advice, item, context)
        if repeat is None:
            self._event(item, named, context)
        else:
            self._repeated(item, named, context, repeat)

    def _advise(self, advice: Advice, item: str, context: Data) -> None:
        try:
            self.advised[advice.name] += advice.condition(context)
        except ValueError as error:
            self.groups.add(item, partial(_undecided, advice.condition, error, item))

    def _warnings(self) -> Iterator[Problem]:
        for name, _, message, hint, place in self.advice:
            if count := self.advised[name]:
                items = f"{count:,} item{'' if count == 1 else 's'}"
                text = f"`{self.operation.name}`: {message} ({items})"
                yield replace(place, message=text, hint=hint, severity="warning", rule=name)

    def _room(self, item: str, data: Data, size: int) -> bool:
        """Is there room for an event that is larger than most?"""
        self.large += size
        if size > MAX_EVENT:
            message = f"the event for {item} has {size:,} bytes, more than {MAX_EVENT:,}"
            hint = "no server takes it: send ids, and let the job read the rest"
        elif self.large > LARGE:
            message = f"up to {item} the events have more than {LARGE:,} bytes"
            hint = "send ids, and let the job read the rest; or split the plan"
        else:
            return True
        self.full = self.large > LARGE
        self.groups.add(item, partial(_too_large, self.payload, data, message, hint))
        return False

    def rendered(self) -> Rendered:
        name = self.operation.name
        problems = self.groups.problems()
        problems += [problem for errors in self.lookup_errors for problem in errors.problems(name)]
        items, digest = self.packing.packed()
        return Rendered(items, digest, self.skipped, problems, tuple(self._warnings()))

    def _repeated(self, item: str, named: bytes, context: Data, repeat: Amount) -> None:
        try:
            count = repeat(context)
        except ValueError as error:
            self.groups.add(item, partial(_undecided, repeat, error, item))
            return
        if not count:
            self.skip(item, "`repeat` gives 0")
        self.repeated += count
        if self.repeated > _MOST_REPEATED:
            many = ValueError(f"the operation comes to more than {_MOST_REPEATED:,} events")
            self.groups.add(item, partial(_undecided, repeat, many, item))
            self.full = True
            return
        for index in range(1, count + 1):
            context["repeat"] = {"index": index, "count": count}
            if not self._event(item, named, context):
                break
        context.pop("repeat", None)

    def _event(self, item: str, named: bytes, context: Data) -> bool:
        try:
            data = self.payload(context)
            encoded = orjson.dumps(data)
        except (ValueError, TypeError):
            self.groups.add(item, partial(self.payload.explain, context, item))
            return False
        if len(encoded) > ORDINARY and not self._room(item, data, len(encoded)):
            return False
        if not self.accepts(data):
            self.groups.add(item, partial(self.contract.explain, data, item))
            return False
        self.packing.add(named, encoded)
        return True


_NONE: frozenset[object] = frozenset()
_MOST_REPEATED = 1_000_000  # events of an operation with `repeat`


def _too_large(payload: Payload, data: Data, message: str, hint: str) -> Iterable[Problem]:
    return (payload.largest(data, message, hint),)


def _undecided(when: Condition | Amount | None, error: ValueError, item: str) -> Iterable[Problem]:
    return when.explain(error, item) if when else ()


def _described(operation: Operation) -> Data:
    """What templates see as `operation`."""
    return {
        "name": operation.name,
        "event": operation.event,
        "batch_size": operation.pacing.batch_size,
        "delay": operation.pacing.delay,
        "delay_ms": round(operation.pacing.delay * 1000),
    }
