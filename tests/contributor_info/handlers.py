"""What contributor.info's functions do to its tables, and the ways in which they have failed.

HANDLERS is `work`, `nothing` (complete, and change no row), `half` (embed half of what they say),
`away` (the database is shut to the runner once a sync has begun).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

VECTOR = "[" + ",".join(["0.5"] * 384) + "]"
EMBED = sql.SQL(
    "UPDATE {} SET embedding = %s, embedding_generated_at = clock_timestamp() WHERE id IN"
    " (SELECT id FROM {} WHERE repository_id = %s AND embedding IS NULL ORDER BY id LIMIT %s)"
)
TABLES = ("pull_requests", "issues", "discussions")


@contextmanager
def _cursor() -> Iterator[psycopg.Cursor]:
    with psycopg.connect(os.environ["WORKER_DATABASE_URL"]) as db, db.cursor() as cursor:
        yield cursor


def _idle() -> bool:
    return os.environ.get("HANDLERS") == "nothing"


def sync(event: Mapping[str, Any]) -> dict[str, Any]:
    repository = event["data"]["repositoryId"]
    if _idle():
        return {"prs": 0}
    with _cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pull_requests WHERE repository_id = %s", [repository])
        (known,) = cursor.fetchone() or (0,)
        cursor.execute(
            "INSERT INTO pull_requests (repository_id, number, last_synced_at)"
            " SELECT %s, %s + n, now() FROM generate_series(1, 5) n",
            [repository, known],
        )
        cursor.execute(
            "UPDATE repositories SET last_synced_at = clock_timestamp() WHERE id = %s", [repository]
        )
    if os.environ.get("HANDLERS") == "away":
        _shut_out()
    return {"prs": 5}


def issues(event: Mapping[str, Any]) -> dict[str, Any]:
    with _cursor() as cursor:
        cursor.execute(
            "INSERT INTO issues (repository_id, number, last_synced_at) VALUES (%s, 1, now())",
            [event["data"]["repositoryId"]],
        )
    return {"issues": 1}


def discussions(event: Mapping[str, Any]) -> dict[str, Any]:
    repository = event["data"]["repositoryId"]
    with _cursor() as cursor:
        cursor.execute("SELECT has_discussions FROM repositories WHERE id = %s", [repository])
        if not (cursor.fetchone() or (False,))[0]:
            raise ValueError("Discussions are not enabled for this repository")
        cursor.execute(
            "INSERT INTO discussions (repository_id, synced_at) VALUES (%s, now())", [repository]
        )
    return {"discussions": 1}


def embed(event: Mapping[str, Any]) -> dict[str, Any]:
    """At most 100 items a job, as the real one."""
    if _idle():
        return {"embedded": 0}
    left, done = (50 if os.environ.get("HANDLERS") == "half" else 100), 0
    with _cursor() as cursor:
        for table in TABLES:
            cursor.execute(
                EMBED.format(sql.Identifier(table), sql.Identifier(table)),
                [VECTOR, event["data"]["repositoryId"], left - done],
            )
            done += cursor.rowcount
    return {"embedded": done}


def comments(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"repository": event["data"]["repositoryName"]}


def details(event: Mapping[str, Any]) -> dict[str, Any]:
    data = event["data"]
    if os.environ.get("HANDLERS") == "half" and data["pr_number"] % 2:
        return {}
    with _cursor() as cursor:
        cursor.execute(
            "UPDATE pull_requests SET last_synced_at = now() FROM repositories r"
            " WHERE r.id = repository_id AND r.full_name = %s AND number = %s",
            [f"{data['owner']}/{data['repo']}", data["pr_number"]],
        )
    return {}


def aggregate(event: Mapping[str, Any]) -> dict[str, Any]:
    with _cursor() as cursor:
        cursor.execute("INSERT INTO aggregated VALUES (%s)", [event["data"]["workspaceId"]])
    return {}


def _shut_out() -> None:
    """As when a database is failed over: the runner's role can connect no more."""
    with psycopg.connect(os.environ["WORKER_DATABASE_URL"], autocommit=True) as db:
        db.execute("SELECT pg_advisory_lock(5)")  # every job does this: only one may at a time
        db.execute(f"ALTER ROLE {os.environ['RUNNER_ROLE']} NOLOGIN".encode())
