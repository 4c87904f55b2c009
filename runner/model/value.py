"""JSON's types, and `@frozen`: the equivalent of `@dataclass(frozen=True, slots=True)` in a quarter
of the time.

`dataclasses` compiles six methods for each class; for more than a hundred classes that was 40 % of
a command's start-up time. Here only `__init__` is compiled and the other methods are shared. What
works on a dataclass (`fields`, `replace`, `asdict`, `match`) works on these.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from shlex import quote
from typing import Any, NoReturn, TypeAlias, TypeVar, dataclass_transform

T = TypeVar("T")
_set = object.__setattr__
Json: TypeAlias = Any  # a value in a payload or an attribute
Data: TypeAlias = dict[str, Json]


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a class of immutable values that compare by their fields."""
    cls.__doc__ = cls.__doc__ or cls.__qualname__  # else dataclass builds one from the signature
    own = vars(cls)
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    methods = {
        "__init__": _init(made),
        "__setattr__": _refuse,
        "__delattr__": _refuse,
        "__setstate__": _restore,
        "__repr__": _repr,
        "__eq__": _eq,
        "__hash__": _hash,
    }
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    compared = [one.name for one in fields(made) if one.compare]
    made.__compared__ = attrgetter(*compared) if compared else _nothing
    return made  # type: ignore[no-any-return]


def _init(made: Any) -> Any:
    """Compile `__init__` as `dataclasses` does; default factories are called inside it."""
    names: dict[str, Any] = {"_set": _set, "_missing": MISSING}
    given: list[str] = []
    by_name: list[str] = []
    lines: list[str] = []
    for one in fields(made):
        if not one.init:  # set by `__post_init__`
            continue
        (by_name if one.kw_only else given).append(_parameter(one, names))
        value = one.name
        if one.default_factory is not MISSING:
            value = f"_default_{value}() if {value} is _missing else {value}"
        lines.append(f" _set(self, {one.name!r}, {value})")
    if hasattr(made, "__post_init__"):
        lines.append(" self.__post_init__()")
    star = ["*"] if by_name else []
    head = f"def __init__({', '.join(['self', *given, *star, *by_name])}):"
    exec("\n".join([head, *(lines or [" pass"])]), names)  # noqa: S102 - of names that are ours
    init = names["__init__"]
    init.__qualname__ = f"{made.__qualname__}.__init__"
    parameters = {one.name: one.type for one in fields(made) if one.init}
    init.__annotations__ = parameters | {"return": None}
    return init


def _parameter(one: Field[Any], names: dict[str, Any]) -> str:
    if one.default_factory is not MISSING:
        names[f"_default_{one.name}"] = one.default_factory
        return f"{one.name}=_missing"
    if one.default is not MISSING:
        names[f"_default_{one.name}"] = one.default
        return f"{one.name}=_default_{one.name}"
    return one.name


def _refuse(self: object, name: str, *_: object) -> NoReturn:
    raise FrozenInstanceError(f"{type(self).__name__} is frozen: {name} stays as it is")


def _restore(self: object, state: tuple[None, dict[str, object]]) -> None:
    for name, value in state[1].items():
        _set(self, name, value)


def _repr(self: Any) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: Any) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return self.__compared__(self) == self.__compared__(other)


def _hash(self: Any) -> int:
    return hash(self.__compared__(self))


def _nothing(*_: object) -> tuple[()]:
    return ()


def same(one: Json, other: Json) -> bool:
    """Compare as JSON does; to Python, true equals 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def as_shown(value: Json) -> str:
    """Format a value as queries and plans write it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict) or (isinstance(value, str) and not value.strip()):
        return json.dumps(value, ensure_ascii=False)  # an empty text would show nothing
    return as_compared(value) if isinstance(value, float) else str(value)


def as_argument(path: str) -> str:
    """Quote a path for a shell."""
    return quote(f"./{path}" if path.startswith("-") else path)


def as_compared(value: float) -> str:
    """Format a number with all its digits: a rounded one may contradict the text around it."""
    whole = isinstance(value, int) or (value.is_integer() and abs(value) < _PLAIN)
    return str(int(value)) if whole else repr(value)


_PLAIN = 1e15
