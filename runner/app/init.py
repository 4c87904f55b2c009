"""A first plan file, with what stands beside it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from runner.adapters.files import ExistsAlready, make_folder, write_file
from runner.errors import UsageError

_PLAN = """\
# yaml-language-server: $schema={schema}
apiVersion: backfill/v1
kind: BackfillPlan
metadata:
  name: {name}
  owner: your-team
  reason: why this backfill runs

workspace: your-workspace-id      # of the repositories below that name none
repos:
  - continuedev/continue
  - {{repo: vercel/ai, priority: high}}

operations:                       # `backfill operations` lists them all
  - repository-sync
  - {{use: embeddings, batch_size: 50, delay: 5s}}
  - workspace-aggregation

batch_size: 25                    # events sent before each delay
delay: 5s                         # between batches
order_by: [priority]
on_failure: stop                  # or continue
handlers:                         # for the embedded target only: this machine, no server
  capture/repository.sync: {worker}:handle
  embeddings/process.workspace: {worker}:handle
  workspace/aggregate: {worker}:handle
"""
_WORKER = '''\
"""What runs for each event where no server is: put your own work here."""


def handle(event):
    """`event` has `name`, `data`, `id` and `ts`; what is returned is the job's output."""
    return {"handled": event["data"]}
'''
_OWN_PLAN = """\
# yaml-language-server: $schema={schema}
apiVersion: backfill/v1
kind: BackfillPlan
metadata:
  name: {name}
  owner: your-team
  reason: why this backfill runs

catalog: {catalog}
collections:
  {items}: {{file: {items}.csv, item: "{{{{ row.id }}}}"}}   # or a list, a query, dates, a matrix

operations: [{operation}]

batch_size: 25                    # events sent before each delay
delay: 5s                         # between batches
order_by: [priority]
on_failure: stop                  # or continue
handlers: {{{items}/backfill.requested: "{worker}:handle"}}   # for the embedded target only
"""
_OWN_CATALOG = """\
# yaml-language-server: $schema=catalog.v1.schema.json
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  {operation}:
    description: What one event does
    event: {items}/backfill.requested
    for_each: {items}
    payload: {{id: "{{{{ row.id }}}}"}}
    contract: {{type: object, required: [id]}}
"""
_OWN_ROWS = "id,priority\n1001,high\n1002,\n"
_PROJECT = """\
# yaml-language-server: $schema=project.v1.schema.json
# What the plans beside and below this file share. Keys and URLs are in the variables named here.
apiVersion: backfill/v1
kind: BackfillProject
environments:                     # --env NAME, or BACKFILL_ENV
  staging: {target: dev, database: STAGING_DATABASE_URL}
  production: {target: cloud, database: PRODUCTION_DATABASE_URL}
# policy: [{name: small, require: "totals.events <= 5000", message: split it}]
"""
_SCHEMA = "plan.v1.schema.json"
_PROJECT_SCHEMA = "project.v1.schema.json"
_CATALOG_SCHEMA = "catalog.v1.schema.json"
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def init(path: str, items: str | None = None) -> tuple[Path, Path]:
    """Write a first plan to `path`, and its schema, a small worker and a project file beside it;
    `items`: the collection that it is for. The plan and its schema. Nothing that exists is
    overwritten: raises `UsageError`."""
    from runner.spec.files import PROJECT, find_project
    from runner.spec.schema import schema_text

    plan = Path(path)
    schema = plan.with_name(_SCHEMA)
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in plan.stem).strip("-_") or "plan"
    worker = f"{name.replace('-', '_')}_worker"
    make_folder(plan.parent)
    if items is None:
        write_file(plan, _PLAN.format(schema=_SCHEMA, name=name, worker=worker), anew=True)
    else:
        _write_own(plan, name, items, worker)
        with suppress(ExistsAlready):
            write_file(plan.with_name(_CATALOG_SCHEMA), schema_text("catalog.v1"), anew=True)
    with suppress(ExistsAlready):
        write_file(schema, schema_text("plan.v1"), anew=True)
    with suppress(ExistsAlready):
        write_file(plan.with_name(f"{worker}.py"), _WORKER, anew=True)
    if find_project(path) is None:
        write_file(plan.with_name(PROJECT), _PROJECT, anew=True)
        with suppress(ExistsAlready):
            write_file(plan.with_name(_PROJECT_SCHEMA), schema_text("project.v1"), anew=True)
    return plan, schema


def _write_own(plan: Path, name: str, items: str, worker: str) -> None:
    """A plan with a collection, its catalog and its rows. Nothing that exists is overwritten."""
    from runner.spec.own import RESERVED

    if not _WORD.fullmatch(items) or items in RESERVED:
        hint = "letters, digits and `_`, as in --for users"
        raise UsageError(f"--for: {items} is no name for a collection", hint=hint)
    catalog, rows = plan.with_name(f"{items}-catalog.yaml"), plan.with_name(f"{items}.csv")
    for path in (catalog, rows):
        if path.exists():
            raise UsageError(f"{path} exists already", hint="give another name, or another folder")
    operation = f"backfill-{items}"
    text = _OWN_PLAN.format(
        schema=_SCHEMA,
        name=name,
        catalog=catalog.name,
        items=items,
        operation=operation,
        worker=worker,
    )
    write_file(plan, text, anew=True)
    write_file(catalog, _OWN_CATALOG.format(items=items, operation=operation), anew=True)
    write_file(rows, _OWN_ROWS, anew=True)
