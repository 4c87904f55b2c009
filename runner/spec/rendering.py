"""What every way of rendering a template shares: its error, its words, and how much it may do.

Work is counted in characters: what is made counts by its length, what is looked at by its members,
each of which takes the time of many characters. So one bound holds for time and for memory.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from runner.model import Json
from runner.spec.document import did_you_mean

MAX_OUTPUT = 256 * 1024  # characters of one result: more than a page of any payload has
MAX_WORK = 64 * MAX_OUTPUT  # units of one rendering
MAX_TOTAL = 8 * MAX_WORK  # units of all renderings of a plan, beyond what each has free
CALL = 64  # and a call of a filter or test
FREE = 4096  # units of a rendering that are not counted for the plan: its items are
MEMBER = 32  # units that a member of a list or mapping costs, besides its characters


class TemplateError(ValueError):
    """What is wrong with a template, or with rendering it, in one line."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Missing(TemplateError):
    """A value that is not there: `root` and `name` say of what, `row` and `team`; without a name it
    is missing by the template's own words, as in an `if` without `else`."""

    def __init__(
        self, message: str, hint: str | None = None, root: str = "", name: str | None = None
    ) -> None:
        super().__init__(message, hint)
        self.root, self.name = root, name


class Budget(threading.local):
    """What the rendering under way in this thread may still do, and what its plan may."""

    def __init__(self) -> None:
        self.left, self.total = MAX_WORK, MAX_TOTAL

    def begin(self) -> None:
        """A plan is built: its renderings share one total."""
        self.left, self.total = MAX_WORK, MAX_TOTAL

    def refill(self) -> None:
        """A rendering begins; what the last one did is taken from the plan's total."""
        self.total -= max(0, MAX_WORK - self.left - FREE)
        self.left = MAX_WORK
        if self.total < 0:
            message = "the plan's templates take more work together than a plan may"
            raise TemplateError(message, "look at shorter lists and texts in them")

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            message = "the template makes more text, or looks at more, than one event may need"
            raise TemplateError(message, "use shorter lists and texts")

    def weigh(self, value: Any) -> int:
        """Spends what `value` is to walk through and to copy; shared parts count each time."""
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
