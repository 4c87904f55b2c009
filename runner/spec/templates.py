"""Templates: Jinja's expressions over data and nothing else.

A template reads items of the data it is handed (``repo.owner``, ``vars.days``): it reaches no
attribute of a Python object, no environment, no file; it has no loops, and its results are
bounded. A string that is one expression keeps the expression's type; any other is text.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from runner.model import Json

if TYPE_CHECKING:
    from jinja2 import Environment

Context: TypeAlias = Mapping[str, Json]
Render: TypeAlias = Callable[[Context], Json]

MAX_OUTPUT = 256 * 1024  # characters; the Event API's smallest event limit (protocol page, 1)
_MAX_POWER = 64
_REFERENCE = re.compile(r"\{\{\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)\s*\}\}\Z")
_FILTERS = (
    "abs capitalize count d default first float int items join last length lower map max min "
    "reject rejectattr replace reverse round select selectattr sort string sum title tojson trim "
    "truncate unique upper urlencode"
).split()


class TemplateError(ValueError):
    """What is wrong with a template, or with rendering it, in one line."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A `when`: true keeps the item. `source` is what people wrote."""

    source: str
    _render: Render

    def __call__(self, context: Context) -> bool:
        return bool(self._render(context))


def compile_value(value: Json) -> Render | None:
    """A function that renders `value`, whose strings may be templates; None for a constant."""
    if isinstance(value, str):
        return _compile_text(value) if "{{" in value or "{%" in value or "{#" in value else None
    if isinstance(value, dict):
        fields = [(key, _or_constant(member)) for key, member in value.items()]
        if all(compile_value(member) is None for member in value.values()):
            return None
        return lambda context: {key: render(context) for key, render in fields}
    if isinstance(value, list):
        members = [_or_constant(member) for member in value]
        if all(compile_value(member) is None for member in value):
            return None
        return lambda context: [render(context) for render in members]
    return None


def compile_condition(source: str) -> Condition:
    """`source` is an expression, bare or in ``{{ }}``."""
    text = source.strip()
    if not (text.startswith("{{") and text.endswith("}}")):
        text = "{{ " + text + " }}"
    return Condition(source.strip(), _compile_text(text))


def _or_constant(value: Json) -> Render:
    return compile_value(value) or (lambda _: value)


def _compile_text(source: str) -> Render:
    if match := _REFERENCE.match(source):
        return _reference(match[1])
    return _compile_jinja(source)


def _reference(dotted: str) -> Render:
    """The common case, ``{{ repo.owner }}``, without a template engine."""
    names = dotted.split(".")
    if len(names) == 2:
        root, leaf = names

        def render_two(context: Context) -> Json:
            try:
                return context[root][leaf]
            except (KeyError, TypeError):
                raise TemplateError(_missing(context, names)) from None

        return render_two
    getters = [operator.itemgetter(name) for name in names]

    def render(context: Context) -> Json:
        value: Any = context
        try:
            for get in getters:
                value = get(value)
        except (KeyError, TypeError):
            raise TemplateError(_missing(context, names)) from None
        return value

    return render


def _missing(context: Context, names: list[str]) -> str:
    value: Any = context
    for depth, name in enumerate(names):
        if not isinstance(value, Mapping) or name not in value:
            if depth == 0:
                return f"`{name}` is not defined here; there are {', '.join(context)}"
            return f"`{'.'.join(names[:depth])}` has no `{name}`"
        value = value[name]
    return f"`{'.'.join(names)}` is not defined"


def _compile_jinja(source: str) -> Render:
    from jinja2 import TemplateSyntaxError, UndefinedError, nodes
    from jinja2.exceptions import SecurityError, TemplateRuntimeError

    environment = _environment()
    try:
        tree = environment.parse(source)
        _refuse_statements(tree)
        output = tree.body[0] if len(tree.body) == 1 else None
        single = isinstance(output, nodes.Output) and len(output.nodes) == 1
        if single and not isinstance(output.nodes[0], nodes.TemplateData):  # type: ignore[union-attr]
            expression = source.strip()[2:-2].strip("-+").strip()
            evaluate: Callable[[Context], Json] = environment.compile_expression(
                expression, undefined_to_none=False
            )
        else:
            evaluate = environment.from_string(source).render
    except TemplateSyntaxError as error:
        raise TemplateError(f"the template does not parse: {error.message}") from None

    def render(context: Context) -> Json:
        try:
            return _checked(evaluate(context), environment)
        except UndefinedError as error:
            raise TemplateError(_without_object(str(error.message))) from None
        except (SecurityError, TemplateRuntimeError) as error:
            raise TemplateError(str(error.message)) from None
        except TemplateError:
            raise
        except (ArithmeticError, TypeError, ValueError, LookupError, RecursionError) as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from None

    return render


