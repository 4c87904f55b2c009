"""Templates: Jinja's expressions over data and nothing else.

A template reads items of the given data (``repo.owner``, ``vars.days``): it reaches no attribute of
a Python object, no environment, no file; it has no loops, and its results are bounded. A string
that is one expression keeps the expression's type; any other is text.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from runner.model import Json, frozen
from runner.spec.document import did_you_mean, echo
from runner.spec.rendering import Missing, TemplateError, undefined

Context: TypeAlias = Mapping[str, Json]
Render: TypeAlias = Callable[[Context], Json]
Known: TypeAlias = Callable[[str, str], bool]

MAX_SOURCE = 16 * 1024  # characters of one template
_REFERENCE = re.compile(r"\{\{\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)\s*\}\}\Z")
_WITHIN = re.compile(r"\{\{ ?((?:repo|workspace|row|vars)\.[a-z_]+) ?\}\}")
_KEYWORDS = ("and", "else", "if", "in", "is", "not", "or")


def compile_value(value: Json) -> Render | None:
    """Compile `value`, whose strings may be templates, to a function; None for a constant."""
    if isinstance(value, str):
        return _compile_text(value) if "{{" in value or "{%" in value or "{#" in value else None
    if isinstance(value, dict):
        fields = [(key, compile_value(member), member) for key, member in value.items()]
        if all(render is None for _, render, _ in fields):
            return None
        return _Fields(fields)
    if isinstance(value, list):
        members = [(compile_value(member), member) for member in value]
        if all(render is None for render, _ in members):
            return None
        return _Members(members)
    return None


@frozen
class _Fields:
    fields: Sequence[tuple[str, Render | None, Json]]

    def __call__(self, context: Context) -> Json:
        return {key: render(context) if render else one for key, render, one in self.fields}

    def leaving(self, context: Context, known: Known) -> Json:
        found = {
            key: render_leaving(render, context, known) if render else one
            for key, render, one in self.fields
        }
        return {key: value for key, value in found.items() if value is not LEFT_OUT}


@frozen
class _Members:
    members: Sequence[tuple[Render | None, Json]]

    def __call__(self, context: Context) -> Json:
        return [render(context) if render else one for render, one in self.members]

    def leaving(self, context: Context, known: Known) -> Json:
        return [
            (
                render_leaving(render, context, known)
                if isinstance(render, _LEAVING)
                else render(context)
            )
            if render
            else one
            for render, one in self.members
        ]


_LEAVING = (_Fields, _Members)
LEFT_OUT: Any = object()  # stands for a missing value


def render_leaving(render: Render, context: Context, known: Known) -> Json:
    """Render without keys whose templates give a missing value; `LEFT_OUT` if all of it is one.

    `known` tells whether some item has an attribute: one that none has is an error, as misspelt.
    """
    if isinstance(render, _LEAVING):
        return render.leaving(context, known)
    try:
        return render(context)
    except Missing as missing:
        if missing.name is None or known(missing.root, missing.name):
            return LEFT_OUT
        raise


def compile_condition(source: str) -> Callable[[Context], bool]:
    """Compile one expression, bare or in ``{{ }}``; it must not give text."""
    text = source.strip()
    if not (text.startswith("{{") and text.endswith("}}")):
        text = "{{ " + text + " }}"
    render = _compile_text(text, single=True)

    def decide(context: Context) -> bool:
        value = render(context)
        if isinstance(value, str):
            message = f"it gives the text {echo(value)}, neither true nor false"
            raise TemplateError(message, 'compare it, as in repo.label == "x"')
        return bool(value)

    return decide


def members_read_by(source: str, roots: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the members of `roots` that a template reads; None if it reads one whole."""
    from runner.spec.sandbox import members_read  # Jinja takes longer to start than we do

    return members_read(source, roots)


def _compile_text(source: str, *, single: bool = False) -> Render:
    if match := _REFERENCE.match(source):
        return _reference(match[1])
    return (not single and _joined(source)) or _compile_jinja(source, single=single)


def _joined(source: str) -> Render | None:
    """Render the second common case, ``{{ repo.owner }}/{{ repo.name }}``, without an engine: plain
    text and references to text. For other values Jinja is started, and decides."""
    texts, paths = _WITHIN.split(source)[::2], _WITHIN.findall(source)
    plain = not any(set(text) & set("{}\r\n") for text in texts) and len(source) <= MAX_SOURCE
    pairs = [path.split(".") for path in paths]
    if not (plain and pairs) or any(leaf in _KEYWORDS for _, leaf in pairs):
        return None
    form = "%s".join(text.replace("%", "%%") for text in texts)
    compiled: list[Render] = []

    def render(context: Context) -> Json:
        try:
            values = [context[root][leaf] for root, leaf in pairs]
        except (KeyError, TypeError):
            values = [None]
        if all(type(value) is str and value.isascii() for value in values):
            text = form % tuple(values)
            if len(text) <= MAX_SOURCE:
                return text
        if not compiled:
            compiled.append(_compile_jinja(source, single=False))
        return compiled[0](context)

    return render


def _reference(dotted: str) -> Render:
    """Render the common case, ``{{ repo.owner }}``, without a template engine."""
    names = dotted.split(".")
    if len(names) == 2:
        root, leaf = names

        def render_two(context: Context) -> Json:
            try:
                return context[root][leaf]
            except (KeyError, TypeError):
                raise _missing(context, names) from None

        return render_two
    getters = [operator.itemgetter(name) for name in names]

    def render(context: Context) -> Json:
        value: Any = context
        try:
            for get in getters:
                value = get(value)
        except (KeyError, TypeError):
            raise _missing(context, names) from None
        return value

    return render


def _missing(context: Context, names: list[str]) -> TemplateError:
    value: Any = context
    for depth, name in enumerate(names):
        if not isinstance(value, Mapping) or name not in value:
            known = list(value) if isinstance(value, Mapping) else []
            if depth == 0:
                return undefined(name, context)
            message = f"`{'.'.join(names[:depth])}` has no `{name}`"
            hint = did_you_mean(name, known)
            if depth == len(names) - 1:
                return Missing(message, hint, ".".join(names[:depth]), name)
            return TemplateError(message, hint)
        value = value[name]
    return TemplateError(f"`{'.'.join(names)}` is not defined")


def _compile_jinja(source: str, *, single: bool) -> Render:
    from runner.spec.sandbox import compiled  # Jinja takes longer to start than we do

    if len(source) > MAX_SOURCE:
        raise TemplateError(f"the template has more than {MAX_SOURCE:,} characters")
    return compiled(source, single=single)
