"""A run by a session, in process."""

from __future__ import annotations

from pathlib import Path

import pytest

import runner
from runner.adapters.journal.reader import JournalReader
from tests.support import repos, write_plan

HANDLED = 'handlers: {app/sync: "jobs:sync"}\n'


def test_no_batch_of_a_stage_without_rounds_asks_the_journal_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading would write the last answer before the next request, not while that is under way."""
    asked: list[int] = []
    rounds = JournalReader.rounds

    def counted(self: JournalReader, stage: int) -> object:
        asked.append(stage)
        return rounds(self, stage)

    monkeypatch.setattr(JournalReader, "rounds", counted)
    (tmp_path / "jobs.py").write_text("def sync(event):\n    pass\n")
    body = repos(40) + HANDLED + "operations: [sync]\nbatch_size: 1\ndelay: 0s\n"
    plan = write_plan(tmp_path, body)
    with runner.Session(state=tmp_path / "state.db") as session:
        assert session.run(session.plan(plan)).totals.completed == 40
    assert len(asked) < 10


def test_files_may_be_given_as_paths(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(2) + "operations: [sync]\n")
    with runner.Session(state=tmp_path / "state.db") as session:
        assert session.plan(plan).digest == session.plan(str(plan)).digest
        for ask in (session.check, session.coverage):
            with pytest.raises((runner.PreflightRefused, runner.UsageError)):
                ask(plan)