def _without_object(message: str) -> str:
    """Jinja's words without the Python classes in them."""
    return re.sub(r"^'[\w. ]+ object' has no (?:attribute|element)", "there is no", message)


def _refuse_statements(tree: Any) -> None:
    from jinja2 import nodes

    allowed = (nodes.Output, nodes.If)
    for statement in tree.find_all(nodes.Stmt):
        if not isinstance(statement, allowed):
            kind = type(statement).__name__.lower()
            message = "templates have expressions and {% if %}, no loops, macros or includes"
            raise TemplateError(f"`{kind}` is not allowed: {message}")


def _checked(value: Json, environment: Environment) -> Json:
    from jinja2 import Undefined

    if isinstance(value, environment.undefined):
        str(value)  # StrictUndefined: raises, naming what is missing
    if isinstance(value, Undefined):
        raise TemplateError("the expression has no value: an `if` without `else`?")
    if isinstance(value, str):
        if len(value) > MAX_OUTPUT:
            raise TemplateError(f"the result has more than {MAX_OUTPUT:,} characters")
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _checked(member, environment) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_checked(member, environment) for member in value]
    if hasattr(value, "__next__"):  # what filters such as map and unique give
        return [_checked(member, environment) for member in value]
    raise TemplateError(f"the result is a {type(value).__name__}, not a JSON value")


_shared: Environment | None = None


def _environment() -> Environment:
    global _shared  # noqa: PLW0603 - built once: making a Jinja environment is slow
    if _shared is None:
        _shared = _make_environment()
    return _shared


def _make_environment() -> Environment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

    class DataOnly(ImmutableSandboxedEnvironment):
        """Attributes are items of data; nothing can be called; results stay small."""

        intercepted_binops = frozenset({"*", "**", "+", "%"})

        def getattr(self, obj: Any, attribute: str) -> Any:
            return self.getitem(obj, attribute)

        def getitem(self, obj: Any, argument: Any) -> Any:
            if isinstance(obj, Mapping | list | tuple | str):
                try:
                    return obj[argument]
                except (KeyError, IndexError, TypeError):
                    pass
            return self.undefined(obj=obj, name=argument)

        def call(self, _context: Any, obj: Any, *_args: Any, **_kwargs: Any) -> Any:
            name = getattr(obj, "_undefined_name", None) or type(obj).__name__
            raise SecurityError(f"`{name}` cannot be called: use a filter, such as | upper")

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator in ("+", "-", "/", "//") or _small(operator, left, right):
                return super().call_binop(context, operator, left, right)
            raise SecurityError(f"the result of `{operator}` would be too large")

    environment = DataOnly(undefined=StrictUndefined, autoescape=False, cache_size=0)
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    environment.filters["replace"] = _replace
    return environment


def _small(operator: str, left: Any, right: Any) -> bool:
    if operator == "%":
        return not isinstance(left, str)
    if operator == "**":
        return all(isinstance(x, int | float) for x in (left, right)) and abs(right) <= _MAX_POWER
    sized = [x for x in (left, right) if isinstance(x, str | list | tuple)]
    times = [x for x in (left, right) if isinstance(x, int)]
    return not sized or not times or len(sized[0]) * max(0, times[0]) <= MAX_OUTPUT


def _replace(text: str, old: str, new: str) -> str:
    text, old, new = str(text), str(old), str(new)
    if len(text) + text.count(old) * len(new) > MAX_OUTPUT:
        raise TemplateError(f"the result has more than {MAX_OUTPUT:,} characters")
    return text.replace(old, new)
