"""Following a branch, in process: each pause runs a step of what happens meanwhile."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.app.apply import ApplyOptions
from runner.app.session import Session
from runner.app.sync import Synced, SyncOptions, sync
from runner.errors import (
    BackfillError,
    InvalidPlan,
    PreflightRefused,
    StalePlan,
    TargetError,
    UsageError,
)
from runner.model import Summary, SyncRecord
from tests.git import Git
from tests.support import CATALOG, Recorder

PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: %s}
catalog: catalog.yaml
repos: [o/a]
operations: [sync]
handlers: {app/sync: "jobs:work"}
"""
Follow = Callable[..., Synced]


def jobs(told: Path, word: str) -> str:
    write = f"open({str(told)!r}, 'a') as file:\n        file.write('{word} ')\n"
    return f"def work(event):\n    with {write}"


@pytest.fixture
def remote(tmp_path: Path) -> Git:
    git = Git.init(tmp_path / "remote")
    git.write("plans/catalog.yaml", CATALOG)
    git.write("plans/jobs.py", jobs(tmp_path / "told", "first"))
    git.write("plans/one.yaml", PLAN % "one")
    git.commit()
    return git


@pytest.fixture
def follow(session: Session, remote: Git, monkeypatch: pytest.MonkeyPatch) -> Follow:
    """Look once, or until all steps are done; then the process gets a signal to end."""

    def run(*steps: Callable[[], object], path: str = "plans", **options: Any) -> Synced:
        left: list[Callable[[], object]] = [*steps, lambda: signal.raise_signal(signal.SIGTERM)]
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            left.pop(0)()

        clock = SimpleNamespace(time=time.time, sleep=pause)
        monkeypatch.setattr("runner.app.sync.time", clock)
        report = options.pop("report", lambda _: None)
        given = {"every": 2.0, "apply": ApplyOptions("embedded"), **options}
        what = SyncOptions(str(remote.folder), "main", path, **given)
        found = sync(session, what, once=not steps, report=report)
        assert pauses == [given["every"]] * (len(steps) + 1 if steps else 0)
        return found

    return run


def record(session: Session) -> SyncRecord:
    (found,) = session.store.syncs()
    return found


def test_what_comes_is_applied_with_its_own_code_until_the_process_is_told_to_end(
    follow: Follow, remote: Git, session: Session, tmp_path: Path, heard: Recorder
) -> None:
    first = remote("rev-parse", "HEAD")

    def push() -> None:
        remote.write("plans/jobs.py", jobs(tmp_path / "told", "second"))
        remote.write("plans/two.yaml", PLAN % "two")
        remote.commit()

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    found = follow(push, lambda: None)
    second = remote("rev-parse", "HEAD")
    assert (found.stopped, found.amid, found.error) == (signal.SIGTERM, False, None)
    assert found.target == "embedded"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert (tmp_path / "told").read_text() == "first second "
    applied = [words for words in heard.notes if words.endswith(": applying plans")]
    assert applied == [f"{commit[:12]}: applying plans" for commit in (first, second)]
    kept = record(session)
    assert (kept.seen, kept.applied, kept.outcome) == (second, second, "applied")
    assert (kept.ended_at is not None, kept.applied_at is not None) == (True, True)
    again = follow()
    assert (again.commit, again.idle) == (second, True), "there is nothing new"
    assert record(session).applied_at == kept.applied_at


def test_what_is_wrong_is_reported_once_as_long_as_it_stays_the_same(
    follow: Follow, remote: Git, session: Session
) -> None:
    elsewhere, reported = remote.folder.with_name("elsewhere"), list[BackfillError]()

    def goes() -> None:
        remote.folder.rename(elsewhere)

    def comes() -> None:
        elsewhere.rename(remote.folder)

    found = follow(goes, lambda: None, comes, goes, report=reported.append)
    assert [type(one) for one in reported] == [TargetError, TargetError]
    assert str(reported[0]).startswith(f"{remote.folder}: ")
    assert "branch and git's credentials" in (reported[0].hint or "")
    assert (found.error, record(session).outcome) == (None, "unreachable")


