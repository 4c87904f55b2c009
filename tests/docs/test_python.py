"""The programs of docs/python.md do what the page says, and README has the first of them."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import get_ident
from types import SimpleNamespace
from typing import Any

import pytest

import runner
from runner.model import RunRecord, StageRecord
from tests.docs.pages import ROOT, fences
from tests.support import Recorder

PAGE = ROOT / "docs" / "python.md"
ORCHESTRATORS = ROOT / "docs" / "airflow-dagster-notebooks.md"


def programs(page: Path) -> list[str]:
    return [fence.text for fence in fences(page) if fence.language == "python"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = shutil.ignore_patterns("*.db*", "__pycache__")
    shutil.copytree(ROOT / "plans", tmp_path / "plans", ignore=ignored)
    monkeypatch.chdir(tmp_path)


def test_a_program_of_ten_lines_plans_runs_and_reads_outcomes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = programs(PAGE)[0]
    assert programs(ROOT / "README.md") == [program]
    assert len(program.splitlines()) <= 10
    exec(program, {})  # noqa: S102 - it is ours
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["5 events for embedded", "completed 5"]
    assert all(line.endswith(" completed") for line in out[2:])
    assert len(out) == 7


def test_the_program_beside_an_event_loop_shows_its_progress(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exec(programs(PAGE)[1], {})  # noqa: S102 - it is ours
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "completed"
    assert any(line.startswith("repository-sync: 3 of 3") for line in out)


def test_the_test_of_the_page_passes() -> None:
    names: dict[str, object] = {}
    exec(programs(PAGE)[2], names)  # noqa: S102 - it is ours
    (test,) = [value for name, value in names.items() if name.startswith("test_")]
    assert callable(test)
    test()


def test_every_method_and_error_of_the_page_is_there() -> None:
    text = PAGE.read_text("utf-8")
    methods = [name for name in vars(runner.Session) if not name.startswith("_")]
    assert [name for name in methods if f"`{name}(" not in text] == []
    assert set(runner.__all__) <= set(dir(runner))
    for name in runner.__all__:
        assert getattr(runner, name)


def test_a_name_that_is_not_there_is_refused_by_python_and_by_a_type_checker() -> None:
    """mypy, which reads the tests too, refuses an `ignore` without an error."""
    with pytest.raises(AttributeError, match="has no attribute `Sesion`"):
        runner.Sesion  # type: ignore[attr-defined]  # noqa: B018


def test_an_observer_is_called_in_the_callers_thread_unless_a_loop_runs_there() -> None:
    class Heard(Recorder):
        def progress(self, progress: StageRecord) -> None:
            super().progress(progress)
            threads.add(get_ident())

    def drive() -> set[int]:
        threads.clear()
        with runner.Session() as session:
            session.run(session.plan("plans/quickstart/plan.yaml"), Heard())
        return {*threads}

    async def drive_in_a_loop() -> set[int]:
        return drive()

    threads: set[int] = set()
    here = {get_ident()}
    assert drive() == here
    assert asyncio.run(drive_in_a_loop()).isdisjoint(here)


def test_importing_it_loads_nothing_else() -> None:
    import subprocess
    import sys

    code = "import runner, sys; print(sum(name.startswith('runner') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert int(done.stdout) <= 2


class _Failure(Exception):
    """A stand-in for Dagster's."""


def _same(*_: Any, **__: Any) -> Any:
    """A stand-in for a decorator with arguments, which returns the function as it is."""
    return lambda function: function


@pytest.fixture
def orchestrators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Yield what the page's programs define, with `plans/refresh.yaml` run on the embedded target,
    and stand-ins for what the page uses of Airflow and Dagster."""
    sdk = SimpleNamespace(dag=_same, task=_same)
    dagster = SimpleNamespace(
        asset=lambda function: function, MaterializeResult=SimpleNamespace, Failure=_Failure
    )
    monkeypatch.setitem(sys.modules, "airflow", SimpleNamespace(sdk=sdk))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    monkeypatch.setitem(sys.modules, "dagster", dagster)
    shutil.copytree(tmp_path / "plans" / "quickstart", tmp_path / "plans", dirs_exist_ok=True)
    (tmp_path / "plans" / "plan.yaml").rename(tmp_path / "plans" / "refresh.yaml")
    names: dict[str, Any] = {"__annotations__": {}}
    for program in programs(ORCHESTRATORS):
        for target in ("cloud", "dev"):
            program = program.replace(f'"{target}"', '"embedded"')
        exec(program, names)  # noqa: S102 - it is ours
    yield names
    names["session"].close()  # defined in the page's notebook


def test_an_airflow_task_a_dagster_asset_and_a_cell_run_a_plan(
    orchestrators: dict[str, Any],
) -> None:
    """Each has run it once: the DAG when it was defined, the cell, and the asset here."""
    assert orchestrators["refreshed"]().metadata == {"completed": 5}
    session = orchestrators["session"]
    assert [line.record.status for line in session.runs()] == ["completed"] * 3
    assert {one.outcome for one in session.events(orchestrators["outcome"].run_id)} == {"completed"}


class _Dies(Recorder):
    """An observer that ends its process when the first progress is reported."""

    def progress(self, progress: StageRecord) -> None:  # noqa: ARG002
        raise RuntimeError("the node is gone")


def _begun(session: runner.Session) -> RunRecord:
    """Return a run whose process has died."""
    with pytest.raises(RuntimeError, match="the node is gone"):
        session.run(session.plan("plans/refresh.yaml", target="embedded"), _Dies())
    (line,) = session.runs(limit=1)
    return line.record


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_task_that_is_tried_again_goes_on_with_its_run(
    orchestrators: dict[str, Any], *, elsewhere: bool
) -> None:
    """But not with a run that somebody began on another target."""
    with runner.Session() as session:
        begun = _begun(session)
        if elsewhere:
            with session.store._database.write() as connection:
                change = "UPDATE runs SET address = 'http://elsewhere' WHERE id = :run"
                connection.change(change, run=begun.id)
    again = orchestrators["backfill"]("plans/refresh.yaml", "embedded")
    assert again.status == "completed"
    assert (again.run_id == begun.id) is not elsewhere
    assert len(orchestrators["session"].runs()) == 3 + elsewhere, "the page's own, and this one"


def test_a_task_does_not_take_a_run_that_goes_on_elsewhere_for_done(
    orchestrators: dict[str, Any],
) -> None:
    """Not even one that was paused, and that the task lets go on."""
    with runner.Session() as session:
        begun = _begun(session)
        with session.lock(begun.plan, begun.address, begun.id):
            for paused in (True, False):
                if paused:
                    session.pause()
                with pytest.raises(runner.LockHeld):
                    orchestrators["backfill"]("plans/refresh.yaml", "embedded")


def test_a_notebook_has_an_event_loop_of_its_own() -> None:
    async def cell() -> runner.Summary:
        with runner.Session() as session:
            return session.run(session.plan("plans/quickstart/plan.yaml", target="embedded"))

    assert asyncio.run(cell()).status == "completed"
