"""A stand-in for the real worker: it records what it did, and is safe to run twice."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any


def _write(table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
    folder = Path(os.environ.get("EXAMPLES_FOLDER", ".backfill"))
    folder.mkdir(exist_ok=True)
    names = columns.split(", ")
    with closing(sqlite3.connect(folder / "done.db", timeout=30)) as db, db:
        keys = ", ".join(names[:2])
        db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns}, PRIMARY KEY ({keys}))")
        marks = ", ".join("?" * len(names))
        db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)  # noqa: S608


def recount(event: Mapping[str, Any]) -> dict[str, Any]:
    """`totals/recount {tenant, from, to}`."""
    data = event["data"]
    _write("totals", "tenant, day, until", [(data["tenant"], data["from"], data["to"])])
    return {"counted": 1}


def export(event: Mapping[str, Any]) -> dict[str, Any]:
    """`totals/export {tenant, day}`."""
    data = event["data"]
    _write("exports", "tenant, day", [(data["tenant"], data["day"])])
    return {"exported": 1}
