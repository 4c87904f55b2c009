"""Commands with limits: a hostile file may cost them a few seconds and at most 1 GiB."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.warm import Forked

SECONDS = 10  # of CPU time, on however slow a machine: the largest file takes 3 on a usual one
PATIENCE = 60  # seconds of real time: a command that waits for an odd file would wait forever
MEMORY = 1 << 30
SECRET = "s3cret-of-somebody-else"  # noqa: S105 - what must not be printed
CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: repo, payload: {repo: "{{ repo.repo }}"}, done: sent}
"""
HEAD = "apiVersion: backfill/v1\nkind: BackfillPlan\nmetadata: {name: test}\n"
PLAN = HEAD + "catalog: catalog.yaml\nrepos: [{file: repos.csv}]\noperations: [sync]\n"


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


def run(
    warm: str,
    folder: Path,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    limits: Mapping[str, int] | None = None,
    stdin: bytes | None = None,
) -> Done:
    """Run `backfill ARGUMENTS` in the folder. Raises if it takes too long; running out of memory is
    a crash, which is never a valid answer."""
    bounds = {"RLIMIT_AS": MEMORY, "RLIMIT_CPU": SECONDS, **(limits or {})}
    given = {**os.environ, "SANDBOX_LIMITS": json.dumps(bounds), "ANY": SECRET, **(env or {})}
    process = Forked(warm, *arguments, env=given, folder=folder, stdin=stdin)
    out, err = process.communicate(PATIENCE)
    status = process.wait()
    assert status != 70, err
    assert "Traceback" not in out + err
    assert SECRET not in out + err
    return Done(status, out, err)


def repository(folder: Path) -> Path:
    """Write an ordinary plan in a repository; return its path."""
    plans = folder / "repository" / "plans"
    plans.mkdir(parents=True)
    (folder / "repository" / ".git").mkdir()
    (plans / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    (plans / "repos.csv").write_text("repo\nacme/x\n", encoding="utf-8")
    (plans / "plan.yaml").write_text(PLAN, encoding="utf-8")
    return plans / "plan.yaml"
