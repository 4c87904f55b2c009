"""A session's plan files, in process: each is read and parsed once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from runner.app.apply import ApplyOptions, apply, pending
from runner.app.plan_files import (
    changes_of,
    found_here,
    moved_to,
    plan_file,
    plan_files,
    plans_in,
    plans_to_apply,
    relocated,
    unchanged,
    wrong_together,
)
from runner.app.session import Session
from runner.errors import UsageError
from runner.execution.context import RunOptions
from runner.planning.build import build_execution_plan
from runner.spec import reading, strict_yaml
from runner.spec.load import load_plan
from tests import support
from tests.support import CATALOG, write_plan

PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: %s}
catalog: catalog.yaml
repos: [o/a, {file: more.csv}]
operations: [fire]
handlers: {app/fire: "jobs:fire"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / "catalog.yaml").write_text(CATALOG)
    (folder / "more.csv").write_text("repo\no/b\n")
    (folder / "jobs.py").write_text("def fire(event):\n    pass\n")
    (folder / "rows.yaml").write_text("# repositories\n- o/c\n")
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(PLAN % name)
    return folder


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often each file is parsed."""
    found: Counter[str] = Counter()
    real = strict_yaml.parse

    def counted(raw: bytes, path: str) -> Any:
        found[Path(path).name] += 1
        return real(raw, path)

    monkeypatch.setattr(reading, "parse", counted)
    return found


def test_applying_a_plan_parses_its_file_once_and_its_catalog_once(
    folder: Path, parsed: Counter[str]
) -> None:
    with Session() as session:
        plans = plans_to_apply(session, [str(folder / "one.yaml")], {})
        applied = apply(session, plans, ApplyOptions("embedded"))
    assert (applied.error, applied.open, applied.ran) == (None, None, ["one"])
    assert parsed == {"one.yaml": 1, "catalog.yaml": 1}


def test_each_plan_of_a_folder_is_parsed_once_and_lists_are_data(
    folder: Path, parsed: Counter[str]
) -> None:
    with Session() as session:
        found = plan_files(session, [str(folder)])
        assert [Path(file.path).name for file in found] == ["catalog.yaml", "one.yaml", "two.yaml"]
        assert [file.names for file in found] == [[], *[["catalog.yaml", "more.csv"]] * 2]
        plans = [plan for file in found if (plan := file.load(Session(), {}))]
    assert [plan.name for plan in plans] == ["one", "two"]
    assert parsed["one.yaml"] == parsed["two.yaml"] == 1


def test_a_file_that_is_named_in_several_ways_is_one_plan(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    ways = ["one.yaml", "./one.yaml", f"../{folder.name}/one.yaml", str(folder / "one.yaml")]
    paths = [folder.name, *(f"{folder.name}/{way}" for way in ways[:3]), ways[3]]
    with Session() as session:
        found = plans_to_apply(session, paths, {})
    assert [plan.path for plan in found] == ["plans/one.yaml", "plans/two.yaml"]


def test_every_file_that_a_plan_was_made_of_is_one_that_it_names(folder: Path) -> None:
    """Otherwise a change to that file would not count as a change of the plan."""
    with Session() as session:
        for file in plan_files(session, [str(folder)]):
            if plan := file.load(Session(), {}):
                named = {str((folder / name).resolve()) for name in file.names}
                assert {path for path, _ in plan.inputs} == named | {str(Path(file.path).resolve())}


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("begun", [False, True], ids=["nothing", "no tables"])
def test_what_is_pending_is_told_without_making_a_state_and_then_applied(
    folder: Path, tmp_path: Path, begun: bool
) -> None:
    """Also in a server's database, or a file, that exists and has no tables yet."""
    url = support.state_url(tmp_path)
    if begun and url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).touch()
    with Session(url) as session:
        plans = plans_to_apply(session, [str(folder)], {})
        entries = pending(session, plans, ApplyOptions("embedded"))
        assert [(entry.name, entry.state) for entry in entries] == [
            ("one", "pending"),
            ("two", "pending"),
        ]
        assert not session.has_state
    with Session(url) as session:
        applied = apply(session, plans, ApplyOptions("embedded", run=RunOptions(yes=True)))
        assert [entry.state for entry in applied.entries] == ["applied", "applied"]
        assert session.has_state


def test_a_plan_is_what_is_read_as_one(folder: Path) -> None:
    """A folder is no plan, whatever its name; nor are files that another program's file names."""
    (folder / "three.yaml").mkdir()
    (folder / "odd.yaml").write_text("catalog: ['', 5, a.yaml]\nmore: [{file: ''}, {file: b}]\n")
    (folder / "doc.yaml").write_text("--- # a document\n- 1\n")
    with Session() as session:
        names = {Path(file.path).name: file.names for file in plan_files(session, [str(folder)])}
    assert names == {
        "catalog.yaml": [],
        "doc.yaml": [],
        "odd.yaml": ["a.yaml", "b"],
        "one.yaml": ["catalog.yaml", "more.csv"],
        "two.yaml": ["catalog.yaml", "more.csv"],
    }


