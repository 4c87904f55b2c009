"""An operation's payload: compiled once, rendered per item, checked against its contract."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import field, replace

from runner.model import Data, Json, Problem, frozen
from runner.spec.document import Document, Path, echo
from runner.spec.rendering import BUDGET, TemplateError
from runner.spec.schema import explain_contract
from runner.spec.templates import (
    LEFT_OUT,
    Context,
    Known,
    Render,
    compile_condition,
    compile_value,
    members_read_by,
    render_leaving,
)

_FEW_TEMPLATES = 8
MAX_REPEAT = 10_000  # events for one item; more is probably a mistake in the expression


@frozen
class Origin:
    """Where a template is written."""

    document: Document
    path: Path

    def problem(self, message: str, *, below: Path = (), hint: str | None = None) -> Problem:
        path = (*self.path, *below)
        return self.document.problem(message, path, hint=hint, rule="payload")


_OF_ITEM = ("row", "repo", "workspace")


@frozen
class PayloadTemplate:
    """The keys of an event's `data` in written order: the catalog's first, then those of `with`."""

    constants: Mapping[str, Json]
    templates: tuple[tuple[str, Render], ...]
    origins: Mapping[str, Origin]
    whole: Origin
    sources: Mapping[str, str] = field(default_factory=dict)  # by key: its templates as JSON
    wide: bool = False  # it has many templates, whose sum may exceed the limit for each

    def __call__(self, context: Context) -> Data:
        data = dict(self.constants)
        for key, render in self.templates:
            data[key] = render(context)
        if self.wide:
            BUDGET.refill()
            BUDGET.weigh(data)
        return data

    def leaving(self, context: Context, known: Known) -> Data:
        """Render without the keys whose templates give a missing value: see `render_leaving`."""
        data = dict(self.constants)
        for key, render in self.templates:
            data[key] = render_leaving(render, context, known)
        data = {key: value for key, value in data.items() if value is not LEFT_OUT}
        if self.wide:
            BUDGET.refill()
            BUDGET.weigh(data)
        return data

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.constants)

    def reading(self, name: str) -> tuple[PayloadTemplate, PayloadTemplate]:
        """Split into the part that reads the name, and the rest."""
        word = re.compile(rf"\b{name}\b")
        keys = {key for key, text in self.sources.items() if word.search(text)}
        return self._only(keys), self._only(self.constants.keys() - keys)

    def _only(self, keys: Container[str]) -> PayloadTemplate:
        constants = {key: value for key, value in self.constants.items() if key in keys}
        templates = tuple(one for one in self.templates if one[0] in keys)
        sources = {key: text for key, text in self.sources.items() if key in keys}
        return replace(self, constants=constants, templates=templates, sources=sources)

    @property
    def of_items(self) -> tuple[tuple[str, str | None], ...]:
        """What the templates read of the item, as ``row`` and an attribute's name (None: all)."""
        found = [
            read
            for key, _ in self.templates
            for text in _texts(json.loads(self.sources[key]))
            for read in members_read_by(text, _OF_ITEM)
        ]
        return tuple(dict.fromkeys(found))

    def explain(
        self, context: Context, item: str, known: Known | None = None
    ) -> tuple[Problem, ...]:
        """Return a problem for each key that does not render. Call it after `__call__`, or
        `leaving` with the same `known`, has failed."""
        problems = []
        for key, render in self.templates:
            try:
                render_leaving(render, context, known) if known else render(context)
            except TemplateError as error:
                message = f"{echo(key)} cannot be rendered for {item}: {error}"
                problems.append(self.origins[key].problem(message, hint=error.hint))
        why = "is larger than allowed" if self.wide else "cannot be written as JSON"
        written = self.problem(f"the payload for {item} {why}")
        return tuple(problems) or (written,)

    def problem(self, message: str) -> Problem:
        return self.whole.problem(message)

    def largest(self, data: Data, message: str, hint: str) -> Problem:
        key = max(data, key=lambda name: len(json.dumps(data[name])))
        return self.origins.get(key, self.whole).problem(message, hint=hint)


@frozen
class ConditionTemplate:
    """A condition on an item, such as `when`, which is its name in messages (`called`). `source`:
    as written."""

    source: str
    decide: Callable[[Context], bool]
    origin: Origin
    called: str = "when"

    def __call__(self, context: Context) -> bool:
        return self.decide(context)

    def explain(self, error: ValueError, item: str) -> tuple[Problem, ...]:
        hint = error.hint if isinstance(error, TemplateError) else None
        message = f"`{self.called}` cannot be evaluated for {item}: {error}"
        return (self.origin.problem(message, hint=hint),)


