"""A session whose state belongs to the test, and what it reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.app.session import Session
from tests.support import Recorder


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    for name in ("say", "note"):
        monkeypatch.setattr(f"runner.app.session.Silent.{name}", lambda _, words: found.note(words))
    return found


@pytest.fixture
def session(tmp_path: Path, heard: Recorder) -> Iterator[Session]:
    with Session(str(tmp_path / "state.db"), environ={}) as session:
        yield session
