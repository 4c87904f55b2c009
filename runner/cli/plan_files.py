"""Which plan files a command is about: files, folders, and of these the ones that have changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.adapters.git import Changes

_SUFFIXES = (".yaml", ".yml")

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
    from runner.adapters.git import changes, parted, top_of

    top = top_of(paths[0])
    return changed_plans(found, changes(top, parted(top, changed_since), None, top))


def _may_be_a_plan(file: Path) -> bool:
    from runner.spec.project import NAME as PROJECT

    if file.suffix not in _SUFFIXES or file.name == PROJECT or file.is_dir():
        return False
    try:
        with file.open("rb") as lines:
            first = next((line for line in lines if line.strip() and line[:1] not in b"#%"), b"")
    except OSError:  # whoever reads it says why
        return True
    return first[:1] not in (b"-", b"[") or first.startswith(b"---")


def _refuse_strange(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the name of {path!r} is no UTF-8", hint="rename the file") from None


def changed_plans(files: Sequence[str], changes: Changes) -> list[str]:
    return [file for file in files if _has_changed(file, changes)]


def _has_changed(file: str, changes: Changes) -> bool:
    """The file itself, or the catalogs and data files that it names, as far as they are read."""
    from runner.errors import InvalidPlan
    from runner.spec.load import check_catalog, load_plan

    if _is_among(file, changes.files):
        return True
    try:
        if check_catalog(file) is not None:
            return False
        return any(_is_among(path, changes.files) for path, _ in load_plan(file).inputs)
    except InvalidPlan as error:
        # A file that is gone is among those that it names, as far as anybody can tell.
        named = (_is_among(problem.path, changes.files) for problem in error.problems)
        return bool(changes.gone) or any(named)


def _is_among(path: str, files: Collection[Path]) -> bool:
    """The file, what it links to, or the submodule that it is in."""
    from runner.adapters.git import place_of

    places = (place_of(path), Path(path).resolve())
    return any(one in files for place in places for one in (place, *place.parents))


def lies_in(file: Path, paths: Sequence[Path]) -> bool:
    """Would `plan_files` find the file, if it were there?"""
    from runner.adapters.git import place_of

    named = [place_of(path) for path in paths]
    return file in named or (file.suffix in _SUFFIXES and file.parent in named)
