"""Problems in files, and findings about the setup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from runner.model.value import Data, Json, frozen

Severity = Literal["error", "warning"]


@frozen
class Problem:
    """Something wrong (or unwise) in a file: what, where (1-based), and what to do.

    `rule`: the name of the rule it breaks, or of the warning. `accepted`: why the plan accepts it.
    """

    message: str
    path: str
    line: int | None = None
    column: int | None = None
    source: str | None = None
    hint: str | None = None
    severity: Severity = "error"
    rule: str = "plan"
    accepted: str | None = None


class Acceptance(NamedTuple):
    """Why a plan accepts a warning; `place`: a problem with an empty message where it says so."""

    reason: str
    place: Problem


class Payload(Protocol):
    def __call__(self, context: Mapping[str, Json], /) -> Data:
        """Render the event's data; raise ValueError if a template cannot be rendered."""

    def leaving(self, context: Mapping[str, Json], known: Callable[[str, str], bool], /) -> Data:
        """Render the data without the keys whose templates give a missing value. `known` tells
        whether any item has an attribute."""

    @property
    def of_items(self) -> Sequence[tuple[str, str | None]]:
        """What its templates read of the item: ``row`` and an attribute's name, or None for the
        whole item."""

    def reading(self, name: str, /) -> tuple[Payload, Payload]:
        """Split it into the keys whose templates read the name, and the others."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, in the order of the data."""

    def explain(
        self,
        context: Mapping[str, Json],
        item: str,
        known: Callable[[str, str], bool] | None = None,
        /,
    ) -> tuple[Problem, ...]:
        """Say why rendering failed: each template that does not render, and its line; with `known`,
        except those that `leaving` omits."""

    def problem(self, message: str, /) -> Problem:
        """Return a problem at the place where the payload is written."""

    def largest(self, data: Data, message: str, hint: str, /) -> Problem:
        """Return a problem at the key that takes most of `data`."""


Level = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """What a check of the setup found: about what, how bad, and what to do. `away`: a server or a
    database does not answer, or refuses the key."""

    about: str
    level: Level
    message: str
    hint: str | None = None
    away: bool = False
