"""The project file, `backfill.yaml`: what the plans beside and below it share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import InvalidPlan
from runner.spec.document import ranked
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

    Raises `InvalidPlan`.
    """
    folder = Path(plan).resolve().parent
    for place in (folder, *folder.parents):
        path = place / NAME
        if path.is_file():
            return _read(path)
    return Project()


def _read(path: Path) -> Project:
    document, problems, _ = parse(path.read_bytes(), str(path))
    if not problems:
        problems, _ = check(document, "project.v1")
    if problems:
        raise InvalidPlan(ranked(problems))
    written = document.value
    return Project(written.get("databases", {}), Migrations(**written.get("migrations", {})))
