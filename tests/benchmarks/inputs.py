"""The plans for benchmarks, the same bytes in every run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

_PRIORITIES = ("high", "medium", "low", "critical")

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
metadata: {name: benchmark}
operations:
  sync:
    event: capture/repository.sync
    for_each: repo
    payload: {owner: "{{ repo.owner }}", repo: "{{ repo.name }}"}
    contract:
      type: object
      required: [owner, repo]
      properties:
        owner: {type: string, minLength: 1}
        repo: {type: string, minLength: 1}
    done: sent
  embed:
    event: embeddings/process.repository
    for_each: repo
    after: [sync]
    payload:
      repository: "{{ repo.owner }}/{{ repo.name }}"
      batch_size: "{{ operation.batch_size }}"
      days: "{{ vars.window_days }}"
    contract:
      type: object
      required: [repository, batch_size, days]
      properties:
        repository: {type: string, pattern: "^[^/]+/[^/]+$"}
        batch_size: {type: integer, minimum: 1}
        days: {type: integer, minimum: 1}
    done: sent
  aggregate:
    event: repository/aggregate
    for_each: repo
    after: [sync, embed]
    payload: {repository: "{{ repo.repo }}"}
    contract:
      type: object
      required: [repository]
      properties:
        repository: {type: string, minLength: 3}
    done: sent
"""

_HEAD = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {{name: {name}, owner: benchmarks, reason: measured}}
catalog: catalog.yaml
vars: {{window_days: 90}}
operations: [{operations}]
batch_size: {batch_size}
delay: {delay}
repos:
"""
_FOLLOWED_CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {event: app/sync, for_each: repo, payload: {repo: "{{ repo.repo }}"}, done: completed}
"""
_FOLLOWED = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: followed}
catalog: followed-catalog.yaml
repos: [{file: followed.csv}]
operations: [{use: sync, timeout: 1h}]
batch_size: 500
delay: 0s
"""
_APPLIED = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {{name: plan-{number}}}
catalog: catalog.yaml
handlers: {{app/sync: "json:dumps"}}
repos: [{repos}]
operations: [sync]
"""
THREE = "sync, embed, aggregate"


def plan_inline(folder: Path, count: int, *, bare: bool) -> Path:
    """Write repositories inline: as mappings with priority and velocity, or as `bare` names."""
    form = "  - {0}\n" if bare else "  - {{repo: {0}, priority: {1}, velocity: {2}}}\n"
    path = folder / ("plan-names.yaml" if bare else "plan-inline.yaml")
    with _written(folder, path) as file:
        file.write(_HEAD.format(name="inline", operations=THREE, batch_size=50, delay="5s"))
        file.writelines(form.format(*row) for row in islice(_repositories(), count))
    return path


def plan_csv(folder: Path, count: int) -> Path:
    """Write three operations over the repositories of a CSV file."""
    return _with_rows(folder, count, "csv", THREE, 100, "1s")


def plan_jsonl(folder: Path, count: int) -> Path:
    """Write three operations over the repositories of a JSON Lines file."""
    return _with_rows(folder, count, "jsonl", THREE, 100, "1s", jsonl=True)


def plan_send(folder: Path, count: int, batch_size: int) -> Path:
    """Write one operation without a delay."""
    return _with_rows(folder, count, f"send-{batch_size}", "sync", batch_size, "0s")


def plan_followed(folder: Path, count: int) -> Path:
    """Write one operation whose jobs are followed to their end."""
    with (folder / "followed.csv").open("w", encoding="utf-8") as file:
        file.write("repo\n")
        file.writelines(f"{row[0]}\n" for row in islice(_repositories(), count))
    (folder / "followed-catalog.yaml").write_text(_FOLLOWED_CATALOG, encoding="utf-8")
    path = folder / "followed.yaml"
    path.write_text(_FOLLOWED, encoding="utf-8")
    return path


def plans_to_apply(folder: Path, count: int, events: int) -> None:
    """Write a folder `plans` with so many of them, each with repositories of its own."""
    (folder / "plans").mkdir()
    (folder / "plans/catalog.yaml").write_text(_FOLLOWED_CATALOG, encoding="utf-8")
    names = (row[0] for row in _repositories())
    for number in range(count):
        text = _APPLIED.format(number=number, repos=", ".join(islice(names, events)))
        (folder / f"plans/{number}.yaml").write_text(text, encoding="utf-8")


def _with_rows(
    folder: Path,
    count: int,
    name: str,
    operations: str,
    batch_size: int,
    delay: str,
    *,
    jsonl: bool = False,
) -> Path:
    table = folder / f"{name}.{'jsonl' if jsonl else 'csv'}"
    form = '{{"repo": "{}", "priority": "{}", "velocity": {}}}\n' if jsonl else "{},{},{}\n"
    with table.open("w", encoding="utf-8") as file:
        if not jsonl:
            file.write("repo,priority,velocity\n")
        file.writelines(form.format(*row) for row in islice(_repositories(), count))
    path = folder / f"plan-{name}.yaml"
    with _written(folder, path) as file:
        file.write(
            _HEAD.format(name=name, operations=operations, batch_size=batch_size, delay=delay)
        )
        file.write(f"  - {{file: {table.name}}}\n")
    return path


def _written(folder: Path, path: Path) -> TextIO:
    (folder / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    return path.open("w", encoding="utf-8")


def _repositories() -> Iterator[tuple[str, str, int]]:
    number = 0
    while True:
        owner, name = f"organisation-{number // 40}", f"repository-{number}"
        yield f"{owner}/{name}", _PRIORITIES[number % 4], number * 7919 % 101
        number += 1
