from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runner.model import ExecutionPlan, PlannedEvent, Problem
from runner.output.preview import write_json, write_jsonl
from runner.planning.build import build_execution_plan
from runner.spec.load import load_plan
from tests.output.fakes import FakeItems
from tests.support import make_plan, repos

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "schemas" / "execution-plan.v1.schema.json"
WARNING = Problem("unwise", "plan.yaml", 3, 4, "source", "hint", "warning", "empty")


def test_a_line_is_exactly_as_promised(plan: ExecutionPlan) -> None:
    assert _jsonl(plan).splitlines()[3] == (
        '{"stage":2,"operation":"embed","batch":1,"item":"o/a",'
        '"event":{"name":"app/embed","data":{"repo":"o/a"}}}'
    )


@pytest.mark.parametrize("count", [1, 999, 1_000, 1_001, 2_500])
def test_the_lines_are_the_planned_events_in_sending_order(tmp_path: Path, count: int) -> None:
    plan = make_plan(tmp_path, f"batch_size: 7\n{repos(count)}operations: [sync]\n")
    lines = [json.loads(line) for line in _jsonl(plan).splitlines()]
    assert lines == [_as_line(planned) for planned in plan.planned()]
    assert _jsonl(plan).endswith("\n")


def test_a_plan_without_events_has_no_lines(empty_plan: ExecutionPlan) -> None:
    assert _jsonl(empty_plan) == ""


@pytest.mark.parametrize("count", [1, 1_000, 1_001])
def test_the_stages_hold_the_planned_events_in_sending_order(tmp_path: Path, count: int) -> None:
    plan = make_plan(tmp_path, f"batch_size: 7\n{repos(count)}operations: [sync, embed]\n")
    found = [
        {"stage": stage["number"], "operation": stage["operation"], **item}
        for stage in _json(plan)["stages"]
        for item in stage["items"]
    ]
    assert found == [_as_line(planned) for planned in plan.planned()]


def test_the_whole_plan_is_as_promised(plan: ExecutionPlan) -> None:
    whole = _json(replace(plan, warnings=(WARNING,)))
    stages = whole.pop("stages")
    assert whole == {
        "apiVersion": "backfill/v1",
        "kind": "ExecutionPlan",
        "name": "test",
        "digest": plan.digest,
        "target": "embedded",
        "on_failure": "stop",
        "skipped": [{"operation": "embed", "item": "o/c", "reason": "skipped by the repository"}],
        "warnings": [
            {
                "message": "unwise",
                "path": "plan.yaml",
                "line": 3,
                "column": 4,
                "hint": "hint",
                "rule": "empty",
                "accepted": None,
            }
        ],
        "totals": {"events": 5, "batches": 3, "stages": 2, "duration_s": 5.0},
    }
    assert stages[0].pop("items")[2] == {
        "batch": 2,
        "item": "o/c",
        "event": {"name": "app/sync", "data": {"repo": "o/c"}},
    }
    assert stages[0] == {
        "number": 1,
        "operation": "sync",
        "event": "app/sync",
        "for_each": "repo",
        "wait": "completed",
        "timeout_s": 900.0,
        "queue_timeout_s": 86400.0,
        "batch_size": 2,
        "delay_s": 5.0,
        "events": 3,
        "batches": 2,
        "duration_s": 5.0,
    }


def test_the_schema_is_a_valid_draft_07_schema() -> None:
    schema = _schema()
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$id"] == "https://backfill.dev/schemas/execution-plan.v1.schema.json"


def test_every_key_of_the_schema_is_described() -> None:
    described = {name: "description" in part for name, part in _properties(_schema())}
    assert len(described) > 20
    assert [name for name, there in described.items() if not there] == []


@pytest.mark.parametrize(
    "path",
    sorted(set(ROOT.glob("plans/*.yaml")) - set(ROOT.glob("plans/*.test.yaml"))),
    ids=lambda path: path.stem,
)
def test_the_scenario_plans_meet_the_schema(path: Path) -> None:
    _validate(_json(build_execution_plan(load_plan(str(path)))))


def test_empty_hostile_and_warned_plans_meet_the_schema(
    plan: ExecutionPlan, empty_plan: ExecutionPlan, hostile_plan: ExecutionPlan
) -> None:
    for each in (empty_plan, hostile_plan, replace(plan, warnings=(WARNING, Problem("m", "p")))):
        _validate(_json(each))


@pytest.mark.parametrize("place", [(), ("totals",), ("stages", 0), ("stages", 0, "items", 0)])
def test_the_schema_refuses_a_key_too_many_or_too_few(
    plan: ExecutionPlan, place: tuple[str | int, ...]
) -> None:
    for change in ("add", "remove"):
        whole = _json(plan)
        part: Any = whole
        for step in place:
            part = part[step]
        if change == "add":
            part["surplus"] = 1
        else:
            part.popitem()
        with pytest.raises(jsonschema.ValidationError):
            _validate(whole)


def test_a_hostile_name_survives_the_way_there_and_back(hostile_plan: ExecutionPlan) -> None:
    (planned,) = hostile_plan.planned()
    assert "\x1b" in planned.item
    assert "\x1b" not in _jsonl(hostile_plan)
    assert json.loads(_jsonl(hostile_plan)) == _as_line(planned)


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_events_are_written_while_later_ones_are_not_yet_made(
    plan: ExecutionPlan, form: str
) -> None:
    """A million events are never in memory at once."""
    asked: list[str] = []
    items = FakeItems([f"o/{number}" for number in range(10_000)], asked)
    long = replace(plan, stages=(replace(plan.stages[0], items=items),))
    out = _Watching(asked)
    if form == "json":
        write_json(long, out, target="embedded")
    else:
        write_jsonl(long, out)
    assert out.asked_at_first_event <= 1_000
    assert len(asked) == 10_000


class _Watching(io.StringIO):
    """Records how many events had been made when the first was written."""

    def __init__(self, asked: list[str]) -> None:
        super().__init__()
        self._asked = asked
        self.asked_at_first_event = 0

    def write(self, text: str) -> int:
        if not self.asked_at_first_event and '"item"' in text:
            self.asked_at_first_event = len(self._asked)
        return super().write(text)


def _jsonl(plan: ExecutionPlan) -> str:
    out = io.StringIO()
    write_jsonl(plan, out)
    return out.getvalue()


def _json(plan: ExecutionPlan) -> dict[str, Any]:
    out = io.StringIO()
    write_json(plan, out, target="embedded")
    whole: dict[str, Any] = json.loads(out.getvalue())
    return whole


def _as_line(planned: PlannedEvent) -> dict[str, Any]:
    return {
        "stage": planned.stage,
        "operation": planned.operation,
        "batch": planned.batch,
        "item": planned.item,
        "event": {"name": planned.event.name, "data": planned.event.data},
    }


def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return schema


def _validate(whole: dict[str, Any]) -> None:
    jsonschema.validate(whole, _schema(), cls=jsonschema.Draft7Validator)


def _properties(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        for part in schema:
            yield from _properties(part, path)
    elif isinstance(schema, dict):
        for name, part in schema.get("properties", {}).items():
            yield f"{path}.{name}", part
        for key, part in schema.items():
            yield from _properties(part, f"{path}.{key}")
