"""`backfill format`: plans and catalogs in their one layout, each file whole or not at all."""

from __future__ import annotations

import errno
import shlex
import stat
from pathlib import Path

import pytest
import yaml

from runner.cli.main import cli
from runner.errors import UsageError
from tests.types import Backfill

ROOT = Path(__file__).parents[2]
PLAN = """\
# Nightly.
kind: BackfillPlan
apiVersion: backfill/v1
delay: 300s   # be kind
metadata: {owner: data-platform, name: nightly}
repos: [vercel/ai]
operations: [repository-sync]
"""
FORMATTED = """\
# Nightly.
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: nightly, owner: data-platform}
repos: [vercel/ai]
operations: [repository-sync]
delay: 5m   # be kind
"""
CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {for_each: repo, event: app/sync}
"""
OTHERS = {
    "approved.yaml": "at: 2026-11-20\ndelay: 300s\n",
    "rows.yaml": "- {velocity: 4, repo: vercel/ai}\n",
    "backfill.yaml": "kind: BackfillProject\napiVersion: backfill/v1\n",
    "notes.txt": "kind: BackfillPlan\napiVersion: backfill/v1\n",
}


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    """A folder with a plan, a catalog, and files that are neither."""
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / "nightly.yaml").write_text(PLAN)
    (folder / "catalog.yml").write_text(CATALOG)
    for name, text in OTHERS.items():
        (folder / name).write_text(text)
    return folder


def test_plans_and_catalogs_of_a_folder_are_rewritten_and_nothing_else(
    backfill: Backfill, plans: Path
) -> None:
    sent = backfill("plan", plans / "nightly.yaml", "--format", "jsonl").out
    done = backfill("format", plans)
    said = [f"{plans / name}: formatted\n" for name in ("catalog.yml", "nightly.yaml")]
    assert (done.status, done.out, done.err) == (0, "".join(said), "")
    assert (plans / "nightly.yaml").read_text() == FORMATTED
    assert "sync: {event: app/sync, for_each: repo}" in (plans / "catalog.yml").read_text()
    for name, text in OTHERS.items():
        assert (plans / name).read_text() == text
    assert {path.name for path in plans.iterdir()} == {"nightly.yaml", "catalog.yml", *OTHERS}
    assert backfill("plan", plans / "nightly.yaml", "--format", "jsonl").out == sent != ""
    again = backfill("format", plans)
    assert (again.status, again.out) == (0, "nothing to do: 2 files are formatted already\n")


def test_a_check_writes_nothing_and_fails_where_a_file_would_change(
    backfill: Backfill, plans: Path
) -> None:
    (plans / "catalog.yml").unlink()
    plan = plans / "nightly.yaml"
    done = backfill("format", "--check", plans)
    assert (done.status, done.out) == (1, f"{plan}: would be formatted\n")
    assert plan.read_text() == PLAN
    assert backfill("format", plan).status == 0
    done = backfill("format", "--check", plans)
    assert (done.status, done.out) == (0, "nothing to do: 1 file is formatted already\n")


def test_all_problems_are_said_at_once_and_nothing_is_written(
    backfill: Backfill, plans: Path
) -> None:
    (plans / "broken.yaml").write_text("kind: [\n")
    (plans / "other.yaml").write_text("apiVersion: backfill/v0\nkind: BackfillPlan\n")
    (plans / "newer.yaml").write_text("apiVersion: backfill/v2\nkind: OperationCatalog\n")
    for arguments in ([plans], [plans, "--check"]):
        done = backfill("format", *arguments)
        assert (done.status, done.out) == (3, "")
        assert f"{plans / 'broken.yaml'}:2:1: error:" in done.err
        assert f"{plans / 'other.yaml'}:1:13: error:" in done.err
        assert "write `apiVersion: backfill/v1`" in done.err
        assert f"{plans / 'newer.yaml'}:1:13: error:" in done.err
    assert (plans / "nightly.yaml").read_text() == PLAN
    assert (plans / "catalog.yml").read_text() == CATALOG


def test_a_file_is_replaced_and_keeps_its_mode(backfill: Backfill, plans: Path) -> None:
    """A reader that has the old file open reads the old text to its end."""
    path = plans / "nightly.yaml"
    path.chmod(0o640)
    (plans / "other-name-of-the-old-file").hardlink_to(path)
    assert backfill("format", path).status == 0
    assert path.read_text() == FORMATTED
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (plans / "other-name-of-the-old-file").read_text() == PLAN


def test_a_link_stays_one_and_its_file_is_rewritten(backfill: Backfill, plans: Path) -> None:
    link = plans.parent / "link.yaml"
    link.symlink_to(Path("plans") / "nightly.yaml")
    done = backfill("format", link)
    assert (done.status, done.out) == (0, f"{link}: formatted\n")
    assert link.is_symlink()
    assert (plans / "nightly.yaml").read_text() == FORMATTED


def test_bytes_that_no_rule_names_stay(backfill: Backfill, tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + PLAN.replace("\n", "\r\n").encode())
    assert backfill("format", path).status == 0
    assert path.read_bytes() == b"\xef\xbb\xbf" + FORMATTED.replace("\n", "\r\n").encode()


def test_a_saved_plan_is_not_touched(backfill: Backfill, plans: Path) -> None:
    """Changing one byte of it would break its checksum."""
    saved = plans / "saved.json"
    assert backfill("plan", plans / "nightly.yaml", "--out", saved).status == 0
    before = saved.read_bytes()
    done = backfill("format", saved)
    assert (done.status, done.out) == (0, "nothing to do: 0 files are formatted already\n")
    assert saved.read_bytes() == before


def test_a_write_that_fails_leaves_the_file_and_nothing_beside_it(
    plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_beside: Path, _target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path, before = plans / "nightly.yaml", set(plans.iterdir())
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        cli.main(["format", str(path)], standalone_mode=False)
    assert path.read_text() == PLAN
    assert set(plans.iterdir()) == before


def test_a_file_that_is_not_there_is_a_usage_error(backfill: Backfill, tmp_path: Path) -> None:
    assert backfill("format", tmp_path / "none.yaml").status == 2
    assert backfill("format").status == 2


def test_every_hook_for_pre_commit_is_a_command_that_takes_files(
    backfill: Backfill, plans: Path
) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert [hook["id"] for hook in hooks] == ["backfill-validate", "backfill-format"]
    for hook in hooks:
        program, *arguments = shlex.split(hook["entry"])
        assert program == "backfill"
        done = backfill(*arguments, plans / "nightly.yaml")
        assert (done.status, done.err) == (0, "")
    assert (plans / "nightly.yaml").read_text() == FORMATTED


def test_our_own_plans_are_in_form(backfill: Backfill) -> None:
    folders = [ROOT / "plans", ROOT / "plans/contributor-info", ROOT / "plans/quickstart"]
    assert backfill("format", "--check", *folders).status == 0
