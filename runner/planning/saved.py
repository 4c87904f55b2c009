"""A saved plan: a reviewed execution plan, to be run once and exactly as reviewed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from runner.errors import TargetError
from runner.model import ExecutionPlan, Json, Skipped, frozen
from runner.planning.event_blocks import EventBlocks
from runner.planning.serialize import dump_head, load_plan
from runner.spec.opening import opening

FORM, KIND = "backfill/v1", "SavedPlan"


class Tampered(Exception):
    """A saved plan that was modified after it was saved."""


@frozen
class SavedPlan:
    """`run_id` is created with the saved plan: it runs only once. Times are in seconds since 1970.

    The plan's `path` and `inputs` are relative to the folder it was made in. `items` is what
    deferred stages were planned from (see `runner.planning.items.to_remember`).
    """

    tool: str
    run_id: str
    created_at: float
    expires_at: float
    target: str
    environment: str
    address: str
    variables: Mapping[str, Json]
    items: Json
    plan: ExecutionPlan


def write_saved(saved: SavedPlan) -> bytes:
    """Serialize to compact JSON with sorted keys: saving a plan twice differs only in the fields
    that belong to the saving."""
    stages: dict[str, list[str]] = {}
    for stage in saved.plan.stages:
        if not isinstance(stage.items, EventBlocks):
            raise TypeError("only event blocks can be written")
        blocks = [base64.b64encode(block).decode() for block in stage.items.blocks]
        stages[str(stage.number)] = blocks
    value = {
        "apiVersion": FORM,
        "kind": KIND,
        "tool": saved.tool,
        "run_id": saved.run_id,
        "created_at": saved.created_at,
        "expires_at": saved.expires_at,
        "target": saved.target,
        "environment": saved.environment,
        "address": saved.address,
        "digest": saved.plan.digest,
        "variables": dict(saved.variables),
        "items": saved.items,
        "skipped": [[one.operation, one.item, one.reason] for one in saved.plan.skipped],
        "plan": orjson.loads(dump_head(saved.plan)),
        "events": stages,
    }
    return _dump({**value, "checksum": _checksum(value)}) + b"\n"


def read_saved(raw: bytes, has_form: Callable[[Json], bool]) -> SavedPlan | None:
    """Parse a saved plan; None if the bytes are something else. `has_form` validates the value
    against the published schema. Raises `Tampered`."""
    if not raw.lstrip().startswith(b"{"):
        return None
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or value.get("kind") != KIND:
        return None
    if not has_form(value) or value.pop("checksum") != _checksum(value):
        raise Tampered
    try:
        saved = _saved(value)
        _check(saved.plan)
    except (KeyError, TypeError, ValueError, AttributeError, TargetError):
        raise Tampered from None  # edited, with a matching checksum
    return saved


def _check(plan: ExecutionPlan) -> None:
    """Check what no schema can express; raise `ValueError`."""
    if [stage.number for stage in plan.stages] != list(range(1, len(plan.stages) + 1)):
        raise ValueError("stages are numbered from 1")
    for window in plan.windows:
        opening(window)
    for stage in plan.stages:
        assert isinstance(stage.items, EventBlocks)  # noqa: S101 - as they are read
        stage.items.check()


def _saved(value: Mapping[str, Any]) -> SavedPlan:
    bodies = {
        int(number): [base64.b64decode(block) for block in blocks]
        for number, blocks in value["events"].items()
    }
    return SavedPlan(
        tool=value["tool"],
        run_id=value["run_id"],
        created_at=value["created_at"],
        expires_at=value["expires_at"],
        target=value["target"],
        environment=value["environment"],
        address=value["address"],
        variables=value["variables"],
        items=value["items"],
        plan=replace(
            load_plan(orjson.dumps(value["plan"]).decode(), bodies),
            skipped=tuple(Skipped(*one) for one in value["skipped"]),
        ),
    )


def _checksum(value: Mapping[str, Json]) -> str:
    return f"sha256:{hashlib.sha256(_dump(value)).hexdigest()}"


def _dump(value: Mapping[str, Json]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
