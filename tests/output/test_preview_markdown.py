"""GitHub's Markdown is parsed with markdown-it, which rich depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from runner.model import ExecutionPlan, Problem, Skipped, Stage
from runner.output.markdown import MAX_CHARACTERS
from runner.output.preview import plan_markdown
from tests.depth import crossed
from tests.output.fakes import DANGEROUS, HOSTILE, FakeItems
from tests.support import make_plan, repos

CELL = "a|b`c`*d*_e_<b>[x](y)~~z~~\\|\n# h @team #1"
OURS = {"<details>", "</details>", "<details", "<sub>", "</sub>", "<details open>"}


def test_a_small_plan_reads_as_written_here(plan: ExecutionPlan) -> None:
    assert _markdown(plan, events=1) == (
        "### Backfill plan `test` → `embedded`\n\n"
        "**5 events, 3 batches, 2 stages; 5s of pacing, plus the jobs' time.**\n\n"
        "| # | operation | event | for each | events | batches | pacing | done when |\n"
        "|--:|---|---|---|--:|--:|---|---|\n"
        "| 1 | sync | app/sync | repo | 3 | 2 | 2 x 2, 5s apart | jobs completed, 15m |\n"
        "| 2 | embed | app/embed | repo | 2 | 1 | 1 batch | jobs completed, 15m |\n\n"
        "<details open><summary>Skipped</summary>\n\n"
        "- embed: skipped by the repository (1 item: o/c)\n\n"
        "</details>\n\n"
        "<details><summary>1. sync: 3 events</summary>\n\n"
        '```text\no/a  {"repo":"o/a"}\n... and 2 more\n```\n\n'
        "</details>\n\n"
        "<details><summary>2. embed: 2 events</summary>\n\n"
        '```text\no/a  {"repo":"o/a"}\n... and 1 more\n```\n\n'
        "</details>\n\n"
        f"<sub>{plan.digest}</sub>\n"
    )


def test_an_empty_plan_says_so(empty_plan: ExecutionPlan) -> None:
    text = _markdown(empty_plan)
    assert "**Nothing to send.**" in text
    assert "| operation |" not in text


def test_warnings_are_part_of_the_comment(plan: ExecutionPlan) -> None:
    warning = Problem("unwise", "plan.yaml", 3, 4, severity="warning")
    assert "plan.yaml:3:4: warning: unwise" in _markdown(replace(plan, warnings=(warning,)))


def test_no_events_are_shown_where_none_are_wanted(plan: ExecutionPlan) -> None:
    assert '{"repo"' not in _markdown(plan, events=0)


@pytest.mark.parametrize("events", [3, None])
def test_an_item_cannot_leave_its_fence(hostile_plan: ExecutionPlan, events: int | None) -> None:
    text = _markdown(hostile_plan, events=events)
    assert not DANGEROUS.search(text)
    (fence,) = [token for token in _tokens(text) if token.type == "fence"]
    assert "```\\x0a</details><script>" in fence.content
    assert fence.markup == "````"  # longer than any run of backticks inside
    _assert_only_our_html(text)


def test_names_and_reasons_are_read_as_text(plan: ExecutionPlan) -> None:
    stage = replace(plan.stages[0], operation=CELL, event=CELL)
    bad = replace(plan, stages=(stage,), skipped=(Skipped(CELL, CELL, CELL),))
    text = _markdown(bad)
    _assert_only_our_html(text)
    tokens = _tokens(text)
    cells = [tokens[n + 1] for n, token in enumerate(tokens) if token.type == "td_open"]
    (skipped,) = [token for token in tokens if token.content.startswith("a&") and token.level == 3]
    for inline in (cells[1], cells[2], skipped):
        children = inline.children or []
        assert {child.type for child in children} <= {"text", "text_special"}
        shown = "".join(child.content for child in children)
        assert shown.startswith("a|b`c`*d*_e_<b>[x](y)~~z~~\\|\\x0a")
    assert cells[5].content == "2"


def test_nobody_is_mentioned_and_no_issue_is_linked(plan: ExecutionPlan) -> None:
    """GitHub looks for mentions after it has decoded entities: a backslash or an entity does not
    help."""
    text = _markdown(replace(plan, skipped=(Skipped("sync", "@team", "#1"),)))
    shown = "".join(token.content for token in _children(text) if token.type == "text")
    assert "@\u200bteam" in shown
    assert "#\u200b1" in shown


def test_name_and_target_cannot_leave_their_code_spans(plan: ExecutionPlan) -> None:
    text = _markdown(replace(plan, name="a`<b>`"), target=HOSTILE)
    heading = text.splitlines()[0]
    codes = [token.content for token in _children(heading) if token.type == "code_inline"]
    assert codes[0] == "a'<b>'"
    assert len(codes) == 2
    assert not DANGEROUS.search(heading)


def _stages(plan: ExecutionPlan, count: int, stage: Stage) -> ExecutionPlan:
    return replace(plan, stages=tuple(replace(stage, number=n + 1) for n in range(count)))


def _oversized(plan: ExecutionPlan, what: str) -> ExecutionPlan:
    stage = plan.stages[0]
    names = [f"o/repository-{number}" for number in range(20_000)]
    match what:
        case "events":
            return replace(plan, stages=(replace(stage, items=FakeItems(names)),))
        case "events of many stages":
            return _stages(plan, 40, replace(stage, items=FakeItems(names)))
        case "stages":
            return _stages(plan, 3_000, stage)
        case "long operations":
            return _stages(plan, 200, replace(stage, operation="|" * 2_000, event="@" * 2_000))
        case "payload":
            huge = FakeItems(["o/a"], data={"text": "x" * 100_000})
            return replace(plan, stages=(replace(stage, items=huge),))
        case "backticks":
            items = FakeItems(["`" * 50_000] * 300)
            return _stages(plan, 40, replace(stage, items=items))
        case "name":
            return replace(plan, name="\x1b" * 100_000)
        case "skipped":
            skipped = (Skipped(f"op-{n}", "@" * 900, "#" * 900) for n in range(5_000))
            return replace(plan, skipped=tuple(skipped))
        case "warnings":
            warning = Problem("`" * 900, "p", 1, 1, "y" * 900, "z" * 900, "warning")
            return replace(plan, warnings=(warning,) * 5_000)
        case _:
            left_out, warned = _oversized(plan, "skipped"), _oversized(plan, "warnings")
            large = _stages(plan, 3_000, replace(stage, items=FakeItems(names)))
            return replace(large, skipped=left_out.skipped, warnings=warned.warnings)


OVERSIZED = [
    "events",
    "events of many stages",
    "stages",
    "long operations",
    "payload",
    "backticks",
    "name",
    "skipped",
    "warnings",
    "everything",
]


@pytest.mark.parametrize(("what", "events"), crossed(OVERSIZED, [3, None]))
def test_a_comment_is_within_githubs_limit_and_whole(
    plan: ExecutionPlan, what: str, events: int | None
) -> None:
    """Nothing is cut inside a table, a fence or a fold."""
    text = _markdown(_oversized(plan, what), events=events)
    assert len(text) <= MAX_CHARACTERS == 65_536
    assert text.endswith(f"\n<sub>{plan.digest}</sub>\n")
    assert text.count("<details") == text.count("</details>")
    _assert_only_our_html(text)
    tables = [token for token in _tokens(text) if token.type == "table_open"]
    assert len(tables) == 1


def test_all_events_fill_the_comment_and_the_rest_is_counted(plan: ExecutionPlan) -> None:
    text = _markdown(_oversized(plan, "events"), events=None)
    shown = text.count('{"repo"')
    assert shown > 500
    assert f"... and {20_000 - shown:,} more" in text
    assert len(text) > 0.9 * MAX_CHARACTERS


def test_the_stages_share_the_room_for_samples(plan: ExecutionPlan) -> None:
    """The first stage does not use up the last one's room."""
    large = replace(plan.stages[0], items=FakeItems(["o/" + "r" * 90] * 5_000))
    text = _markdown(_stages(plan, 4, large), events=None)
    shown = [part.count('{"repo"') for part in text.split("<details>")[1:]]
    assert len(shown) == 4
    assert min(shown) > 0.8 * max(shown)


