"""Find problems in plan files and the files beside them, without asking or sending anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.app.plan_files import (
    PlanFile,
    beside_plans,
    is_project,
    plan_files,
    wrong_together,
)
from runner.app.session import Session
from runner.errors import InvalidPlan
from runner.model import Json, Problem


def validate(
    session: Session,
    paths: Sequence[str],
    variables: Mapping[str, Json],
    changed_since: str | None = None,
    *,
    strict: bool = False,
) -> tuple[list[str], list[Problem]]:
    """Return the plan files and catalogs of `paths` (see `plan_files`), or else the tests and
    project files; and the problems of all.

    Raises `UsageError` if one cannot be read.
    """
    beside = beside_plans(paths)
    strictly = not set(beside).intersection(paths)  # one is named
    files = plan_files(session, paths, changed_since, strictly=strictly)
    problems = [*_of_those_beside(beside), *wrong_together(files, paths)]
    for file in files:
        try:
            problems += _problems(session, file, variables, strict=strict)
        except InvalidPlan as error:
            problems += error.problems
    # Report the problems of a shared catalog once.
    checked = [file.path for file in files] or ([] if changed_since else beside)
    return checked, list(dict.fromkeys(problems))


def _of_those_beside(paths: Sequence[str]) -> list[Problem]:
    from runner.app.plan_tests import read_test
    from runner.spec.project import project_of

    problems: list[Problem] = []
    for path in paths:
        try:
            if is_project(path):
                project_of(path)
            else:
                read_test(path)
        except InvalidPlan as error:
            problems += error.problems
    return problems


def _problems(
    session: Session, file: PlanFile, variables: Mapping[str, Json], *, strict: bool
) -> Sequence[Problem]:
    """Return the problems of one file. No database is asked: events that depend on one are not
    checked unless there are facts."""
    from runner.app.build import build
    from runner.planning.facts import asks

    loaded = file.load(session, variables, strict=strict)
    if loaded is None:
        return file.problems()
    if asks(loaded) and not session.facts:
        message = "its events depend on the database, which `validate` does not ask"
        hint = (
            "check every event with `backfill plan`, which asks the database, or with "
            "`validate --facts FILE`"
        )
        session.reporter.note(f"{file.path}: {message}: {hint}")
        return loaded.warnings
    plan = build(session, loaded, variables, strict=strict).execution_plan
    return [*plan.warnings, *(verdict.problem for verdict in plan.broken)]
