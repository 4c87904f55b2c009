"""Completion as shells ask for it: commands, runs, operations and targets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runner.adapters.embedded.server import create_app
from tests.cli.conftest import Jobs, served
from tests.support import repos, write_plan
from tests.types import Backfill


def complete(backfill: Backfill, words: str) -> list[str]:
    """Return what bash gets to complete the last word of the line."""
    count = len(words.split(" ")) - 1
    env = {"_BACKFILL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = backfill(env=env)
    assert not done.err
    return [line.partition(",")[2] for line in done.out.splitlines() if line]


def test_commands_and_targets_are_completed(backfill: Backfill) -> None:
    assert complete(backfill, "backfill re") == ["resume", "retry", "report"]
    assert complete(backfill, "backfill run plan.yaml --target c") == ["cloud"]
    assert complete(backfill, "backfill nope --ta") == [], "and nothing is said on stderr"


def test_runs_operations_and_plans_are_completed_from_the_state(
    backfill: Backfill, tmp_path: Path
) -> None:
    assert complete(backfill, "backfill status ") == [], "nor does it make a state"
    assert not (Path.cwd() / ".backfill").exists()
    with served(create_app({"app/sync": Jobs()})) as url:
        plan = write_plan(tmp_path, repos(2) + "operations: [sync]\n")
        assert backfill("run", plan, "--target", url).status == 0
    run_id, last = complete(backfill, "backfill resume ")
    assert (len(run_id), last) == (26, "latest:test")
    assert complete(backfill, "backfill resume latest:t") == ["latest:test"]
    assert complete(backfill, f"backfill events {run_id[:5].lower()}") == [run_id]
    assert complete(backfill, "backfill events latest --operation s") == ["sync"]
    assert complete(backfill, "backfill runs --plan t") == ["test"]


def test_the_collections_of_the_plan_are_completed(backfill: Backfill, tmp_path: Path) -> None:
    body = "repos: [o/a]\ncollections: {users: [u1], rows: [r1]}\noperations: [sync]\n"
    plan = write_plan(tmp_path, body)
    every = ["repos=", "users=", "rows="]
    assert complete(backfill, f"backfill plan {plan} --collection ") == every
    assert complete(backfill, f"backfill run {plan} --collection us") == ["users="]
    assert complete(backfill, f"backfill plan {plan} --only ") == ["sync"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(backfill: Backfill, shell: str) -> None:
    done = backfill("completion", shell)
    assert done.status == 0
    assert f"_BACKFILL_COMPLETE={shell}_complete" in done.out


def test_bash_takes_its_script() -> None:
    command = f'set -e; eval "$({sys.executable} -m runner completion bash)"; complete -p backfill'
    command += '; echo "breaks:$COMP_WORDBREAKS"'
    done = subprocess.run(["bash", "-ic", command], capture_output=True, text=True, check=False)
    complete_, _, breaks = done.stdout.partition("breaks:")
    assert "backfill" in complete_
    assert breaks
    assert ":" not in breaks, "`latest:NAME` is one word"
