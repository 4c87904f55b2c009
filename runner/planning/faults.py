"""The faults of an operation's items: each kind once, with the first item that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from runner.model import Problem

MAX_EXPLAINED = 100  # items whose faults are explained; the others are counted


@dataclass(slots=True)
class Faults:
    """Ten thousand items with the same fault are one problem, not ten thousand."""

    operation: str
    _first: dict[Problem, tuple[Problem, int]] = field(default_factory=dict)
    _explained: int = 0
    _unexplained: int = 0

    def add(self, item: str, explain: Callable[[], Iterable[Problem]]) -> None:
        if self._explained == MAX_EXPLAINED:
            self._unexplained += 1
            return
        self._explained += 1
        for problem in explain():
            kind = replace(problem, message=problem.message.replace(item, ""))
            first, count = self._first.get(kind, (problem, 0))
            self._first[kind] = (first, count + 1)

    def problems(self) -> list[Problem]:
        problems = [_counted(first, count - 1) for first, count in self._first.values()]
        if self._unexplained:
            last = problems[-1]
            message = f"`{self.operation}`: {self._unexplained:,} more items have such problems"
            problems.append(Problem(message, last.path, last.line, last.column, rule=last.rule))
        return problems


def _counted(problem: Problem, others: int) -> Problem:
    if not others:
        return problem
    others_too = f"{others:,} other item{'' if others == 1 else 's'} too"
    return replace(problem, message=f"{problem.message} (and for {others_too})")
