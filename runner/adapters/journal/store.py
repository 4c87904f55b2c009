"""The state store: where journals are kept, a SQLite file by default."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Engine, create_engine, event, insert, make_url, select, update
from sqlalchemy.exc import ArgumentError

from runner.adapters.journal.reach import describe, reachable
from runner.adapters.journal.run_journal import RunJournal
from runner.adapters.journal.tables import VERSION, metadata, runs, versions
from runner.errors import TargetError, UsageError
from runner.model import ExecutionPlan, Json, RunStatus

DEFAULT_STATE = "sqlite:///.backfill/state.db"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run was started with; times are seconds since 1970."""

    id: str
    plan: str
    path: str
    digest: str
    target: str
    address: str
    variables: Mapping[str, Json]
    planned: int
    follow: bool
    status: RunStatus
    started_at: float
    ended_at: float | None


class Store:
    """Raises `TargetError` where the state cannot be reached, read or written."""

    def __init__(self, url: str = DEFAULT_STATE) -> None:
        self.url = _parse(url)
        self._engine = _connect(self.url)
        try:
            with reachable(self.url):
                self._migrate()
        except TargetError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def start(self, run_id: str, plan: ExecutionPlan, **record: Any) -> RunJournal:
        """Write down a new run; `record` has target, address, variables and follow."""
        variables = json.dumps(record.pop("variables"))
        with reachable(self.url), self._engine.begin() as connection:
            connection.execute(
                insert(runs).values(
                    id=run_id,
                    plan=plan.name,
                    path=plan.path,
                    digest=plan.digest,
                    planned=plan.events,
                    status="running",
                    variables=variables,
                    started_at=time.time(),
                    **record,
                )
            )
        return self.journal(run_id)

    def find(self, run_id: str) -> RunRecord:
        """A run by its id, a unique beginning of it, or ``latest``; else a `UsageError`."""
        query = select(runs).order_by(runs.c.started_at.desc()).limit(2)
        if run_id != "latest":
            query = query.where(runs.c.id.startswith(run_id.upper(), autoescape=True))
        with reachable(self.url), self._engine.connect() as connection:
            found = connection.execute(query).mappings().all()
        if not found:
            hint = f"this state store is {describe(self.url)}; --state names another"
            which = "yet" if run_id == "latest" else run_id
            raise UsageError(f"there is no run {which}", hint=hint)
        if len(found) > 1 and run_id != "latest":
            raise UsageError(f"more than one run begins with {run_id}", hint="give more of its id")
        return RunRecord(**{**found[0], "variables": json.loads(found[0]["variables"])})

    def journal(self, run_id: str) -> RunJournal:
        return RunJournal(self._engine, run_id)

    def reopen(self, run_id: str) -> RunJournal:
        """The journal of a run that is carried on."""
        with reachable(self.url), self._engine.begin() as connection:
            connection.execute(
                update(runs).where(runs.c.id == run_id).values(status="running", ended_at=None)
            )
        journal = self.journal(run_id)
        journal.reopen_timed_out()
        return journal

    def close(self) -> None:
        self._engine.dispose()

    def _migrate(self) -> None:
        """Make the tables where there are none; two first runs at once take turns."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            metadata.create_all(connection)
            version = connection.execute(select(versions.c.version)).scalar()
            if version is None:
                connection.execute(insert(versions).values(version=VERSION))
            elif version > VERSION:
                message = f"the state in {describe(self.url)} is of a newer version ({version})"
                hint = "install the backfill that wrote it, or a newer one"
                raise TargetError(message, hint=hint)


def _parse(text: str) -> URL:
    try:
        url = make_url(text if "://" in text else f"sqlite:///{text}")
    except ArgumentError:
        hint = "write it like sqlite:///path/to/state.db"
        raise UsageError("--state is not a URL", hint=hint) from None
    if url.drivername != "sqlite" or not url.database:
        hint = "write it like sqlite:///path/to/state.db"
        raise UsageError(f"--state: {url.drivername} is not supported yet", hint=hint)
    return url


def _connect(url: URL) -> Engine:
    path = Path(str(url.database))
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        message = f"the folder {path.parent} for the state cannot be made: {error.strerror}"
        raise TargetError(message, hint="--state names another place") from None
    engine = create_engine(url, connect_args={"timeout": 30})
    event.listen(engine, "connect", _set_pragmas)
    return engine


def _set_pragmas(connection: Any, _record: Any) -> None:
    """WAL lets others read a running run. A power cut may take back the last commits; what is
    then sent again has the same event ids, which the server dedupes."""
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint=10000")  # pages: bodies are large and short-lived