def test_what_is_left_out_of_table_skipped_and_warnings_is_counted(plan: ExecutionPlan) -> None:
    rows = _markdown(_oversized(plan, "stages"), events=0)
    shown = sum(line.startswith("| ") for line in rows.splitlines()) - 1
    assert f"... and {3_000 - shown:,} more stages" in rows
    groups = _markdown(_oversized(plan, "skipped"), events=0)
    assert f"- ... and {5_000 - groups.count('- op-'):,} more" in groups
    warnings = _markdown(_oversized(plan, "warnings"), events=0)
    assert f"... and {5_000 - warnings.count('p:1:1: warning'):,} more" in warnings


def test_stages_whose_samples_do_not_fit_are_counted(plan: ExecutionPlan) -> None:
    text = _markdown(_oversized(plan, "stages"))
    shown = text.count("<details><summary>")
    assert f"_The samples of {3_000 - shown:,} stages are left out._" in text


def test_only_the_events_that_fit_are_rendered(plan: ExecutionPlan) -> None:
    asked: list[str] = []
    items = FakeItems([f"o/{number}" for number in range(100_000)], asked)
    _markdown(replace(plan, stages=(replace(plan.stages[0], items=items),)), events=None)
    assert len(asked) < 10_000


def test_a_large_plan_is_summed_up_in_the_first_sentence(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, f"batch_size: 50\n{repos(1_200)}operations: [sync]\n")
    assert _markdown(plan).split("\n\n")[1].startswith("**1,200 events, 24 batches, 1 stage;")


def _markdown(plan: ExecutionPlan, *, target: str = "embedded", events: int | None = 3) -> str:
    return plan_markdown(plan, target=target, events=events)


def _tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)


def _children(text: str) -> list[Token]:
    return [child for token in _tokens(text) for child in token.children or ()]


def _assert_only_our_html(text: str) -> None:
    """Assert that all HTML that a renderer sees was written by the reporter itself."""
    html = [token.content for token in _tokens(text) if token.type == "html_block"]
    html += [token.content for token in _children(text) if token.type == "html_inline"]
    for piece in html:
        tag = piece.strip().split("<summary>")[0]
        assert tag in OURS, piece
        assert "<" not in piece.strip().removeprefix(tag).removeprefix("<summary>").removesuffix(
            "</summary>"
        )
