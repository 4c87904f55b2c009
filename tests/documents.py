"""Every JSON document that a command prints in a test is of the form that its schema publishes."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from runner.spec.schema import DOCUMENTS, findings, has_form, published


@cache
def schemas() -> dict[str, str]:
    """The names of the schemas, by the kind of document."""
    return {published(name)["properties"]["kind"]["const"]: name for name in DOCUMENTS}


def expect_form(printed: str) -> str | None:
    """The kind of the document, which has its form; None where nothing was printed."""
    if not printed.strip():
        return None  # it was refused, and stderr says why
    document: Any = json.loads(printed)
    assert isinstance(document, dict), "a document says its form"
    assert document["apiVersion"] == "backfill/v1"
    for plan in document.get("plans", ()) if document["kind"] == "ExecutionPlanList" else ():
        assert expect_form(json.dumps(plan)) == "ExecutionPlan"
    kind = str(document["kind"])
    name = schemas()[kind]
    if not has_form(document, name):
        found = findings(published(name), document)
        wrong = [(list(one.absolute_path), one.name, one.message) for one in found]
        raise AssertionError(f"{kind} is not as {name} has it: {wrong}")
    return kind
