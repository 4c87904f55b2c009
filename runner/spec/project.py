"""The project file, `backfill.yaml`: what the plans beside and below it share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import InvalidPlan
from runner.model import Problem
from runner.spec.document import ranked
from runner.spec.files import FileRefused, read_plan, repository_of
from runner.spec.schema import check
from runner.spec.strict_yaml import parse

NAME = "backfill.yaml"


@dataclass(frozen=True, slots=True)
class Migrations:
    """Where the versions of the migrations that were applied stand."""

    table: str = "supabase_migrations.schema_migrations"
    column: str = "version"


@dataclass(frozen=True, slots=True)
class Project:
    """`databases`: by name, the environment variables that hold their URLs."""

    databases: Mapping[str, str] = field(default_factory=dict)
    migrations: Migrations = field(default_factory=Migrations)


def read_project(plan: str) -> Project:
    """The nearest project file at or above the plan's folder; without one, the defaults.

    Nothing above a repository belongs to it. Raises `InvalidPlan`.
    """
    folder = Path(plan).resolve().parent
    top = repository_of(folder)
    for place in (folder, *folder.parents):
        path = place / NAME
        if path.exists() or path.is_symlink():
            return _read(path)
        if place == top:
            break
    return Project()


def _read(path: Path) -> Project:
    try:
        raw = read_plan(path)
    except FileRefused as error:
        problem = Problem(f"{NAME} cannot be read: {error}", str(path), hint=error.hint)
        raise InvalidPlan((problem,)) from None
    document, problems, _ = parse(raw, str(path))
    if not problems:
        problems, _ = check(document, "project.v1")
    if problems:
        raise InvalidPlan(ranked(problems))
    written = document.value
    return Project(written.get("databases", {}), Migrations(**written.get("migrations", {})))
