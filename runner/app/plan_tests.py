"""Tests of plans: each case planned from the rows that it gives, and compared. Nothing is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from runner.adapters.files import write_file
from runner.app.plan_files import load
from runner.app.session import Session
from runner.app.variables import facts_of
from runner.errors import InvalidPlan, UsageError
from runner.model import (
    BackfillPlan,
    Data,
    Database,
    ExecutionPlan,
    Json,
    Problem,
    Query,
    QueryRefused,
    Question,
    Selectors,
    Table,
    frozen,
)
from runner.planning.answers import NotRecorded
from runner.planning.expectations import A_CASE, Came, Tested, TooMuchWork, Work, differences
from runner.spec.document import did_you_mean, ranked
from runner.spec.files import ENDINGS, FileRefused, read_named, read_plan, within
from runner.spec.plan_test import Case, PlanTest, read_plan_test
from runner.spec.units import counted

_OWN_ROWS = "rows of "


def files_of(paths: Sequence[str]) -> list[str]:
    """Files as they are given, and the `*.test.yaml` files of folders, at any depth.

    Raises `UsageError` where there is none.
    """
    found: dict[str, None] = {}
    for path in paths:
        if not Path(path).is_dir():
            found.setdefault(path)
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name.endswith(ENDINGS):
                    found.setdefault(str(Path(folder) / name))
    if not found:
        hint = "a test is a file beside its plan: see `backfill schema test`"
        raise UsageError(f"there is no *.test.yaml in {', '.join(paths)}", hint=hint)
    return list(found)


def check_form(path: str) -> Sequence[Problem]:
    """What is wrong with a test before it is run."""
    try:
        _read(path)
    except InvalidPlan as error:
        return error.problems
    return ()


def run_tests(session: Session, files: Sequence[str]) -> Iterator[Tested]:
    """Raises `InvalidPlan` for a file that is no test, for a plan that is not there and for rows
    that no query asks for."""
    for path in files:
        test = _read(path)
        work = Work()
        for case in test.cases:
            expected, place = case.expect, test.document.problem("", case.where["expect"])
            try:
                work.spend(A_CASE)
                came = _came(session, test, case)
                work.spend(len(came.events))
                found = differences(expected, came, work)
            except TooMuchWork:
                message = f"`{case.name}`: the file's tests are more work than they may be"
                hint = "name the `item` of what is expected, or split the file"
                raise InvalidPlan((replace(place, message=message, hint=hint),)) from None
            yield Tested(path, case.name, case.index, place, expected, found, came)


def update_tests(tested: Sequence[Tested]) -> list[str]:
    """Write into the files what came, where that is not what was expected: the changed ones.

    Raises `CannotWrite`.
    """
    from runner.planning.expectations import update
    from runner.spec.plan_test import with_expectations

    files: dict[str, dict[int | None, Data]] = {}
    for one in tested:
        if one.differences:
            changed = update(one.expected, one.came)
            files.setdefault(one.file, {})[one.index] = changed
    for path, changes in files.items():
        text = read_plan(path).decode("utf-8")
        write_file(path, with_expectations(text, changes))
    return list(files)


def _read(path: str) -> PlanTest:
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
    from runner.planning.build import build_execution_plan
    from runner.planning.facts import gather
    from runner.planning.lines import line_of

    now = _now(test, case)
    try:
        loaded = load(session, test.plan, case.variables, environment="")
        answers: Database
        if isinstance(case.given, str):
            answers = facts = facts_of(*_named(test, case))
            now = datetime.fromisoformat(facts.recorded_at)
        else:
            answers = _Given.of(test, case, loaded)
        known = gather(loaded, answers, now)
        plan = _part(test, case, known, build_execution_plan(known))
    except _Misfit as misfit:
        raise InvalidPlan(misfit.problems) from None
    except InvalidPlan as error:
        return Came((), (), list(map(asdict, error.problems)))
    return Came(
        [line_of(stage, event) for stage in plan.stages for event in stage.planned()],
        list(map(asdict, plan.skipped)),
        list(map(asdict, plan.warnings)),
    )


def _part(test: PlanTest, case: Case, known: BackfillPlan, whole: ExecutionPlan) -> ExecutionPlan:
    from runner.planning.parts import select

    selectors = Selectors(tuple(case.only), tuple(case.skip), tuple(case.items))
    if not selectors:
        return whole
    try:
        return select(known, whole, selectors)
    except UsageError as refused:
        written = {"only": case.only, "skip": case.skip, "item": case.items}
        place = case.where[next(key for key, names in written.items() if names)]
        problem = test.document.problem(str(refused), place, hint=refused.hint)
        raise _Misfit((problem,)) from None


def _now(test: PlanTest, case: Case) -> datetime:
    if case.now is None:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(case.now)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        message = "`now` is no time with a zone"
        hint = 'as in now: "2026-11-01T00:00:00Z"'
        problem = test.document.problem(message, case.where["now"], hint=hint)
        raise InvalidPlan((problem,))
    return found


def _named(test: PlanTest, case: Case) -> tuple[bytes, str]:
    """The facts file that the case names."""
    try:
        path, raw = read_named(str(case.given), test.document.path)
    except FileRefused as error:
        message = f"{case.given} cannot be read: {error}"
        problem = test.document.problem(message, case.where["given"], hint=error.hint)
        raise _Misfit((problem,)) from None
    return raw, str(path)


class _Misfit(InvalidPlan):
    """The test does not fit its plan."""


@frozen
class _Given:
    """The rows of a case, by the queries that ask for them. Meets `runner.model.Database`."""

    names: Mapping[int, Sequence[str]]  # of each query, by its identity: two may be equal
    rows: Mapping[str, Sequence[Data]]

    @classmethod
    def of(cls, test: PlanTest, case: Case, plan: BackfillPlan) -> _Given:
        """Raises `_Misfit` for rows that no query asks for."""
        given = case.given if isinstance(case.given, Mapping) else {}
        names: dict[int, list[str]] = {}
        for name, question in _questions(plan):
            names.setdefault(id(question.query), []).append(name)
        known = [name for one in names.values() for name in one]
        problems = []
        for name in given:
            if known.count(name) == 1:
                continue
            several = [other for other in known if other.startswith(f"{name}[")]
            message = f"`{name}` is asked for by no query of the plan"
            hint = did_you_mean(name, known) or f"these are asked for: {', '.join(known) or 'none'}"
            if name in known:
                message, hint = f"several queries give `{name}`", f"name one: {', '.join(several)}"
            problems.append(
                test.document.problem(message, (*case.where["given"], name), key=True, hint=hint)
            )
        if problems:
            raise _Misfit(ranked(problems))
        return cls(names, given)

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        names = self.names.get(id(query), [])
        name = next((name for name in names if name in self.rows), None)
        if name is None:
            called = names[-1] if names else query.text
            hint = f"given: {{{called}: [...]}} in the test"
            raise NotRecorded(f"the test gives no rows for `{called}`", hint)
        rows = self.rows[name]
        if len(rows) > query.max_rows:
            raise QueryRefused(f"it gives more than {counted(query.max_rows, 'row')}")
        if name == _OF_WORKSPACES:
            rows = [row for row in rows if row.get("workspace") == parameters.get("workspace")]
        columns = tuple(dict.fromkeys(column for row in rows for column in row))
        return Table(columns, tuple(tuple(map(row.get, columns)) for row in rows))


_OF_WORKSPACES = "workspace_repos"
_CALLED = {"repo": "repos", "workspace": "workspaces"}


def _questions(plan: BackfillPlan) -> Iterator[tuple[str, Question]]:
    """Every question of the plan with each of its names; the last one is its own."""
    from runner.spec.rows import Concatenated, SelectedRows

    for key, items in plan.collections.items():
        name = _CALLED.get(key, key.removeprefix(_OWN_ROWS))
        sources = items.rows.sources if isinstance(items.rows, Concatenated) else ()
        asked = [part for part in sources if isinstance(part, SelectedRows) and part.question]
        for part in asked:
            assert part.question  # noqa: S101 - chosen above
            yield name, part.question
            if key in _CALLED and len(part.path) > 1:
                yield f"{name}[{part.path[1]}]", part.question
    if plan.workspace_repos:
        yield _OF_WORKSPACES, plan.workspace_repos
    for lookup in plan.lookups:
        yield lookup.name, lookup.question
    for check in plan.checks:
        yield check.name, check.question
    for measure in plan.coverage:
        yield measure.name, measure.question
