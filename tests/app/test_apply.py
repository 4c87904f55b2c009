"""Plans against a ledger that already has some of them, in process, on the embedded target."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.inngest.target import resolve
from runner.adapters.journal.leases import park
from runner.app.apply import Applied, ApplyOptions, adopt, apply, pending, to_apply, views_of
from runner.app.control import pause
from runner.app.plan_files import plans_to_apply
from runner.app.prepare import prepare
from runner.app.session import Session
from runner.errors import (
    BackfillError,
    Incomplete,
    PreflightRefused,
    RunFailed,
    StalePlan,
    UsageError,
)
from runner.execution.context import RunOptions
from runner.model import BackfillPlan
from runner.planning.build import build_execution_plan
from tests.support import CATALOG, Recorder
from tests.support import let_go as process_dies

PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: %s}
catalog: catalog.yaml
repos: [o/a]
operations: [fire]
handlers: {app/fire: "jobs:fire"}
"""
ADDRESS = resolve("embedded", {}).address
Record = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / "catalog.yaml").write_text(CATALOG)
    (folder / "jobs.py").write_text("def fire(event):\n    pass\n")
    (folder / "one.yaml").write_text(PLAN % "one")
    (folder / "two.yaml").write_text(PLAN % "two, depends_on: [one]")
    return folder


@pytest.fixture
def plans(session: Session, folder: Path) -> list[BackfillPlan]:
    return plans_to_apply(session, [str(folder)], {})


@pytest.fixture
def record(session: Session, plans: list[BackfillPlan]) -> Record:
    """Record what an earlier process left of the first plan."""

    def leave(status: str | None, run_id: str = "RUN1", **more: Any) -> str:
        store, plan = session.store, plans[0]
        lease = store.lock(plan.name, ADDRESS, run_id, worker=status == "worked on")
        known = {"target": "embedded", "address": ADDRESS, "variables": {}, "follow": True}
        journal = store.start(run_id, build_execution_plan(plan), lease, **known, **more)
        if status == "parked":
            park(lease, time.time() + 3600, "the workers")
        if status in ("parked", "driven", "worked on"):
            return run_id
        if status:
            journal.end(status)  # type: ignore[arg-type]
        process_dies(store)
        return run_id

    return leave


def applied(session: Session, plans: list[BackfillPlan], **options: Any) -> Applied:
    return apply(session, plans, ApplyOptions("embedded", run=RunOptions(yes=True), **options))


def states(found: Applied) -> list[str]:
    return [entry.state for entry in found.entries]


@pytest.mark.parametrize(
    ("status", "error", "message", "hint"),
    [
        (None, Incomplete, "one: run RUN1 has not ended", "`backfill resume RUN1`"),
        ("incomplete", Incomplete, "one: run RUN1 has not ended",
         "`backfill resume RUN1`"),
        ("sent", Incomplete, "one: run RUN1 was sent but not followed, so its outcome is not known",
         "`backfill resume RUN1`"),
        ("failed", RunFailed, "one: run RUN1 is failed",
         "to send the 1 event that it has not sent: `backfill resume RUN1`"),
    ],
)  # fmt: skip
def test_a_run_that_is_open_or_failed_is_not_passed_over_but_run_again_where_that_is_said(
    session: Session,
    plans: list[BackfillPlan],
    record: Record,
    heard: Recorder,
    status: str | None,
    error: type[BackfillError],
    message: str,
    hint: str,
) -> None:
    record(status)
    refused = applied(session, plans)
    assert (type(refused.error), str(refused.error), refused.ran) == (error, message, [])
    assert (refused.error.hint or "").startswith(hint) if refused.error else False
    if status != "failed":
        with pytest.raises(error):
            adopt(session, plans[:1], ApplyOptions("embedded"), "by hand")
    assert heard.notes == []
    again = applied(session, plans, again=("one",))
    assert again.ran[:1] == ["one"]
    assert heard.notes[0] == f"applying one ({plans[0].path})"


