"""What all ways of rendering a template share: the error, its messages, and the work budget.

Work is counted in characters: output by its length, input by its members, each of which takes as
long as many characters. So one limit bounds both time and memory.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from runner.model import Json
from runner.spec.document import did_you_mean

MAX_OUTPUT = 256 * 1024  # characters of one result, far more than payloads need
MAX_WORK = 64 * MAX_OUTPUT  # units of one rendering
MAX_TOTAL = 8 * MAX_WORK  # units of all renderings of a plan, beyond those free for each
CALL = 64  # units of a call of a filter or test
FREE = 4096  # units of each rendering that do not count for the plan: items are limited anyway
MEMBER = 32  # units of a member of a list or mapping, besides its characters


class TemplateError(ValueError):
    """An error in a template or its rendering, in one line."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Missing(TemplateError):
    """A missing value: `root` and `name` say which, as in `row` and `team`, or `row.user` and
    `team`. Without a name, the template itself gives none, as an `if` without `else` does."""

    def __init__(
        self, message: str, hint: str | None = None, root: str = "", name: str | None = None
    ) -> None:
        super().__init__(message, hint)
        self.root, self.name = root, name


class Budget(threading.local):
    """What the current rendering in this thread, and its plan, may still spend."""

    def __init__(self) -> None:
        self.left, self.total = MAX_WORK, MAX_TOTAL

    def begin(self) -> None:
        """Start a plan, whose renderings share one total."""
        self.left, self.total = MAX_WORK, MAX_TOTAL

    def refill(self) -> None:
        """Start a rendering; what the last one spent is taken from the plan's total."""
        self.total -= max(0, MAX_WORK - self.left - FREE)
        self.left = MAX_WORK
        if self.total < 0:
            message = "the plan's templates together take too much work"
            raise TemplateError(message, "use shorter lists and texts in them")

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            message = "the template makes or reads more text than one event may need"
            raise TemplateError(message, "use shorter lists and texts")

    def weigh(self, value: Any) -> int:
        """Spend what it takes to walk and copy `value`; shared parts count each time."""
        if isinstance(value, str):
            self.spend(1 + len(value))
            return 1 + len(value)
        weight, left, waiting = 0, self.left, [value]
        while waiting and weight <= left:
            one = waiting.pop()
            if isinstance(one, str):
                weight += len(one)
            elif isinstance(one, Mapping):
                weight += 2 * MEMBER * len(one)
                waiting += one.keys()
                waiting += one.values()
            elif isinstance(one, list | tuple):
                weight += MEMBER * len(one)
                if weight <= left:
                    waiting += one
        self.spend(weight + 1)
        return weight + 1


BUDGET = Budget()


def undefined(name: str, context: Mapping[str, Json]) -> TemplateError:
    hint = did_you_mean(name, context) or f"there are {', '.join(context)}"
    return TemplateError(f"`{name}` is not defined here", hint)
