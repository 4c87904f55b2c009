"""Restricted Jinja: attributes are items of data, nothing can be called, and work is budgeted.

Imported only if a template is more than a reference: Jinja takes longer to start than we do.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache, wraps
from typing import Any

from jinja2 import (
    StrictUndefined,
    TemplateSyntaxError,
    Undefined,
    UndefinedError,
    nodes,
    pass_environment,
)
from jinja2.compiler import CodeGenerator
from jinja2.environment import TemplateExpression
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.filters import do_float, do_int, do_round, make_attrgetter
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner.model import Json
from runner.spec.document import did_you_mean, echo
from runner.spec.json_limits import MAX_DEPTH, fault
from runner.spec.rendering import (
    BUDGET,
    CALL,
    MAX_OUTPUT,
    MEMBER,
    Missing,
    TemplateError,
    undefined,
)
from runner.spec.units import parse_time

_MAX_BITS = 4096  # of an intermediate number
_MAX_ATTRIBUTE = 200  # characters of a path such as `attribute="owner.name"`
_MAX_TRIMMED = 100
_MAX_DAYS = 100_000
_A_DAY = len("2026-01-31")
_DATE_FORM = re.compile(r"(?:%[YymdHMSfjGVuaAbBps%z]|[^%]){1,100}")

# The filters, by how much of their subject they read: only its head, its text, each member on
# demand, or all members at once.
_HEAD = ("abs", "count", "d", "default", "first", "items", "last", "length")
_TEXT = {"capitalize": 1, "lower": 1, "title": 8, "truncate": 1, "upper": 1, "urlencode": 16}
_EACH = ("list", "map", "reject", "rejectattr", "select", "selectattr", "unique")
_WHOLE = ("max", "min", "sort")
_TESTS = (
    *("boolean", "defined", "divisibleby", "even", "false", "float", "integer", "iterable"),
    *("lower", "mapping", "none", "number", "odd", "sequence", "string", "true", "undefined"),
    "upper",
)
_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("eq", "==", "equalto"), operator.eq),
    **dict.fromkeys(("ne", "!="), operator.ne),
    **dict.fromkeys(("gt", ">", "greaterthan"), operator.gt),
    **dict.fromkeys(("gteq", "ge", ">="), operator.ge),
    **dict.fromkeys(("lt", "<", "lessthan"), operator.lt),
    **dict.fromkeys(("lteq", "le", "<="), operator.le),
}
# What filters and operators raise for data of the wrong kind.
_OF_FILTERS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)

Context = Mapping[str, Json]


class _Counting(CodeGenerator):
    """Jinja compiles comparisons, slices and ``~`` to plain Python; here they become calls."""

    def visit_Compare(self, node: nodes.Compare, frame: Any) -> None:  # noqa: N802 - Jinja's name
        self.write("environment.compare(")
        self.visit(node.expr, frame)
        for operand in node.ops:
            self.write(f", {operand.op!r}, ")
            self.visit(operand.expr, frame)
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: Any) -> None:  # noqa: N802
        self.write("environment.getitem(")
        self.visit(node.node, frame)
        self.write(", ")
        self.visit(node.arg, frame)
        self.write(")")

    def visit_Slice(self, node: nodes.Slice, frame: Any) -> None:  # noqa: N802
        self.write("slice(")
        for bound in (node.start, node.stop, node.step):
            self.visit(bound or nodes.Const(None), frame)
            self.write(", ")
        self.write(")")

    def visit_Const(self, node: nodes.Const, frame: Any) -> None:  # noqa: N802
        if isinstance(node.value, float) and not math.isfinite(node.value):
            raise TemplateError("a number in it is too large for JSON")
        super().visit_Const(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:  # noqa: N802
        self.write("environment.concatenated((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class DataOnly(ImmutableSandboxedEnvironment):
    """The environment of all templates."""

    code_generator_class = _Counting
    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):
            str(obj)  # StrictUndefined raises here, naming what is missing
        if isinstance(obj, Mapping | list | tuple | str):
            if isinstance(argument, slice) and not isinstance(obj, Mapping):
                BUDGET.spend(len(obj))
                return obj[argument]
            try:
                return obj[argument]
            except (KeyError, IndexError, TypeError):
                pass
        return self.undefined(obj=obj, name=argument)

    def call(self, _context: Any, obj: Any, *_args: Any, **_kwargs: Any) -> Any:
        name = getattr(obj, "_undefined_name", None) or type(obj).__name__
        raise SecurityError(f"`{name}` cannot be called: use a filter, such as | upper")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if _too_large(operator, left, right):
            raise SecurityError(f"the result of `{operator}` would be too large")
        return super().call_binop(context, operator, left, right)

    def compare(self, left: Any, *compared: Any) -> Any:
        """Compare a chain, ``left < middle <= right``: an operator and its right side per link."""
        holds: Any = True
        for name, right in zip(compared[::2], compared[1::2], strict=True):
            if name == "in":
                holds = _within(left, right)
            elif name == "notin":
                holds = not _within(left, right)
            else:
                BUDGET.spend(_compared(left, right))
                holds = _COMPARED[name](left, right)
            if not holds:
                return holds
            left = right
        return holds

    def concatenated(self, parts: Iterable[Any]) -> str:
        texts = []
        for part in parts:
            BUDGET.weigh(part)
            texts.append(str(_written(part)))
        return "".join(texts)


@cache
def sandbox() -> DataOnly:
    environment = DataOnly(
        undefined=StrictUndefined,
        optimized=False,  # no constant folding: all work is done at rendering, under the budget
        cache_size=0,
        finalize=_written,
    )
    environment.globals.clear()
    known = environment.filters
    environment.filters = {
        **{name: _counted(known[name], None) for name in _HEAD},
        **{name: _on_text(known[name], dear) for name, dear in _TEXT.items()},
        **{name: _counted(known[name], _each) for name in _EACH},
        **{name: _counted(known[name], _whole) for name in _WHOLE},
        "ceil": _ceil,
        "date": _date,
        "days": _days,
        "float": _counted(_float, None),
        "int": _counted(_int, None),
        "join": _join,
        "replace": _replace,
        "reverse": _counted(known["reverse"], _copied),
        "round": _round,
        "split": _split,
        "string": _written,
        "sum": _sum,
        "tojson": _tojson,
        "trim": _trim,
    }
    environment.tests = {
        **{name: environment.tests[name] for name in _TESTS},
        **{name: _comparing(compare) for name, compare in _COMPARED.items()},
        "in": _within,
        **{name: _of_numbers(environment.tests[name]) for name in ("divisibleby", "even", "odd")},
        **{name: _of_text(environment.tests[name], 1) for name in ("lower", "upper")},
    }
    return environment


def compiled(source: str, *, single: bool) -> Callable[[Context], Json]:
    """Return a function that renders `source`. Raises `TemplateError` if it does not compile."""
    environment = sandbox()
    evaluate = _compile_or_explain(environment, source, single=single)

    def render(context: Context) -> Json:
        BUDGET.refill()
        try:
            return result(evaluate(context), environment)
        except UndefinedError as error:
            raise _in_our_words(str(error.message), context) from None
        except (SecurityError, TemplateRuntimeError) as error:
            raise TemplateError(str(error.message)) from None
        except TemplateError:
            raise
        except TypeError as error:
            raise TemplateError(_of_kinds(str(error))) from None
        except _OF_FILTERS as error:
            raise TemplateError((str(error) or type(error).__name__)[:200]) from None
        except (RecursionError, MemoryError):
            raise TemplateError("it nests too deeply, or grows too large") from None

    return render


def members_read(source: str, roots: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the members of `roots` that a valid template reads; None if it reads one whole."""
    tree, members = sandbox().parse(source), set[int]()
    steps = [(node.node, node.attr) for node in tree.find_all(nodes.Getattr)]
    items = ((node.node, node.arg) for node in tree.find_all(nodes.Getitem))
    steps += [(of, arg.value) for of, arg in items if isinstance(arg, nodes.Const)]
    for root, name in steps:
        if isinstance(root, nodes.Name) and root.name in roots and isinstance(name, str):
            members.add(id(root))
            yield root.name, name
    for root in tree.find_all(nodes.Name):
        if root.name in roots and id(root) not in members:
            yield root.name, None


