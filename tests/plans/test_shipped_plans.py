"""The plans of `plans/` run to their end on the embedded target, each on an empty machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import runner
from runner.app.init import init
from runner.model.value import as_argument
from tests.depth import crossed
from tests.support import HurriedClock

PLANS = Path(__file__).parents[2] / "plans"


@pytest.mark.parametrize(
    "name", sorted(path.name for path in PLANS.glob("*.yaml") if ".test." not in path.name)
)
def test_a_shipped_plan_completes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUICKSTART_DATABASE", str(tmp_path / "quickstart.db"))
    with runner.Session(str(tmp_path / "state.db"), environ={}, clock=HurriedClock()) as session:
        plan = session.plan(str(PLANS / name))
        outcome = session.run(plan)
    assert outcome.status == "completed"
    assert outcome.totals.completed == outcome.totals.planned > 0


@pytest.mark.parametrize("own", [True, False])
def test_so_does_a_new_one_with_its_own_worker_and_with_the_quickstarts(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUICKSTART_DATABASE", str(tmp_path / "quickstart.db"))
    plan, *_ = init(str(tmp_path / "plan.yaml"))
    if not own:
        (shipped,) = (PLANS / "quickstart").glob("worker.py")
        tmp_path.joinpath("exports").symlink_to(PLANS / "quickstart" / "exports")
        tmp_path.joinpath("shipped_worker.py").write_bytes(shipped.read_bytes())
        tmp_path.joinpath("schema.sql").write_bytes(shipped.with_name("schema.sql").read_bytes())
        text = plan.read_text("utf-8")
        for event, job in (
            ("capture/repository.sync", "sync_repository"),
            ("embeddings/process.workspace", "compute_embeddings"),
            ("workspace/aggregate", "aggregate_workspace"),
        ):
            text = text.replace(f"{event}: plan_worker:handle", f"{event}: shipped_worker:{job}")
        plan.write_text(text, "utf-8")
    with runner.Session(str(tmp_path / "state.db"), environ={}, clock=HurriedClock()) as session:
        outcome = session.run(session.plan(str(plan)))
    assert (outcome.status, outcome.totals.completed) == ("completed", 4)


NAMES = (
    "2026.yaml", "2026-11-20.yaml", "1e5.yaml", "true.yaml", "No.yaml", "class.yaml", "ü ñ.yaml",
    "日本.yaml", "a b.yaml", "-x.yaml", "a$(id)'.yaml", "plan", "..yaml",
)  # fmt: skip


@pytest.mark.parametrize(("name", "items"), crossed(NAMES, [None, "things"]))
def test_a_new_plan_completes_whatever_its_file_is_called(
    name: str, items: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a shell finds it by what is said to come next."""
    monkeypatch.chdir(tmp_path)
    plan, *_ = init(name, items)
    said = subprocess.run(
        ["sh", "-c", f"ls {as_argument(str(plan))}"], capture_output=True, check=True, text=True
    )
    assert Path(said.stdout.rstrip("\n")) == Path(name)
    with runner.Session("state.db", environ={}, clock=HurriedClock()) as session:
        outcome = session.run(session.plan(as_argument(name) if name[0] == "-" else name))
    assert outcome.status == "completed"
