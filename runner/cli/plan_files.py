"""Which plan files a command is about: files, folders, and of these the ones that have changed."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from runner.adapters.git import repository_here
from runner.adapters.git_files import (
    Commit,
    Disk,
    Names,
    Side,
    differs,
    names_of,
    objects_of,
    trail,
)
from runner.errors import UsageError
from runner.model import Json
from runner.spec.files import Refused, read_plan, strange_name

SUFFIXES = (".yaml", ".yml")
_NAMING = ("catalog", "file")  # the keys of a plan whose values are names of files

changed_option: Callable[[Any], Any] = click.option(
    "--changed-since",
    metavar="REV",
    help="Only plans that have changed, in a file that they are made of, since this branch has "
    "left the git revision.",
)


def plan_files(
    paths: Sequence[str], changed_since: str | None = None, *, strictly: bool = True
) -> list[str]:
    """Of a folder its .yaml and .yml files, by name; not those of folders in it, nor lists (which
    are data) and the project file. Raises `UsageError` where there is none (`strictly`)."""
    found: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            found += sorted(str(file) for file in Path(path).iterdir() if _may_be_a_plan(file))
        else:
            found.append(path)
    found = list(dict.fromkeys(found))
    for path in found:
        _refuse_strange(path)
    if changed_since is None:
        if not found and strictly:
            raise UsageError(f"there is no plan in {', '.join(paths)}")
        return found
    repository = repository_here(os.environ)
    base = repository.parted(changed_since)
    with objects_of(repository) as objects:
        old, new = Commit(objects, base, repository.top), Disk(repository)
        named = [(file, repository.below(file).parts) for file in [*paths, *found]]
        for _, place in named:  # a folder that is another repository is refused
            trail(new, place)
        return [
            file
            for file, place in named[len(paths) :]
            if not os.path.lexists(file) or has_changed(old, new, place)
        ]


def _may_be_a_plan(file: Path) -> bool:
    from runner.spec.project import NAME as PROJECT

    if file.suffix not in SUFFIXES or file.name == PROJECT or file.is_dir():
        return False
    try:
        lines = io.BytesIO(read_plan(file))
    except Refused:  # whoever reads it says why
        return True
    first = next((line for line in lines if line.strip() and line[:1] not in b"#%"), b"")
    return first[:1] not in (b"-", b"[") or first.startswith(b"---")


def _refuse_strange(path: str) -> None:
    if wrong := strange_name(path):
        raise UsageError(f"{path!r} cannot be read: {wrong}", hint="rename the file")


def has_changed(old: Side, new: Side, plan: Names) -> bool:
    """The file itself, or a catalog or data file that it names."""
    return differs(old, new, plan) or any(differs(old, new, path) for path in named_by(new, plan))


def named_by(side: Side, plan: Names) -> list[Names]:
    """The files that a plan file names, as far as it can be read."""
    from runner.spec.files import MAX_YAML
    from runner.spec.strict_yaml import parse

    at = trail(side, plan)
    raw = side.read(at[-1][0], MAX_YAML) if at else None
    if raw is None or at is None:
        return []
    document, _, _ = parse(raw, "/".join(plan))
    folder = at[-1][0][:-1]
    return [(*folder, *names_of(name)) for name in _file_names(document.value)]


def _file_names(value: Json) -> Iterator[str]:
    """Whatever stands under a key that names files, at any depth."""
    if isinstance(value, list):
        for inner in value:
            yield from _file_names(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in _NAMING:
                yield from (one for one in _listed(inner) if isinstance(one, str) and one)
            yield from _file_names(inner)


def _listed(value: Json) -> Sequence[Json]:
    return value if isinstance(value, list) else [value]
