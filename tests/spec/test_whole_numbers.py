"""A whole number is one, however it is written: `2`, `2.0` or `2e0`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.model import Json
from runner.spec.load import load_plan
from runner.spec.schema import published
from runner.spec.whole_numbers import made_whole
from tests.support import write_plan

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  a: {event: app/a, for_each: repo, batch_size: 2, payload: {n: 2}, throttle: {limit: 2, per: 1s}}
"""
BODY = """\
repos: [o/a, o/b]
approval: {required: true, over_events: 2}
vars: {factor: 2}
operations:
  - {use: a, group: 2, max_in_flight: 2, with: {factor: "{{ vars.factor }}"}}
batch_size: 2
max_in_flight: 2
canary: 2
max_failures: 2
checks:
  - name: c
    query: {table: t, columns: [x], where: {x: 2}}
    max_rows: 2
    expect: {rows: {at_most: 2}}
  - {name: d, query: {table: t, columns: [x]}, expect: {rows: 2}}
guards: [{github: {remaining: 2}}]
"""


def _of(folder: Path, written: str) -> Any:
    body, catalog = (text.replace(" 2", f" {written}") for text in (BODY, CATALOG))
    return load_plan(str(write_plan(folder, body, catalog=catalog)))


@pytest.mark.parametrize("written", ["2.0", "2e0"])
def test_a_plan_has_the_same_whole_numbers_however_they_are_written(
    tmp_path: Path, written: str
) -> None:
    whole, other = _of(tmp_path, "2"), _of(tmp_path, written)
    assert _figures(other) == _figures(whole).replace("'x': 2", "'x': 2.0")


def _figures(plan: Any) -> str:
    """Show all figures but those of payloads and of a query's `where`, which may be any number."""
    (operation,) = plan.operations
    checks = [(check.expect, check.question.query) for check in plan.checks]
    kept = (operation.pacing, operation.group, plan.approval, plan.canary, plan.max_failures)
    return repr((*kept, checks, plan.guards))


def _integers(node: Json, root: Json, depth: int = 0) -> Iterator[Json]:
    """Generate values with a float where the schema requires a whole number."""
    if not isinstance(node, dict) or depth > 12:
        return
    if "$ref" in node:
        yield from _integers(root["definitions"][node["$ref"].rpartition("/")[2]], root, depth + 1)
    if "integer" in json.dumps(node.get("type")):
        yield 2.0
    for key in ("allOf", "anyOf", "oneOf"):
        for other in node.get(key, ()):
            yield from _integers(other, root, depth + 1)
    for key in ("then", "else"):
        yield from _integers(node.get(key), root, depth + 1)
    for name, other in node.get("properties", {}).items():
        yield from ({name: one} for one in _integers(other, root, depth + 1))
    yield from ({"x": one} for one in _integers(node.get("additionalProperties"), root, depth + 1))
    yield from ([one] for one in _integers(node.get("items"), root, depth + 1))


@pytest.mark.parametrize("name", ["plan.v1", "catalog.v1", "test.v1"])
def test_each_whole_number_of_a_schema_is_one(name: str) -> None:
    schema = published(name)
    found = list(_integers(schema, schema))
    assert found
    for value in found:
        assert "2.0" not in json.dumps(made_whole(value, schema)), value


@pytest.mark.parametrize("value", [None, "x", 2.0, [2.0], {"vars": {"a": 2.0}}, {"canary": 2.5}])
def test_what_is_no_whole_number_stays_as_it_is(value: Json) -> None:
    assert repr(made_whole(value, published("plan.v1"))) == repr(value)
