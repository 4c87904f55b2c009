"""A folder of plans that are applied once: the ledger, its order, drift, and what stops it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.app.session import Session
from runner.cli.main import cli
from tests.cli.conftest import Jobs, Start
from tests.support import CATALOG
from tests.types import Backfill, Result

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a plan file into a folder, beside a catalog, which is no plan."""
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / "catalog.yaml").write_text(CATALOG, encoding="utf-8")

    def plan(file: str, name: str, repo: str, more: str = "") -> Path:
        path = folder / file
        path.write_text(
            "apiVersion: backfill/v1\nkind: BackfillPlan\n"
            f"metadata: {{name: {name}{more}}}\ncatalog: catalog.yaml\nrepos: [{repo}]\n"
            "operations: [sync]\n",
            encoding="utf-8",
        )
        return path

    return plan


@pytest.fixture
def apply(backfill: Backfill, tmp_path: Path, url: str) -> Callable[..., Result]:
    def run(*arguments: str) -> Result:
        return backfill("apply", tmp_path / "plans", "--target", url, *arguments)

    return run


Apply = Callable[..., Result]


def states(apply: Apply) -> dict[str, str]:
    shown = json.loads(apply("--dry-run", "--all", "--format", "json").out)["plans"]
    return {entry["name"]: entry["state"] for entry in shown}


def test_a_dry_run_says_which_plans_would_be_refused_for_what_they_depend_on(
    apply: Apply, write: Write, jobs: Jobs
) -> None:
    """A dependency that is in the folder is run first."""
    write("1.yaml", "one", "o/one")
    write("2.yaml", "two", "o/two", ", depends_on: [one, onee]")
    note = "note: two depends on `onee`, which is not among these plans and not applied\n"
    listed = apply("--dry-run", "--format", "json")
    assert (listed.status, listed.err) == (0, note)
    refused = apply("--yes")
    assert (refused.status, note.removeprefix("note: ").strip() in refused.err) == (4, True)
    assert apply("--dry-run").err == note
    write("2.yaml", "two", "o/two", ", depends_on: [one]")
    assert apply("--dry-run").err == ""


def test_pending_plans_are_run_in_order_and_once(apply: Apply, write: Write, jobs: Jobs) -> None:
    write("10-later.yaml", "later", "o/second")
    write("2-first.yaml", "first", "o/first")
    pending = apply("--dry-run")
    assert [line.split()[:2] for line in pending.out.splitlines()] == [
        ["state", "plan"],
        ["pending", "first"],
        ["pending", "later"],
    ]
    done = apply()
    assert done.status == 0, done.err
    assert jobs.items == ["o/first", "o/second"], "2 comes before 10"
    again = apply()
    assert (again.status, again.out) == (0, "nothing is pending: 2 plans are applied\n")
    assert len(jobs.items) == 2
    assert apply("--dry-run").out == "nothing is pending: 2 plans are applied\n"


def test_versions_and_what_a_plan_depends_on_go_over_file_names(
    apply: Apply, write: Write, jobs: Jobs
) -> None:
    write("a.yaml", "a", "o/a", ", version: 3")
    write("b.yaml", "b", "o/b", ", version: 2, depends_on: [c]")
    write("c.yaml", "c", "o/c")
    assert apply().status == 0
    assert jobs.items == ["o/c", "o/b", "o/a"]


def test_the_first_failure_stops_it_and_a_retry_makes_it_applied(
    apply: Apply, write: Write, jobs: Jobs, backfill: Backfill
) -> None:
    write("1.yaml", "one", "o/one")
    write("2.yaml", "two", "o/two")
    write("3.yaml", "three", "o/three")
    jobs.failing.add("o/two")
    assert apply().status == 1
    assert states(apply) == {"one": "applied", "two": "failed", "three": "pending"}
    refused = apply()
    assert refused.status == 1
    assert "two: run" in refused.err
    assert "backfill retry" in refused.err
    assert jobs.items == ["o/one", "o/two"]
    jobs.failing.clear()
    assert backfill("retry", "latest").status == 0
    assert apply().status == 0
    assert jobs.items == ["o/one", "o/two", "o/two", "o/three"]


def test_a_changed_plan_is_drift_and_runs_again_only_when_told(
    apply: Apply, write: Write, jobs: Jobs
) -> None:
    write("1.yaml", "one", "o/one")
    assert apply().status == 0
    write("1.yaml", "one", "o/other")
    write("2.yaml", "two", "o/two")
    drifted = apply()
    assert drifted.status == 5
    assert "changed: one was applied by run" in drifted.err
    assert jobs.items == ["o/one", "o/two"], "what is pending is applied all the same"
    assert states(apply) == {"one": "changed", "two": "applied"}
    assert apply("--again", "one").status == 0
    assert jobs.items == ["o/one", "o/two", "o/other"]
    assert states(apply) == {"one": "applied", "two": "applied"}


