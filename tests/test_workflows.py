"""The workflows that are shown as examples: of GitHub's own form, and their steps do as they say.

The steps are run as Actions runs them, with `gh` recorded in place of GitHub.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import Jobs, served
from tests.support import repos, write_plan

ROOT = Path(__file__).parents[1]
WORKFLOWS = [*sorted((ROOT / "docs" / "examples").glob("*.yml")), ROOT / ".github/workflows/ci.yml"]


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        *(("vendor.github-workflows", path) for path in WORKFLOWS),
        ("vendor.github-actions", ROOT / ".github/actions/backfill/action.yml"),
    ],
    ids=str,
)
def test_a_workflow_is_of_githubs_form(schema: str, path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def steps(name: str) -> Iterator[str]:
    """The scripts of a workflow's only job."""
    workflow: Any = yaml.safe_load((ROOT / "docs" / "examples" / name).read_text("utf-8"))
    (job,) = workflow["jobs"].values()
    return (step["run"] for step in job["steps"] if "run" in step)


class Checkout:
    """A repository of plans, and what Actions hands a step."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.plans = folder / "work", folder / "work" / "plans"
        self.plans.mkdir(parents=True)
        self.comment, self.summary = folder / "comment", folder / "summary.md"
        tools = folder / "bin"
        tools.mkdir()
        gh = '#!/bin/sh\necho "$@" > "$COMMENT.arguments"\ncat comment.md > "$COMMENT"\n'
        runner = f'#!/bin/sh\nexec "{sys.executable}" -m runner "$@"\n'
        for name, script in (("gh", gh), ("backfill", runner)):
            (tools / name).write_text(script)
            (tools / name).chmod(0o755)
        self.env = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COMMENT": str(self.comment),
            "GITHUB_ACTIONS": "true",
            "GITHUB_BASE_REF": "main",
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "PULL_REQUEST": "12",
        }
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        command = ["git", "-C", str(self.folder), *identity, *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def commit(self) -> None:
        self.git("add", ".")
        self.git("commit", "-q", "-m", "a commit")

    def step(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


SYNC = "operations: [sync]\nbatch_size: 2\ndelay: 1s\n"


def test_a_pull_request_gets_one_comment_with_what_it_changes(checkout: Checkout) -> None:
    write_plan(checkout.plans, repos(2) + SYNC)
    checkout.commit()
    checkout.git("update-ref", "refs/remotes/origin/main", "HEAD")
    write_plan(checkout.plans, repos(3) + SYNC)
    text = (checkout.plans / "plan.yaml").read_text().replace("name: test", "name: new")
    (checkout.plans / "new.yaml").write_text(text)
    checkout.commit()
    for script in steps("review-plans.yml"):
        done = checkout.step(script)
        assert done.returncode == 0, done.stderr
    comment = checkout.comment.read_text()
    assert "Backfill plan `new`" in comment
    assert "sync: 1 event added: o/r2" in comment
    assert comment == checkout.summary.read_text()
    said = (checkout.folder.parent / "comment.arguments").read_text()
    assert said == "pr comment 12 --edit-last --create-if-none --body-file comment.md\n"


def test_an_invalid_plan_fails_the_check_with_an_annotation(checkout: Checkout) -> None:
    write_plan(checkout.plans, repos(2) + SYNC)
    checkout.commit()
    checkout.git("update-ref", "refs/remotes/origin/main", "HEAD")
    write_plan(checkout.plans, "repos: [nonsense]\n" + SYNC)
    checkout.commit()
    check = next(iter(steps("review-plans.yml")))
    done = checkout.step(check)
    assert done.returncode == 3
    assert "::error file=plans/plan.yaml,line=5,col=" in done.stdout


def test_a_merge_applies_what_is_pending_and_leaves_a_summary(
    checkout: Checkout, tmp_path: Path
) -> None:
    write_plan(checkout.plans, repos(2) + SYNC)
    jobs, (script,) = Jobs(), steps("apply-plans.yml")
    state = f"sqlite:///{tmp_path / 'state.db'}"
    with served(create_app({"app/sync": jobs})) as url:
        for _ in range(2):
            done = checkout.step(script, TARGET=url, BACKFILL_STATE=state)
            assert done.returncode == 0, done.stderr
    assert jobs.items == ["o/r0", "o/r1"], "once"
    assert "nothing is pending" in done.stdout
    assert checkout.summary.read_text().count("### ") == 1
