"""What becomes of the plans of a folder between two revisions, or on a branch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from runner.adapters.git import below, changes, checked_out, commit_of, parted, place_of, top_of
from runner.cli.common import build
from runner.cli.plan_files import changed_plans, lies_in, plan_files
from runner.errors import InvalidPlan, UsageError
from runner.model import ExecutionPlan, Json, Problem
from runner.planning.review import Review, review


def commits(top: Path, revisions: str) -> tuple[str, str | None]:
    """As git reads them: ``main..HEAD``, ``main...HEAD`` (since HEAD has left main), or ``main``
    and the files as they are, which is None."""
    first, dots, second = revisions.partition("..")
    if not dots:
        return commit_of(top, first), None
    branch = second.removeprefix(".") or "HEAD"
    since = parted if second.startswith(".") else (lambda top, first, _: commit_of(top, first))
    return since(top, first or "HEAD", branch), commit_of(top, branch)


def reviews(
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
    top = top_of(paths[0])
    new_tree = checked_out(after, top) if after else nullcontext(top)
    with checked_out(before, top) as old, new_tree as new:
        sides = _Sides(top, old, new, overrides, strict)
        found = changes(top, before, after, new)
        named = [new / below(top, path) for path in paths]
        for path, place in zip(paths, named, strict=True):
            if not (os.path.lexists(place) or os.path.lexists(old / place.relative_to(new))):
                raise UsageError(f"there is no {path}, now or before")
        there = [str(place) for place in named if os.path.lexists(place)]
        plans = [Path(file) for file in changed_plans(plan_files(there, strictly=False), found)]
        told = [sides.review(file, found.was.get(file, file)) for file in plans]
        renamed = {found.was[file] for file in plans if file in found.was}
        gone = (file for file in sorted(found.gone - renamed) if lies_in(file, named))
        told += [sides.removed(file) for file in gone]
        return [one for one in told if one]


@dataclass(frozen=True, slots=True)
class _Sides:
    """Builds plans as they were and as they are. Files are below `new`, and shown below `top`."""

    top: Path
    old: Path
    new: Path
    overrides: dict[str, Json]
    strict: bool

    def review(self, file: Path, was: Path) -> Review | None:
        """None for a catalog."""
        shown, before, note = self._shown(file), None, None
        earlier = self._shown(was) if was != file else None
        try:
            before = self._built(self._earlier(was))
        except InvalidPlan:
            note = "It was not valid before, so the two are not compared."
        try:
            after = self._built(file)
        except InvalidPlan as error:
            return Review(shown, "invalid", was=earlier, problems=self._placed(error.problems))
        if after is None:
            return None
        after = replace(after, path=shown, warnings=self._placed(after.warnings))
        return review(shown, before, after, was=earlier, note=note)

    def removed(self, file: Path) -> Review | None:
        try:
            before = self._built(self._earlier(file))
        except InvalidPlan:
            return None
        return review(self._shown(file), before, None) if before else None

    def _earlier(self, file: Path) -> Path:
        return self.old / file.relative_to(self.new)

    def _built(self, file: Path) -> ExecutionPlan | None:
        """None for a catalog, and where there is no file. Raises `InvalidPlan`."""
        from runner.spec.load import check_catalog

        if not file.is_file():
            return None
        if (problems := check_catalog(str(file))) is not None:
            if any(problem.severity == "error" for problem in problems):
                raise InvalidPlan(problems)
            return None
        return build(str(file), self.overrides, strict=self.strict).execution_plan

    def _placed(self, problems: Sequence[Problem]) -> tuple[Problem, ...]:
        return tuple(replace(one, path=self._shown(place_of(one.path))) for one in problems)

    def _shown(self, file: Path) -> str:
        """As it would be written here."""
        place = self.top / file.relative_to(self.new) if file.is_relative_to(self.new) else file
        here = Path.cwd().resolve()
        return str(place.relative_to(here)) if place.is_relative_to(here) else str(place)
