"""The flat form that people start from becomes the form of today, and its comments stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.types import Backfill

FLAT = """\
# Nightly, until the migration is through.
apiVersion: backfill/v1alpha1
name: nightly          # as the dashboard has it
owner: data-platform
repos:
    - continuedev/continue   # the largest
    - vercel/ai
operations: [repository-sync, embeddings, workspace-aggregation]
workspace: 3f1c9b1e
skip_embeddings: true  # costs too much
skip_workspace_aggregation: false
batch_size: 50
delay_seconds: 90      # be kind
"""
TODAY = """\
# Nightly, until the migration is through.
apiVersion: backfill/v1
kind: BackfillPlan
metadata:              # as the dashboard has it
  name: nightly
  owner: data-platform
repos:
    - continuedev/continue   # the largest
    - vercel/ai
operations: [repository-sync, embeddings, workspace-aggregation]
workspace: 3f1c9b1e
skip:                  # costs too much
    - embeddings
batch_size: 50
delay: 1m30s           # be kind
"""


def test_a_flat_plan_becomes_one_of_today_with_its_comments(
    backfill: Backfill, tmp_path: Path
) -> None:
    path = tmp_path / "nightly.yaml"
    path.write_text(FLAT)
    refused = backfill("validate", path)
    assert refused.status == 3
    assert f"backfill migrate {path}" in refused.err + refused.out
    assert backfill("migrate", path, "--check").status == 1
    assert path.read_text() == FLAT, "a check writes nothing"
    done = backfill("migrate", tmp_path)
    assert (done.status, done.out) == (0, f"{path}: is now backfill/v1\n")
    said = [line.split("#")[0].rstrip() for line in path.read_text().splitlines()]
    assert said == [line.split("#")[0].rstrip() for line in TODAY.splitlines()]
    for comment in ("# Nightly", "# as the dashboard", "# the largest", "# costs", "# be kind"):
        assert comment in path.read_text()
    plan = json.loads(backfill("plan", path, "--format", "json").out)
    assert [stage["operation"] for stage in plan["stages"]] == [
        "repository-sync",
        "workspace-aggregation",
    ]
    again = backfill("migrate", path)
    assert (again.status, again.out) == (0, "nothing to do: all are backfill/v1\n")


def test_the_least_flat_plan_is_named_by_its_file(backfill: Backfill, tmp_path: Path) -> None:
    path = tmp_path / "weekly.yml"
    path.write_text("repos: [vercel/ai]\noperations: [repository-sync]\n")
    assert backfill("migrate", path).status == 0
    assert "metadata:\n  name: weekly\n" in path.read_text()
    assert backfill("validate", path).status == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("apiVersion: backfill/v2\nrepos: []\n", ":1:1: error: `apiVersion` is `backfill/v2`"),
        ("apiVersion: backfill/v2\nrepos: []\n", "pip install 'backfill>=2'"),
        ("apiVersion: v7\nrepos: []\n", "write `apiVersion: backfill/v1alpha1` if it is"),
        ("repos: [a/b]\ndelay_second: 5\n", ":2:1: error: `delay_second` is no key of"),
        ("repos: [a/b]\ndelay_second: 5\n", "did you mean `delay_seconds`?"),
        ("- a\n", "a plan file is a mapping"),
        ("a: [\n", ":2:1: error:"),
    ],
)
def test_what_cannot_be_rewritten_is_said_and_nothing_is_written(
    backfill: Backfill, tmp_path: Path, text: str, said: str
) -> None:
    path, other = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    path.write_text(text)
    other.write_text(FLAT)
    done = backfill("migrate", path, other)
    assert done.status == 3
    assert said in done.err
    assert (path.read_text(), other.read_text()) == (text, FLAT)
