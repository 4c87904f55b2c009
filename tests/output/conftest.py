"""Small execution plans, built from plan files as everywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.model import ExecutionPlan
from tests.output.fakes import HOSTILE
from tests.support import make_plan

BODY = """\
batch_size: 2
delay: 5s
repos: [o/a, o/b, {repo: o/c, skip: [embed]}]
operations: [sync, embed]
"""


@pytest.fixture
def plan(tmp_path: Path) -> ExecutionPlan:
    """Two stages, five events, one skipped item."""
    return make_plan(tmp_path, BODY)


@pytest.fixture
def empty_plan(tmp_path: Path) -> ExecutionPlan:
    return make_plan(tmp_path, "repos: []\noperations: [sync, embed]\nskip: [sync]\n")


@pytest.fixture
def hostile_plan(tmp_path: Path) -> ExecutionPlan:
    """One workspace whose name attacks the terminal, rich's markup, Markdown and HTML."""
    catalog = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  each: {event: app/each, for_each: workspace, payload: {id: "{{ workspace.id }}"}, done: sent}
"""
    name = "".join(f"\\U{ord(character):08x}" for character in HOSTILE)
    body = f'repos: [{{repo: o/a, workspace: "{name}"}}]\noperations: [each]\n'
    return make_plan(tmp_path, body, catalog=catalog)
