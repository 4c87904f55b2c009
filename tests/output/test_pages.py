"""A page with every part of a plan; everything that templates call exists."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

from markupsafe import escape

from runner.model import Problem
from runner.output import words
from runner.output.page import error_page, plan_page
from runner.output.preview import write_text
from runner.planning.estimate import before, simulate
from tests.support import make_plan

TEMPLATES = Path(words.__file__).parent / "templates"
TOLD = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  told:
    description: Tell when, and by which id
    event: app/told
    for_each: repo
    payload: {z: 1, b: "{{ vars.b }}"}
    at: "2026-01-01T00:00:00Z"
    id: "told-{{ repo.repo }}"
"""
BODY = """\
repos: [o/r0, {repo: o/r1, skip: [embed]}]
operations: [sync, embed]
checks:
  - {name: done, query: select 1 as n, expect: {column: n, equals: 1}, each: false}
"""


def test_a_plans_page_says_what_the_database_is_asked(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, BODY)
    page = plan_page(
        plan,
        target="dev",
        schedule=simulate(plan, ["o/r0"]),
        estimate=before(plan, {}, 0.0),
        events=5,
    )
    assert "select 1 as n" in page
    assert "skipped by the repository" in page


def test_a_plans_page_names_the_operations_of_events_that_share_a_stage(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "repos: [o/r0]\noperations: [sync, fire]\nflow: items\n")
    schedule, estimate = simulate(plan, ["o/r0"]), before(plan, {}, 0.0)
    page = plan_page(plan, target="dev", schedule=schedule, estimate=estimate, events=5)
    assert 'aria-label="Events of sync + fire">sync o/r0  {' in page
    assert "\nfire o/r0  {" in page


def test_a_plans_page_shows_events_as_the_text_does(tmp_path: Path) -> None:
    body = "vars: {b: 'é <b>&'}\nrepos: [o/r0, o/r1]\noperations: [told]\n"
    plan = make_plan(tmp_path, body, catalog=TOLD)
    schedule, estimate = simulate(plan, ["o/r0"]), before(plan, {}, 0.0)
    page = plan_page(plan, target="dev", schedule=schedule, estimate=estimate, events=1)
    out = io.StringIO()
    write_text(plan, out, target="dev", events=None, color=False)
    line = 'o/r0  {"z":1,"b":"é <b>&"}  at 2026-01-01 00:00:00 UTC  id told-o/r0'
    assert line in out.getvalue()
    assert f">{escape(line)}\n… and 1 more</pre>" in page


def test_what_stands_between_backticks_is_code_and_nothing_is_markup(tmp_path: Path) -> None:
    warning = Problem("`sync` <b>x</b>", "plan.yaml", severity="warning", hint="`a < b`")
    plan = replace(make_plan(tmp_path, BODY), warnings=(warning,))
    schedule, estimate = simulate(plan, ["o/r0"]), before(plan, {}, 0.0)
    page = plan_page(plan, target="dev", schedule=schedule, estimate=estimate, events=5)
    assert "<code>sync</code> &lt;b&gt;x&lt;/b&gt;: <code>a &lt; b</code>" in page
    refused = error_page("No such run", "there is no run `x`", "`backfill runs` lists them")
    assert "no run <code>x</code>" in refused
    assert "<code>backfill runs</code> lists them" in refused


def test_templates_call_what_is_there() -> None:
    called = {
        name
        for path in TEMPLATES.glob("*.j2")
        for name in re.findall(r"\bwords\.(\w+)", path.read_text("utf-8"))
    }
    assert {name for name in called if not hasattr(words, name)} == set()
    assert len(called) > 10
