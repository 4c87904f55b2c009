"""Templates: Jinja's expressions over data and nothing else.

A template reads items of the data it is handed (``repo.owner``, ``vars.days``): it reaches no
attribute of a Python object, no environment, no file; it has no loops, and its results are
bounded. A string that is one expression keeps the expression's type; any other is text.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from runner.model import Json
from runner.spec.document import did_you_mean, echo

if TYPE_CHECKING:
    from runner.spec.sandbox import DataOnly

Context: TypeAlias = Mapping[str, Json]
Render: TypeAlias = Callable[[Context], Json]

MAX_SOURCE = 16 * 1024  # characters of one template
_REFERENCE = re.compile(r"\{\{\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)\s*\}\}\Z")
_WITHIN = re.compile(r"\{\{ ?((?:repo|workspace|row|vars)\.[a-z_]+) ?\}\}")
_KEYWORDS = ("and", "else", "if", "in", "is", "not", "or")

# What filters and operators raise on data that they are not made for.
_OF_FILTERS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


class TemplateError(ValueError):
    """What is wrong with a template, or with rendering it, in one line."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def compile_value(value: Json) -> Render | None:
    """A function that renders `value`, whose strings may be templates; None for a constant."""
    if isinstance(value, str):
        return _compile_text(value) if "{{" in value or "{%" in value or "{#" in value else None
    if isinstance(value, dict):
        fields = [(key, compile_value(member), member) for key, member in value.items()]
        if all(render is None for _, render, _ in fields):
            return None
        return lambda context: {
            key: render(context) if render else member for key, render, member in fields
        }
    if isinstance(value, list):
        members = [(compile_value(member), member) for member in value]
        if all(render is None for render, _ in members):
            return None
        return lambda context: [render(context) if render else member for render, member in members]
    return None


def compile_condition(source: str) -> Callable[[Context], bool]:
    """`source` is one expression, bare or in ``{{ }}``; text is neither true nor false."""
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


def _compile_text(source: str, *, single: bool = False) -> Render:
    if match := _REFERENCE.match(source):
        return _reference(match[1])
    return (not single and _joined(source)) or _compile_jinja(source, single=single)


def _joined(source: str) -> Render | None:
    """The other common case, ``{{ repo.owner }}/{{ repo.name }}``: plain text and references to
    text. Whatever else a value is, the engine decides: it starts only then."""
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
    """The common case, ``{{ repo.owner }}``, without a template engine."""
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
                return _undefined(name, context)
            return TemplateError(
                f"`{'.'.join(names[:depth])}` has no `{name}`", did_you_mean(name, known)
            )
        value = value[name]
    return TemplateError(f"`{'.'.join(names)}` is not defined")


def _undefined(name: str, context: Context) -> TemplateError:
    hint = did_you_mean(name, context) or f"there are {', '.join(context)}"
    return TemplateError(f"`{name}` is not defined here", hint)


def _compile_jinja(source: str, *, single: bool) -> Render:
    from jinja2 import UndefinedError
    from jinja2.exceptions import SecurityError, TemplateRuntimeError

    from runner.spec.sandbox import result, sandbox

    environment = sandbox()
    evaluate = _compile_or_explain(environment, source, single=single)

    def render(context: Context) -> Json:
        environment.budget.refill()
        try:
            return result(evaluate(context), environment)
        except UndefinedError as error:
            raise _in_our_words(str(error.message), context) from None
        except (SecurityError, TemplateRuntimeError) as error:
            raise TemplateError(str(error.message)) from None
        except TemplateError:
            raise
        except _OF_FILTERS as error:
            raise TemplateError((str(error) or type(error).__name__)[:200]) from None
        except (RecursionError, MemoryError):
            raise TemplateError("it nests too deeply, or grows too large") from None

    return render


def _compile_or_explain(
    environment: DataOnly, source: str, *, single: bool
) -> Callable[[Context], Json]:
    from jinja2 import TemplateSyntaxError

    if len(source) > MAX_SOURCE:
        raise TemplateError(f"the template has more than {MAX_SOURCE:,} characters")
    environment.budget.refill()
    try:
        return _compiled(environment, source, single=single)
    except TemplateSyntaxError as error:
        raise _syntax(str(error.message), environment) from None
    except TemplateError:
        raise
    except (RecursionError, MemoryError, SyntaxError, OverflowError, ValueError):
        message = "the template does not compile: it nests too deeply, or a number is too large"
        raise TemplateError(message) from None


def _compiled(environment: DataOnly, source: str, *, single: bool) -> Callable[[Context], Json]:
    """The value of a template that is one expression; the text of any other."""
    from jinja2 import nodes
    from jinja2.environment import TemplateExpression

    tree = environment.parse(source)
    _refuse_statements(tree)
    outputs = [output for output in tree.body if isinstance(output, nodes.Output)]
    parts = [part for output in outputs for part in output.nodes]
    if len(parts) == len(tree.body) == 1 and not isinstance(parts[0], nodes.TemplateData):
        keep = nodes.Assign(nodes.Name("result", "store"), parts[0], lineno=1)
        template = environment.from_string(nodes.Template([keep], lineno=1))
        return TemplateExpression(template, undefined_to_none=False)
    if single:
        message = "a condition is one expression"
        raise TemplateError(message, "write it without braces: repo.stars > 10 and repo.public")
    return environment.from_string(source).render


def _refuse_statements(tree: Any) -> None:
    from jinja2 import nodes

    for statement in tree.find_all(nodes.Stmt):
        if not isinstance(statement, nodes.Output | nodes.If):
            kind = type(statement).__name__.lower()
            hint = "templates have expressions and {% if %}, no loops, macros or includes"
            raise TemplateError(f"`{kind}` is not allowed", hint)


def _syntax(message: str, environment: DataOnly) -> TemplateError:
    if found := re.match(r"No (filter|test) named '(.*)'", message):
        kind, name = found.groups()
        known = sorted(environment.filters if kind == "filter" else environment.tests)
        return TemplateError(
            f"there is no {kind} {echo(name)}",
            did_you_mean(name, known)
            or (f"there are {', '.join(known)}" if kind == "filter" else None),
        )
    if "end of template" in message.lower():
        return TemplateError("the template is never closed", "close it, as in {{ repo.owner }}")
    if message == "unexpected 'end of print statement'":
        return TemplateError("the expression ends too early")
    return TemplateError(f"the template does not parse: {message[:200]}")


def _in_our_words(message: str, context: Context) -> TemplateError:
    """Jinja's words about what is undefined, without the Python classes in them."""
    if found := re.match(r"'(\w+)' is undefined", message):
        return _undefined(found[1], context)
    if found := re.match(r"'?[\w. ]+ object'? has no (?:attribute|element) '?(.*?)'?\Z", message):
        hint = "where it may be missing, write `| default(...)` behind it"
        return TemplateError(f"there is no {echo(found[1])}", hint)
    return TemplateError(message[:200])
