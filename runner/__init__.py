"""Declarative backfill plans for Inngest, from Python: docs/python.md.

    import runner

    with runner.Session() as session:
        plan = session.plan("plans/refresh.yaml", target="dev")
        outcome = session.run(plan)

Importing it is cheap: each name is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runner.version import __version__ as __version__

if TYPE_CHECKING:
    from runner.api import *  # noqa: F403 - runner.api lists the names
    from runner.api import __all__ as __all__
else:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name == "__all__" or name[:1].isupper():
            api = import_module("runner.api")
            if name == "__all__":
                return [*api.__all__, "__version__"]
            if name in api.__all__:
                return getattr(api, name)
        raise AttributeError(f"module `runner` has no attribute `{name}`")

    def __dir__() -> list[str]:
        return list(__getattr__("__all__"))
