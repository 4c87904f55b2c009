"""The errors that a user can meet, each with a hint. The numbers are the exit
statuses that `runner.cli.main` gives them.

::

    BackfillError                  one line, and a hint: what to do about it
     ├─ RunFailed             1    the run ended with failures
     ├─ UsageError            2    the arguments of the call are wrong
     │   └─ NoState           2    ... or the state to read does not exist
     ├─ InvalidPlan           3    the plan, catalog or data file has problems
     ├─ PreflightRefused      4    something is missing; nothing was sent
     ├─ StalePlan             5    the plan is no longer the one the run started with
     ├─ LockHeld              5    another run of the plan is under way
     │   └─ LeaseLost         5    ... and has taken this one's place
     ├─ TargetError           6    the target or the state store cannot be reached
     │   ├─ TargetDown        6    ... after every retry
     │   └─ KeyRefused        6    ... or refuses the key
     ├─ Incomplete            7    stopped, or timed out, before the end
     └─ Interrupted         130    ^C

Only ``runner.cli`` turns them into messages and an exit status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.model import Finding, Problem


class BackfillError(Exception):
    """An error for the user: `str()` says what is wrong, `hint` what to do about it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class RunFailed(BackfillError):
    """The run ended with failures."""


class UsageError(BackfillError):
    """The arguments of the call are wrong."""


class NoState(UsageError):
    """The state to read does not exist."""


def place_of(problem: Problem) -> str:
    """Return ``file:line:column``, as far as it is known."""
    return ":".join(map(str, filter(None, (problem.path, problem.line, problem.column))))


class InvalidPlan(BackfillError):
    """All problems of the input at once, the most useful first; `str()` says what is wrong first,
    and where."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        errors = [problem for problem in problems if problem.severity == "error"] or [*problems]
        first, more = errors[0], f" (and {len(errors) - 1:,} more)" if errors[1:] else ""
        super().__init__(
            f"{place_of(first)}: {first.severity}: {first.message}{more}", hint=first.hint
        )
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        """Let it reach another process: it is not made of its message."""
        return type(self), (self.problems,), self.__dict__


class PreflightRefused(BackfillError):
    """Something would keep the run from doing its work; `findings` lists all of it."""

    def __init__(
        self, message: str, *, hint: str | None = None, findings: tuple[Finding, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.findings = findings


class StalePlan(BackfillError):
    """The plan has changed; `difference` is a `runner.planning.compare.Difference`, or None."""

    def __init__(self, message: str, *, hint: str | None = None, difference: object = None) -> None:
        super().__init__(message, hint=hint)
        self.difference = difference


class LockHeld(BackfillError):
    """Another run of the plan is under way."""


class LeaseLost(LockHeld):
    """Another process holds the lock and may be sending, so this one must stop."""


class TargetError(BackfillError):
    """The target, the state or a database cannot be reached, or refuses."""


class TargetDown(TargetError):
    """No answer after every retry. `wait`: for how many seconds the server asked before another."""

    def __init__(self, message: str, *, hint: str | None = None, wait: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.wait = wait


class KeyRefused(TargetError):
    """401 or 403: later requests would be refused too, so the run stops at once."""


class Incomplete(BackfillError):
    """The run stopped, or timed out, before its end."""


class Interrupted(BackfillError):
    """^C."""
