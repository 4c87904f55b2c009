"""A frozen value is what `dataclasses` would have made of the same class, made faster."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, astuple, dataclass, field, fields, replace
from typing import Any

import pytest

from runner import errors
from runner.model import Finding, Problem, frozen


class Point:
    x: int
    y: int = 2
    names: list[str] = field(default_factory=list)
    silent: str = field(default="s", repr=False)
    aside: int = field(default=0, compare=False)
    word: str = field(kw_only=True)
    more: int = field(kw_only=True, default=7)
    twice: int = field(init=False)

    def __post_init__(self) -> None:
        assert isinstance(self.names, list)
        object.__setattr__(self, "twice", 2 * self.x)


class Empty:
    pass


@frozen
class Ours:
    """Can be found by its name, as pickling asks."""

    x: int
    y: tuple[int, ...] = ()


@frozen
class Derived(Ours):
    z: int = 3

    def __hash__(self) -> int:
        return 5


def pair(cls: type) -> tuple[Any, Any]:
    """Ours, and what `dataclasses` makes of it."""

    def copied() -> type:
        own = {name: value for name, value in vars(cls).items() if not name.startswith("__weak")}
        own.pop("__dict__", None)
        return type(cls.__name__, (), own)

    return frozen(copied()), dataclass(frozen=True, slots=True)(copied())


@pytest.mark.parametrize(
    "made",
    [
        lambda cls: cls(1, word="w"),
        lambda cls: cls(1, 3, ["a"], "t", 9, word="w", more=8),
        lambda cls: replace(cls(1, word="w"), y=5, more=6),
    ],
)
def test_a_value_reads_as_a_dataclass_does(made: Any) -> None:
    ours, theirs = (made(cls) for cls in pair(Point))
    assert repr(ours) == repr(theirs)
    assert asdict(ours) == asdict(theirs)
    assert astuple(ours) == astuple(theirs)
    assert type(ours).__match_args__ == type(theirs).__match_args__
    assert type(ours).__slots__ == type(theirs).__slots__
    assert str(inspect.signature(type(ours)))[:30] == str(inspect.signature(type(theirs)))[:30]


@pytest.mark.parametrize("wrong", [((), {}), ((1,), {}), ((1,), {"word": "w", "z": 1})])
def test_what_is_not_given_or_not_known_is_refused_as_a_dataclass_refuses_it(wrong: Any) -> None:
    said = []
    for cls in pair(Point):
        with pytest.raises(TypeError) as error:
            cls(*wrong[0], **wrong[1])
        said.append(str(error.value))
    assert said[0] == said[1]


def test_equal_fields_make_equal_values_of_one_class() -> None:
    ours, _ = pair(Point)
    first, second = ours(1, word="w"), ours(1, word="w", aside=4)
    assert first == second  # `aside` is not compared
    assert first != ours(2, word="w")
    assert first.names is not second.names
    assert Ours(1, (2,)) == Ours(1, (2,))
    assert len({Ours(1, (2,)), Ours(1, (2,)), Ours(2)}) == 2
    assert Ours(1) != Derived(1)
    assert Ours(1).__eq__(1) is NotImplemented
    empty, _ = pair(Empty)
    assert {empty(): 1}[empty()] == 1
    assert repr(empty()) == "Empty()"


def test_nothing_changes_a_value() -> None:
    value = Derived(1, (2,), 4)
    for name in ("x", "new"):
        with pytest.raises(FrozenInstanceError, match="Derived is frozen"):
            setattr(value, name, 2)
    with pytest.raises(FrozenInstanceError, match="Derived is frozen"):
        del value.x
    assert [one.name for one in fields(value)] == ["x", "y", "z"]


def test_a_copy_is_equal() -> None:
    value = Derived(1, (2,), 4)
    assert copy.deepcopy(value) == copy.copy(value) == pickle.loads(pickle.dumps(value)) == value  # noqa: S301


def test_a_method_that_a_class_has_of_its_own_stays() -> None:
    assert hash(Derived(1)) == 5
    assert Derived.__doc__ == "Derived"


_MADE: dict[type, Callable[[], Exception]] = {
    errors.InvalidPlan: lambda: errors.InvalidPlan((Problem("wrong", "plan.yaml", 1, 2),)),
    errors.PreflightRefused: lambda: errors.PreflightRefused(
        "m", hint="h", findings=(Finding("plan", "fail", "m"),)
    ),
    errors.StalePlan: lambda: errors.StalePlan("m", hint="h", difference=1),
    errors.TargetDown: lambda: errors.TargetDown("m", hint="h", wait=2.0),
}


@pytest.mark.parametrize(
    "kind",
    [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, Exception)],
)
def test_an_error_reaches_another_process_as_it_is(kind: Any) -> None:
    """A pool of processes used to break at one that could not be read there."""
    error = _MADE[kind]() if kind in _MADE else kind("m", hint="h")
    found = pickle.loads(pickle.dumps(error))  # noqa: S301 - ours
    assert (type(found), str(found), vars(found)) == (kind, str(error), vars(error))
