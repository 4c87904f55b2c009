"""A plan that uses only Supabase's REST interface: a key and an address, no SQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.cli.conftest import served
from tests.support import write_plan
from tests.types import Backfill

KEY = "service-role-key-of-the-test"
CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
lookups:
  repository:
    query: {table: repositories, columns: [full_name as repo, id], where: {full_name: ":keys"}}
    key: repo
    required: true
operations:
  sync: {event: app/sync, for_each: repo, payload: {id: "{{ repo.id }}"}}
"""
BODY = """\
repos:
  - query: {table: repositories, columns: [full_name as repo], where: {is_active: true}}
operations: [sync]
batch_size: 2
checks:
  - name: nothing waits
    query: {table: items, columns: [count], where: {embedding: null}}
    expect: {column: count, at_most: 0}
    unchanged: allow
"""
ROWS = [{"full_name": "o/a", "id": "id-1"}, {"full_name": "o/b", "id": "id-2"}]


def project(waiting: int) -> Starlette:
    """A project's REST interface, which answers these questions as PostgREST does."""

    async def rest(request: Request) -> Response:
        assert request.headers["apikey"] == KEY
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["prefer"] == "count=exact"
        query, table = dict(request.query_params), request.path_params["table"]
        if (request.method, table) == ("HEAD", "items"):
            assert query == {"embedding": "is.null"}
            return Response(status_code=206, headers={"content-range": f"0-0/{waiting}"})
        assert (request.method, table) == ("GET", "repositories")
        columns = [column.partition(":") for column in query.pop("select").split(",")]
        assert query.pop("order")
        assert query in ({"is_active": "is.true"}, {"full_name": 'in.("o/a","o/b")'})
        rows: list[dict[str, Any]] = [
            {called: row[name or called] for called, _, name in columns} for row in ROWS
        ]
        return JSONResponse(rows, headers={"content-range": "0-1/2"})

    return Starlette(routes=[Route("/rest/v1/{table}", rest, methods=["GET", "HEAD"])])


def test_selection_lookups_and_counts_need_no_sql(backfill: Backfill, tmp_path: Path) -> None:
    (tmp_path / "w.py").write_text("def sync(event): ...\n", encoding="utf-8")
    plan = write_plan(tmp_path, BODY + "handlers: {app/sync: 'w:sync'}\n", catalog=CATALOG)
    for waiting, status in ((0, 0), (3, 1)):
        with served(project(waiting)) as url:
            env = {"SUPABASE_URL": url, "SUPABASE_SERVICE_ROLE_KEY": KEY}
            result = backfill("run", plan, "--format", "json", env=env)
        assert result.status == status, result.err
        summary = json.loads(result.out)
        assert summary["totals"]["completed"] == 2
        assert summary["checks"][0]["seen"] == f"count {waiting}"
        assert KEY not in result.out + result.err


def test_what_rest_cannot_do_says_so_at_its_query(backfill: Backfill, tmp_path: Path) -> None:
    body = "repos: [{query: select full_name as repo from repositories}]\noperations: [sync]\n"
    plan = write_plan(tmp_path, body, catalog=CATALOG)
    env = {"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SERVICE_ROLE_KEY": KEY}
    result = backfill("plan", plan, env=env)
    assert result.status == 3
    assert "plan.yaml:5:17: error" in result.err
    assert "the REST interface cannot run SQL" in result.err
    assert "write it as `table`, `columns` and `where`" in result.err
