"""The files that a plan was made of: as they were read, changed, or somewhere else by now."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runner.model import ExecutionPlan, Input
from runner.spec.files import MAX_DATA, FileRefused, read_given


def unchanged(inputs: Sequence[Input]) -> bool:
    return not changed_inputs(inputs)


def changed_inputs(inputs: Sequence[Input]) -> list[str]:
    """The files that are not as they were read, or are gone."""
    return [path for path, sha256 in inputs if digest_of(path) != sha256]


def digest_of(path: str) -> str | None:
    try:
        return hashlib.sha256(read_given(path, limit=MAX_DATA)).hexdigest()
    except FileRefused:
        return None


def relocated(plan: ExecutionPlan, places: Sequence[str]) -> ExecutionPlan:
    """The plan with the paths of this machine; as it is, where they are there or found nowhere.

    `places` are plan files and folders of them. The files that a plan was made of lie to each
    other as they did, and have the same contents.
    """
    digests = dict(plan.inputs)
    if plan.path not in digests or digest_of(plan.path) == digests[plan.path]:
        return plan
    for path in _files(places):
        if path.name == Path(plan.path).name and digest_of(str(path)) == digests[plan.path]:
            return _moved(plan, path.resolve())
    return plan


def _files(places: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for place in map(Path, places):
        found += sorted(place.rglob("*")) if place.is_dir() else [place]
    return found


def _moved(plan: ExecutionPlan, path: Path) -> ExecutionPlan:
    was = Path(plan.path).parent

    def moved(name: str) -> str:
        there = Path(name)
        return str(path.parent / there.relative_to(was)) if there.is_relative_to(was) else name

    inputs = tuple(Input(moved(name), sha256) for name, sha256 in plan.inputs)
    return replace(plan, path=str(path), inputs=inputs)
