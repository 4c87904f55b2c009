"""Which plan files a command is about: files, folders, and of these the ones that have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.spec.project import NAME as PROJECT

if TYPE_CHECKING:
    from runner.adapters.git import Changes

_SUFFIXES = (".yaml", ".yml")

changed_option: Callable[[Any], Any] = click.option(
    "--changed-since",
    metavar="REV",
    help="Only plans that have changed, in a file that they are made of, since this branch has "
    "left the git revision.",
)


def plan_files(paths: Sequence[str], changed_since: str | None = None) -> list[str]:
    """Of a folder its .yaml and .yml files, by name; not those of folders in it, nor lists (which
    are data) and the project file."""
    found: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            found += sorted(str(file) for file in Path(path).iterdir() if _may_be_a_plan(file))
        else:
            found.append(path)
    found = list(dict.fromkeys(found))
    if changed_since is None or not found:
        return found
    from runner.adapters.git import changes, parted, top_of

    top = top_of(Path(found[0]).resolve())
    return changed_plans(found, changes(top, parted(top, changed_since), None, top))


def _may_be_a_plan(file: Path) -> bool:
    if file.suffix not in _SUFFIXES or file.name == PROJECT or not file.is_file():
        return False
    with file.open("rb") as lines:
        first = next((line for line in lines if line.strip() and line[:1] not in b"#%"), b"")
    return first[:1] not in (b"-", b"[") or first.startswith(b"---")


def changed_plans(files: Sequence[str], changes: Changes) -> list[str]:
    return [file for file in files if _has_changed(file, changes)]


def _has_changed(file: str, changes: Changes) -> bool:
    """The file itself, or the catalogs and data files that it names, as far as they are read."""
    from runner.errors import InvalidPlan
    from runner.spec.load import check_catalog, load_plan

    if Path(file).resolve() in changes.files:
        return True
    try:
        if check_catalog(file) is not None:
            return False
        read = {Path(path).resolve() for path, _ in load_plan(file).inputs}
    except InvalidPlan as error:
        # A file that is gone is among those that it names, as far as anybody can tell.
        read = {Path(problem.path).resolve() for problem in error.problems} | changes.gone
        return bool(read & (changes.files | changes.gone))
    return bool(read & changes.files)


def lies_in(file: Path, paths: Sequence[str]) -> bool:
    """Would `plan_files` find the file, if it were there?"""
    named = [Path(path).resolve() for path in paths]
    return file in named or (file.suffix in _SUFFIXES and file.parent in named)