def _compile_or_explain(
    environment: DataOnly, source: str, *, single: bool
) -> Callable[[Context], Json]:
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
    """Compile: a template that is one expression gives its value, any other gives text."""
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
    for statement in tree.find_all(nodes.Stmt):
        if not isinstance(statement, nodes.Output | nodes.If):
            kind = type(statement).__name__.lower()
            hint = "templates may have expressions and {% if %}, but no loops, macros or includes"
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
    """Reword Jinja's errors about undefined values, without Python class names."""
    if found := re.match(r"'(\w+)' is undefined", message):
        return undefined(found[1], context)
    if found := re.match(r"'?[\w. ]+ object'? has no (?:attribute|element) '?(.*?)'?\Z", message):
        hint = "if it may be missing, add `| default(...)`"
        return TemplateError(f"there is no {echo(found[1])}", hint)
    return TemplateError(message[:200])


_KINDS = {
    "str": "text",
    **dict.fromkeys(("int", "float"), "a number"),
    "bool": "true or false",
    "NoneType": "null",
    **dict.fromkeys(("list", "tuple"), "a list"),
    "dict": "a mapping",
}
_KIND = re.compile(rf"\b({'|'.join(_KINDS)})\b")
_CALLED = re.compile(r"(?:do)?_?(\w+)\(\) (?:missing|takes|got) ")
_OPERATION = re.compile(r"'([<>]=?)'| for (?:unary )?([^\s:(]+)")


