"""What commands print as JSON: each document names its form, and has a published schema."""

from __future__ import annotations

from collections.abc import Mapping

from runner.spec.secrets import redact

FORM = "backfill/v1"


def document(kind: str, **body: object) -> dict[str, object]:
    """No text in it holds a key."""
    return {"apiVersion": FORM, "kind": kind, **{name: redacted(body[name]) for name in body}}


def redacted(value: object) -> object:
    """`value` without keys in its texts."""
    match value:
        case str():
            return redact(value)
        case Mapping():
            return {name: redacted(inner) for name, inner in value.items()}
        case list() | tuple():
            return [redacted(inner) for inner in value]
    return value
