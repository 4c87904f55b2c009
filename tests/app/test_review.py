"""Plans compared between two revisions by a session, in process."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.app.apply import ApplyOptions, apply
from runner.app.plan_files import plans_to_apply
from runner.app.review import difference, review_plans
from runner.app.session import Session
from runner.errors import InvalidPlan, UsageError
from runner.model import Selectors
from runner.planning.compare import Review
from tests.git import Git
from tests.support import CATALOG, repos


def plan(body: str, name: str = "one") -> str:
    head = f"apiVersion: backfill/v1\nkind: BackfillPlan\nmetadata: {{name: {name}}}\n"
    more = 'operations: [fire]\nhandlers: {app/fire: "jobs:fire"}\n'
    return f"{head}catalog: catalog.yaml\n{body}{more}"


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Three repositories in main's plan, four in the checked-out branch's, five in the working
    tree's."""
    git = Git.init(tmp_path / "work")
    git.write("plans/catalog.yaml", CATALOG)
    git.write("plans/jobs.py", "def fire(event):\n    pass\n")
    git.write("plans/one.yaml", plan(repos(3)))
    git.commit()
    git("switch", "--quiet", "--create", "topic")
    git.write("plans/one.yaml", plan(repos(4)))
    git.commit()
    git.write("plans/one.yaml", plan(repos(5)))
    monkeypatch.chdir(git.folder)
    return git


def reviewed(revisions: str, *paths: str) -> list[Review]:
    with Session() as session:
        return review_plans(session, paths or ["plans/"], revisions, {})


def fates(revisions: str, *paths: str) -> dict[str, str]:
    return {one.path: one.fate for one in reviewed(revisions, *paths)}


READ = {
    "main": ((3, 5), ("main:plans/one.yaml", "plans/one.yaml")),
    "main..topic": ((3, 4), ("main:plans/one.yaml", "topic:plans/one.yaml")),
    "main..": ((3, 4), ("main:plans/one.yaml", "HEAD:plans/one.yaml")),
    "..main": ((4, 3), ("HEAD:plans/one.yaml", "main:plans/one.yaml")),
    "main...": ((3, 4), ("main:plans/one.yaml", "HEAD:plans/one.yaml")),
}


@pytest.mark.usefixtures("git")
def test_the_two_that_are_compared_are_named_as_git_reads_the_revisions() -> None:
    for revisions, (events, names) in READ.items():
        with Session() as session:
            found, called = difference(session, revisions, "plans/one.yaml", {})
        assert (found.events, called) == (events, names)
        assert [one.events for one in reviewed(revisions)] == [events[1] - events[0]]


def test_a_plan_that_was_not_there_or_not_valid_is_named_with_its_revision(git: Git) -> None:
    git.write("plans/new.yaml", plan(repos(1), "new"))
    main = git("rev-parse", "main")
    with Session() as session:
        with pytest.raises(UsageError) as missing:
            difference(session, "main", "plans/new.yaml", {})
        git.write("plans/new.yaml", "repos: []\n")
        git.commit()
        git.write("plans/new.yaml", plan(repos(1), "new"))
        with pytest.raises(InvalidPlan) as invalid:
            difference(session, "topic", "plans/new.yaml", {})
        with pytest.raises(InvalidPlan) as one_of_two:
            difference(session, "HEAD..topic", "plans/new.yaml", {})
    assert str(missing.value) == f"plans/new.yaml does not exist in main ({main[:12]})"
    assert {one.path for one in invalid.value.problems} == {"topic:plans/new.yaml"}
    assert {one.path for one in one_of_two.value.problems} == {"HEAD:plans/new.yaml"}


def test_a_part_need_not_be_there_both_before_and_after(git: Git) -> None:
    """This holds for files and for revisions."""
    git.write("plans/old.yaml", plan(repos(3)))
    part, nowhere = Selectors(items=("o/r4",)), Selectors(items=("o/r9",))
    with Session() as session:
        for old in ("plans/old.yaml", "main"):
            found, _ = difference(session, old, "plans/one.yaml", {}, selectors=part)
            assert found.events == (0, 1)
            with pytest.raises(UsageError, match="o/r9 matches no item"):
                difference(session, old, "plans/one.yaml", {}, selectors=nowhere)
        found, _ = difference(session, "plans/one.yaml", "plans/old.yaml", {}, selectors=part)
        assert found.events == (1, 0)


@pytest.mark.parametrize("part", [Selectors(items=("!o/r3", "!o/r4")), Selectors(limit=3)])
def test_selectors_that_choose_all_of_one_plan_are_no_change(git: Git, part: Selectors) -> None:
    git.write("plans/old.yaml", plan(repos(3)))
    with Session() as session:
        for sides in (("plans/old.yaml", "plans/one.yaml"), ("plans/one.yaml", "plans/old.yaml")):
            found, _ = difference(session, *sides, {}, selectors=part)
            assert found.changes == ()


@pytest.mark.parametrize(("more", "fate"), [(0, {"changed"}), (1, {"added", "removed"})])
def test_a_file_of_which_half_is_the_same_is_the_renamed_one(
    git: Git, more: int, fate: set[str]
) -> None:
    """Also if that half is one line repeated."""
    before = plan(repos(3)) + "# again and again\n" * 9
    git.write("plans/two.yaml", before)
    git.commit()
    git("mv", "plans/two.yaml", "plans/three.yaml")
    comment = f"#{'x' * (len(before) - 2 + more)}\n"
    git.write("plans/three.yaml", before + comment)
    found = {one.path: one for one in reviewed("HEAD") if one.path != "plans/one.yaml"}
    assert {one.fate.replace("same", "changed") for one in found.values()} == fate
    assert found["plans/three.yaml"].was == (None if more else "plans/two.yaml")