@frozen
class AmountTemplate:
    """A `repeat`: a number, or an expression that gives one."""

    source: str
    number: Callable[[Context], Json]
    origin: Origin

    def __call__(self, context: Context) -> int:
        value = self.number(context)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value != int(value):
            hint = "round it: | ceil" if number else None
            if isinstance(value, str):
                hint = "make it a number: | int"
            raise TemplateError(f"it gives {echo(value)}, which is not a whole number", hint)
        if not 0 <= value <= MAX_REPEAT:
            raise TemplateError(f"it gives {value:,}; from 0 to {MAX_REPEAT:,} is allowed")
        return int(value)

    def explain(self, error: ValueError, item: str) -> tuple[Problem, ...]:
        hint = error.hint if isinstance(error, TemplateError) else None
        message = f"`repeat` cannot be evaluated for {item}: {error}"
        return (self.origin.problem(message, hint=hint),)


@frozen
class PayloadContract:
    """The catalog's JSON Schema for rendered payloads."""

    schema: Json
    accepts: Callable[[Json], bool]
    payload: PayloadTemplate

    def explain(self, data: Data, item: str) -> tuple[Problem, ...]:
        """Return the reasons why the payload is not accepted: at least one."""
        return tuple(
            self._problem(path, message, hint, item)
            for path, message, hint in explain_contract(self.schema, data)
        )

    def _problem(
        self, path: tuple[str | int, ...], message: str, hint: str | None, item: str
    ) -> Problem:
        message = f"the payload for {item} breaks the contract: {message}"
        origin = self.payload.origins.get(str(path[0])) if path else None
        if origin is None:
            return self.payload.whole.problem(message, hint=hint)
        return origin.problem(message, below=path[1:], hint=hint)


def compile_payload(parts: list[tuple[Json, Origin]]) -> tuple[PayloadTemplate, list[Problem]]:
    """Merge several mappings into one payload; a later one's keys override earlier ones."""
    merged: dict[str, tuple[Json, Origin]] = {}
    for mapping, origin in parts:
        for key, value in mapping.items():
            merged[key] = (value, Origin(origin.document, (*origin.path, key)))
    constants: dict[str, Json] = {}
    templates: list[tuple[str, Render]] = []
    problems: list[Problem] = []
    for key, (value, origin) in merged.items():
        try:
            render = compile_value(value)
        except TemplateError as error:
            problems.append(_where_it_is(value, origin, error))
            continue
        constants[key] = None if render else value
        if render:
            templates.append((key, render))
    origins = {key: origin for key, (_, origin) in merged.items()}
    wide = sum(_templates(value) for value, _ in merged.values()) > _FEW_TEMPLATES
    sources = {key: json.dumps(value) for key, (value, _) in merged.items() if key in constants}
    made = PayloadTemplate(constants, tuple(templates), origins, parts[0][1], sources, wide)
    return made, problems


def _templates(value: Json) -> int:
    return sum("{{" in text for text in _texts(value))


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _texts(member)


def compile_when(
    source: str, origin: Origin, called: str = "when"
) -> tuple[ConditionTemplate | None, list[Problem]]:
    try:
        return ConditionTemplate(source.strip(), compile_condition(source), origin, called), []
    except TemplateError as error:
        return None, [origin.problem(str(error), hint=error.hint)]


def compile_repeat(
    written: int | str, origin: Origin
) -> tuple[AmountTemplate | None, list[Problem]]:
    text = str(written).strip()
    bare = text.removeprefix("{{").removesuffix("}}").strip()
    try:
        render = compile_value("{{ " + bare + " }}")
    except TemplateError as error:
        return None, [origin.problem(str(error), hint=error.hint)]
    return AmountTemplate(bare, render or (lambda _: written), origin), []


def _where_it_is(value: Json, origin: Origin, error: TemplateError) -> Problem:
    """Place the problem of a template that does not compile at its position within `value`."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for step, member in members if isinstance(value, dict | list) else ():
        try:
            compile_value(member)
        except TemplateError as found:
            return _where_it_is(member, Origin(origin.document, (*origin.path, step)), found)
    return origin.problem(str(error), hint=error.hint)
