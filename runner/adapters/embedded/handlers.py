"""Load handlers named ``module:object``, from the plan's folder or from installed packages."""

from __future__ import annotations

import importlib
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from runner.adapters.embedded.engine import Handler
from runner.errors import PreflightRefused
from runner.spec.files import FileRefused, within

_SCHEMES = ("stdlib", "platstdlib", "purelib", "platlib")
_PACKAGE = Path(__file__).parents[2]
# Modules that must not be reloaded: others in this process use them.
_INSTALLED = (_PACKAGE, *(Path(sysconfig.get_path(name)) for name in _SCHEMES))
# Two runs in threads may both have a module `worker`, each in its plan's folder.
_ONE_FOLDER_AT_A_TIME = threading.RLock()


def load_handlers(names: Mapping[str, str], folder: Path) -> dict[str, Handler]:
    """Load the handlers of a plan in `folder`, by event name. Raises `PreflightRefused`.

    While a module is imported, `folder` is first on `sys.path`, as a script's folder is. Afterwards
    it stays there as the last entry: a handler may import its siblings when it runs, but nothing in
    the folder shadows an installed module any more.
    """
    folder = folder.resolve()
    with _ONE_FOLDER_AT_A_TIME, _first_on_path(folder):
        return {event: _load(event, name, folder) for event, name in names.items()}


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # a module may have been written since the folder was last read
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def _load(event: str, name: str, folder: Path) -> Handler:
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        message = f"the handler of `{event}` is `{name}`, which does not name a function"
        raise PreflightRefused(message, hint="write it as `module:function`")
    module = _import(module_name, folder)
    try:
        handler = getattr(module, attribute)
    except AttributeError:
        public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        hint = _did_you_mean(attribute, public) or f"define it in {_place(module)}"
        message = f"the module `{module_name}` has no `{attribute}`, the handler of `{event}`"
        raise PreflightRefused(message, hint=hint) from None
    if not callable(handler):
        message = f"`{name}`, the handler of `{event}`, is not a function: {type(handler).__name__}"
        raise PreflightRefused(message, hint="name a function that takes one event")
    found: Handler = handler
    return found


def _import(module: str, folder: Path) -> ModuleType:
    _make_way(module.partition(".")[0], folder)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _raises(module, error, "install it in the environment of `backfill`") from None
        siblings = [path.stem for path in folder.glob("*.py")]
        hint = _did_you_mean(module.removesuffix(".py"), siblings)
        message = f"there is no module `{module}` in {folder}, and none is installed"
        hint = hint or "a module is found beside the plan, or where it is installed"
        raise PreflightRefused(message, hint=hint) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's module may raise anything
        hint = f"`python -c 'import {module}'` in {folder} shows where"
        raise _raises(module, error, hint) from None


def _make_way(root: str, folder: Path) -> None:
    """Allow the folder's own `root` to be imported if another folder's was loaded before."""
    spec, loaded = PathFinder.find_spec(root, [str(folder)]), sys.modules.get(root)
    if spec is None:
        return
    try:
        if spec.origin is not None:
            within(spec.origin, folder / root)
    except FileRefused as error:
        message = f"the module `{root}` in {folder} cannot be imported: {error}"
        raise PreflightRefused(message, hint=error.hint) from None
    if loaded is None:
        return
    origin = _origin(loaded)
    if spec.origin in (None, origin):  # None: a folder without code, at which no import stops
        return
    if origin is None or any(Path(origin).is_relative_to(path) for path in _INSTALLED):
        message = (
            f"the module `{root}` in {folder} has the name of an installed module that is in use"
        )
        raise PreflightRefused(message, hint="rename the module, and the handlers that name it")
    for key in [key for key in sys.modules if f"{key}.".startswith(f"{root}.")]:
        del sys.modules[key]


def _origin(module: ModuleType) -> str | None:
    return getattr(module, "__file__", None)


def _place(module: ModuleType) -> str:
    return _origin(module) or f"`{module.__name__}`"


def _raises(module: str, error: BaseException, hint: str) -> PreflightRefused:
    words = f"{type(error).__name__}: {error}".removesuffix(": ")
    return PreflightRefused(f"the module `{module}` cannot be imported: {words}", hint=hint)


def _did_you_mean(word: str, known: Iterable[str]) -> str | None:
    close = get_close_matches(word, known, 1)
    return f"did you mean `{close[0]}`?" if close else None
