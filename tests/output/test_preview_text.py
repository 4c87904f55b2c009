from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

import runner
from runner.model import (
    BoundQuestion,
    ExecutionPlan,
    Expect,
    Pacing,
    Problem,
    Query,
    Skipped,
    Stage,
    Until,
)
from runner.output import words
from runner.output.preview import write_text
from runner.output.text import columns
from tests.output.fakes import DANGEROUS, HOSTILE, FakeItems
from tests.support import make_plan, repos


def test_a_small_plan_reads_as_written_here(plan: ExecutionPlan) -> None:
    text = "\n".join(line.rstrip() for line in _text(plan, events=1).splitlines())
    assert text == (
        "Plan test → embedded\n"
        f"{plan.digest[:19]}\n"
        "\n"
        "   operation  runs for  pacing           done when\n"
        "1  sync        3 repos  2 x 2, 5s apart  jobs completed, 15m\n"
        "2  embed       2 repos  1 batch          jobs completed, 15m\n"
        "\n"
        "1. sync  app/sync\n"
        '   o/a  {"repo":"o/a"}\n'
        "   ... and 2 more (--events all)\n"
        "2. embed  app/embed\n"
        '   o/a  {"repo":"o/a"}\n'
        "   ... and 1 more (--events all)\n"
        "Skipped\n"
        "   embed: 1 item, skipped by the repository\n"
        "   o/c\n"
        "\n"
        "5 events, 3 batches, 2 stages; 5s of pacing, plus the jobs' time"
    )


def test_an_event_shows_the_start_and_the_id_that_are_its_own(tmp_path: Path) -> None:
    use = "{use: sync, at: '2027-01-0{{ repo.day }}', id: 'r{{ repo.day }}'}"
    body = f"repos: [{{repo: o/a, day: 2}}, {{repo: o/b, day: 1}}]\noperations: [{use}]\n"
    text = _text(make_plan(tmp_path, f"{body}batch_size: 1\n"))
    assert '   o/a  {"repo":"o/a"}  at 2027-01-02 00:00:00 UTC  id r2\n' in text
    assert "the last one to start at 2027-01-02 00:00:00 UTC, plus" in " ".join(text.split())


@pytest.mark.parametrize("wait", ["sent", "completed"])
def test_a_drain_is_done_when_its_goal_is_reached_however_it_waits(
    wait: Literal["sent", "completed"],
) -> None:
    goal = Until(BoundQuestion(Query("q"), {}), Expect("n", at_most=0), 3, 9, 60.0)
    items = FakeItems(())
    stage = Stage(1, "drain", "e", "repo", Pacing(9, 0.0), wait, 900.0, until=goal, items=items)
    assert words.until(stage) == "jobs completed, 15m; until n at most 0"
    assert (words.until(replace(stage, until=None)) == "sent") is (wait == "sent")


def test_owner_and_reason_are_in_the_header(plan: ExecutionPlan) -> None:
    told = replace(plan, metadata={"owner": "data-platform", "reason": "migration 20261120"})
    assert _text(told).splitlines()[1] == "data-platform: migration 20261120"


def test_an_empty_plan_says_so_and_shows_no_table(empty_plan: ExecutionPlan) -> None:
    text = _text(empty_plan)
    assert text.endswith("Nothing to send.\n")
    assert "operation" not in text
    assert "sync: skipped by the plan" in text


def test_all_events_are_shown_whole_and_in_sending_order(plan: ExecutionPlan) -> None:
    lines = _text(plan, events=None).splitlines()
    shown = [line.split()[0] for line in lines if '{"repo"' in line]
    assert shown == [planned.item for planned in plan.planned()]
    assert "   batch 2" in lines
    assert not any("more (--events all)" in line for line in lines)


def test_no_events_are_shown_where_none_are_wanted(plan: ExecutionPlan) -> None:
    assert '{"repo"' not in _text(plan, events=0)


def test_only_the_shown_events_are_rendered(plan: ExecutionPlan) -> None:
    """A million events cost no more than three."""
    asked: list[str] = []
    stage = replace(plan.stages[0], items=FakeItems(["o/a", "o/b", "o/c"], asked))
    _text(replace(plan, stages=(stage,)), events=1)
    assert asked == ["o/a"]


