"""Which plan files a command is about: files, folders, and of these the ones that have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

changed_option: Callable[[Any], Any] = click.option(
    "--changed-since",
    metavar="REV",
    help="Only plans that were changed since this git revision, in a file that they are made of.",
)


def plan_files(paths: Sequence[str], changed_since: str | None = None) -> list[str]:
    """Of a folder its .yaml and .yml files, by name; not those of folders in it."""
    found: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            files = (file for file in Path(path).iterdir() if file.suffix in (".yaml", ".yml"))
            found += sorted(map(str, files))
        else:
            found.append(path)
    found = list(dict.fromkeys(found))
    return found if changed_since is None else _changed(found, changed_since)


def _changed(files: Sequence[str], revision: str) -> list[str]:
    from runner.adapters.git import changed_since

    changed = changed_since(revision, Path(files[0]).resolve().parent) if files else set()
    return [file for file in files if changed & _made_of(file)]


def _made_of(file: str) -> set[Path]:
    """The file itself, and the catalogs and data files that it names, as far as they are read."""
    from runner.errors import InvalidPlan
    from runner.spec.load import check_catalog, load_plan

    own = {Path(file).resolve()}
    try:
        if check_catalog(file) is not None:
            return own
        return own | {Path(read).resolve() for read, _ in load_plan(file).inputs}
    except InvalidPlan as error:
        return own | {Path(problem.path).resolve() for problem in error.problems}