def test_a_branch_that_was_rewritten_is_refused_unless_that_is_allowed(
    follow: Follow, remote: Git, session: Session
) -> None:
    follow()
    first = remote("rev-parse", "HEAD")
    remote("commit", "--quiet", "--amend", "--message", "other", "--no-edit", "--allow-empty")
    second = remote("rev-parse", "HEAD")
    refused = follow()
    assert isinstance(refused.error, StalePlan)
    assert f"it was at {first[:12]}, and {second[:12]} does" in str(refused.error)
    assert (record(session).outcome, record(session).applied) == ("refused", first)
    assert follow(allow_force_push=True).error is None
    assert record(session).applied == second


def test_a_branch_that_was_put_back_to_what_is_applied_goes_on_from_there(
    follow: Follow, remote: Git, session: Session
) -> None:
    follow()
    first = remote("rev-parse", "HEAD")
    remote.write("plans/one.yaml", "nonsense")
    bad = remote.commit()
    assert follow().error
    assert (record(session).seen, record(session).applied) == (bad, first)
    remote("reset", "--quiet", "--hard", first)
    assert isinstance(follow().error, StalePlan)
    assert follow(allow_force_push=True).error is None
    assert (record(session).seen, record(session).applied) == (first, first)
    remote.write("plans/two.yaml", PLAN % "two")
    second = remote.commit()
    assert follow().error is None
    assert record(session).applied == second


def test_a_commit_without_a_signature_is_refused_where_one_is_needed(
    follow: Follow, session: Session
) -> None:
    for needed in ({"signed": True}, {"allowed_signers": "/dev/null"}):
        found = follow(**needed)
        assert isinstance(found.error, PreflightRefused)
        assert record(session).applied is None


def test_what_does_not_complete_is_written_down_and_tried_again(
    follow: Follow, remote: Git, session: Session
) -> None:
    remote.write("plans/jobs.py", "def work(event):\n    raise ValueError('no')\n")
    remote.commit()
    failed = follow()
    assert failed.applied
    assert isinstance(failed.applied.open, Summary)
    run = failed.applied.open.run_id
    assert (record(session).outcome, record(session).message) == ("failed", f"run {run} is failed")
    assert record(session).applied is None
    remote.write("plans/one.yaml", PLAN.replace("[o/a]", "[nonsense]") % "one")
    remote.commit()
    invalid = follow()
    assert isinstance(invalid.error, InvalidPlan)
    message = record(session).message or ""
    assert "plans/one.yaml:5:9: error: `nonsense` is not a repository" in message
    assert record(session).outcome == "failed"


def test_a_folder_that_the_commit_does_not_have_is_refused(follow: Follow, remote: Git) -> None:
    commit = remote("rev-parse", "HEAD")[:12]
    for path in ("nowhere", "../.."):
        found = follow(path=path)
        assert str(found.error) == f"there is no {path} in {commit} of main"


@pytest.mark.parametrize(("every", "refused"), [(0.99, True), (1.0, False)])
def test_a_second_lies_between_two_looks_at_least(
    follow: Follow, every: float, refused: bool
) -> None:
    if refused:
        with pytest.raises(UsageError, match="--every must be at least 1s"):
            follow(every=every)
    else:
        assert follow(lambda: None, every=every).error is None


def test_nobody_is_asked_before_events_leave_this_machine(follow: Follow, session: Session) -> None:
    with pytest.raises(
        PreflightRefused, match="`sync` cannot ask for confirmation before it sends to cloud"
    ):
        follow(apply=ApplyOptions("cloud"))
    assert session.store.syncs() == []


def test_what_is_followed_is_known_by_its_place_its_target_and_its_environment(
    remote: Git, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the place is written."""
    monkeypatch.chdir(tmp_path)
    for written in (str(remote.folder), "remote", "./remote"):
        sync(
            session, SyncOptions(written, "main", "plans", 2.0, ApplyOptions("embedded")), once=True
        )
    assert record(session).repository == str(remote.folder)
    for name in ("one", "two", None):
        session.environment_name = name
        sync(session, SyncOptions("remote", "main", "plans", 2.0, ApplyOptions(None)), once=True)
    assert len(session.store.syncs()) == 4
    assert {one.target for one in session.store.syncs()} == {"", "embedded"}
