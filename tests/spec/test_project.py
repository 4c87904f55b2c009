"""The project file: found beside or above the plan, strict, and never with a URL in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import InvalidPlan
from runner.spec.files import find_project
from runner.spec.project import Migrations, Project, project_of

HEAD = "apiVersion: backfill/v1\nkind: BackfillProject\n"


def read(plan: str) -> Project:
    path = find_project(plan)
    assert path
    return project_of(path)


def test_the_nearest_file_at_or_above_the_plan_counts(tmp_path: Path) -> None:
    folder = tmp_path / "plans" / "deep"
    folder.mkdir(parents=True)
    plan = str(folder / "plan.yaml")
    assert find_project(plan) is None
    (tmp_path / "backfill.yaml").write_text(HEAD + "databases: {a: A_URL}\n", encoding="utf-8")
    assert read(plan).databases == {"a": "A_URL"}
    text = HEAD + "migrations: {table: alembic_version, column: version_num}\n"
    (folder / "backfill.yaml").write_text(text, encoding="utf-8")
    nearest = Project(
        str(folder / "backfill.yaml"), {}, Migrations("alembic_version", "version_num")
    )
    assert read(plan) == nearest


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (HEAD + "database: {a: A_URL}\n", (3, 1), "unknown key `database`"),
        (HEAD + "databases: {a: my-database}\n", (3, 16), "environment variable"),
        (HEAD + "databases: {a: 'h://u:p@h/db'}\n", (3, 21), "looks like a key or token"),
        ("kind: BackfillProject\n", (1, 1), "`apiVersion` is missing"),
        (HEAD + "policy: [{name: a}]\n", (3, 10), "of `policy` needs `require` or `requires`"),
        (
            HEAD + "policy: [{name: a, require: 'true', requires: {environment: b}}]\n",
            (3, 10),
            "`require` and `requires` exclude each other",
        ),
        (HEAD + "policy: [3]\n", (3, 10), "an entry of `policy` is the number `3`"),
        (HEAD + "databases: [\n", (4, 1), ""),
        (
            HEAD + "notify: [{kind: slack, url: U, on: [ended], held_after: 1m}]\n",
            (3, 45),
            "`held_after` changes nothing",
        ),
    ],
)
def test_what_is_wrong_with_it_is_said_at_its_place(
    tmp_path: Path, text: str, place: tuple[int, int], words: str
) -> None:
    (tmp_path / "backfill.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidPlan) as invalid:
        read(str(tmp_path / "plan.yaml"))
    problem = invalid.value.problems[0]
    assert (problem.line, problem.column) == place
    assert words in problem.message
    assert "u:p@h" not in problem.message + str(problem.hint)
