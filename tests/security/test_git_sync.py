"""`sync` follows a repository elsewhere: it fetches objects, and no program of theirs runs."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from runner.adapters.git_mirror import Mirror
from runner.errors import UsageError
from tests.cli.conftest import backfill
from tests.depth import some
from tests.git import Git
from tests.security.evil import KEYS, LEADING, Evil
from tests.types import Backfill

__all__ = ["backfill"]

PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: one}
catalog: catalog.yaml
repos: [o/a]
operations: [fire]
"""


@pytest.fixture
def remote(tmp_path: Path) -> Git:
    git = Git.init(tmp_path / "remote")
    git.write("plans/one.yaml", PLAN)
    git.write("bin/guard", "#!/bin/sh\n")
    (git.folder / "bin/guard").chmod(0o755)
    git.commit()
    return git


Checked = Callable[[], Path]


@pytest.fixture
def checked_out(remote: Git, tmp_path: Path) -> Checked:
    """Fetch the branch and write its files; return their folder."""
    mirror = Mirror(tmp_path / "mirror", str(remote.folder), "main", os.environ)

    def look() -> Path:
        with mirror.opened():
            mirror.check_out(mirror.fetch())
            return mirror.folder

    return look


@pytest.fixture
def evil(tmp_path: Path) -> Evil:
    return Evil(tmp_path / "evil-files")


@pytest.mark.parametrize("place", ["sync", "sync/one", "sync/one/.git"])
def test_a_link_of_a_checkout_leads_to_no_folder_that_is_overwritten(
    remote: Git, tmp_path: Path, place: str
) -> None:
    """The folder is in `.backfill`, which a commit may hold."""
    other = Git.init(tmp_path / "other")
    other.write("plans/one.yaml", "mine\n")
    other.commit()
    before = {path: path.read_bytes() for path in other.folder.rglob("*") if path.is_file()}
    link = tmp_path / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(other.folder / ".git" if place.endswith(".git") else other.folder)
    mirror = Mirror(tmp_path / "sync" / "one", str(remote.folder), "main", os.environ)
    with pytest.raises(UsageError, match="is a link"), mirror.opened():
        mirror.check_out(mirror.fetch())
    assert {path: path.read_bytes() for path in other.folder.rglob("*") if path.is_file()} == before


def files(folder: Path) -> set[str]:
    found = (file for file in folder.rglob("*") if not file.is_dir() or file.is_symlink())
    return {
        name for file in found if not (name := str(file.relative_to(folder))).startswith(".git/")
    }


@pytest.mark.parametrize("key", some([*KEYS, *LEADING], 12))
def test_no_key_of_the_repository_that_is_followed_runs_anything(
    remote: Git, evil: Evil, checked_out: Checked, key: str
) -> None:
    evil.plant(remote.folder / ".git" / "config", [key])
    assert (checked_out() / "plans/one.yaml").read_text() == PLAN
    assert not evil.ran


def test_neither_attributes_hooks_nor_submodules_of_a_commit_run_anything(
    remote: Git, evil: Evil, checked_out: Checked
) -> None:
    remote.write(".gitattributes", "* filter=evil diff=evil merge=evil\n")
    remote.write(
        ".gitmodules",
        f'[submodule "x"]\n\tpath = sub\n\turl = ext::{evil.program}\n\tupdate = !{evil.program}\n',
    )
    head = remote("rev-parse", "HEAD")
    remote("add", "--all")
    remote("update-index", "--add", "--cacheinfo", f"160000,{head},sub")
    remote("commit", "--quiet", "--message", "a submodule")
    folder = checked_out()
    evil.plant(folder / ".git" / "config", [*KEYS, "core.hooksPath"])
    remote.write("plans/two.yaml", PLAN)
    remote("add", "plans")
    remote("commit", "--quiet", "--message", "two")
    assert "plans/two.yaml" in files(checked_out())
    assert not (folder / "sub").exists()
    assert not evil.ran