def test_plans_of_a_folder_that_have_one_name_are_told(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    texts = {"one": PLAN % "two", "x": "- 1\n", "y": "metadata: 5\n", "z": "metadata: {name: 5}\n"}
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    catalog = CATALOG.replace("operations:", "metadata: {name: two}\noperations:", 1)
    (folder / "catalog.yaml").write_text(catalog)
    (inner / "two.yaml").write_text(PLAN % "two")
    names = ("catalog", "one", "two", "x", "y", "z", "inner/two")
    files = [plan_file(str(folder / f"{name}.yaml")) for name in names]
    (twice,) = wrong_together(files, [str(folder)])
    assert twice.message == f"the name `two` is already used by {folder / 'one.yaml'}"
    assert (twice.path, twice.line) == (str(folder / "two.yaml"), 3)
    assert [*wrong_together(files, [str(inner)])] == []


def test_plans_of_a_folder_that_depend_on_each_other_are_told(folder: Path) -> None:
    for name, needs in (("one", "two"), ("two", "one, zzz"), ("three", "one")):
        text = (PLAN % name).replace("}\n", f", depends_on: [{needs}]}}\n", 1)
        (folder / f"{name}.yaml").write_text(text)
    files = [plan_file(str(folder / f"{name}.yaml")) for name in ("three", "one", "two")]
    (circle,) = wrong_together(files, [str(folder)])
    assert circle.message == "plans depend on each other: one → two → one"
    assert (circle.path, circle.line) == (str(folder / "one.yaml"), 3)
    assert [*wrong_together(files[:2], [str(folder)])] == []


def test_plans_with_a_schedule_are_left_to_the_workers(folder: Path) -> None:
    scheduled = PLAN % "two" + "schedule: '0 4 * * *'\n"
    (folder / "two.yaml").write_text(scheduled)
    heard = support.Recorder()
    with Session(reporter=heard) as session:  # type: ignore[arg-type]
        plans = plans_to_apply(session, [str(folder)], {})
    assert [plan.name for plan in plans] == ["one"]
    note = f"{folder / 'two.yaml'} has a schedule: `backfill serve` starts it"
    assert heard.notes == [note]


def test_files_are_unchanged_while_they_are_there_as_they_were_read(folder: Path) -> None:
    with Session() as session:
        (plan, _) = plans_in(session, [str(folder)])
    assert unchanged(plan.inputs)
    (folder / "more.csv").write_text("repo\no/z\n")
    (folder / "one.yaml").unlink()
    gone, changed = folder / "one.yaml", folder / "more.csv"
    assert {*changes_of(plan.inputs)} == {f"{gone} no longer exists", f"{changed} has changed"}
    assert not unchanged(plan.inputs)


@pytest.mark.parametrize("by", ["folder", "file"])
def test_a_plan_is_found_where_its_files_lie_now(folder: Path, tmp_path: Path, by: str) -> None:
    with Session() as session:
        (plan, _) = plans_in(session, [str(folder)])
    built = build_execution_plan(plan)
    there = tmp_path / "elsewhere" / "deep"
    place = str(there / "one.yaml" if by == "file" else there.parent)
    assert relocated(built, [place]) == built, "it is there still"
    there.parent.mkdir()
    folder.rename(there)
    (there.parent / "a").mkdir()
    (there.parent / "a" / "one.yaml").write_text("another\n")
    (there.parent / "a" / "same.yaml").write_bytes((there / "one.yaml").read_bytes())
    moved = relocated(built, [place])
    assert moved.path == str(there / "one.yaml")
    assert {path for path, _ in moved.inputs} == {
        str(there / name) for name in ("catalog.yaml", "more.csv", "one.yaml")
    }
    assert unchanged(moved.inputs)
    (there / "one.yaml").write_text("changed\n")
    assert relocated(built, [place]) == built, "it is nowhere"
    assert relocated(moved, [place]) == moved


def test_a_catalog_above_a_plan_moves_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "plans").mkdir(parents=True)
    (here / ".git").mkdir()
    path = write_plan(here / "plans", "repos: [o/a]\noperations: [sync]\n")
    (here / "plans" / "catalog.yaml").rename(here / "catalog.yaml")
    path.write_text(path.read_text().replace("catalog.yaml", "../catalog.yaml"))
    built = build_execution_plan(load_plan(str(path)))
    here.rename(there)
    monkeypatch.chdir(there)
    for moved in (
        relocated(built, ["plans"]),
        found_here(built),
        moved_to(built, "plans/plan.yaml"),
    ):
        assert unchanged(moved.inputs)
        assert {path for path, _ in moved.inputs} == {
            str(there / name) for name in ("plans/plan.yaml", "catalog.yaml")
        }


def test_a_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    with Session() as session:
        assert plans_in(session, [str(tmp_path)]) == []
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    with Session() as session, pytest.raises(UsageError, match="there is no plan in"):
        plans_to_apply(session, [str(tmp_path)], {})
    (tmp_path / "catalog.yaml").unlink()
    with Session() as session, pytest.raises(UsageError, match="there is no plan in"):
        plans_to_apply(session, [str(tmp_path)], {})