@pytest.mark.parametrize("wanted", [None, "pause"])
def test_a_run_that_somebody_drives_is_followed_and_resumed_where_it_is_paused(
    session: Session, plans: list[BackfillPlan], record: Record, wanted: str | None
) -> None:
    run_id = record("driven")
    if wanted:
        pause(session, run_id)
    refused = applied(session, plans).error
    assert isinstance(refused, Incomplete)
    command = f"`backfill {'resume RUN1' if wanted else 'status RUN1 --watch'}`"
    assert command in str(refused.hint), "`resume` is refused where it goes on"


@pytest.mark.parametrize("status", [None, "incomplete"])
def test_a_run_that_is_open_is_gone_on_with_where_that_is_said(
    session: Session,
    plans: list[BackfillPlan],
    record: Record,
    heard: Recorder,
    status: str | None,
) -> None:
    record(status)
    found = applied(session, plans, resume=True)
    assert (found.error, found.open, found.ran) == (None, None, ["one", "two"])
    assert states(found) == ["applied", "applied"]
    assert heard.notes[0] == f"resuming one ({plans[0].path})"
    assert f"applying two ({plans[1].path})" in heard.notes
    runs = [view.record.id for view in views_of(session, found)]
    assert (len(runs), runs[0]) == (2, "RUN1")
    assert views_of(session, applied(session, plans)) == []


@pytest.mark.parametrize("at", ["parked", "worked on"])
@pytest.mark.parametrize("options", [{}, {"resume": True}, {"again": ("one",)}])
def test_a_run_that_is_with_the_workers_is_left_to_them(
    session: Session,
    plans: list[BackfillPlan],
    record: Record,
    heard: Recorder,
    options: dict[str, Any],
    at: str,
) -> None:
    """Between two steps, and during one."""
    record(at)
    found = applied(session, plans, **options)
    message = "run RUN1 is with the workers: `backfill status RUN1 --watch`"
    assert isinstance(found.open, Incomplete)
    assert (str(found.open), found.error, found.ran) == (message, None, [])
    assert heard.notes == [message]


@pytest.mark.parametrize("detach", [False, True])
def test_the_plans_after_a_paused_run_wait_while_it_goes_on_elsewhere(
    session: Session, plans: list[BackfillPlan], record: Record, heard: Recorder, *, detach: bool
) -> None:
    record("driven")
    pause(session, "RUN1")
    found = applied(session, plans, resume=True, detach=detach)
    assert isinstance(found.open, Incomplete)
    assert (found.error, found.ran, states(found)) == (None, ["one"], ["unfinished", "pending"])
    assert session.store.find("RUN1").wanted is None
    assert heard.notes[-1] == "run RUN1 has not completed: `backfill status RUN1 --watch`"


def test_a_plan_that_has_changed_is_told_and_the_others_are_applied(
    session: Session, plans: list[BackfillPlan], folder: Path, heard: Recorder
) -> None:
    first = applied(session, plans)
    assert states(first) == ["applied", "applied"]
    (folder / "one.yaml").write_text(PLAN % "one" + "# otherwise\n")
    (folder / "three.yaml").write_text(PLAN % "three, depends_on: [one]")
    changed = plans_to_apply(session, [str(folder)], {})
    found = applied(session, changed)
    run = first.entries[0].run
    assert run
    assert isinstance(found.open, StalePlan)
    assert str(found.open) in heard.notes
    assert f"changed: one was applied by run {run.run_id}, but" in str(found.open)
    assert found.ran == ["three"]
    assert applied(session, changed, again=("one",)).ran == ["one"]


