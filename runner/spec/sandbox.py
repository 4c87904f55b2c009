"""Jinja without reach: attributes are items of data, nothing can be called, results stay small.

Imported only where a template is more than a reference: Jinja takes longer to start than we do.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, wraps
from typing import Any

from jinja2 import StrictUndefined, Undefined, pass_environment
from jinja2.exceptions import SecurityError
from jinja2.filters import do_round, make_attrgetter
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner.model import Json
from runner.spec.templates import TemplateError
from runner.spec.values import MAX_DEPTH, fault

MAX_OUTPUT = 256 * 1024  # characters; the Event API's smallest event limit (protocol page, 1)
MAX_WORK = 64 * MAX_OUTPUT  # characters made on the way to one result
_MAX_BITS = 4096  # of a number on the way
_FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "first", "float", "int", "items", "last"),
    *("length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "select"),
    *("selectattr", "sort", "title", "trim", "truncate", "unique", "upper", "urlencode"),
)


class Budget:
    """What one rendering may still make: an expression can grow what it is given only so far."""

    def __init__(self) -> None:
        self.left = MAX_WORK

    def refill(self) -> None:
        self.left = MAX_WORK

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise TemplateError("the template makes more text than an event may hold")


class DataOnly(ImmutableSandboxedEnvironment):
    """The environment of all templates; its budget is that of the rendering under way."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    budget: Budget

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):
            str(obj)  # StrictUndefined: raises, naming what is missing
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
        if _too_large(operator, left, right, self.budget):
            raise SecurityError(f"the result of `{operator}` would be too large")
        return super().call_binop(context, operator, left, right)


@cache
def sandbox() -> DataOnly:
    budget = Budget()
    environment = DataOnly(
        undefined=StrictUndefined,
        optimized=False,  # nothing is computed before it is rendered, under its budget
        cache_size=0,
        finalize=_written(budget),
    )
    environment.budget = budget
    environment.globals.clear()
    filters: dict[str, Callable[..., Any]] = {n: environment.filters[n] for n in _FILTERS}
    filters |= {
        "ceil": _ceil,
        "join": _join,
        "replace": _replacer(budget),
        "round": _round,
        "sum": _sum,
    }
    filters |= {"string": _written(budget), "tojson": _tojson(budget)}
    environment.filters = {name: _charged(made, budget) for name, made in filters.items()}
    return environment


def result(value: Json, environment: DataOnly) -> Json:
    """The value of an expression as plain JSON; TemplateError where it is none, or too large."""
    if isinstance(value, Undefined):
        if type(value) is environment.undefined:
            str(value)  # StrictUndefined: raises, naming what is missing
        raise TemplateError("the expression has no value: an `if` without `else`?")
    plain = _plain(value)
    if wrong := fault(plain):
        raise TemplateError(f"the result is {wrong}")
    if _weight(plain) > MAX_OUTPUT:
        raise TemplateError(f"the result has more than {MAX_OUTPUT:,} characters")
    return plain


def _plain(value: Any, depth: int = 0) -> Json:
    if isinstance(value, str):
        return str(value)
    if depth > MAX_DEPTH:
        raise TemplateError(f"the result is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        return {str(key): _plain(member, depth + 1) for key, member in value.items()}
    if isinstance(value, list | tuple | Iterator):
        return [_plain(member, depth + 1) for member in value]
    if isinstance(value, Undefined):
        str(value)
    return value


def _weight(value: Any) -> int:
    """Characters in `value`, about; shared parts count each time, as they would when written."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(str(key)) + _weight(member) + 1 for key, member in value.items())
    if isinstance(value, list | tuple):
        return sum(_weight(member) + 1 for member in value)
    return 1


def _too_large(operator: str, left: Any, right: Any, budget: Budget) -> bool:
    sized = [x for x in (left, right) if isinstance(x, str | list | tuple)]
    numbers = [x for x in (left, right) if isinstance(x, int)]
    if operator == "%":
        return isinstance(left, str)
    if operator == "+":
        budget.spend(sum(map(_weight, sized)))
        return False
    if operator == "**":
        return len(numbers) == 2 and numbers[0].bit_length() * max(1, numbers[1]) > _MAX_BITS
    if len(numbers) == 2:
        return sum(number.bit_length() for number in numbers) > _MAX_BITS
    if sized and numbers:
        weight = max(1, _weight(sized[0])) * max(0, numbers[0])
        if weight <= MAX_OUTPUT:
            budget.spend(weight)
        return weight > MAX_OUTPUT
    return False


def _charged(made: Callable[..., Any], budget: Budget) -> Callable[..., Any]:
    """The filter, with what it gives taken from the budget: a list when it is whole, an
    iterator member by member."""

    def members(values: Iterator[Any]) -> Iterator[Any]:
        for value in values:
            budget.spend(_weight(value) + 1)
            yield value

    @wraps(made)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        value = made(*args, **kwargs)
        if inspect.isgenerator(value) or isinstance(value, Iterator):
            return members(value)
        budget.spend(_weight(value))
        return value

    return filtered


def _written(budget: Budget) -> Callable[[Any], Any]:
    """How a value stands in text: as JSON has it, and a null not at all."""

    def written(value: Any) -> Any:
        if isinstance(value, Undefined):
            return value
        if value is None:
            message = "a null cannot stand in text"
            raise TemplateError(message, "give it another value, as in {{ x or 'none' }}")
        plain = _plain(value)
        budget.spend(_weight(plain))
        return plain if isinstance(plain, str) else _json(plain)

    return written


def _tojson(budget: Budget) -> Callable[[Any], str]:
    def tojson(value: Any) -> str:
        plain = _plain(value)
        budget.spend(_weight(plain))
        return _json(plain)

    return tojson


def _json(plain: Json) -> str:
    if wrong := fault(plain):
        raise TemplateError(f"the value is {wrong}")
    return json.dumps(plain, ensure_ascii=False)


def _replacer(budget: Budget) -> Callable[..., str]:
    def replace(text: Any, old: Any, new: Any) -> str:
        whole, gone, put = str(text), str(old), str(new)
        budget.spend(len(whole) + whole.count(gone) * len(put))
        return whole.replace(gone, put)

    return replace


@pass_environment
def _join(environment: DataOnly, values: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    get = make_attrgetter(environment, attribute) if attribute is not None else None
    written = _written(environment.budget)
    parts = []
    for value in values:
        environment.budget.spend(len(str(d)))
        parts.append(str(written(get(value) if get else value)))
    return str(d).join(parts)


@pass_environment
def _sum(environment: DataOnly, values: Iterable[Any], attribute: Any = None) -> Any:
    get = make_attrgetter(environment, attribute) if attribute is not None else None
    total: Any = 0
    for value in values:
        number = get(value) if get else value
        if not isinstance(number, int | float):
            raise TemplateError("`sum` adds numbers only")
        total += number
    return total


def _ceil(value: Any) -> int:
    whole: int = math.ceil(value)
    return whole


def _round(value: Any, precision: int = 0, method: Any = "common") -> float:
    if not isinstance(value, int | float) or not isinstance(precision, int):
        raise TemplateError("`round` wants numbers")
    if abs(precision) > 15:
        raise TemplateError("`round` keeps at most 15 digits")
    return do_round(value, precision, method)