def test_applied_on_one_target_is_pending_on_another(
    apply: Apply, write: Write, backfill: Backfill, tmp_path: Path
) -> None:
    write("1.yaml", "one", "o/one")
    assert apply().status == 0
    elsewhere = backfill("apply", tmp_path / "plans", "--target", "http://127.0.0.1:1", "--dry-run")
    assert "\npending  one " in elsewhere.out


def test_a_plan_has_changed_if_a_variable_of_its_environment_has(
    apply: Apply, write: Write, backfill: Backfill, url: str
) -> None:
    plan = write("1.yaml", "one", "o/one")
    plan.write_text(plan.read_text() + "vars: {days: 7}\n")

    def state(variables: str) -> str:
        project = "apiVersion: backfill/v1\nkind: BackfillProject\nenvironments: {staging: "
        plan.with_name("backfill.yaml").write_text(f"{project}{{vars: {variables}}}}}\n")
        listed = apply("--env", "staging", "--dry-run", "--all", "--format", "json")
        return str(json.loads(listed.out)["plans"][0]["state"])

    assert state("{days: 30}") == "pending"
    assert apply("--env", "staging").status == 0
    found = [state(given) for given in ("{days: 30, other: 1}", "{days: 60}", "{}", "{days: 30}")]
    assert found == ["applied", "changed", "changed", "applied"]
    state("{days: 60}")
    check = backfill("check", plan, "--applied", "--target", url, "--env", "staging")
    assert check.status == 1
    assert "its files or variables have changed since" in check.out


def test_a_summary_names_the_environment_of_the_plans(
    apply: Apply, write: Write, tmp_path: Path, url: str
) -> None:
    project = "apiVersion: backfill/v1\nkind: BackfillProject\nenvironments: {staging: {}}\n"
    write("1.yaml", "one", "o/one").with_name("backfill.yaml").write_text(project)
    summary = tmp_path / "summary.md"
    assert apply("--env", "staging", "--summary-file", str(summary)).status == 0
    assert f"### ✅ Backfill plans → `staging: {url}`: 1 plan applied" in summary.read_text()


@pytest.mark.parametrize(
    ("plans", "status", "said"),
    [
        ([("1.yaml", "one", ", depends_on: [gone]")], 4, "depends on `gone`, which is not among"),
        (
            [("1.yaml", "one", ", depends_on: [two]"), ("2.yaml", "two", ", depends_on: [one]")],
            3,
            "1.yaml:3:35: error: plans depend on each other: one → two → one",
        ),
        (
            [("1.yaml", "one", ""), ("2.yaml", "one", "")],
            3,
            "2.yaml:3:18: error: the name `one` is already used by",
        ),
    ],
)
def test_plans_that_cannot_be_put_in_order_are_refused(
    apply: Apply,
    write: Write,
    jobs: Jobs,
    plans: list[tuple[str, str, str]],
    status: int,
    said: str,
) -> None:
    for file, name, more in plans:
        write(file, name, "o/r", more)
    done = apply()
    assert done.status == status
    assert said in done.err
    assert not jobs.items


def test_machines_get_the_ledger(apply: Apply, write: Write) -> None:
    write("1.yaml", "one", "o/one")
    done = apply("--format", "json")
    (found,) = json.loads(done.out)["plans"]
    assert (found["name"], found["state"], found["status"]) == ("one", "applied", "completed")
    assert len(found["run_id"]) == 26


def test_every_invalid_plan_is_reported_and_nothing_is_run(
    apply: Apply, write: Write, jobs: Jobs
) -> None:
    write("1.yaml", "one", "o/one")
    write("2.yaml", "two", "no-repository")
    write("3.yaml", "three", "neither")
    done = apply()
    assert done.status == 3
    assert "2.yaml:5" in done.err
    assert "3.yaml:5" in done.err
    assert not jobs.items


