"""What commands print as JSON: each document names its form, and has a published schema."""

from __future__ import annotations

FORM = "backfill/v1"


def document(kind: str, **body: object) -> dict[str, object]:
    return {"apiVersion": FORM, "kind": kind, **body}