@pytest.mark.parametrize(
    "address",
    [
        "ext::sh -c touch% mark",
        "fd::17",
        "file::/x",
        "https::x",
        "http://example.com/x",
        "git://example.com/x",
        "ext://x",
        "ftp://example.com/x",
        "--upload-pack=touch mark",
    ],
)
def test_an_address_that_would_start_a_program_or_is_not_secure_is_refused_at_once(
    backfill: Backfill, address: str
) -> None:
    began = time.monotonic()
    done = backfill("sync", f"--repo={address}", "--once")
    assert time.monotonic() - began < 20
    assert (done.status, done.out) == (2, "")
    assert "--repo needs an address of https or ssh, or a folder" in done.err
    assert not Path("mark").exists()


def test_files_are_written_as_the_commit_has_them_and_go_with_it(
    remote: Git, checked_out: Checked
) -> None:
    (remote.folder / "plans/link.yaml").symlink_to("one.yaml")
    remote.commit()
    folder = checked_out()
    assert files(folder) == {"bin/guard", "plans/one.yaml", "plans/link.yaml"}
    assert os.access(folder / "bin/guard", os.X_OK)
    (folder / "plans/one.yaml").write_text("changed by somebody")
    (folder / "plans/own.txt").write_text("somebody's own")
    remote("rm", "--quiet", "-r", "bin", "plans/link.yaml")
    remote.write("bin", "a file now")
    remote.commit()
    assert files(checked_out()) == {"bin", "plans/one.yaml", "plans/own.txt"}
    assert (folder / "plans/one.yaml").read_text() == PLAN
    remote("rm", "--quiet", "bin")
    remote.write("bin/inner", "a folder again")
    remote.commit()
    assert files(checked_out()) == {"bin/inner", "plans/one.yaml", "plans/own.txt"}


def test_nothing_is_written_outside_the_folder_whatever_a_commit_holds(
    remote: Git, checked_out: Checked, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name, to in (
        ("absolute", str(outside)),
        ("above", "../outside"),
        ("round", "round"),
        ("within", "plans/../plans"),
        ("twice", "within/../../outside"),
    ):
        (remote.folder / name).symlink_to(to)
    remote.commit()
    folder = checked_out()
    assert files(folder) == {"bin/guard", "plans/one.yaml", "within"}
    for name in ("within", "plans"):  # a link in place of a folder, and a file behind it
        (remote.folder / name).rename(remote.folder / f"{name}-was")
    (remote.folder / "plans").symlink_to("bin")
    remote.write("within/one.yaml", "x")
    remote.commit()
    assert (checked_out() / "within/one.yaml").read_text() == "x"
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", [b".git", b".GIT", b"..", b".", b"a/b", b""])
def test_a_name_that_no_checkout_may_hold_is_not_written(
    remote: Git, checked_out: Checked, tmp_path: Path, name: bytes
) -> None:
    def stored(kind: str, raw: bytes) -> str:
        command = ["git", "hash-object", "-t", kind, "-w", "--literally", "--stdin"]
        done = subprocess.run(
            command, input=raw, capture_output=True, check=True, cwd=remote.folder
        )
        return done.stdout.decode().strip()

    blob = stored("blob", b"hostile")
    folder = stored("tree", b"100644 hooks\0" + bytes.fromhex(blob))
    tree = stored("tree", b"40000 " + name + b"\0" + bytes.fromhex(folder)
                  + b"100644 ok\0" + bytes.fromhex(blob))  # fmt: skip
    commit = remote("commit-tree", tree, "-m", "hostile")
    remote("update-ref", "refs/heads/main", commit)
    before = files(tmp_path)
    with suppress(UsageError):  # git itself may refuse it
        assert files(checked_out()) == {"ok"}
    hostile = {path for path in files(tmp_path) - before if path.endswith("hooks")}
    assert not hostile