def test_what_another_process_applies_while_this_one_plans_is_not_sent_again(
    apply: Apply,
    write: Write,
    jobs: Jobs,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The other process starts and ends after this one read the ledger, and before it locks."""
    write("1.yaml", "one", "o/one")
    write("2.yaml", "two", "o/two")
    lock, others = Session.lock, [apply]

    def after_another(*arguments: Any) -> Any:
        while others:
            assert others.pop()().status == 0
        return lock(*arguments)

    monkeypatch.setattr(Session, "lock", after_another)
    arguments = ["apply", str(tmp_path / "plans"), "--target", url]
    assert cli.main(arguments, prog_name="backfill", standalone_mode=False) == 0
    assert jobs.items == ["o/one", "o/two"]
    assert "one has been run in the meantime: run 01" in capsys.readouterr().err


def test_a_server_that_is_away_leaves_no_run_behind_and_names_none(
    backfill: Backfill, write: Write, tmp_path: Path
) -> None:
    write("1.yaml", "one", "o/one")
    done = backfill("apply", tmp_path / "plans", "--target", "http://127.0.0.1:9")
    assert done.status == 6
    assert "nothing is sent; run the command again once it answers" in done.err
    assert "resume" not in done.err


@pytest.fixture
def begun(
    start: Start, write: Write, tmp_path: Path, url: str, jobs: Jobs, backfill: Backfill
) -> Callable[..., Path]:
    """Begin to apply a plan, stop that after its first event, and return the plan's file."""

    def begin(*options: str) -> Path:
        path = write("1.yaml", "one", "o/a, o/b")
        more = "vars: {n: 1}\naccept: {unused-variable: a test}\nbatch_size: 1\ndelay: 1h\n"
        path.write_text(path.read_text() + more)
        applying = start("apply", tmp_path / "plans", "--target", url, *options)
        jobs.wait_for(1)
        applying.send_signal(signal.SIGTERM)
        assert applying.wait(60) == 7
        assert backfill("tune", "latest", "--delay", "0s").status == 0
        return path

    return begin


@pytest.mark.parametrize("place", ["where it was", "renamed", "moved", "copied"])
def test_a_run_is_resumed_with_the_file_that_is_applied_wherever_it_lies_now(
    begun: Callable[..., Path],
    place: str,
    tmp_path: Path,
    url: str,
    jobs: Jobs,
    backfill: Backfill,
) -> None:
    """Another machine, or a folder of another commit, may have begun it; that it still has the old
    file changes nothing."""
    path = begun()
    there = tmp_path / "there"
    there.mkdir()
    if place == "copied":
        for name in ("catalog.yaml", "1.yaml"):
            (there / name).write_bytes((path.parent / name).read_bytes())
    new = {
        "where it was": path,
        "renamed": path.with_name("01.yaml"),
        "moved": there / "plans" / "1.yaml",
        "copied": there / "1.yaml",
    }[place]
    if place == "renamed":
        path.rename(new)
    if place == "moved":
        path.parent.rename(new.parent)
    new.write_text(new.read_text().replace("o/b", "o/c"))
    done = backfill("apply", new.parent, "--target", url, "--resume")
    assert (done.status, jobs.items) == (0, ["o/a", "o/c"]), done.err
    shown = backfill("apply", new.parent, "--target", url, "--dry-run", "--all")
    assert "applied  one" in shown.out


def test_a_run_that_is_resumed_with_its_own_variables_does_not_apply_others(
    begun: Callable[..., Path], tmp_path: Path, url: str, jobs: Jobs, backfill: Backfill
) -> None:
    begun()
    done = backfill("apply", tmp_path / "plans", "--target", url, "--resume", "--var", "n=2")
    assert (done.status, jobs.items) == (5, ["o/a", "o/b"])
    assert "its files or variables have changed since" in done.err


def test_a_run_is_resumed_and_retried_in_another_folder_with_the_same_checkout(
    begun: Callable[..., Path],
    tmp_path: Path,
    url: str,
    jobs: Jobs,
    backfill: Backfill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its environment, whose project file lies there too."""
    project = tmp_path / "backfill.yaml"
    project.write_text(
        "apiVersion: backfill/v1\nkind: BackfillProject\n"
        f"environments: {{there: {{target: '{url}'}}}}\n"
    )
    monkeypatch.setenv("BACKFILL_STATE", str(tmp_path / "shared.db"))
    path = begun("--env", "there")
    other = tmp_path / "other"
    other.mkdir()
    path.parent.rename(other / "plans")
    project.rename(other / "backfill.yaml")
    missing = backfill("resume", "latest")
    assert (missing.status, jobs.items) == (2, ["o/a"])
    monkeypatch.chdir(other)
    jobs.failing.add("o/b")
    assert backfill("resume", "latest").status == 1
    jobs.failing.clear()
    done = backfill("retry", "latest")
    assert (done.status, jobs.items) == (0, ["o/a", "o/b", "o/b"]), done.err
    assert "1 plan is applied" in backfill("apply", "plans", "--env", "there").out
