"""Find the plan files that a command is about: files, folders, and the changed ones among them.

Each file is read and parsed once. A plan's input files may have changed or moved by the time its
run is resumed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import InvalidPlan, UsageError
from runner.model import BackfillPlan, ExecutionPlan, Input, Json, Problem, frozen
from runner.spec.files import (
    ENDINGS,
    PROJECT,
    FileRefused,
    digest_of,
    read_plan,
    strange_name,
)

if TYPE_CHECKING:
    from runner.adapters.git_files import Names, Side
    from runner.app.session import Session
    from runner.spec.reading import Opened

SUFFIXES = (".yaml", ".yml")
_NAMING = ("catalog", "file")  # the keys of a plan whose values are file names


@frozen
class PlanFile:
    """A plan file or a catalog, read and parsed."""

    path: str
    opened: Opened

    @property
    def is_catalog(self) -> bool:
        return self.opened.is_catalog

    @property
    def names(self) -> list[str]:
        """The files that the plan names, as far as it could be parsed."""
        return [] if self.is_catalog else list(_file_names(self.opened.document.value))

    def problems(self) -> tuple[Problem, ...]:
        """Return the problems of a catalog."""
        from runner.spec.load import check_catalog

        return check_catalog(self.opened)

    def load(
        self, session: Session, variables: Mapping[str, Json], *, strict: bool = False
    ) -> BackfillPlan | None:
        """Load the plan and the files it names; None for a catalog. Raises `InvalidPlan`."""
        if not self.is_catalog:
            return load(session, self, variables, strict=strict)
        found = self.problems()
        if any(problem.severity == "error" for problem in found):
            raise InvalidPlan(found)
        return None


def load(
    session: Session,
    source: str | PlanFile,
    variables: Mapping[str, Json],
    *,
    strict: bool = False,
    environment: str | None = None,
) -> BackfillPlan:
    """Load a plan with these variables and those of its environment; see `Session.environment`.

    Raises `InvalidPlan` and `UsageError`."""
    from runner.spec.load import load_plan

    path, opened = (source, source) if isinstance(source, str) else (source.path, source.opened)
    found = session.environment(path, environment)
    shared = found.variables if found else {}
    replaced = session.collections
    return load_plan(opened, overrides=variables, shared=shared, replaced=replaced, strict=strict)


def plan_file(path: str, raw: bytes | None = None) -> PlanFile:
    """Read a plan file; `raw`: its bytes, if read already. Raises `UsageError` if unreadable."""
    from runner.spec.reading import open_plan

    return PlanFile(path, open_plan(path, raw))


def beside_plans(paths: Sequence[str]) -> list[str]:
    """Return the tests and project files among `paths`, and in those that are folders."""
    found: list[str] = []
    for path in paths:
        folder = Path(path)
        inside = sorted(map(str, folder.iterdir())) if folder.is_dir() else [path]
        found += [file for file in inside if is_test(file) or is_project(file)]
    return found


def is_test(file: str) -> bool:
    return file.endswith(ENDINGS)


def is_project(file: str) -> bool:
    return Path(file).name == PROJECT


def plan_files(
    session: Session,
    paths: Sequence[str],
    changed_since: str | None = None,
    *,
    strictly: bool = True,
) -> list[PlanFile]:
    """Read the plan files and catalogs of `paths`; see `paths_of`.

    `changed_since`: only those that have changed, or that name a file that has, since the branch
    left that git revision. Raises `UsageError`.
    """
    found = _found(paths, strictly=strictly and changed_since is None)
    if changed_since is None:
        return [plan_file(path, raw) for path, raw in found.items()]
    from runner.adapters.git import repository_here
    from runner.adapters.git_files import Commit, Disk, objects_of, trail

    repository = repository_here(session.environ)
    base = repository.parted(changed_since)
    with objects_of(repository) as objects:
        old, new = Commit(objects, base, repository.top), Disk(repository)
        for path in paths:  # refuse a folder that is another repository
            trail(new, repository.below(path).parts)
        files = [plan_file(path, raw) for path, raw in found.items()]
        return [
            file for file in files if has_changed(old, new, repository.below(file.path).parts, file)
        ]


def paths_of(paths: Sequence[str], *, strictly: bool = True) -> list[str]:
    """Return the files among `paths`, and the .yaml and .yml files directly in its folders, sorted.

    Skips lists (which are data), tests and the project file. Raises `UsageError` if there is none
    and `strictly`."""
    return list(_found(paths, strictly=strictly))


def _found(paths: Sequence[str], *, strictly: bool) -> dict[str, bytes | None]:
    """Return the paths, with the bytes that were read of them in a folder; each file once, however
    its path is written."""
    places: dict[str, tuple[str, bytes | None]] = {}
    for path, raw in _each(paths):
        places.setdefault(one_spelling(path), (path, raw))
    found = dict(places.values())
    for path in found:
        if wrong := strange_name(path):
            raise UsageError(f"{path!r} cannot be read: {wrong}", hint="rename the file")
    if not found and strictly:
        raise UsageError(f"there is no plan in {', '.join(paths)}")
    return found


def one_spelling(path: str) -> str:
    """Return the same for each way to write a path; links are not followed."""
    return os.path.abspath(path)  # noqa: PTH100


def _each(paths: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
    for path in paths:
        if not Path(path).is_dir():
            if not (is_test(path) or is_project(path)):  # the shell's `plans/*.yaml` has them too
                yield path, None
            continue
        for file in sorted(map(str, Path(path).iterdir())):
            may_be, raw = _may_be_a_plan(Path(file))
            if may_be:
                yield file, raw


def has_changed(old: Side, new: Side, place: Names, file: PlanFile) -> bool:
    """Tell whether the file, or a catalog or data file that it names, has changed."""
    from runner.adapters.git_files import differs

    named = places_named(new, place, file)
    return differs(old, new, place) or any(differs(old, new, path) for path in named)


def places_named(side: Side, place: Names, file: PlanFile) -> list[Names]:
    """Locate the files that the plan names: relative to its target, if it is a symbolic link."""
    from runner.adapters.git_files import names_of, trail

    at = trail(side, place)
    folder = at[-1][0][:-1] if at else ()
    return [(*folder, *names_of(name)) for name in file.names]


def wrong_together(files: Sequence[PlanFile], paths: Sequence[str]) -> Iterator[Problem]:
    """Find problems between the plans in the folders of `paths`, which `apply` runs together: names
    used twice (runs, locks and the ledger go by name), and cycles of dependencies."""
    from runner.planning.ledger import after_their_needs, in_a_circle

    seen: dict[str, str] = {}
    needs, first = dict[str, list[str]](), dict[str, PlanFile]()
    folders = {Path(path) for path in paths}
    for file in (file for file in files if Path(file.path).parent in folders):
        document = file.opened.document
        written = document.value.get("metadata") if isinstance(document.value, dict) else None
        metadata = written if isinstance(written, dict) else {}
        name = metadata.get("name")
        if file.is_catalog or not isinstance(name, str):
            continue
        if name in seen:
            message = f"the name `{name}` is already used by {seen[name]}"
            hint = "choose another: runs, locks and the ledger go by the name"
            yield document.problem(message, ("metadata", "name"), hint=hint)
        seen.setdefault(name, file.path)
        first.setdefault(name, file)
        depends_on = metadata.get("depends_on")
        names = depends_on if isinstance(depends_on, list) else ()
        needs.setdefault(name, [one for one in names if isinstance(one, str)])
    if cycle := after_their_needs(needs)[1]:
        hint = (
            "`apply` first runs the plans that a plan depends on: remove one of these dependencies"
        )
        place = ("metadata", "depends_on")
        document = first[cycle[0]].opened.document
        yield document.problem(in_a_circle(cycle), place, hint=hint)


def load_plans(
    session: Session,
    files: Sequence[PlanFile],
    variables: Mapping[str, Json],
    *,
    strict: bool = False,
) -> list[BackfillPlan]:
    """Load the files that are not catalogs. Raises `InvalidPlan` with the problems of all."""
    plans: list[BackfillPlan] = []
    problems: list[Problem] = []
    for file in files:
        try:
            plan = file.load(session, variables, strict=strict)
        except InvalidPlan as error:
            problems += error.problems
        else:
            plans += [plan] if plan else []
    if problems:
        raise InvalidPlan(tuple(dict.fromkeys(problems)))
    return plans


def plans_in(session: Session, paths: Sequence[str]) -> list[BackfillPlan]:
    """Load the plans of `paths`; there may be none. Raises `InvalidPlan` with all problems."""
    files = [plan_file(*one) for one in _found(paths, strictly=False).items()]
    return load_plans(session, files, {})


def plans_to_apply(
    session: Session,
    paths: Sequence[str],
    variables: Mapping[str, Json],
    changed_since: str | None = None,
    *,
    strict: bool = False,
) -> list[BackfillPlan]:
    """Load the plans in the order to apply them, without scheduled ones, which workers start.

    Raises `InvalidPlan` with the problems of all of them.
    """
    from runner.planning.ledger import in_order

    files = plan_files(session, paths, changed_since)
    plans = load_plans(session, files, variables, strict=strict)
    if wrong := tuple(wrong_together(files, [str(Path(file.path).parent) for file in files])):
        raise InvalidPlan(wrong)
    if not plans and changed_since is None:  # nothing but catalogs
        raise UsageError(f"there is no plan in {', '.join(paths)}")
    for plan in (plan for plan in plans if plan.schedule):
        session.reporter.note(f"{plan.path} has a schedule: `backfill serve` starts it")
    return [plan for plan in in_order(plans) if plan.schedule is None]


def _may_be_a_plan(file: Path) -> tuple[bool, bytes | None]:
    """Tell whether the file may be a plan; also return its bytes if they were read for that."""
    if file.suffix not in SUFFIXES or is_project(str(file)) or is_test(str(file)):
        return False, None
    if file.is_dir():
        return False, None
    try:
        raw = read_plan(file)
    except FileRefused:  # its reader reports why
        return True, None
    lines = io.BytesIO(raw)
    first = next((line for line in lines if line.strip() and line[:1] not in b"#%"), b"")
    return first[:1] not in (b"-", b"[") or first.startswith(b"---"), raw


def _file_names(value: Json) -> Iterator[str]:
    """Yield the values of keys that name files, at any depth."""
    if isinstance(value, list):
        for inner in value:
            yield from _file_names(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in _NAMING:
                named = inner if isinstance(inner, list) else [inner]
                yield from (one for one in named if isinstance(one, str) and one)
            yield from _file_names(inner)


def unchanged(inputs: Sequence[Input]) -> bool:
    return not changes_of(inputs)


def changes_of(inputs: Sequence[Input]) -> list[str]:
    """Say of each file that has changed since it was read, or is gone, that it is so."""
    changed = [Path(path) for path, sha256 in inputs if not _is(path, sha256)]
    return [f"{path} {'has changed' if path.exists() else 'no longer exists'}" for path in changed]


def _is(path: str, sha256: str) -> bool:
    """Tell whether the file has this digest."""
    try:
        return digest_of(path) == sha256
    except FileRefused:
        return False


def relocated(plan: ExecutionPlan, places: Sequence[str]) -> ExecutionPlan:
    """Return the plan with the paths of this machine; unchanged if its file is in place or is found
    nowhere.

    `places`: plan files and folders to search. The inputs must have the same contents and lie
    relative to the plan as before.
    """
    digests = dict(plan.inputs)
    if plan.path not in digests or _is(plan.path, digests[plan.path]):
        return plan
    for path in _files(places):
        if path.name == Path(plan.path).name and _is(str(path), digests[plan.path]):
            return moved_to(plan, path)
    return plan


def found_here(plan: ExecutionPlan) -> ExecutionPlan:
    """Return the plan with the paths of the checkout in the working directory, if its file is not
    where it was: the run was begun on another machine, or in another folder."""
    if Path(plan.path).exists():
        return plan
    parts = Path(plan.path).parts[1:]
    return relocated(plan, [str(Path(*parts[at:])) for at in range(len(parts))])


def _files(places: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for place in map(Path, places):
        found += sorted(place.rglob("*")) if place.is_dir() else [place]
    return found


def moved_to(plan: ExecutionPlan, file: str | Path) -> ExecutionPlan:
    """Return the plan with this file as its own, and its other inputs beside it as before."""
    path, was = Path(file).resolve(), Path(plan.path).parent

    def moved(name: str) -> str:
        if name == plan.path:
            return str(path)
        there = Path(os.path.normpath(path.parent / os.path.relpath(name, was)))
        return str(there) if there.exists() or Path(name).is_relative_to(was) else name

    inputs = tuple(Input(moved(name), sha256) for name, sha256 in plan.inputs)
    return replace(plan, path=str(path), inputs=inputs)
