"""The quickstart's worker: three handlers over one SQLite file, standard library only.

Each handler takes one event, `{"name", "data", "id", "ts"}`, does its work in a transaction and
returns a small summary; a ValueError says why it could not. All are safe to run twice and at the
same time. Nothing leaves the machine: GitHub is the folder `exports/`, the embeddings model is
arithmetic. `plan.yaml` names these handlers, `inngest_worker.py` serves them to a real Inngest.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sqlite3
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
EXPORTS = HERE / "exports"
DIMENSIONS = 64
# A real model has a rate limit; this pause only shows where to respect it.
LONGEST_PAUSE_MS = 50


def sync_repository(event: Mapping[str, Any]) -> dict[str, Any]:
    """`capture/repository.sync {owner, repo, days?, workspace_id?}`: load pull requests, issues."""
    data = _data(event)
    full_name = f"{_text(data, 'owner')}/{_text(data, 'repo')}"
    days = _integer(data, "days", at_least=1) if data.get("days") is not None else None
    workspaces = _workspaces_of(full_name)
    if data.get("workspace_id") is not None:
        workspaces.add(_text(data, "workspace_id"))
    export = _read_export(full_name)
    with _connection() as db, _writing(db):
        repository_id = _save_repository(db, full_name)
        db.executemany(
            "INSERT OR IGNORE INTO workspace_repositories VALUES (?, ?)",
            [(workspace, repository_id) for workspace in sorted(workspaces)],
        )
        loaded = {
            table: _save_items(db, table, repository_id, _recent(export, table, days))
            for table in ("pull_requests", "issues")
        }
    return {"repository": full_name, **loaded}


def compute_embeddings(event: Mapping[str, Any]) -> dict[str, Any]:
    """`embeddings/process.workspace {workspace_id, batch_size, delay_ms}`: embed pending rows."""
    data = _data(event)
    workspace = _text(data, "workspace_id")
    batch_size = _integer(data, "batch_size", at_least=1)
    pause = min(_integer(data, "delay_ms", at_least=0), LONGEST_PAUSE_MS) / 1000
    embedded = batches = 0
    with _connection() as db:
        _require_repositories(db, workspace)
        # A transaction per batch: others can write in between, and a crash loses one batch at most.
        while count := _embed_batch(db, workspace, batch_size):
            embedded += count
            batches += 1
            if count < batch_size:
                break
            time.sleep(pause)
    return {"workspace_id": workspace, "embedded": embedded, "batches": batches}


def aggregate_workspace(event: Mapping[str, Any]) -> dict[str, Any]:
    """`workspace/aggregate {workspace_id}`: write the workspace's row of workspace_metrics."""
    workspace = _text(_data(event), "workspace_id")
    with _connection() as db, _writing(db):
        repositories = _require_repositories(db, workspace)
        items = db.execute(
            "SELECT kind, state, author, created_at, merged_at,"
            " embedding IS NOT NULL AND embedding_hash = content_hash AS embedded"
            " FROM workspace_items WHERE workspace_id = ?",
            (workspace,),
        ).fetchall()
        metrics = {"repositories": repositories, **_metrics(items)}
        db.execute(
            "INSERT OR REPLACE INTO workspace_metrics"
            " VALUES (:workspace_id, :repositories, :pull_requests, :merged_pull_requests,"
            " :merged_ratio, :issues, :open_issues, :contributors, :median_hours_to_merge,"
            " :embedded_share, :computed_at)",
            {"workspace_id": workspace, **metrics, "computed_at": _now()},
        )
        (path,) = (row["file"] for row in db.execute("PRAGMA database_list"))
    made = f"{metrics['pull_requests']} pull requests and {metrics['issues']} issues, embedded"
    print(f"made {os.path.relpath(path)}: {made}", file=sys.stderr)  # noqa: T201
    return {"workspace_id": workspace, **metrics}


def embed(text: str) -> list[float]:
    """Hash words and their three-letter pieces into a vector of length 1.

    Texts that share words, or parts of words, point the same way: crude, but a real similarity.
    """
    vector = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()) or [text]:
        padded = f"<{word}>"
        for piece in [word, *(padded[i : i + 3] for i in range(len(padded) - 2))]:
            digest = hashlib.blake2b(piece.encode(), digest_size=2).digest()
            vector[digest[0] % DIMENSIONS] += 1.0 if digest[1] % 2 else -1.0
    length = math.hypot(*vector) or 1.0
    return [round(value / length, 6) for value in vector]


# --- the event ------------------------------------------------------------------------------


def _data(event: Mapping[str, Any]) -> Mapping[str, Any]:
    data = event.get("data")
    if not isinstance(data, Mapping):
        raise ValueError("the event has no data object")  # noqa: TRY004
    return data


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"data.{key} must be a text that is not empty, not {value!r}")
    return value


def _integer(data: Mapping[str, Any], key: str, *, at_least: int) -> int:
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"data.{key} must be a whole number from {at_least} up, not {value!r}")
    return value


# --- the exports ----------------------------------------------------------------------------


def _read_export(full_name: str) -> dict[str, Any]:
    paths = {path.stem.replace("__", "/", 1): path for path in EXPORTS.glob("*__*.json")}
    if full_name not in paths:
        known = ", ".join(sorted(paths))
        raise ValueError(f"no export of repository {full_name!r}; there are: {known}")
    export: dict[str, Any] = json.loads(paths[full_name].read_text(encoding="utf-8"))
    return export


