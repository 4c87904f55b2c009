"""The operations of catalogs, as JSON."""

from __future__ import annotations

from collections.abc import Iterable

from runner.output.text import document
from runner.spec.catalog import CatalogEntry


def operations_json(entries: Iterable[CatalogEntry]) -> dict[str, object]:
    return document("OperationList", operations=[_described(entry) for entry in entries])


def _described(entry: CatalogEntry) -> dict[str, object]:
    return {
        "name": entry.name,
        "description": entry.description,
        "event": entry.event,
        "for_each": entry.for_each,
        "after": list(entry.after),
        "load": entry.load,
        "done": entry.done,
        "payload": entry.payload[0],
        "contract": entry.contract,
        "entry": entry.spec,
    }
