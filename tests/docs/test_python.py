"""The programs of docs/python.md do as the page says, and README has the first of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import runner
from tests.docs.pages import ROOT, fences

PAGE = ROOT / "docs" / "python.md"


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


def test_the_test_of_the_page_passes() -> None:
    names: dict[str, object] = {}
    exec(programs(PAGE)[1], names)  # noqa: S102 - it is ours
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


def test_importing_it_loads_nothing_else() -> None:
    import subprocess
    import sys

    code = "import runner, sys; print(sum(name.startswith('runner') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert int(done.stdout) <= 2
