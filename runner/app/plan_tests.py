"""Test plans: plan each case from the rows that it gives, and compare. No database is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from runner.adapters.files import write_file
from runner.app.plan_files import is_test, load, one_spelling
from runner.app.session import Session
from runner.app.variables import facts_of
from runner.errors import InvalidPlan, UsageError
from runner.model import (
    Data,
    Problem,
)
from runner.planning.answers import Facts
from runner.planning.expectations import (
    A_CASE,
    Came,
    Tested,
    TooMuchWork,
    Work,
    came_of,
    differences,
    now_of,
)
from runner.planning.given_rows import Misfit
from runner.spec.files import FileRefused, read_named, read_plan, within
from runner.spec.plan_test import Case, PlanTest, read_plan_test


def files_of(paths: Sequence[str]) -> list[str]:
    """Return the given files, and the `*.test.yaml` files in folders, at any depth; each once,
    however its path is written.

    Raises `UsageError` if there is none.
    """
    found: dict[str, str] = {}
    for path in _each(paths):
        found.setdefault(one_spelling(path), path)
    if not found:
        hint = "a test is a file beside its plan: see `backfill schema test`"
        raise UsageError(f"there is no *.test.yaml in {', '.join(paths)}", hint=hint)
    return list(found.values())


def _each(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        if not Path(path).is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (str(Path(folder, name)) for name in sorted(names) if is_test(name))


def run_tests(session: Session, files: Sequence[str]) -> Iterator[Tested]:
    """Run the tests. Raises `InvalidPlan` for a file that is no test, for a missing plan, and for
    rows that no query asks for."""
    for path in files:
        test = read_test(path)
        work = Work()
        for case in test.cases:
            expected, place = case.expect, test.document.problem("", case.where["expect"])
            try:
                work.spend(A_CASE)
                came = _came(session, test, case)
                work.spend(len(came.events))
                found = differences(expected, came, work)
            except TooMuchWork:
                message = f"`{case.name}`: the tests of this file take too much work"
                hint = "name the `item` of what is expected, or split the file"
                raise InvalidPlan((replace(place, message=message, hint=hint),)) from None
            yield Tested(path, case.name, case.index, place, expected, found, came)


def update_tests(tested: Sequence[Tested]) -> list[str]:
    """Write the actual results into the files where they differ; return the changed files.

    Raises `CannotWrite`, or `InvalidPlan` if one cannot be changed; then none is.
    """
    from runner.planning.expectations import update
    from runner.spec.plan_test import with_expectations

    if lacking := [problem for one in tested for problem in one.lacking]:
        raise InvalidPlan(tuple(lacking))
    files: dict[str, dict[int | None, Data]] = {}
    for one in tested:
        if one.differences:
            changed = update(one.expected, one.came)
            files.setdefault(one.file, {})[one.index] = changed
    texts = {path: read_plan(path).decode("utf-8") for path in files}
    new = {path: with_expectations(texts[path], path, files[path]) for path in files}
    for path, text in new.items():
        write_file(path, text)
    return list(files)


def read_test(path: str) -> PlanTest:
    try:
        test = read_plan_test(read_plan(path), path)
    except FileRefused as error:
        problem = Problem(f"the test cannot be read: {error}", path, hint=error.hint)
        raise InvalidPlan((problem,)) from None
    plan = str(Path(path).parent / test.plan)
    try:
        within(plan, path)
    except FileRefused as error:
        message = f"the plan {test.plan} cannot be read: {error}"
        problem = test.document.problem(message, ("plan",), hint=error.hint)
        raise InvalidPlan((problem,)) from None
    if not Path(plan).is_file():
        message = f"there is no plan {plan}"
        raise InvalidPlan((test.document.problem(message, ("plan",)),))
    return replace(test, plan=plan)


def _came(session: Session, test: PlanTest, case: Case) -> Came:
    now = now_of(test, case, datetime.now(UTC))
    try:
        loaded = load(session, test.plan, case.variables, environment="")
        facts = _facts(test, case) if isinstance(case.given, str) else None
        return came_of(test, case, loaded, facts, now)
    except Misfit as misfit:
        raise InvalidPlan(misfit.problems) from None
    except InvalidPlan as error:
        return Came((), (), list(map(asdict, error.problems)))


def _facts(test: PlanTest, case: Case) -> Facts:
    """Read the facts file that the case names. Raises `Misfit`."""
    try:
        path, raw = read_named(str(case.given), test.document.path)
        return facts_of(raw, str(path))
    except FileRefused as error:
        message, hint = f"{case.given} cannot be read: {error}", error.hint
    except InvalidPlan as error:
        message, hint = f"{case.given}: {error.problems[0].message}", error.problems[0].hint
    raise Misfit((test.document.problem(message, case.where["given"], hint=hint),))
