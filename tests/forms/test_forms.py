"""Outward forms change only together with a line of the changelog; what was written once is read
for ever."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from runner.adapters.journal.state import StateReader
from runner.adapters.journal.store import Store
from runner.output.run import report_json
from runner.planning.saved import write_saved
from runner.planning.serialize import load_head
from tests.documents import expect_form
from tests.forms import forms

GOLDEN = Path(__file__).parent / "golden"
DOCUMENTS = sorted(GOLDEN.glob("*.json"))


def test_no_outward_form_has_changed_without_a_line_in_the_changelog() -> None:
    assert not forms.changed(), (
        "these forms are promises (docs/compatibility.md): add a line to CHANGELOG.md, then "
        "`python -m tests.forms`"
    )


def test_a_form_is_not_written_down_anew_without_a_new_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    document = forms.kept()
    document["forms"]["exit statuses"] = "another"
    kept = tmp_path / "forms.json"
    kept.write_text(json.dumps(document), "utf-8")
    monkeypatch.setattr(forms, "KEPT", kept)
    known = sorted(document["changelog"])
    lines = forms.changelog()
    monkeypatch.setattr(forms, "changelog", lambda: lines[:0])
    assert "exit statuses: CHANGELOG.md has no new line" in forms.write()
    monkeypatch.setattr(forms, "changelog", lambda: [*lines, "- statuses are others"])
    assert forms.write() == ""
    assert json.loads(kept.read_text("utf-8"))["changelog"] != known


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.stem for path in DOCUMENTS])
def test_a_document_of_the_first_version_has_its_form_for_ever(path: Path) -> None:
    assert expect_form(path.read_text("utf-8"))


def test_a_saved_plan_of_the_first_version_is_written_to_the_same_bytes() -> None:
    assert write_saved(forms.saved_plan()) == forms.SAVED.read_bytes()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state as the first version left it: a failed run, its retry, and one that was only sent."""
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((GOLDEN / "state.sql").read_text("utf-8"))
    return path


def test_a_state_of_the_first_version_is_read_for_ever(state: Path) -> None:
    with StateReader(f"sqlite:///{state}") as reader:
        lines = {line.record.id: line for line in reader.runs()}
        assert sorted(line.record.status for line in lines.values()) == ["failed", "failed", "sent"]
        golden = json.loads((GOLDEN / "retry.json").read_text("utf-8"))
        record = lines[golden["run_id"]].record
        view = reader.view(record)
        assert view.record.parent in lines
        told = report_json(view)
        assert expect_form(json.dumps(told)) == "RunReport"
        for line in lines.values():
            assert load_head(line.record.head).stages
            plan = reader.plan_of(line.record)
            assert [event.item for event in reader.events(line.record)] == [
                event.item for event in plan.planned()
            ]


def test_a_run_of_the_first_version_goes_on(state: Path) -> None:
    with Store(f"sqlite:///{state}") as store:
        (record,) = [one.record for one in store.runs() if one.record.status == "sent"]
        plan = store.plan_of(record)
        lease = store.lock(record.plan, record.address, record.id)
        journal = store.reopen(record, lease, plan, follow=True)
        assert len(journal.unsettled()) == plan.events == 2
        journal.end("completed")
        assert store.find(record.id).status == "completed"
