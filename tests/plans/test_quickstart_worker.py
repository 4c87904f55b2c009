"""The quickstart's handlers, each through its event, on a database of their own."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import shutil
import sqlite3
import statistics
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from types import ModuleType

FOLDER = Path(__file__).parents[2] / "plans" / "quickstart"
REPOSITORIES = ("bdougie/contributor.info", "continuedev/continue", "vercel/ai")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = load("worker")


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "quickstart.db"
    monkeypatch.setenv("QUICKSTART_DATABASE", str(path))
    return path


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the exports that a test may change."""
    copy = tmp_path / "exports"
    shutil.copytree(FOLDER / "exports", copy)
    monkeypatch.setattr(worker, "EXPORTS", copy)
    return copy


def query(database: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as db:
        return db.execute(sql, values).fetchall()


def export_of(full_name: str, folder: Path = FOLDER / "exports") -> dict[str, Any]:
    path = folder / f"{full_name.replace('/', '__')}.json"
    export: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return export


def sync(full_name: str, **more: object) -> dict[str, Any]:
    owner, repo = full_name.split("/")
    return call(worker.sync_repository, owner=owner, repo=repo, **more)


def embed_all(batch_size: int = 25, delay_ms: int = 0) -> dict[str, Any]:
    data = {"workspace_id": "quickstart", "batch_size": batch_size, "delay_ms": delay_ms}
    return call(worker.compute_embeddings, **data)


def aggregate(workspace: str = "quickstart") -> dict[str, Any]:
    return call(worker.aggregate_workspace, workspace_id=workspace)


def call(handler: Any, **data: object) -> dict[str, Any]:
    summary: dict[str, Any] = handler({"name": "test", "data": data, "id": "1", "ts": 0})
    assert json.loads(json.dumps(summary)) == summary
    return summary


@pytest.mark.parametrize("full_name", REPOSITORIES)
def test_sync_loads_what_the_export_says(database: Path, full_name: str) -> None:
    export = export_of(full_name)
    counts = {table: len(export[table]) for table in ("pull_requests", "issues")}
    assert sync(full_name) == {"repository": full_name, **counts}
    for table in counts:
        loaded = query(database, f"SELECT number, title, author, state, merged_at FROM {table}")
        assert sorted(loaded) == sorted(
            (i["number"], i["title"], i["user"]["login"], i["state"], i.get("merged_at"))
            for i in export[table]
        )


def test_sync_twice_changes_nothing(database: Path) -> None:
    sql = (
        "SELECT kind, id, number, title, state, content_hash, embedding, embedding_generated_at"
        " FROM workspace_items ORDER BY kind, id"
    )
    sync("vercel/ai")
    embed_all()
    before = query(database, sql)
    sync("vercel/ai")
    assert query(database, sql) == before


def test_sync_takes_the_last_days_of_the_export(database: Path) -> None:
    export = export_of("vercel/ai")
    since = datetime.fromisoformat(export["exported_at"]) - timedelta(days=30)
    updated = [datetime.fromisoformat(pull["updated_at"]) for pull in export["pull_requests"]]
    expected = sum(time >= since for time in updated)
    assert 0 < expected < len(export["pull_requests"])
    assert sync("vercel/ai", days=30)["pull_requests"] == expected


def test_sync_attaches_the_repository_to_the_workspace_of_the_event(database: Path) -> None:
    sync("vercel/ai", workspace_id="mine")
    memberships = query(database, "SELECT workspace_id FROM workspace_repositories ORDER BY 1")
    exported = ("3f1c9b1e", "contributor-info", "quickstart")
    assert memberships == [(name,) for name in sorted(("mine", *exported))]


def test_an_unknown_repository_is_named_beside_the_known_ones(database: Path) -> None:
    with pytest.raises(ValueError, match=r"vercel/next\.js") as raised:
        sync("vercel/next.js")
    assert all(name in str(raised.value) for name in REPOSITORIES)
    assert not database.exists()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({}, "data.owner"),
        ({"owner": "vercel"}, "data.repo"),
        ({"owner": "vercel", "repo": ""}, "data.repo"),
        ({"owner": "vercel", "repo": "ai", "days": 0}, "data.days"),
        ({"owner": "vercel", "repo": "ai", "days": True}, "data.days"),
        ({"owner": "..", "repo": "worker"}, "../worker"),
    ],
)
def test_data_that_does_not_fit_is_refused_by_name(data: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        worker.sync_repository({"name": "capture/repository.sync", "data": data})


def cosine(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_embeddings_are_unit_vectors(database: Path) -> None:
    loaded = sync("continuedev/continue")
    total = loaded["pull_requests"] + loaded["issues"]
    summary = embed_all(batch_size=20)
    assert (summary["embedded"], summary["batches"]) == (total, math.ceil(total / 20))
    vectors = [json.loads(row[0]) for row in query(database, "SELECT embedding FROM issues")]
    assert {len(vector) for vector in vectors} == {64}
    assert all(math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-4) for vector in vectors)


@pytest.mark.parametrize(
    ("text", "similar", "different"),
    [
        ("MCP timeout closes the chat", "reconnect MCP after a timeout", "batch embeddings"),
        ("Tooltip overlaps the chart", "fix tooltip overlap in the chart", "validate config.yaml"),
        ("Rate limit errors are not retried", "retry on rate limits", "port the store to runes"),
    ],
)
def test_similar_texts_are_closer(text: str, similar: str, different: str) -> None:
    vector, near, far = (worker.embed(each) for each in (text, similar, different))
    assert cosine(vector, near) > cosine(vector, far) + 0.2
    assert cosine(vector, vector) == pytest.approx(1.0, abs=1e-4)


def test_only_pending_rows_are_touched(database: Path, exports: Path) -> None:
    sync("vercel/ai")
    embed_all()
    assert embed_all()["embedded"] == 0

    export = export_of("vercel/ai", exports)
    export["issues"][3]["title"] = "Something else altogether"
    (exports / "vercel__ai.json").write_text(json.dumps(export), encoding="utf-8")
    sync("vercel/ai")
    sql = "SELECT number, embedding, embedding_generated_at FROM issues"
    before = set(query(database, sql))
    assert embed_all()["embedded"] == 1
    changed = set(query(database, sql)) - before
    assert {row[0] for row in changed} == {export["issues"][3]["number"]}
    assert json.loads(changed.pop()[1]) != worker.embed("Something else altogether")  # has labels


def test_the_pause_between_batches_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(worker.time, "sleep", pauses.append)
    sync("vercel/ai")
    summary = embed_all(batch_size=10, delay_ms=60_000)
    assert pauses == [0.05] * (summary["batches"] - 1)


def test_metrics_equal_a_count_of_the_exports(database: Path) -> None:
    for full_name in REPOSITORIES:
        sync(full_name)
    embed_all()
    exports = [export_of(full_name) for full_name in REPOSITORIES]
    pulls = [pull for export in exports for pull in export["pull_requests"]]
    issues = [issue for export in exports for issue in export["issues"]]
    merged = [pull for pull in pulls if pull["merged_at"]]
    times = [[datetime.fromisoformat(p[f"{k}_at"]) for k in ("created", "merged")] for p in merged]
    hours = [(end - start) / timedelta(hours=1) for start, end in times]
    expected = {
        "workspace_id": "quickstart",
        "repositories": 3,
        "pull_requests": len(pulls),
        "merged_pull_requests": len(merged),
        "merged_ratio": pytest.approx(len(merged) / len(pulls), abs=1e-4),
        "issues": len(issues),
        "open_issues": sum(issue["state"] == "open" for issue in issues),
        "contributors": len({item["user"]["login"] for item in pulls + issues}),
        "median_hours_to_merge": pytest.approx(statistics.median(hours), abs=0.01),
        "embedded_share": 1.0,
    }
    summary = aggregate()
    assert summary == expected
    (stored,) = query(database, "SELECT * FROM workspace_metrics")
    assert stored[:-1] == tuple(summary.values())


def test_metrics_without_rows_are_none_not_zero(exports: Path) -> None:
    export = {**export_of("vercel/ai", exports), "pull_requests": [], "issues": []}
    (exports / "vercel__ai.json").write_text(json.dumps(export), encoding="utf-8")
    sync("vercel/ai")
    summary = aggregate()
    shares = ("merged_ratio", "median_hours_to_merge", "embedded_share")
    assert [summary[key] for key in shares] == [None, None, None]


def test_embedded_share_counts_stale_embeddings_as_missing(database: Path) -> None:
    loaded = sync("vercel/ai")
    embed_all()
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE issues SET content_hash = 'new' WHERE id = 1")
    total = loaded["pull_requests"] + loaded["issues"]
    summary = aggregate()
    assert summary["embedded_share"] == pytest.approx((total - 1) / total, abs=1e-4)


def test_a_workspace_without_repositories_is_an_error() -> None:
    sync("vercel/ai")
    with pytest.raises(ValueError, match="'nowhere' has no repositories"):
        call(worker.compute_embeddings, workspace_id="nowhere", batch_size=1, delay_ms=0)
    with pytest.raises(ValueError, match="'nowhere' has no repositories"):
        aggregate("nowhere")


def test_handlers_may_run_at_the_same_time(database: Path) -> None:
    def work(full_name: str) -> int:
        sync(full_name)
        return int(embed_all(batch_size=5)["embedded"])

    with ThreadPoolExecutor(9) as pool:
        embedded = list(pool.map(work, REPOSITORIES * 3))
    exports = [export_of(full_name) for full_name in REPOSITORIES]
    total = sum(len(export["pull_requests"]) + len(export["issues"]) for export in exports)
    counted = "SELECT COUNT(embedding) FROM workspace_items WHERE workspace_id = 'quickstart'"
    assert query(database, counted) == [(total,)]
    assert sum(embedded) == total  # no row was embedded twice
    assert query(database, "PRAGMA journal_mode") == [("wal",)]


def test_inngest_functions_answer_the_sdk_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INNGEST_SIGNING_KEY", raising=False)
    monkeypatch.setenv("INNGEST_DEV", "1")
    monkeypatch.setitem(sys.modules, "worker", worker)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK's own deprecations
        module = load("inngest_worker")
    handler = module.create_handler(module.create_client())
    transport = httpx.ASGITransport(module.create_app(handler))

    async def ask(method: str, **data: str) -> httpx.Response:
        event = {"name": "capture/repository.sync", "id": "1", "ts": 1, "data": data}
        context = {"attempt": 0, "disable_immediate_execution": False, "run_id": "r", "stack": {}}
        body = {"ctx": context, "event": event, "events": [event], "steps": {}, "use_api": False}
        url = f"{module.PATH}?fnId={module.APP_ID}-sync-repository&stepId=step"
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
            return await client.request(method, url, json=body)

    assert asyncio.run(ask("GET")).json()["function_count"] == 3
    done = asyncio.run(ask("POST", owner="vercel", repo="ai"))
    assert done.status_code == 206
    assert done.json()[0]["data"]["repository"] == "vercel/ai"
    failed = asyncio.run(ask("POST", owner="vercel", repo="nope"))
    assert failed.status_code == 500
    assert failed.headers["x-inngest-no-retry"] == "true"
    assert "vercel/nope" in failed.json()["message"]