def test_what_another_process_has_run_meanwhile_is_not_run_again(
    session: Session,
    plans: list[BackfillPlan],
    record: Record,
    heard: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = iter(["OTHER"])

    def planned(*given: Any, **more: Any) -> Any:
        for run_id in other:
            record("completed", run_id)
        return prepare(*given, **more)

    monkeypatch.setattr("runner.app.apply.prepare", planned)
    found = applied(session, plans[:1])
    assert (found.error, states(found)) == (None, ["applied"])
    assert heard.notes[1] == "one has been run in the meantime: run OTHER"
    assert len(session.reader.runs()) == 1
    assert views_of(session, found) == []


def test_a_run_that_was_refused_is_not_shown_as_the_run_before_it(
    session: Session, folder: Path, plans: list[BackfillPlan], record: Record
) -> None:
    record("completed")
    (folder / "one.yaml").write_text(PLAN % "one" + "approval: {required: true}\n")
    found = applied(session, plans_to_apply(session, [str(folder)], {}), again=("one",))
    assert isinstance(found.error, PreflightRefused)
    assert found.entries[0].run
    assert found.entries[0].run.run_id == "RUN1"
    assert views_of(session, found) == []


def test_what_a_plan_depends_on_must_have_been_applied_whole(
    session: Session, plans: list[BackfillPlan], record: Record
) -> None:
    alone = plans[1:]
    found = applied(session, alone)
    assert isinstance(found.error, PreflightRefused)
    assert (
        str(found.error) == "two depends on `one`, which is not among these plans and not applied"
    )
    record("failed", "RUN1")
    assert isinstance(applied(session, alone).error, PreflightRefused)
    first = applied(session, plans[:1], again=("one",))
    assert states(first) == ["applied"]
    assert applied(session, alone).ran == ["two"]


def test_a_baseline_is_in_the_ledger_and_was_not_sent(
    session: Session, plans: list[BackfillPlan]
) -> None:
    options = ApplyOptions("embedded")
    (entry,) = adopt(session, plans[:1], options, "done by hand")
    assert entry.state == "applied"
    assert entry.run
    kept = session.reader.find(entry.run.run_id)
    assert (kept.planned, kept.follow, kept.status) == (0, False, "completed")
    assert [one.state for one in pending(session, plans, options)] == ["applied", "pending"]
    with pytest.raises(StalePlan, match="one is applied already"):
        adopt(session, plans[:1], options, "once more")


def test_no_plans_file_is_written_over_and_each_name_is_one_of_theirs(
    session: Session, folder: Path
) -> None:
    def choose(**given: Any) -> list[str]:
        known: dict[str, Any] = {"named": {}, "writes": {}}
        found = to_apply(session, [str(folder)], {}, None, strict=False, **{**known, **given})
        return [plan.name for plan in found]

    assert choose(named={"--again": ["two"]}, writes={"--summary-file": "x"}) == ["one", "two"]
    with pytest.raises(UsageError, match="--again: there is no plan `tow` in") as unknown:
        choose(named={"--again": ["one", "tow"]})
    assert unknown.value.hint == "did you mean `two`?"
    session.files_given = ["policy.yaml"]
    for file in (str(folder / "catalog.yaml"), "policy.yaml"):
        with pytest.raises(UsageError, match="--summary-file"):
            choose(writes={"--summary-file": file})


@pytest.mark.parametrize(
    ("ran_in", "asked_in", "state"),
    [("a", "a", "failed"), ("a", "b", "pending"), ("", "b", "failed"), ("a", None, "failed")],
)
def test_what_one_environment_has_run_is_pending_in_another_on_the_same_target(
    session: Session,
    plans: list[BackfillPlan],
    record: Record,
    ran_in: str,
    asked_in: str | None,
    state: str,
) -> None:
    project = "apiVersion: backfill/v1\nkind: BackfillProject\nenvironments: {a: {}, b: {}}\n"
    (Path(plans[0].path).parent / "backfill.yaml").write_text(project)
    session.forget_projects()
    record("failed", environment=ran_in)
    session.environment_name = asked_in
    assert [one.state for one in pending(session, plans[:1], ApplyOptions("embedded"))] == [state]
