"""contributor.info in a real PostgreSQL, with handlers that really change its rows."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest

from tests.cli.conftest import backfill
from tests.types import Backfill, Result

HERE = Path(__file__).parent
PLANS = HERE.parents[1] / "plans" / "contributor-info"
HANDLERS = """
handlers:
  capture/repository.sync.graphql: handlers:sync
  capture/repository.issues: handlers:issues
  capture/repository.discussions: handlers:discussions
  capture/repository.comments.all: handlers:comments
  capture/pr.details.graphql: handlers:details
  embeddings/compute.requested: handlers:embed
  workspace.metrics.aggregate: handlers:aggregate
"""
__all__ = ["backfill"]


@dataclass
class Application:
    """`owner`: the workers' URL; `url`: that of the runner, whose role may only read."""

    owner: str
    url: str
    role: str
    folder: Path
    run: Backfill

    def __call__(self, *arguments: str, plan: str, handlers: str = "work") -> Result:
        """`backfill COMMAND PLAN ...` with one of the application's own plans."""
        command, *more = arguments
        return self.run(command, self.folder / f"{plan}.yaml", *more, env=self.env(handlers))

    def env(self, handlers: str) -> dict[str, str]:
        return {
            "BACKFILL_DATABASE_URL": self.url,
            "WORKER_DATABASE_URL": self.owner,
            "RUNNER_ROLE": self.role,
            "HANDLERS": handlers,
        }

    def sql(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.owner) as db:
            cursor = db.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def application(database_url: str, tmp_path: Path, backfill: Backfill) -> Iterator[Application]:
    """A schema and a role of the test's own; the plans are the real ones, with faster pacing."""
    name = f"info_{os.getpid()}_{time.monotonic_ns()}"
    url = f"postgresql://{database_url.partition('://')[2]}"
    options = f"options={quote(f'-csearch_path={name},public')}"
    owner = f"{url}{'&' if '?' in url else '?'}{options}"
    with psycopg.connect(url, autocommit=True) as db:
        # Every test process of the session does this: only one may at a time.
        db.execute("SELECT pg_advisory_lock(4)")
        db.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        db.execute("SELECT pg_advisory_unlock(4)")
        db.execute(f"CREATE SCHEMA {name}".encode())
    with psycopg.connect(owner) as db:
        db.execute((HERE / "schema.sql").read_bytes())
        db.execute(f"CREATE ROLE {name} LOGIN".encode())
        db.execute(f"GRANT USAGE ON SCHEMA {name} TO {name}".encode())
        db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {name}".encode())
    folder = tmp_path / "plans"
    shutil.copytree(PLANS, folder)
    shutil.copy(HERE / "handlers.py", folder)
    for path in set(folder.glob("*.yaml")) - set(folder.glob("*.test.yaml")):
        text = path.read_text(encoding="utf-8")
        path.write_text(faster(text) if path.name == "catalog.yaml" else text + HANDLERS, "utf-8")
    yield Application(owner, _as_role(owner, name), name, folder, backfill)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"DROP SCHEMA {name} CASCADE".encode())
        db.execute(f"DROP ROLE {name}".encode())


def faster(catalog: str) -> str:
    """The catalog as it is, but for its pace: nobody is throttled here."""
    for pattern, replacement in (
        (r"delay: \d+s", "delay: 0s"),
        (r"throttle: \{limit: \d+", "throttle: {limit: 1000000"),
        (r"timeout: 15m\n(\s+)every: 30s", r"timeout: 1s\n\1every: 200ms"),
    ):
        catalog, count = re.subn(pattern, replacement, catalog)
        assert count, pattern
    return catalog


def _as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    _, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{role}@{host}"))
