"""What commands print as JSON: each document names its form, and has a published schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from runner.spec.secrets import redact

FORM = "backfill/v1"


def document(kind: str, **body: object) -> dict[str, object]:
    """No text in it holds a key."""
    return {"apiVersion": FORM, "kind": kind, **{name: redacted(body[name]) for name in body}}


def redacted(value: object) -> object:
    """`value` without keys in its texts."""
    return rewritten(value, redact, _redacted_name)


def rewritten(value: object, text: Callable[[str], str], name: Callable[[str], str]) -> object:
    """`value` with `text` applied to each text in it, and `name` to each name."""
    match value:
        case str():
            return text(value)
        case Mapping():
            return {name(str(key)): rewritten(inner, text, name) for key, inner in value.items()}
        case list() | tuple():
            return [rewritten(inner, text, name) for inner in value]
    return value


@lru_cache(1_000)
def _redacted_name(name: str) -> str:
    """A million rows have the same names."""
    return redact(name)
