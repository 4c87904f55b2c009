"""Declarative backfill plans for Inngest, from Python: docs/python.md.

    import runner

    with runner.Session() as session:
        plan = session.plan("plans/refresh.yaml", target="dev")
        outcome = session.run(plan)

Importing it is cheap: what is used is loaded when it is first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runner.version import __version__

if TYPE_CHECKING:
    from runner.api import (
        BackfillError,
        Checked,
        CheckResult,
        Covered,
        EventRecord,
        ExecutionPlan,
        Failure,
        Incomplete,
        InvalidPlan,
        KeyRefused,
        LockHeld,
        Observer,
        PreflightRefused,
        Prepared,
        RequestLimits,
        RunFailed,
        RunLine,
        RunOptions,
        RunView,
        Session,
        StalePlan,
        Submitted,
        Summary,
        TargetDown,
        TargetError,
        Totals,
        UsageError,
    )

__all__ = [
    "BackfillError",
    "CheckResult",
    "Checked",
    "Covered",
    "EventRecord",
    "ExecutionPlan",
    "Failure",
    "Incomplete",
    "InvalidPlan",
    "KeyRefused",
    "LockHeld",
    "Observer",
    "PreflightRefused",
    "Prepared",
    "RequestLimits",
    "RunFailed",
    "RunLine",
    "RunOptions",
    "RunView",
    "Session",
    "StalePlan",
    "Submitted",
    "Summary",
    "TargetDown",
    "TargetError",
    "Totals",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module `runner` has no attribute `{name}`")
    return getattr(import_module("runner.api"), name)


def __dir__() -> list[str]:
    return __all__
