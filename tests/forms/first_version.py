"""``python -m tests.forms.first_version`` makes the golden documents and the state: until the first
release, and never after it."""

from __future__ import annotations

import getpass
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from runner.adapters.embedded.server import create_app
from runner.output.summary import submitted_json
from tests.cli.conftest import Jobs, served
from tests.git import Git
from tests.support import repos, write_plan

GOLDEN = Path(__file__).parent / "golden"
SYNC = "operations: [sync]\n"
SEEN = """checks:
  - {name: synced, query: "select name as repo, synced from repositories",
     expect: {column: synced, at_least: 1}, unchanged: allow}
coverage:
  synced: {query: "select name as item, 1 as total, synced as done from repositories"}
"""
TEST = (
    "apiVersion: backfill/v1\nkind: BackfillTest\nplan: plan.yaml\nexpect: {events: {count: 3}}\n"
)


def _write(home: Path) -> dict[str, Path]:
    with closing(sqlite3.connect(home / "app.db")) as database, database:
        database.execute("CREATE TABLE repositories (name TEXT, synced INTEGER)")
        rows = [(f"o/r{number}", 1) for number in range(3)]
        database.executemany("INSERT INTO repositories VALUES (?, ?)", rows)
    (home / "invalid.yaml").write_text("kind: nothing\n", "utf-8")
    (home / "a.test.yaml").write_text(TEST, "utf-8")
    found = {"plan": write_plan(home, repos(3) + SYNC + SEEN)}
    for name, more in (("other", ""), ("timed", 'schedule: {cron: "0 3 * * *"}\n')):
        (home / name).mkdir()
        found[name] = write_plan(home / name, repos(2) + SYNC + more)
    return found


def _backfill(home: Path, *arguments: Any) -> str:
    env = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH")},
        "BACKFILL_DATABASE_URL": f"sqlite:///{home / 'app.db'}",
        "HOME": str(home),
    }
    command: Sequence[str] = [sys.executable, "-m", "runner", *map(str, arguments)]
    ran = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, check=False)
    return ran.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        with served(create_app({"app/sync": Jobs(failing=["o/r1"])})) as url:
            _make(home, url)


def _make(home: Path, url: str) -> None:
    plans = _write(home)
    plan, to = plans["plan"], ("--target", url)

    def clean(text: str) -> str:
        names = {url: "http://127.0.0.1:8288", str(home): "/srv/demo"}
        names |= {platform.node(): "host", getpass.getuser(): "demo"}
        for name, other in names.items():
            text = text.replace(name, other)
        return text

    asked: Sequence[Sequence[Any]] = [
        *(("plan", plan), ("run", plan, *to), ("retry", "latest"), ("status",), ("report",)),
        *(("runs",), ("events",), ("logs",), ("apply", plan, "--dry-run", *to)),
        *(("doctor", plan, *to), ("diff", plan, plans["other"]), ("validate", "invalid.yaml")),
        *(("operations", plan), ("serve", "--list", plans["timed"]), ("check", plan)),
        *(("coverage", plan), ("test", "a.test.yaml")),
    ]
    for name, *rest in asked:
        write(name, clean(_backfill(home, name, *rest, "--format", "json")))
    _backfill(home, "run", plans["other"], *to, "--no-wait")
    with closing(sqlite3.connect(home / ".backfill/state.db")) as state:
        (GOLDEN / "state.sql").write_text(clean("\n".join(state.iterdump())) + "\n", "utf-8")
    _make_others(home, to, lambda name, text: write(name, clean(text)))


def _make_others(home: Path, to: Sequence[str], write: Callable[[str, str], None]) -> None:
    """What takes a repository, a worker, or a part of a run."""
    state = ("--state", home / "others.db", "--format", "json")
    _backfill(home, "run", "plan.yaml", *to, "--sample", "2", *state)
    write("rehearsal", _backfill(home, "report", "latest", "--compare-with", "plan.yaml", *state))
    submission = submitted_json("01M8JEZ80SE7WNPBZ7H73EN5YD", "01M8JEZ8QVW0C2N2XJ8N4YB7KD")
    write("submission", json.dumps(submission))
    git = Git.init(home / "repository")
    for name in ("plan.yaml", "catalog.yaml"):
        git.write(f"plans/{name}", (home / "other" / name).read_text("utf-8"))
    git.commit()
    write("sync", _backfill(home, "sync", "--repo", git.folder, "--once", *to, *state))
    _backfill(home, "plan", "plan.yaml", "--target", "dev", "--out", "saved.json")
    (GOLDEN / "saved.plan").write_bytes((home / "saved.json").read_bytes())


def write(name: str, text: str) -> None:
    (GOLDEN / f"{name}.json").write_text(json.dumps(json.loads(text), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
