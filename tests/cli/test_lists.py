"""Every list fits 40, 80 and 160 columns, and is complete when piped."""

from __future__ import annotations

import io
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest

import runner
from runner.cli.main import COMMANDS, cli
from runner.errors import BackfillError, RunFailed
from runner.output.text import columns

LONG = "acme-industries/a-repository-with-quite-a-long-name"
SAID = "GitHub answers 502 for a repository: Bad gateway, and says so at some length"
RUN = "latest:onboard-the-acme-workspace"
PLAN = f"""\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {{name: onboard-the-acme-workspace, owner: data-platform, reason: "a new workspace"}}
repos: [{LONG}, acme/x]
workspace: acme
operations: [repository-sync, embeddings, workspace-aggregation]
skip: [embeddings]
accept: {{needs-skipped: "embeddings are there already, of the last run but one"}}
on_failure: continue
handlers: {{capture/repository.sync: "jobs:sync", workspace/aggregate: "jobs:aggregate"}}
checks:
  - {{name: all repositories are synced, query: "select count(*) as synced from repositories",
     expect: {{column: synced, at_least: 1}}, unchanged: allow}}
coverage:
  repositories: {{query: "select name as item, 1 as total, 1 as done from repositories"}}
"""
JOBS = f"""\
def sync(event):
    if event["data"]["owner"] == "acme":
        raise ValueError("{SAID}")


def aggregate(event): ...
"""
TEST = """\
apiVersion: backfill/v1
kind: BackfillTest
plan: plan.yaml
expect: {events: {count: 4}}
"""

# A call of each command that prints text for people, and a text that must be on one line of it.
LISTS = {
    "runs": ("runs", "onboard-the-acme-workspace"),
    "events": (f"events {RUN}", SAID),
    "logs": (f"logs {RUN}", SAID),
    "status": (f"status {RUN}", SAID),
    "operations": ("operations", "sends  capture/repository.sync, for each repo"),
    "coverage": ("coverage plan.yaml", LONG),
    "check": (
        "check plan.yaml",
        "all repositories are synced (end): synced 2; expected synced at least 1",
    ),
    "doctor": ("doctor plan.yaml", "plan.yaml"),
    "diff": ("diff old.yaml plan.yaml", f"repository-sync: 1 event added: {LONG}"),
    "plan": ("plan plan.yaml --events 0", "onboard-the-acme-workspace"),
    "plan, with events": ("plan plan.yaml", f'{LONG}  {{"owner":"acme-industries"'),
    "retry": (f"retry {RUN} --dry-run", "1 event, 1 batch"),
    "apply": ("apply plan.yaml --dry-run", "onboard-the-acme-workspace"),
    "apply, done": ("apply done.yaml", "nothing is pending: 1 plan is applied"),
    "serve": ("serve --list timed.yaml", "0 3 * * *"),
    "test": ("test plan.test.yaml", "plan.test.yaml:"),
    "schema": ("schema", "status"),
    "run": ("run done.yaml", "to see more: backfill status, backfill ui"),
}
NONE = {
    "validate": "problems have their source line, and a caret under the column",
    "format": "a line for each file: its name, and what came of it",
    "completion": "a script for a shell",
    "report": "documents for elsewhere: a page, Markdown, JSON, JUnit",
    **dict.fromkeys(("resume", "pause", "tune", "cancel", "init", "skill"), "one sentence"),
    **dict.fromkeys(("sync", "dev", "ui", "mcp"), "goes on: what it says is a log"),
}
CUT = {"plan, with events", "run"}  # on a terminal each event is cut to one line


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A failed run on a target that is now held, and plans beside it."""
    folder = tmp_path_factory.mktemp("lists")
    with closing(sqlite3.connect(folder / "app.db")) as database, database:
        database.execute("CREATE TABLE repositories (name TEXT)")
        database.executemany("INSERT INTO repositories VALUES (?)", [(LONG,), ("acme/x",)])
    (folder / "plan.yaml").write_text(PLAN, "utf-8")
    (folder / "old.yaml").write_text(PLAN.replace(f"{LONG}, ", ""), "utf-8")
    (folder / "jobs.py").write_text(JOBS, "utf-8")
    (folder / "plan.test.yaml").write_text(TEST, "utf-8")
    done = "\n".join(line for line in PLAN.splitlines() if ":" in line).partition("checks:")[0]
    done = done.replace(", acme/x", "").replace("onboard-the-acme", "done")
    (folder / "done.yaml").write_text(done, "utf-8")
    timed = done.replace("name: done", "name: timed") + 'schedule: {cron: "0 3 * * *"}\n'
    (folder / "timed.yaml").write_text(timed, "utf-8")
    here = Path.cwd()
    os.chdir(folder)
    try:
        with runner.Session(environ={**os.environ, **_database(folder)}) as session:
            session.run(session.plan("done.yaml"))
            failed = session.run(session.plan("plan.yaml"))
            assert failed.status == "failed"
            where = session.target("http://127.0.0.1:1")
            session.store.hold(where.address, where.name, "its database is being moved", None)
        yield folder
    finally:
        os.chdir(here)


def _database(folder: Path) -> dict[str, str]:
    return {"BACKFILL_DATABASE_URL": f"sqlite:///{folder}/app.db"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def printed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int | None], list[str]]:
    monkeypatch.chdir(home)
    for name, value in _database(home).items():
        monkeypatch.setenv(name, value)

    def ask(command: str, width: int | None) -> list[str]:
        out = io.StringIO() if width is None else Terminal()
        with monkeypatch.context() as terminal:
            terminal.setenv("COLUMNS", str(width or 20))
            terminal.setattr(sys, "stdout", out)
            terminal.setattr(sys, "stderr", io.StringIO())
            try:
                cli.main(command.split(), prog_name="backfill", standalone_mode=False)
            except RunFailed:
                pass
            except (BackfillError, click.ClickException) as error:
                pytest.fail(f"{command}: {error}")
        return re.sub(r"\x1b\[\d+m", "", out.getvalue()).splitlines()

    return ask


@pytest.mark.parametrize("name", LISTS)
def test_a_list_fits_the_terminal_and_is_whole_where_it_is_piped(
    printed: Callable[[str, int | None], list[str]], name: str
) -> None:
    command, phrase = LISTS[name]
    whole = printed(command, None)
    assert any(phrase in line for line in whole), whole
    words = _words(whole)
    for width in (40, 80, 160):
        lines = printed(command, width)
        wide = [line for line in lines if columns(line) > width and " " in line.strip()]
        assert wide == [], "but for a word that is wider"
        if name not in CUT:
            assert words - _words(lines) == set(), "nothing is left out"


def _words(lines: list[str]) -> set[str]:
    """The words without headings, for which a narrow terminal has no room, and without times and
    ids, which vary."""
    return {
        word
        for line in lines
        for word in line.split()
        if not re.search(r"\d(ms|s)\b|\d:\d|^01[0-9A-Z]{24}", word) and word not in HEADINGS
    }


HEADINGS = set(
    re.findall(
        r"\S+",
        "run state started (UTC) events not completed plan target outcome operation item job "
        "message total with without pending covered gained last sync runs for pacing done when due "
        "schedule file",
    )
)


def test_every_command_that_prints_for_people_is_among_them() -> None:
    asked = {name.partition(",")[0] for name in LISTS}
    assert asked | set(NONE) == set(COMMANDS)
    assert asked.isdisjoint(NONE)
