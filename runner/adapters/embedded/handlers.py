"""``module:object`` -> callables, looked up beside the plan first."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from runner.adapters.embedded.engine import Handler
from runner.errors import PreflightRefused


def load_handlers(names: Mapping[str, str], folder: Path) -> dict[str, Handler]:
    """The handler of each event name. Raises `PreflightRefused` with what is wrong.

    `folder` is put first on the module path and stays there, so that a worker may import its
    neighbours, now or later.
    """
    if names and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return {event: _load(event, name, folder) for event, name in names.items()}


def _load(event: str, name: str, folder: Path) -> Handler:
    where = f"the handler of `{event}`, `{name}`"
    module_name, separator, path = name.partition(":")
    if not separator or not module_name or not path:
        raise PreflightRefused(f"{where}, is not of the form module:object", hint="as worker:sync")
    try:
        found: object = import_module(module_name)
    except ModuleNotFoundError as missing:
        hint = f"modules are looked up in {folder}, then among those installed"
        raise PreflightRefused(f"{where}: there is no module `{missing.name}`", hint=hint) from None
    except Exception as error:
        message = f"{where}: importing {module_name} raised {type(error).__name__}: {error}"
        raise PreflightRefused(message) from error
    for step in path.split("."):
        if not hasattr(found, step):
            similar = difflib.get_close_matches(step, dir(found), n=1)
            mend = f"did you mean `{similar[0]}`?" if similar else None
            raise PreflightRefused(f"{where}: there is no `{step}` in it", hint=mend)
        found = getattr(found, step)
    if not callable(found):
        raise PreflightRefused(f"{where}, cannot be called")
    handler: Handler = found
    return handler
