"""Write a first plan file, and the files that go with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
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

workspace: quickstart             # yours: of the repositories below that name none
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
  {key}: {{file: {rows}, item: "{{{{ row.id }}}}"}}   # or a list, a query, dates, a matrix

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
    for_each: {key}
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
_SCHEMAS = (_SCHEMA, _PROJECT_SCHEMA, _CATALOG_SCHEMA)
_PLAIN = re.compile("(?!(?:true|false|null|yes|no|on|off|[yn])$)[a-z][a-z0-9_-]*", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def init(path: str, items: str | None = None) -> list[Path]:
    """Write a first plan to `path`, or into that folder, with its schema, a small worker and a
    project file beside it.

    `items`: the collection it is for. Return the written files, the plan first. Existing files are
    kept: raises `UsageError` if the plan, its catalog or its rows exist."""
    from runner.spec.files import ENDINGS, PROJECT, find_project
    from runner.spec.schema import schema_text

    plan = Path(path)
    if plan.is_dir() or path.endswith("/"):
        plan /= "plan.yaml"
    taken = {PROJECT, *_SCHEMAS, *(_beside(items) if items else ())}
    if plan.name in taken or plan.name.endswith(ENDINGS):
        message = f"{plan} cannot be a plan: its name is that of another kind of file"
        raise UsageError(message, hint="choose another name, such as plan.yaml")
    stem = re.sub("[^A-Za-z0-9_-]+", "-", plan.stem).strip("-_") or "plan"
    name = _text(stem)
    worker = f"{stem.replace('-', '_')}_worker"
    worker = worker if worker.isidentifier() else f"worker_{stem.replace('-', '_')}"
    make_folder(plan.parent)
    beside: dict[str, str] = {}
    if items is None:
        written = _written(
            plan, {plan.name: _PLAN.format(schema=_SCHEMA, name=name, worker=worker)}
        )
    else:
        written = _written(plan, _own(plan, name, items, worker))
        beside[_CATALOG_SCHEMA] = schema_text("catalog.v1")
    beside |= {f"{worker}.py": _WORKER, _SCHEMA: schema_text("plan.v1")}
    if find_project(str(plan)) is None:
        beside |= {PROJECT: _PROJECT, _PROJECT_SCHEMA: schema_text("project.v1")}
    for one, text in beside.items():
        with suppress(ExistsAlready):
            written += _written(plan, {one: text})
    return written


def _written(plan: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write files beside the plan. Raises `ExistsAlready`."""
    paths = [plan.with_name(name) for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_file(path, text, anew=True)
    return paths


def _own(plan: Path, name: str, items: str, worker: str) -> dict[str, str]:
    """Return the texts of a plan with a collection, its catalog and its rows, by file name."""
    from runner.spec.own import RESERVED

    if not _WORD.fullmatch(items) or items in RESERVED:
        hint = "use letters, digits and `_`, as in --for users"
        if items in RESERVED:
            hint = f"`{items}` has another meaning in plans: choose another name"
        raise UsageError(f"--for: {items} cannot be the name of a collection", hint=hint)
    catalog, rows = _beside(items)
    for path in map(plan.with_name, (catalog, rows)):
        if path.exists():
            raise UsageError(f"{path} exists already", hint="choose another name or another folder")
    operation = f"backfill-{items}"
    text = _OWN_PLAN.format(
        schema=_SCHEMA,
        name=name,
        catalog=catalog,
        rows=rows,
        items=items,
        key=_text(items),
        operation=operation,
        worker=worker,
    )
    return {
        plan.name: text,
        catalog: _OWN_CATALOG.format(items=items, key=_text(items), operation=operation),
        rows: _OWN_ROWS,
    }


def _beside(items: str) -> tuple[str, str]:
    """Return the names of the catalog and of the rows."""
    return f"{items}-catalog.yaml", f"{items}.csv"


def _text(word: str) -> str:
    """Write a word so that YAML reads a text."""
    return word if _PLAIN.fullmatch(word) else f'"{word}"'
