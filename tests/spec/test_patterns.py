"""Our schemas' patterns use no lookaround, and accept what the patterns with lookaround
accepted."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
from hypothesis import given
from hypothesis import strategies as st

from runner.spec.schema import published

_NUMBER = r"[0-9]{1,9}(\.[0-9]{1,9})?"
_DURATION = re.compile(
    "(?=[0-9])" + "".join(f"({_NUMBER}{unit})?" for unit in ("d", "h", "m", "s", "ms"))
)
_EVENT = re.compile(r"(?![iI][nN][nN][gG][eE][sS][tT]/).{1,256}")
_ENGINE = jsonschema_rs.RegexOptions()


def accepts(schema: dict[str, Any], text: str) -> bool:
    return jsonschema_rs.validator_for(schema, pattern_options=_ENGINE).is_valid(text)


@given(
    st.lists(st.sampled_from(["1", "22", ".", "d", "h", "m", "s", "ms", "1.5h", " "])).map("".join)
)
def test_a_duration_is_what_it_was(text: str) -> None:
    for name in ("plan.v1", "catalog.v1"):
        schema = published(name)["definitions"]["duration"]
        assert accepts(schema, text) == bool(_DURATION.fullmatch(text))


@given(
    st.lists(st.sampled_from(["inngest", "INNgest", "/", "a", "\n", "é", "x" * 250])).map("".join)
)
def test_an_events_name_is_what_it_was(text: str) -> None:
    operation = published("catalog.v1")["properties"]["operations"]["additionalProperties"]
    schema = (
        operation.get("properties")
        or published("catalog.v1")["definitions"]["operation"]["properties"]
    )
    assert accepts(schema["event"], text) == bool(_EVENT.fullmatch(text))
