"""jsonschema-rs, which is fast, and jsonschema give the same verdict on a schema."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.spec.schema import DOCUMENTS, has_form, published
from tests.depth import depth
from tests.spec.written_plans import PLANS

GOLDEN = {
    document["kind"]: document
    for path in sorted((Path(__file__).parents[1] / "forms/golden").glob("*.json"))
    for document in [json.loads(path.read_text("utf-8"))]
}
KINDS = {published(name)["properties"]["kind"]["const"]: name for name in DOCUMENTS}
FORMATS = jsonschema.FormatChecker(())
ODD: tuple[Any, ...] = (None, True, 0, -1, 1.5, "", "x", [], {}, [None], {"a": 1}, 10**30)


@FORMATS.checks("date-time")
def _is_moment(value: object) -> bool:
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
    return not isinstance(value, str) or bool(re.fullmatch(form, value))


def _places(found: Any) -> list[tuple[Any, Any]]:
    """Return every container of a document, with each of its keys."""
    if not isinstance(found, dict | list):
        return []
    keys = list(found) if isinstance(found, dict) else list(range(len(found)))
    below = [place for key in keys for place in _places(found[key])]
    return [*((found, key) for key in keys), *below]


def _changed(document: Any, random: Random) -> Any:
    changed = deepcopy(document)
    for _ in range(random.randint(1, 3)):
        places = _places(changed)
        if not places:
            break
        container, key = random.choice(places)
        match random.randint(0, 2):
            case 0:
                del container[key]
            case 1:
                container[key] = deepcopy(random.choice(ODD))
            case _ if isinstance(container, dict):
                container["unknown"] = 1
            case _:
                container.append(deepcopy(random.choice(ODD)))
    return changed


@pytest.mark.parametrize("kind", sorted(GOLDEN))
@settings(max_examples=depth(25, 1_000), deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_documents_and_what_is_nearly_one_have_one_verdict(kind: str, seed: int) -> None:
    name, random = KINDS[kind], Random(seed)  # noqa: S311
    slow = jsonschema.Draft7Validator(published(name), format_checker=FORMATS)
    document = GOLDEN[kind]
    assert has_form(document, name)
    assert slow.is_valid(document)
    changed = _changed(document, random)
    assert has_form(changed, name) == slow.is_valid(changed), changed


@settings(max_examples=depth(40, 1_000), deadline=None)
@given(PLANS, st.integers(0, 1 << 30))
def test_plans_have_one_verdict(plan: Any, seed: int) -> None:
    changed = _changed(plan, Random(seed))  # noqa: S311
    slow = jsonschema.Draft7Validator(published("plan.v1"), format_checker=FORMATS)
    assert has_form(changed, "plan.v1") == slow.is_valid(changed), changed