@pytest.mark.parametrize("item", ["o/" + "r" * 300, "漢字" * 60, HOSTILE * 5])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_line_keeps_within_the_width(plan: ExecutionPlan, item: str, width: int) -> None:
    long = replace(
        plan,
        name=item,
        metadata={"owner": item, "reason": item},
        stages=(
            replace(plan.stages[0], operation=item, event=item, items=FakeItems([item] * 3)),
            *plan.stages[1:],
        ),
        skipped=(Skipped("sync", item, item),),
    )
    text = _text(long, width=width, target=item)
    wide = [line for line in text.splitlines() if columns(line) > width]
    assert [line for line in wide if " " in line.strip()] == [], "but for a word that is wider"


def test_data_is_cut_with_an_ellipsis_unless_all_is_wanted(tmp_path: Path) -> None:
    name = "o/" + "r" * 90
    plan = make_plan(tmp_path, f"repos: [{name}]\noperations: [sync]\n")
    assert f'{{"repo":"{name}"}}' not in _text(plan, events=1)
    assert any(line.endswith("…") for line in _text(plan, events=1).splitlines())
    assert f'   {name}  {{"repo":"{name}"}}\n' in _text(plan, events=None)


def test_skipped_items_are_grouped_by_reason_and_named_up_to_five(plan: ExecutionPlan) -> None:
    skipped = [Skipped("sync", f"o/{number}", "known") for number in range(1_007)]
    lines = _text(replace(plan, skipped=tuple(skipped))).splitlines()
    start = lines.index("Skipped")
    assert lines[start + 1 : start + 3] == [
        "   sync: 1,007 items, known",
        "   o/0, o/1, o/2, o/3, o/4, +1,002 more",
    ]


def test_warnings_are_left_to_the_caller(plan: ExecutionPlan) -> None:
    warning = Problem("unwise", "plan.yaml", severity="warning")
    assert _text(replace(plan, warnings=(warning,))) == _text(replace(plan, warnings=()))


@pytest.mark.parametrize("events", [1, None])
def test_an_items_name_injects_no_escape_and_is_not_read_as_markup(
    hostile_plan: ExecutionPlan, events: int | None
) -> None:
    text = _text(hostile_plan, events=events)
    assert "[red]\\x1b[2J\\x9b1m\\u202e:boom:" in text
    assert not DANGEROUS.search(text)


def test_names_and_target_inject_no_escape(plan: ExecutionPlan) -> None:
    stage = replace(plan.stages[0], operation=HOSTILE, event=HOSTILE)
    skipped = (Skipped(HOSTILE, HOSTILE, HOSTILE),)
    told = {"owner": HOSTILE, "reason": HOSTILE}
    bad = replace(plan, name=HOSTILE, stages=(stage,), skipped=skipped, metadata=told)
    text = _text(bad, target=HOSTILE)
    assert text.count("[red]") >= 8
    assert not DANGEROUS.search(text)


def test_color_adds_styles_only_where_it_is_wanted(plan: ExecutionPlan) -> None:
    assert "\x1b[" in _text(plan, color=True)
    assert "\x1b[" not in _text(plan, color=False)


def test_the_machine_forms_never_load_rich() -> None:
    names = "junit ledger markdown preview problems progress review run summary text words"
    modules = ", ".join(f"runner.output.{name}" for name in names.split())
    code = f"import sys, {modules}; sys.exit('rich' in sys.modules)"
    root = Path(runner.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_a_large_plan_says_how_many_events_are_not_shown(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, f"{repos(1_200)}operations: [sync]\n")
    assert "... and 1,197 more (--events all)" in _text(plan)


def _text(
    plan: ExecutionPlan,
    *,
    target: str = "embedded",
    events: int | None = 3,
    color: bool = False,
    width: int = 80,
) -> str:
    out = io.StringIO()
    write_text(plan, out, target=target, events=events, color=color, width=width)
    return out.getvalue()
