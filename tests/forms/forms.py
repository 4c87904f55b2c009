"""The outward forms that others rely on, each as a digest; and what the changelog said of them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

import runner
from runner import errors
from runner.adapters.journal import schema
from runner.app.saved import load_saved
from runner.cli.main import COMMANDS, ERROR_STATUS, RUN_STATUS, LazyGroup
from runner.planning.saved import SavedPlan, write_saved

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).parent / "forms.json"
SAVED = Path(__file__).parent / "golden/saved.plan"
_WORDS = {"description", "examples", "title", "$comment", "markdownDescription"}


def forms() -> dict[str, str]:
    """By name; what is only words about a form is not part of it."""
    found = dict(_schemas())
    for name in COMMANDS:
        found[f"command {name}"] = _digest(_options(name))
    statuses = {kind.__name__: status for kind, status in ERROR_STATUS.items()}
    found["exit statuses"] = _digest({**statuses, **RUN_STATUS})
    page = (ROOT / "docs/reference/environment.md").read_text("utf-8")
    cells = re.findall(r"^\| ([A-Z_][^|]*) \|", page, re.MULTILINE)
    found["environment variables"] = _digest(re.findall(r"[A-Z_]{4,}", " ".join(cells)))
    tables = " ".join(re.sub(r"--.*", "", schema._TABLES).split())
    found["state tables"] = _digest([schema.VERSION, tables])
    found["saved plan"] = sha256(write_saved(saved_plan())).hexdigest()[:16]
    found["Python API"] = _digest(dict(_python()))
    return dict(sorted(found.items()))


def _schemas() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "schemas").glob("*.json")):
        yield f"schema {path.name}", _digest(_bare(json.loads(path.read_text("utf-8"))))


def _bare(found: Any, *, named: bool = False) -> Any:
    """Without words; `named`: its keys are names of properties, whatever they are called."""
    if isinstance(found, dict):
        return {
            key: _bare(value, named=key in ("properties", "definitions", "$defs"))
            for key, value in found.items()
            if named or key not in _WORDS
        }
    return [_bare(one) for one in found] if isinstance(found, list) else found


def _options(name: str) -> list[Any]:
    command = LazyGroup().get_command(click.Context(LazyGroup()), name)
    assert command
    return sorted(
        [
            sorted(one.opts + one.secondary_opts),
            one.type.name,
            one.required,
            one.nargs,
            [str(choice) for choice in getattr(one.type, "choices", ())],
            _default(one),
        ]
        for one in command.params
    )


def _default(option: click.Parameter) -> object:
    """None where it has none: click spells that in several ways."""
    default, plain = option.default, (bool, int, float, str)
    if isinstance(default, (list, tuple)):
        return list(map(str, default)) or None
    return default if isinstance(default, plain) and default is not False else None


def saved_plan() -> SavedPlan:
    """One with all its keys, made of the plan that stands in the golden file."""
    saved = load_saved(str(SAVED))
    assert saved
    return saved


def _python() -> Iterator[tuple[str, Any]]:
    for name in sorted(runner.__all__):
        found = getattr(runner, name)
        yield name, inspect.isclass(found) and sorted(_signatures(found))
    for name, found in sorted(vars(errors).items()):
        if inspect.isclass(found) and found.__module__ == errors.__name__:
            yield f"errors.{name}", [base.__name__ for base in found.__mro__]


def _signatures(found: type[Any]) -> Iterator[str]:
    for name, value in vars(found).items():
        if inspect.isfunction(value) and (not name.startswith("_") or name == "__init__"):
            yield f"{name}({', '.join(inspect.signature(value).parameters)})"


def _digest(form: Any) -> str:
    return sha256(json.dumps(form, sort_keys=True, default=str).encode()).hexdigest()[:16]


def changelog() -> list[str]:
    """The lines of what is not released yet."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    section = text.partition("## [Unreleased]")[2].partition("\n## [")[0]
    return [line.strip() for line in section.splitlines() if line.startswith("- ")]


def kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(KEPT.read_text("utf-8"))
    return found


def changed() -> list[str]:
    """The forms that are not as they were when they were written down last."""
    before, now = kept()["forms"], forms()
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def write() -> str:
    """Write down the forms of now; refused without a new line in the changelog that says why."""
    lines = sorted(sha256(line.encode()).hexdigest()[:8] for line in changelog())
    if KEPT.exists() and (names := changed()) and set(lines) <= set(kept()["changelog"]):
        return f"{', '.join(names)}: CHANGELOG.md has no new line; add one (a line that starts it)"
    document = {"forms": forms(), "changelog": lines}
    KEPT.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return ""