def _of_kinds(message: str) -> str:
    """Reword Python's errors about values of the wrong kind, without its class names."""
    if found := _CALLED.match(message):
        return f"`{found[1]}` is not called with the values that it takes"
    kinds = dict.fromkeys(_KINDS[name] for name in _KIND.findall(message.replace("non-int", "")))
    if not kinds:
        return message[:200]
    found = _OPERATION.search(message)
    name = found and (found[1] or found[2])
    if message.startswith("can only concatenate"):
        name = "+"
    elif "multiply" in message:
        name = "*"
    return f"{f'`{name}`' if name else 'the expression'} does not work with {' and '.join(kinds)}"


def result(value: Json, environment: DataOnly) -> Json:
    """Convert an expression's value to plain JSON. Raises `TemplateError` if that fails."""
    if isinstance(value, Undefined):
        if type(value) is environment.undefined:
            str(value)  # StrictUndefined raises here, naming what is missing
        raise Missing("the expression has no value: an `if` without `else`?")
    scalar = value is None or isinstance(value, bool | int | float)
    plain = value if scalar else _plain(value)
    if wrong := fault(plain):
        raise TemplateError(f"the result is {wrong}")
    return plain


def _plain(value: Any) -> Json:
    return _Plain().of(value)


class _Plain:
    """Converts a value to plain JSON; stops when the result grows too large."""

    def __init__(self) -> None:
        self.left = MAX_OUTPUT

    def of(self, value: Any, depth: int = 0) -> Json:
        self.left -= 1
        if isinstance(value, str):
            self._take(len(value) - 1)
            return str(value)
        if depth > MAX_DEPTH:
            raise TemplateError(f"the result is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, Mapping):
            return {
                self.of(str(key), depth): self.of(member, depth + 1)
                for key, member in value.items()
            }
        if isinstance(value, list | tuple | Iterator):
            return [self.of(member, depth + 1) for member in value]
        if isinstance(value, Undefined):
            str(value)
        self._take(0)
        return value

    def _take(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise TemplateError(f"the result has more than {MAX_OUTPUT:,} characters")


def _too_large(operator: str, left: Any, right: Any) -> bool:
    sized = [x for x in (left, right) if isinstance(x, str | list | tuple)]
    numbers = [x for x in (left, right) if isinstance(x, int)]
    if operator == "%":
        return isinstance(left, str)
    if operator == "+":
        for one in sized:
            BUDGET.weigh(one)
        return False
    if operator == "**":
        return len(numbers) == 2 and numbers[0].bit_length() * max(1, numbers[1]) > _MAX_BITS
    if len(numbers) == 2:
        return sum(number.bit_length() for number in numbers) > _MAX_BITS
    if sized and numbers:
        weight = BUDGET.weigh(sized[0] or " ") * max(0, numbers[0])
        if weight <= MAX_OUTPUT * MEMBER:
            BUDGET.spend(weight)
        return weight > MAX_OUTPUT * MEMBER
    return False


def _size(value: Any) -> int:
    """Return the most that one comparison with `value` costs."""
    if isinstance(value, str):
        return 1 + len(value) // 16
    return BUDGET.weigh(value) if isinstance(value, Mapping | list | tuple) else 1


def _compared(left: Any, right: Any) -> int:
    """Return what the comparison costs; values of different kinds differ at once."""
    if isinstance(left, str) and isinstance(right, str):
        return 1 + min(len(left), len(right)) // 16
    both = all(isinstance(side, Mapping | list | tuple) for side in (left, right))
    return _size(left) if both else 1


def _within(value: Any, container: Any) -> bool:
    if isinstance(container, str):
        BUDGET.spend(1 + len(container))
    elif isinstance(container, list | tuple):
        BUDGET.spend(1 + len(container) * _size(value))
    elif isinstance(container, Iterator):
        size = _size(value)
        return any(_is(value, member, size) for member in container)
    else:
        BUDGET.spend(_size(value))
    found: bool = value in container
    return found


def _is(value: Any, member: Any, size: int) -> bool:
    BUDGET.spend(size)
    return bool(value == member)


def _comparing(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def test(left: Any, right: Any) -> Any:
        BUDGET.spend(CALL + _compared(left, right))
        return compare(left, right)

    return test


def _of_numbers(test: Any) -> Callable[..., bool]:
    """Refuse texts, which ``%`` would format."""

    @wraps(test)
    def tested(*numbers: Any) -> bool:
        if not all(isinstance(number, int | float) for number in numbers):
            raise TemplateError("it is asked of something that is not a number")
        return bool(test(*numbers))

    return tested


def _of_text(made: Any, dear: int) -> Callable[..., Any]:
    """Wrap a filter or test that reads all of its text; `dear`: units per character."""
    at = int(hasattr(made, "jinja_pass_arg"))

    @wraps(made)
    def counted(*args: Any, **kwargs: Any) -> Any:
        BUDGET.spend(CALL)
        for argument in (*args[at:], *kwargs.values()):
            if not isinstance(argument, Undefined):
                BUDGET.spend((dear - 1) * BUDGET.weigh(argument))
        value = made(*args, **kwargs)
        BUDGET.weigh(value)
        return value

    return counted


def _counted(made: Callable[..., Any], looked_at: Callable[..., Any] | None) -> Callable[..., Any]:
    """Wrap a filter so that what it reads and returns is paid from the budget: a list at once, an
    iterator member by member."""
    at = int(hasattr(made, "jinja_pass_arg"))

    @wraps(made)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        BUDGET.spend(CALL)
        subject = args[at]
        if isinstance(subject, Undefined):
            return made(*args, **kwargs)
        if looked_at is None:
            return _given(made(*args, **kwargs), copied=False)
        steps = _steps(args[at + 1 :], kwargs)
        args = (*args[:at], looked_at(subject, steps), *args[at + 1 :])
        return _given(made(*args, **kwargs), copied=True)

    return filtered


def _given(value: Any, *, copied: bool) -> Any:
    if isinstance(value, Iterator):
        return _members(value)
    if copied or isinstance(value, str):
        BUDGET.weigh(value)
    return value


def _members(values: Iterator[Any]) -> Iterator[Any]:
    for value in values:
        BUDGET.weigh(value)
        yield value


def _steps(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Return how many lookups a filter makes per member: ``attribute="a.b,c"`` makes three."""
    named = (kwargs.get("attribute"), *args[:1])
    paths = [path for path in named if isinstance(path, str)]
    if any(len(path) > _MAX_ATTRIBUTE for path in paths):
        raise TemplateError(f"an attribute has more than {_MAX_ATTRIBUTE} characters")
    return 1 + sum(path.count(".") + path.count(",") for path in paths)


def _iterated(subject: Any) -> bool:
    return isinstance(subject, Mapping | list | tuple | str | Iterator)


def _each(subject: Any, steps: int) -> Any:
    """Yield the members, each paid for when it is used."""

    def members() -> Iterator[Any]:
        for member in subject:
            if isinstance(member, str):
                BUDGET.spend(MEMBER * steps + len(member))
            else:
                BUDGET.spend(MEMBER * steps + BUDGET.weigh(member))
            yield member

    return members() if _iterated(subject) else subject


def _whole(subject: Any, steps: int) -> Any:
    """Pay for all members at once: they are compared with one another, and their text copied."""
    if not _iterated(subject):
        return subject
    members = list(_each(subject, steps))
    longest = max((len(m) if isinstance(m, str) else 1 for m in members), default=0)
    each = steps * (1 + longest // 16) if steps == 1 else steps * MEMBER
    BUDGET.spend(len(members) * each * len(members).bit_length())
    return members


def _copied(subject: Any, _steps: int) -> Any:
    if isinstance(subject, str):
        BUDGET.weigh(subject)
    return subject


def _written(value: Any) -> Any:
    """Convert a value to text: as JSON, except that null is refused."""
    if isinstance(value, Undefined):
        return value
    if value is None:
        message = "a null cannot be part of a text"
        raise TemplateError(message, "give it another value, as in {{ x or 'none' }}")
    plain = _plain(value)
    BUDGET.weigh(plain)
    return plain if isinstance(plain, str) else _json(plain)


def _tojson(value: Any) -> str:
    plain = _plain(value)
    BUDGET.weigh(plain)
    return _json(plain)


def _json(plain: Json) -> str:
    if wrong := fault(plain):
        raise TemplateError(f"the value is {wrong}")
    return json.dumps(plain, ensure_ascii=False)


def _on_text(made: Any, dear: int) -> Callable[..., Any]:
    """Wrap a filter of text: whatever else it is given becomes what it is in text; for `urlencode`
    a mapping or a list is one of pairs."""
    at, counted = int(hasattr(made, "jinja_pass_arg")), _of_text(made, dear)

    @wraps(made)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        subject = args[at]
        if not (made.__name__ == "do_urlencode" and isinstance(subject, Mapping | list)):
            subject = _written(subject)
        return counted(*args[:at], subject, *args[at + 1 :], **kwargs)

    return filtered


def _replace(text: Any, old: Any, new: Any) -> str:
    for one in (text, old, new):
        BUDGET.weigh(one)
    whole, gone, put = str(_written(text)), str(old), str(new)
    BUDGET.spend(len(whole) + whole.count(gone) * len(put))
    return whole.replace(gone, put)


def _split(value: Any, separator: Any = None, maxsplit: int = -1) -> list[str]:
    """Split a text at a separator, by default at white space."""
    text, by = str(_written(value)), None if separator is None else str(separator)
    if by == "":
        raise TemplateError(
            "`split` needs a separator; call it without arguments to split at blanks"
        )
    BUDGET.spend(len(text) + MEMBER * (len(text.split()) if by is None else text.count(by) + 1))
    return text.split(by, maxsplit)


def _date(value: Any, form: Any = None) -> str:
    """Reformat a day or time in ISO 8601 as by strftime; by default, to the day."""
    time = _time(value)
    if form is None:
        return time.date().isoformat()
    if not isinstance(form, str) or not _DATE_FORM.fullmatch(form):
        hint = (
            "use formats such as %Y-%m-%d, %H:%M:%S, %j, %G-W%V, %B, %A or %s (seconds since 1970)"
        )
        raise TemplateError(f"{echo(form)} is not a date format", hint)
    seconds = {"%s": str(int(time.timestamp()))}
    return time.strftime(re.sub("%.", lambda found: seconds.get(found[0], found[0]), form))


def _days(value: Any, number: Any) -> str:
    """Add days to a day or time; a day stays a day."""
    if isinstance(number, bool) or not isinstance(number, int) or abs(number) > _MAX_DAYS:
        raise TemplateError(f"`days` adds up to {_MAX_DAYS:,} whole days, not {number}")
    moved = _time(value) + timedelta(days=number)
    return moved.date().isoformat() if len(value) == _A_DAY else moved.isoformat()


def _time(value: Any) -> datetime:
    BUDGET.spend(CALL)
    if isinstance(value, Undefined):
        str(value)  # StrictUndefined raises here, naming what is missing
    if not isinstance(value, str) or len(value) > _MAX_TRIMMED:
        raise TemplateError(f"{echo(value)} is not a day or a time", "write it like 2026-01-31")
    try:
        return parse_time(value)
    except ValueError as error:
        raise TemplateError(str(error)) from None


def _trim(value: Any, chars: Any = None) -> str:
    if chars is not None and len(str(chars)) > _MAX_TRIMMED:
        raise TemplateError(f"`trim` takes at most {_MAX_TRIMMED} characters to trim")
    BUDGET.weigh(value)
    return str(_written(value)).strip(chars)


@pass_environment
def _join(environment: DataOnly, values: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    steps = _steps((), {"attribute": attribute})
    get = make_attrgetter(environment, attribute) if attribute is not None else None
    parts = []
    for value in _each(values, steps) if not isinstance(values, Undefined) else values:
        BUDGET.spend(CALL + len(str(d)))
        parts.append(str(_written(get(value) if get else value)))
    return str(d).join(parts)


@pass_environment
def _sum(environment: DataOnly, values: Iterable[Any], attribute: Any = None) -> Any:
    steps = _steps((), {"attribute": attribute})
    get = make_attrgetter(environment, attribute) if attribute is not None else None
    total: Any = 0
    for value in _each(values, steps) if not isinstance(values, Undefined) else values:
        number = get(value) if get else value
        if not isinstance(number, int | float):
            raise TemplateError("`sum` adds numbers only")
        total += number
    return total


def _int(value: Any, default: Any = None, base: int = 10) -> Any:
    if isinstance(value, str) and len(value) > _MAX_BITS // 4:
        raise TemplateError(f"`int` reads at most {_MAX_BITS // 4:,} digits")
    return do_int(value, _unread(do_int, value, default, base), base)


def _float(value: Any, default: Any = None) -> Any:
    return do_float(value, _unread(do_float, value, default))


def _unread(read: Callable[..., Any], value: Any, default: Any, *how: int) -> Any:
    """Return what counts if the value is not a number; a text or null without a default is an
    error."""
    text = value is None or isinstance(value, str)
    if default is None and text and read(value, None, *how) is None:
        hint = "correct it, or give what it counts as, such as `int(0)`"
        raise TemplateError(f"{echo(value)} is not a number", hint)
    return 0 if default is None else default


def _ceil(value: Any) -> int:
    whole: int = math.ceil(value)
    return whole


def _round(value: Any, precision: int = 0, method: Any = "common") -> float:
    if not isinstance(value, int | float) or not isinstance(precision, int):
        raise TemplateError("`round` needs numbers")
    if abs(precision) > 15:
        raise TemplateError("`round` keeps at most 15 digits")
    return do_round(value, precision, method)
