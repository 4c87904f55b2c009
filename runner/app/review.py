"""Review how plans change between two revisions, or on a branch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from runner.adapters.git import Repository, place_of, repository_here
from runner.adapters.git_files import (
    Disk,
    Names,
    Side,
    differs,
    gone,
    objects_of,
    snapshot,
    trail,
)
from runner.app.build import build
from runner.app.plan_files import SUFFIXES, PlanFile, has_changed, paths_of, places_named, plan_file
from runner.app.policy import project_in
from runner.app.session import Session
from runner.errors import InvalidPlan, PreflightRefused, TargetError, UsageError
from runner.model import ExecutionPlan, Json, Problem, Selectors, frozen
from runner.planning.compare import Difference, Review, compare, review
from runner.spec.files import MAX_YAML, PROJECT
from runner.spec.project import NoEnvironment

_Built = TypeVar("_Built")
_HALF = 0.5  # of a file must be unchanged for it to count as renamed


def review_plans(
    session: Session,
    paths: Sequence[str],
    revisions: str,
    variables: Mapping[str, Json],
    *,
    of_branch: bool = False,
    strict: bool = False,
) -> list[Review]:
    """Review how the plans of files and folders change between two revisions, as ``main..HEAD``.

    `of_branch`: compare with where this branch left the one revision."""
    repository = repository_here(session.environ)
    parted = (repository.parted(revisions), None) if of_branch else None
    commits = parted or _commits(repository, revisions)
    base, _, _ = _parted(revisions)
    return _reviews(session, repository, commits, paths, variables, strict=strict, base=base)


def difference(
    session: Session,
    old: str,
    new: str,
    variables: Mapping[str, Json],
    *,
    strict: bool = False,
    selectors: Selectors | None = None,
) -> tuple[Difference, tuple[str, str]]:
    """Compare what two plans send; return the difference, and the names of the two.

    Each is a plan file or a saved plan; `old` may also be revisions, between which to compare
    `new`. `selectors`: compare only a part, which one of the two may lack.
    """

    from runner.app.saved import load_saved, of_its_own, refuse_options, refuse_selectors

    def built(path: str, *, sure: bool = True) -> ExecutionPlan:
        return build(
            session, path, variables, strict=strict, selectors=selectors, sure=sure
        ).execution_plan

    def loaded(path: str, *, sure: bool = True) -> ExecutionPlan:
        saved = load_saved(path)
        if saved:
            refuse_selectors(selectors)
        return saved.plan if saved else built(path, sure=sure)

    if Path(old).exists():
        if variables or session.collections or strict:
            saved = load_saved(old), load_saved(new)
            if saved[0] and saved[1]:  # no plan file is read, so the options have no effect
                refuse_options(of_its_own(session, saved[1], variables, strict=strict))
        before, after = _both(partial(loaded, old), partial(loaded, new))
        return compare(before, after, selectors=selectors), (old, new)

    def as_it_is(path: str, *, sure: bool = True) -> tuple[ExecutionPlan, str]:
        return built(path, sure=sure), session.where(None, path)

    repository = repository_here(session.environ)
    first, second, _ = _parted(old)
    sides = [
        partial(
            _as_of,
            session,
            repository,
            commit,
            new,
            variables,
            strict=strict,
            named=named,
            selectors=selectors,
        )
        if commit and named
        else partial(as_it_is, new)
        for commit, named in zip(_commits(repository, old), (first, second), strict=True)
    ]
    (before, was), (after, now) = _both(*sides)
    names = f"{first}:{new}", f"{second}:{new}" if second else new
    return compare(before, after, selectors=selectors, targets=(was, now)), names


def _both(old: Callable[..., _Built], new: Callable[..., _Built]) -> tuple[_Built, _Built]:
    """Build both plans. What the selectors name may be in only one: it may be added or removed."""
    before = old(sure=False)
    try:
        return before, new(sure=True)
    except UsageError as error:
        with suppress(UsageError):
            old(sure=True)
            return before, new(sure=False)
        raise error from None


def _parted(revisions: str) -> tuple[str, str | None, bool]:
    """Split revisions as git does: ``main..HEAD``, ``main...HEAD`` (since HEAD left main), or
    ``main``, which is compared with the working tree (None). A missing side is HEAD."""
    first, dots, second = revisions.partition("..")
    if not dots:
        return first, None, False
    return first or "HEAD", second.removeprefix(".") or "HEAD", second.startswith(".")


def _commits(repository: Repository, revisions: str) -> tuple[str, str | None]:
    first, second, of_branch = _parted(revisions)
    if second is None:
        return repository.commit_of(first), None
    before = repository.parted(first, second) if of_branch else repository.commit_of(first)
    return before, repository.commit_of(second)


@contextmanager
def _sides(repository: Repository, before: str, after: str | None) -> Iterator[tuple[Side, Side]]:
    """Yield the files of two commits (None: the working tree), until the block ends."""
    with objects_of(repository) as objects, TemporaryDirectory(prefix="backfill-") as folder:
        root = Path(folder).resolve()
        old = snapshot(objects, before, root / "old")
        yield old, snapshot(objects, after, root / "new") if after else Disk(repository)


def _as_of(
    session: Session,
    repository: Repository,
    commit: str,
    path: str,
    variables: Mapping[str, Json],
    *,
    strict: bool,
    named: str,
    selectors: Selectors | None,
    sure: bool,
) -> tuple[ExecutionPlan, str]:
    """Build the plan as of the commit, and name its target; problems name the revision `named`."""
    place = repository.below(path).parts
    with _sides(repository, commit, None) as (tree, disk):
        trail(disk, place)  # refuse a folder that is another repository
        file = _opened(tree, place)
        if file is None:
            hint = "if it is new, or was renamed: `--changed-since` compares it, too"
            raise UsageError(f"{path} does not exist in {named} ({commit[:12]})", hint=hint)
        _bring_all(tree, place, file)
        try:
            plan = build(session, file, variables, strict=strict, selectors=selectors, sure=sure)
            return plan.execution_plan, session.where(None, file.path)
        except InvalidPlan as error:

            def placed(problem: Problem) -> Problem:
                there = Path(problem.path)
                inside = there.relative_to(tree.root) if there.is_relative_to(tree.root) else there
                return replace(problem, path=f"{named}:{inside}")

            raise InvalidPlan(tuple(map(placed, error.problems))) from None


def _opened(side: Side, plan: Names) -> PlanFile | None:
    """Open a plan in a snapshot; None if there is no regular file."""
    side.bring(plan)
    place = side.root.joinpath(*plan)
    return plan_file(str(place)) if place.is_file() else None


def _bring_all(side: Side, plan: Names, file: PlanFile) -> None:
    """Bring the files that a plan is made of into the snapshot."""
    for path in places_named(side, plan, file):
        side.bring(path)
    for path in _projects(side, plan):
        side.bring(path)


def _reviews(
    session: Session,
    repository: Repository,
    commits: tuple[str, str | None],
    paths: Sequence[str],
    variables: Mapping[str, Json],
    *,
    strict: bool,
    base: str,
) -> list[Review]:
    """Review every plan that differs between the commits, judged by the rules of the first one,
    which is called `base`."""
    named = [(path, repository.below(path).parts) for path in paths]
    for _, place in named:
        trail(Disk(repository), place)  # refuse a folder that is another repository
    with _sides(repository, *commits) as (old, new):
        for path, place in named:
            if not (_is_there(old, place) or _is_there(new, place)):
                raise UsageError(f"{path} does not exist, now or before")
        places = [place for _, place in named]
        there = {plan: _opened(new, plan) for plan in _plans(new, places)}
        files = {plan: file for plan, file in there.items() if file}
        plans = {plan: file for plan, file in files.items() if has_changed(old, new, plan, file)}
        lost = [plan for plan in _plans(old, places) if not _is_there(new, plan)]
        was = _renamed(old, new, [plan for plan in plans if not _is_there(old, plan)])
        compared = _Compared(session, repository.top, old, new, variables, strict, base)
        found = [compared.review(plan, file, was.get(plan, plan)) for plan, file in plans.items()]
        found += [compared.removed(plan) for plan in lost if plan not in was.values()]
        # The project file is of all plans: only those that it changes are listed.
        beside = [plan for plan in files if plan not in plans and _project_differs(old, new, plan)]
        others = [compared.review(plan, files[plan], plan) for plan in beside]
        found += [one for one in others if one and one.fate != "same"]
        return [one for one in found if one]


def _project_differs(old: Side, new: Side, plan: Names) -> bool:
    return any(differs(old, new, path) for path in _projects(new, plan))


def _projects(side: Side, plan: Names) -> list[Names]:
    """Return where the project file of a plan may be."""
    at = trail(side, plan)
    folder = at[-1][0][:-1] if at else ()
    return [(*folder[:end], PROJECT) for end in range(len(folder) + 1)]


def _is_there(side: Side, path: Names) -> bool:
    return side.entry(path) is not None


def _plans(side: Side, places: Sequence[Names]) -> list[Names]:
    """Return what `paths_of` finds there, in its order."""
    found: list[str] = []
    for place in places:
        at = trail(side, place)
        end = at[-1][1] if at else side.entry(place)
        if end and end.kind == "folder" and at:
            for name in side.names(at[-1][0]):
                if name.endswith(SUFFIXES):
                    side.bring((*at[-1][0], name))
            side.bring(place)
            if side.root.joinpath(*place).is_dir():
                found.append(str(side.root.joinpath(*place)))
        elif side.entry(place):
            side.bring(place)
            found.append(str(side.root.joinpath(*place)))
    files = paths_of(found, strictly=False)
    return [Path(file).relative_to(side.root).parts for file in files]


def _renamed(old: Side, new: Side, added: Sequence[Names]) -> dict[Names, Names]:
    """Match new plans with removed files that share at least half of their lines."""
    left = (
        {path: old.read(path, MAX_YAML) or b"" for path in gone(old, new, SUFFIXES)}
        if added
        else {}
    )
    was: dict[Names, Names] = {}
    for plan in added:
        now = new.read(plan, MAX_YAML)
        alike = {path: _alike(raw, now) for path, raw in left.items()} if now else {}
        best = max(alike, key=lambda path: alike[path], default=None)
        if best and alike[best] >= _HALF:
            was[plan] = best
            del left[best]
    return was


def _alike(before: bytes, now: bytes) -> float:
    """Return what share of the larger file is in lines that both have."""
    both = Counter(before.splitlines(keepends=True)) & Counter(now.splitlines(keepends=True))
    shared = sum(len(line) * count for line, count in both.items())
    return shared / max(len(before), len(now), 1)


@frozen
class _Compared:
    """Builds plans as they were and as they are; paths are shown below `top`."""

    session: Session
    top: Path
    old: Side
    new: Side
    variables: Mapping[str, Json]
    strict: bool
    base: str

    def review(self, plan: Names, file: PlanFile, was: Names) -> Review | None:
        """Review a plan; None for a catalog."""
        shown, before, note = self._shown(self.top.joinpath(*plan)), None, None
        earlier = self._shown(self.top.joinpath(*was)) if was != plan else None
        try:
            before = self._built(self.old, was, _opened(self.old, was))
        except InvalidPlan:
            note = "It was not valid before, so the two are not compared."
        except NoEnvironment:
            note = "Its environment was not there before, so the two are not compared."
        try:
            after = self._built(self.new, plan, file)
        except InvalidPlan as error:
            return Review(shown, "invalid", was=earlier, problems=self._placed(error.problems))
        if after is None:
            return None
        after = replace(after, path=shown, warnings=self._placed(after.warnings))
        place = str(self.new.root.joinpath(*plan))
        now = self.session.where(None, place)
        old = self.session.where(None, str(self.old.root.joinpath(*was))) if before else now
        found = review(shown, before, after, was=earlier, note=note, targets=(old, now))
        target = self.session.target(None, place)
        applied = self._applied(after.name, place) if found.fate != "same" else None
        return replace(found, target=target.name, applied=applied)

    def _applied(self, name: str, place: str) -> str | None:
        """Return the run that applied the plan before the change, if any."""
        whole = [run for run in self.session.ledger(name, place, None) if not run.partial]
        return whole[0].run_id if whole and whole[0].done else None

    def removed(self, plan: Names) -> Review | None:
        """Review a removed plan, which no rule judges any more; None for a catalog."""
        shown = self._shown(self.top.joinpath(*plan))
        try:
            before = self._built(self.old, plan, _opened(self.old, plan))
        except InvalidPlan:
            return review(shown, None, None, note="It was not valid.")
        except NoEnvironment:
            return review(shown, None, None, note="Its environment was not there.")
        return review(shown, replace(before, verdicts=()), None) if before else None

    def _built(self, side: Side, plan: Names, file: PlanFile | None) -> ExecutionPlan | None:
        """Build the plan; None for a catalog or a missing file. Raises `InvalidPlan`."""
        if file is None:
            return None
        if file.is_catalog:
            file.load(self.session, {})
            return None
        _bring_all(side, plan, file)
        if self.session.reviewed_since is None:  # else --changed-since names the rules' revision
            folder = str(side.root.joinpath(*plan).resolve().parent)
            then = self.session.projects_then
            then.setdefault(folder, project_in(self.old, plan[:-1], self.base))
        try:
            return build(self.session, file, self.variables, strict=self.strict).execution_plan
        except (PreflightRefused, TargetError) as error:  # of its database, which has no place
            error.args = (f"{self._shown(self.top.joinpath(*plan))}: {error}",)
            raise

    def _placed(self, problems: Sequence[Problem]) -> tuple[Problem, ...]:
        return tuple(replace(one, path=self._shown(place_of(one.path))) for one in problems)

    def _shown(self, file: Path) -> str:
        """Return the path as the user would write it here."""
        root = self.new.root
        place = self.top / file.relative_to(root) if file.is_relative_to(root) else file
        here = Path.cwd().resolve()
        return str(place.relative_to(here)) if place.is_relative_to(here) else str(place)
