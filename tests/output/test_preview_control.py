"""Every form of the preview has what holds a run or ends it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from runner.model import ExecutionPlan, Partial, Selectors
from runner.output.page import plan_page
from runner.output.preview import plan_markdown, write_json, write_jsonl, write_text
from runner.planning.estimate import before, simulate
from runner.spec.schema import schema_text
from tests.support import make_plan, repos

GUARDED = """\
operations: [sync]
batch_size: 2
delay: 5s
canary: 1
max_failures: 5%
guards: [{github: {remaining: 500}}, {file: hold.flag}, {http: "https://x.test/a?b=c"}]
"""
SCHEDULED = "operations: [fire]\nbatch_size: 2\ndelay: 1m\npacing: scheduled\n"


def _text(plan: ExecutionPlan) -> str:
    out = io.StringIO()
    write_text(plan, out, target="dev", events=None, color=False)
    return out.getvalue()


def test_the_text_names_guards_limits_and_canary(tmp_path: Path) -> None:
    text = _text(make_plan(tmp_path, repos(5) + GUARDED))
    assert "ends once more than 5% of its events have failed" in text
    flat = " ".join(text.split())
    assert "github (500 points), file (hold.flag), http (https://x.test/a)" in flat
    assert "1 alone, then 2 x 2, 5s apart" in flat


def test_the_text_shows_when_each_scheduled_batch_starts(tmp_path: Path) -> None:
    text = _text(make_plan(tmp_path, repos(5) + SCHEDULED))
    assert "scheduled, +0s to +2m" in " ".join(text.split())
    assert "batch 2, at +1m" in text
    assert "sent at once, the last one to start at +2m" in text


def test_markdown_names_them_too(tmp_path: Path) -> None:
    text = plan_markdown(make_plan(tmp_path, repos(5) + GUARDED), target="dev", events=3)
    assert "- ends once more than 5% of its events have failed" in text


@pytest.mark.parametrize("body", [GUARDED, f"{GUARDED}if_empty: ok\n"])
def test_each_form_says_what_starts_a_plan_also_one_that_sends_nothing(
    tmp_path: Path, body: str
) -> None:
    items = "repos: []\n" if "if_empty" in body else repos(5)
    plan = make_plan(tmp_path, f"{items}{body}schedule: 0 3 * * *\n")
    assert bool(plan.stages) == ("if_empty" not in body)
    page = plan_page(
        plan,
        target="dev",
        schedule=simulate(plan, []),
        estimate=before(plan, {}, 0.0),
        events=5,
    )
    for shown in (_text(plan), plan_markdown(plan, target="dev", events=3), page):
        assert "started by its schedule: 0 3 * * * UTC" in shown.replace("&#42;", "*")
        assert "ends once more than 5% of its events have failed" in shown


def test_no_schedule_starts_a_part_of_a_plan(tmp_path: Path) -> None:
    whole = make_plan(tmp_path, repos(5) + GUARDED + "schedule: 0 3 * * *\n")
    part = replace(whole, partial=Partial(Selectors(limit=1)))
    assert "started by its schedule" not in _text(part)


def test_json_is_by_its_schema_and_has_them_all(tmp_path: Path) -> None:
    schema = json.loads(schema_text("execution-plan.v1"))
    for body in (GUARDED, SCHEDULED):
        out = io.StringIO()
        write_json(make_plan(tmp_path, repos(5) + body), out, target="dev")
        jsonschema.validate(json.loads(out.getvalue()), schema)
    assert [item["at_s"] for item in json.loads(out.getvalue())["stages"][0]["items"]] == [
        0.0,
        0.0,
        60.0,
        60.0,
        120.0,
    ]


def test_jsonl_has_the_batches_of_the_canary_and_the_times(tmp_path: Path) -> None:
    out = io.StringIO()
    write_jsonl(make_plan(tmp_path, repos(4) + GUARDED), out)
    assert [json.loads(line)["batch"] for line in out.getvalue().splitlines()] == [1, 2, 2, 3]
    out = io.StringIO()
    write_jsonl(make_plan(tmp_path, repos(3) + SCHEDULED), out)
    assert [json.loads(line)["at_s"] for line in out.getvalue().splitlines()] == [0.0, 0.0, 60.0]
