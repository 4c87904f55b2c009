"""The published schemas, as editors and SchemaStore find them."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from runner.spec.schema import SCHEMAS, schema_text
from tests.types import Backfill

ROOT = Path(__file__).parents[2]
STORE: Any = json.loads((ROOT / "docs/examples/schemastore.json").read_text("utf-8"))
MODELINE = "# yaml-language-server: $schema="


def test_each_schema_has_a_stable_id_and_is_of_the_draft_that_editors_read() -> None:
    for name in SCHEMAS:
        schema = json.loads(schema_text(name))
        assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
        assert schema["$id"] == f"https://backfill.dev/schemas/{name}.schema.json"


def test_schemastores_entries_name_our_schemas_and_no_file_is_of_two() -> None:
    ids = {json.loads(schema_text(name))["$id"] for name in SCHEMAS}
    assert all(entry["url"] in ids for entry in STORE)
    for one, other in combinations(STORE, 2):
        for pattern in one["fileMatch"]:
            example = pattern.replace("*", "x")
            assert not any(fnmatch(example, theirs) for theirs in other["fileMatch"])


@pytest.mark.parametrize("path", sorted((ROOT / "plans").rglob("*.yaml")), ids=str)
def test_a_plans_first_line_leads_to_the_schema_beside_it(path: Path) -> None:
    first = path.read_text("utf-8").splitlines()[0]
    assert first.startswith(MODELINE)
    assert (path.parent / first.removeprefix(MODELINE)).resolve().parent == ROOT / "schemas"


def test_schema_lists_them_and_prints_one(backfill: Backfill) -> None:
    listed = backfill("schema").out
    for name in SCHEMAS:
        assert f"https://backfill.dev/schemas/{name}.schema.json" in listed
    assert json.loads(backfill("schema", "plan").out) == json.loads(schema_text("plan.v1"))
