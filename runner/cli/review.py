"""What becomes of the plans of a folder between two revisions, or on a branch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from runner.adapters.git import Repository, place_of
from runner.adapters.git_files import Commit, Disk, Names, Side, gone, objects_of, trail
from runner.app.prepare import build
from runner.app.session import Session
from runner.cli.plan_files import SUFFIXES, has_changed, named_by, plan_files
from runner.errors import InvalidPlan, UsageError
from runner.model import ExecutionPlan, Json, Problem
from runner.planning.review import Review, review
from runner.spec.files import MAX_YAML
from runner.spec.project import NAME as PROJECT

_HALF = 0.5  # of a file that must be the same for it to be a renamed one


def commits(repository: Repository, revisions: str) -> tuple[str, str | None]:
    """As git reads them: ``main..HEAD``, ``main...HEAD`` (since HEAD has left main), or ``main``
    and the files as they are, which is None."""
    first, dots, second = revisions.partition("..")
    if not dots:
        return repository.commit_of(first), None
    branch = second.removeprefix(".") or "HEAD"
    if second.startswith("."):
        return repository.parted(first or "HEAD", branch), repository.commit_of(branch)
    return repository.commit_of(first or "HEAD"), repository.commit_of(branch)


@contextmanager
def sides(repository: Repository, before: str, after: str | None) -> Iterator[tuple[Side, Side]]:
    """The files of one commit and those of the other (None: as they are), until the block ends."""
    with objects_of(repository) as objects, TemporaryDirectory(prefix="backfill-") as folder:
        root = Path(folder).resolve()
        for side in ("old", "new"):  # each is one repository: see `spec.files`
            (root / side / ".git").mkdir(parents=True)
        old = Commit(objects, before, root / "old")
        yield old, Commit(objects, after, root / "new") if after else Disk(repository)


def bring(side: Side, plan: Names) -> Path:
    """See to it that a plan file and all that it is made of can be read; where it is."""
    side.bring(plan)
    at = trail(side, plan)
    folder = at[-1][0][:-1] if at else ()
    for path in named_by(side, plan):
        side.bring(path)
    for end in range(len(folder) + 1):
        side.bring((*folder[:end], PROJECT))
    return side.root.joinpath(*plan)


def reviews(
    session: Session,
    repository: Repository,
    before: str,
    after: str | None,
    paths: Sequence[str],
    overrides: dict[str, Json],
    *,
    strict: bool,
) -> list[Review]:
    """Every plan of the files and folders that is another from one commit to the other.

    `after`: None for the files as they are.
    """
    named = [(path, repository.below(path).parts) for path in paths]
    for _, place in named:
        trail(Disk(repository), place)  # a folder that is another repository is refused
    with sides(repository, before, after) as (old, new):
        for path, place in named:
            if not (_is_there(old, place) or _is_there(new, place)):
                raise UsageError(f"there is no {path}, now or before")
        places = [place for _, place in named]
        plans = [plan for plan in _plans(new, places) if has_changed(old, new, plan)]
        gone_here = [plan for plan in _plans(old, places) if not _is_there(new, plan)]
        was = _renamed(old, new, [plan for plan in plans if not _is_there(old, plan)])
        compared = _Sides(session, repository.top, old, new, overrides, strict)
        told = [compared.review(plan, was.get(plan, plan)) for plan in plans]
        told += [compared.removed(plan) for plan in gone_here if plan not in was.values()]
        return [one for one in told if one]


def _is_there(side: Side, path: Names) -> bool:
    return side.entry(path) is not None


def _plans(side: Side, places: Sequence[Names]) -> list[Names]:
    """What `plan_files` finds there, in its order."""
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
    files = plan_files(found, strictly=False)
    return [Path(file).relative_to(side.root).parts for file in files]


def _renamed(old: Side, new: Side, added: Sequence[Names]) -> dict[Names, Names]:
    """Where new plans stood before: at what is gone, and is the same or half of it at least."""
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
    """How much of the larger one is in lines that both have."""
    both = Counter(before.splitlines(keepends=True)) & Counter(now.splitlines(keepends=True))
    shared = sum(len(line) * count for line, count in both.items())
    return shared / max(len(before), len(now), 1)


@dataclass(frozen=True, slots=True)
class _Sides:
    """Builds plans as they were and as they are, which are shown below `top`."""

    session: Session
    top: Path
    old: Side
    new: Side
    overrides: dict[str, Json]
    strict: bool

    def review(self, plan: Names, was: Names) -> Review | None:
        """None for a catalog."""
        shown, before, note = self._shown(self.top.joinpath(*plan)), None, None
        earlier = self._shown(self.top.joinpath(*was)) if was != plan else None
        try:
            before = self._built(bring(self.old, was))
        except InvalidPlan:
            note = "It was not valid before, so the two are not compared."
        try:
            after = self._built(bring(self.new, plan))
        except InvalidPlan as error:
            return Review(shown, "invalid", was=earlier, problems=self._placed(error.problems))
        if after is None:
            return None
        after = replace(after, path=shown, warnings=self._placed(after.warnings))
        return review(shown, before, after, was=earlier, note=note)

    def removed(self, plan: Names) -> Review | None:
        try:
            before = self._built(bring(self.old, plan))
        except InvalidPlan:
            return None
        shown = self._shown(self.top.joinpath(*plan))
        return review(shown, before, None) if before else None

    def _built(self, file: Path) -> ExecutionPlan | None:
        """None for a catalog, and where there is no file. Raises `InvalidPlan`."""
        from runner.spec.load import check_catalog

        if not file.is_file():
            return None
        if (problems := check_catalog(str(file))) is not None:
            if any(problem.severity == "error" for problem in problems):
                raise InvalidPlan(problems)
            return None
        return build(self.session, str(file), self.overrides, strict=self.strict).execution_plan

    def _placed(self, problems: Sequence[Problem]) -> tuple[Problem, ...]:
        return tuple(replace(one, path=self._shown(place_of(one.path))) for one in problems)

    def _shown(self, file: Path) -> str:
        """As it would be written here."""
        root = self.new.root
        place = self.top / file.relative_to(root) if file.is_relative_to(root) else file
        here = Path.cwd().resolve()
        return str(place.relative_to(here)) if place.is_relative_to(here) else str(place)