def _workspaces_of(full_name: str) -> set[str]:
    memberships = json.loads((EXPORTS / "workspaces.json").read_text(encoding="utf-8"))
    return {workspace for workspace, names in memberships.items() if full_name in names}


def _is_known(workspace: str) -> bool:
    """Whether the exports have the workspace, even if nothing was synced yet."""
    return workspace in json.loads((EXPORTS / "workspaces.json").read_text(encoding="utf-8"))


def _recent(export: Mapping[str, Any], table: str, days: int | None) -> list[dict[str, Any]]:
    """Return the rows updated in the last `days` of the export: the same rows on any day."""
    rows: list[dict[str, Any]] = export[table]
    if days is None:
        return rows
    end = _time(export["exported_at"])
    return [row for row in rows if end - _time(row["updated_at"]) <= timedelta(days=days)]


# --- the database ---------------------------------------------------------------------------


@contextmanager
def _connection() -> Iterator[sqlite3.Connection]:
    path = os.environ.get("QUICKSTART_DATABASE") or HERE / "quickstart.db"
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys = ON")
        # The mode belongs to the file. "Locked" here: another connection is setting it right now.
        with suppress(sqlite3.OperationalError):
            db.execute("PRAGMA journal_mode = WAL")
        db.executescript((HERE / "schema.sql").read_text(encoding="utf-8"))
        yield db


@contextmanager
def _writing(db: sqlite3.Connection) -> Iterator[None]:
    """A write transaction, which takes the lock at its start so that it cannot fail halfway."""
    db.execute("BEGIN IMMEDIATE")
    with db:
        yield


def _save_repository(db: sqlite3.Connection, full_name: str) -> str:
    repository_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://github.com/{full_name}"))
    owner, name = full_name.split("/", 1)
    db.execute(
        "INSERT INTO repositories VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET last_synced_at = excluded.last_synced_at",
        (repository_id, owner, name, full_name, _now()),
    )
    return repository_id


def _save_items(
    db: sqlite3.Connection, table: str, repository_id: str, items: list[dict[str, Any]]
) -> int:
    """Insert or update rows; an embedding is kept, and is pending if its content_hash differs."""
    columns = ("title", "author", "state", "labels", "created_at", "updated_at", "merged_at",
               "content_hash", "last_synced_at")  # fmt: skip
    db.executemany(
        f"INSERT INTO {table} (repository_id, number, {', '.join(columns)})"  # noqa: S608
        f" VALUES (:repository_id, :number, {', '.join(f':{column}' for column in columns)})"
        " ON CONFLICT (repository_id, number) DO UPDATE SET "
        + ", ".join(f"{column} = excluded.{column}" for column in columns),
        [{"repository_id": repository_id, **_row(item)} for item in items],
    )
    return len(items)


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a GitHub REST object into the columns of pull_requests and issues."""
    labels = ", ".join(label["name"] for label in item["labels"])
    copied = {key: item[key] for key in ("number", "title", "state", "created_at", "updated_at")}
    return {
        **copied,
        "author": item["user"]["login"],
        "labels": labels,
        "merged_at": item.get("merged_at"),
        "content_hash": hashlib.sha256(f"{item['title']}\n{labels}".encode()).hexdigest(),
        "last_synced_at": _now(),
    }


def _require_repositories(db: sqlite3.Connection, workspace: str) -> int:
    count: int = db.execute(
        "SELECT COUNT(*) FROM workspace_repositories WHERE workspace_id = ?", (workspace,)
    ).fetchone()[0]
    if not count and not _is_known(workspace):
        raise ValueError(f"workspace {workspace!r} has no repositories; sync one of them first")
    return count


def _embed_batch(db: sqlite3.Connection, workspace: str, size: int) -> int:
    with _writing(db):
        pending = db.execute(
            "SELECT kind, id, title, labels, content_hash FROM workspace_items"
            " WHERE workspace_id = ? AND (embedding IS NULL OR embedding_hash <> content_hash)"
            " ORDER BY kind, id LIMIT ?",
            (workspace, size),
        ).fetchall()
        for row in pending:
            vector = json.dumps(embed(f"{row['title']}\n{row['labels']}"))
            db.execute(
                f"UPDATE {row['kind']} SET embedding = ?, embedding_hash = ?,"  # noqa: S608
                " embedding_generated_at = ? WHERE id = ?",
                (vector, row["content_hash"], _now(), row["id"]),
            )
    return len(pending)


# --- the numbers ----------------------------------------------------------------------------


def _metrics(items: list[sqlite3.Row]) -> dict[str, Any]:
    pulls = [item for item in items if item["kind"] == "pull_requests"]
    issues = [item for item in items if item["kind"] == "issues"]
    merged = [pull for pull in pulls if pull["merged_at"]]
    hours = [
        (_time(pull["merged_at"]) - _time(pull["created_at"])) / timedelta(hours=1)
        for pull in merged
    ]
    return {
        "pull_requests": len(pulls),
        "merged_pull_requests": len(merged),
        "merged_ratio": _share(len(merged), len(pulls)),
        "issues": len(issues),
        "open_issues": sum(issue["state"] == "open" for issue in issues),
        "contributors": len({item["author"] for item in items}),
        "median_hours_to_merge": round(statistics.median(hours), 2) if hours else None,
        "embedded_share": _share(sum(item["embedded"] for item in items), len(items)),
    }


def _share(part: int, whole: int) -> float | None:
    """Return the share, or None (not 0) if there are no rows."""
    return round(part / whole, 4) if whole else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