def test_a_folder_may_be_there_on_one_side_alone(git: Git) -> None:
    git.write("new/catalog.yaml", CATALOG)
    git.write("new/a.yaml", plan(repos(1), "a") + "# otherwise\n" * 50)
    git("rm", "--quiet", "-r", "--cached", "plans")
    (git.folder / "plans").rename(git.folder.parent / "gone")
    assert fates("main", "new/") == {"new/a.yaml": "added"}
    assert fates("main", "plans/") == {"plans/one.yaml": "removed"}
    assert fates("main", "plans/one.yaml", "new/a.yaml") == {
        "plans/one.yaml": "removed",
        "new/a.yaml": "added",
    }


def test_what_is_in_another_repository_is_not_compared(git: Git) -> None:
    Git.init(git.folder / "inner")
    git.write("inner/a.yaml", plan(repos(1)))
    with Session() as session:
        for ask in (
            lambda: difference(session, "main", "inner/a.yaml", {}),
            lambda: review_plans(session, ["inner/"], "main", {}),
        ):
            with pytest.raises(UsageError, match="repository of its own"):
                ask()


def test_a_catalog_that_is_broken_is_reported_as_itself(git: Git) -> None:
    git.write("plans/catalog.yaml", CATALOG.replace("for_each: repo", "for_each: 5"))
    assert fates("main")["plans/catalog.yaml"] == "invalid"


def test_a_plan_that_changes_after_it_was_applied_is_reported_with_that_run(git: Git) -> None:
    with Session() as session:
        (before,) = review_plans(session, ["plans/"], "main", {})
        plans = plans_to_apply(session, ["plans/"], {})
        applied = apply(session, plans, ApplyOptions("embedded"))
        (after,) = review_plans(session, ["plans/"], "main", {})
        git.write("plans/one.yaml", plan(repos(3)) + "# a comment\n")
        (same,) = review_plans(session, ["plans/"], "main", {})
    assert before.applied is None
    (entry,) = applied.entries
    assert entry.run
    assert after.applied == entry.run.run_id
    assert (same.fate, same.applied) == ("same", None)


@pytest.mark.parametrize("folder", ["", "plans/"])
def test_each_revision_has_the_project_file_that_it_had_then(git: Git, folder: str) -> None:
    head = "apiVersion: backfill/v1\nkind: BackfillProject\ndefault_environment: e\n"
    project = head + "environments: {e: {target: embedded, vars: {days: %s}}}\n"
    uses = "[{use: fire, with: {days: '{{ vars.days }}'}}]"
    git.write("plans/one.yaml", plan(repos(1)).replace("[fire]", uses))
    git.write(f"{folder}backfill.yaml", project % 1)
    git.commit()
    git.write(f"{folder}backfill.yaml", project % 2)
    with Session() as session:
        found, _ = difference(session, "HEAD", "plans/one.yaml", {})
    assert [one.what for one in found.changes] == ["payload `days`: 1 → 2"]


@pytest.mark.parametrize(("days", "fates"), [("2", ["changed"]), ("1 ", [])])
def test_a_change_of_the_project_file_is_one_of_the_plans_that_it_changes(
    git: Git, days: str, fates: list[str]
) -> None:
    head = "apiVersion: backfill/v1\nkind: BackfillProject\n"
    project = head + "environments: {e: {target: embedded, vars: {days: %s}}}\n"
    uses = "[{use: fire, with: {days: '{{ vars.days }}'}}]"
    git.write("plans/one.yaml", plan(repos(1)).replace("[fire]", uses))
    git.write("plans/two.yaml", plan(repos(1)).replace("name: one", "name: two"))
    git.write("backfill.yaml", project % 1)
    git.commit()
    git.write("backfill.yaml", project % days)
    with Session(environment="e") as session:
        found = review_plans(session, ["plans"], "HEAD", {}, of_branch=True)
    assert [one.fate for one in found] == fates
    assert [one.path for one in found] == ["plans/one.yaml"] * len(fates)
    git("mv", "plans/two.yaml", "plans/three.yaml")
    git("rm", "--quiet", "--force", "plans/one.yaml")
    git.write("backfill.yaml", (project % 1).replace("{e: ", "{f: "))
    with Session(environment="f") as session:
        added, removed = review_plans(session, ["plans"], "HEAD", {}, of_branch=True)
    assert (added.fate, added.was) == ("added", "plans/two.yaml")
    assert added.note == "Its environment was not there before, so the two are not compared."
    assert (removed.fate, removed.note) == ("removed", "Its environment was not there.")


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("{e: {target: dev}}", "{e: {target: embedded}}", "target: e: dev → e: embedded"),
        ("{e: {target: dev}}\n#", "{e: {target: dev}, f: {}}\n#", None),
    ],
)
def test_where_events_go_is_a_change(git: Git, before: str, after: str, shown: str | None) -> None:
    head = "apiVersion: backfill/v1\nkind: BackfillProject\ndefault_environment: e\nenvironments: "
    git.write("plans/one.yaml", plan(repos(1)))
    git.write("backfill.yaml", head + before)
    git.commit()
    git.write("backfill.yaml", head + after)
    with Session() as session:
        found, _ = difference(session, "HEAD", "plans/one.yaml", {})
        reviews = review_plans(session, ["plans"], "HEAD", {})
    changes = [[one.what for one in found.changes]]
    changes += [
        [one.what for one in each.difference.changes] for each in reviews if each.difference
    ]
    assert changes == ([[shown], [shown]] if shown else [[]])
