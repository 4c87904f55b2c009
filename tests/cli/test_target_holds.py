"""Targets that are held: each surface says who held them and why, in each kind of state."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import Session, UsageError
from runner.model import TargetHold
from tests.execution import test_holds
from tests.support import new_store, repos, write_plan
from tests.types import Backfill


def test_status_runs_and_doctor_tell_what_is_held_by_whom_and_until_when(
    backfill: Backfill, tmp_path: Path, url: str
) -> None:
    plan = write_plan(tmp_path, repos(1) + "operations: [sync]\n")
    assert backfill("run", plan, "--target", url).status == 0
    held = backfill("pause", "--target", url, "--reason", "incident 42", "--for", "4h")
    assert held.status == 0
    for command in ("status", "runs"):
        shown = backfill(command)
        line = next(line for line in shown.out.splitlines() if "is held by" in line)
        assert line.endswith(": incident 42")
        assert "until 20" in line
        (told,) = json.loads(backfill(command, "--format", "json").out)["holds"]
        assert (told["reason"], told["target"]) == ("incident 42", url)
        assert told["since"] < told["until"]
    doctor = backfill("doctor", plan, "--target", url)
    assert "incident 42" in doctor.out
    assert backfill("resume", "--target", url).status == 0
    assert json.loads(backfill("status", "--format", "json").out)["holds"] == []
    assert "incident 42" not in backfill("doctor", plan, "--target", url).out


def test_a_state_without_a_run_tells_what_is_held(backfill: Backfill, url: str) -> None:
    assert backfill("pause", "--target", url, "--reason", "freeze").status == 0
    assert "until it is let go: freeze" in backfill("status").out
    assert "until it is let go: freeze" in backfill("runs").out


def test_no_surface_shows_a_key_or_a_command_in_a_reason(backfill: Backfill, url: str) -> None:
    reason = "see postgresql://bob:hunter2@db/x\n::error::\x1b[2J"
    first = backfill("pause", "--target", url, "--reason", reason)
    again = backfill("pause", "--target", url, "--reason", "freeze")
    shown = [first.out, again.err]
    assert all("see postgresql://***@db/x" in text for text in shown)
    assert not any(part in text for part in ("hunter2", "\x1b", "\n::") for text in shown)


def test_a_hold_says_whose_hold_it_replaces(backfill: Backfill, url: str) -> None:
    """An incident's hold ended with the deploy that somebody else held the target for."""
    first = backfill("pause", "--target", url, "--reason", "incident 42")
    assert "replaces" not in first.err
    second = backfill("pause", "--target", url, "--reason", "deploy", "--for", "1h")
    assert "this replaces the hold by " in second.err
    assert second.err.endswith(": incident 42\n")
    assert "incident 42" not in backfill("runs").out


def test_programs_hold_tune_and_let_go(tmp_path: Path) -> None:
    with Session(str(tmp_path / "state.db"), environ={}) as session:
        assert session.holds() == []
        session.hold("dev", "maintenance", seconds=60)
        (hold,) = session.holds()
        assert isinstance(hold, TargetHold)
        assert hold.reason == "maintenance"
        session.let_go("dev")
        assert session.holds() == []
        with pytest.raises(UsageError, match="is not held"):
            session.let_go("dev")
        with pytest.raises(UsageError, match="there is no run"):
            session.tune(delay=5.0)


def test_a_hold_is_the_same_in_each_kind_of_state(tmp_path: Path, state: str) -> None:
    store = new_store(tmp_path)
    store.hold("http://a", "a", "first", None)
    store.hold("http://b", "b", "over", -1.0)
    store.hold("http://a", "a", "second", 3600.0)
    (hold,) = new_store(tmp_path).holds()
    assert (hold.target, hold.reason) == ("a", "second")
    assert hold.until == pytest.approx(hold.since + 3600)
    assert store.let_go("http://a")
    assert not store.let_go("http://a")
    assert not store.let_go("http://b")  # it had expired, so nothing was held
    assert store.holds() == []


def test_a_run_waits_for_a_held_target_in_each_kind_of_state(tmp_path: Path, state: str) -> None:
    claims: list[Callable[[Path], None]] = [
        test_holds.test_a_run_under_way_holds_within_one_request_and_goes_on_when_it_is_let_go,
        test_holds.test_a_new_run_and_a_request_whose_answer_was_lost_wait_too,
    ]
    for number, claim in enumerate(claims):
        folder = tmp_path / str(number)
        folder.mkdir()
        claim(folder)
