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


def reindex(event: Mapping[str, Any]) -> dict[str, Any]:
    """`search/reindex.requested {index, ids}`."""
    data = event["data"]
    rows = [(data["index"], one, len(data["ids"])) for one in data["ids"]]
    _write("documents", "name, id, together", rows)
    return {"indexed": len(rows)}
