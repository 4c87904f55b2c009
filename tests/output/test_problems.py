from __future__ import annotations

import string

import pytest

from runner.model import Problem
from runner.output.problems import format_problems, problems_json
from runner.output.text import columns
from tests.output.fakes import DANGEROUS, HOSTILE

UNKNOWN_KEY = Problem(
    "unknown key `batchsize`", "plans/x.yaml", 12, 3, "  batchsize: 5", "did you mean `batch_size`?"
)


def test_a_problem_shows_its_place_its_line_a_caret_and_a_hint() -> None:
    assert format_problems([UNKNOWN_KEY], color=False) == (
        "plans/x.yaml:12:3: error: unknown key `batchsize`\n"
        "   12 |   batchsize: 5\n"
        "      |   ^\n"
        "   hint: did you mean `batch_size`?\n"
        "1 error"
    )


def test_the_last_line_counts_errors_and_warnings_apart() -> None:
    warning = Problem("w", "p", severity="warning")
    assert _lines([UNKNOWN_KEY] * 3 + [warning])[-1] == "3 errors, 1 warning"
    assert _lines([warning] * 2)[-1] == "2 warnings"


def test_a_problem_without_a_place_is_one_line() -> None:
    assert _lines([Problem("m", "p.yaml")]) == ["p.yaml: error: m", "1 error"]


def test_a_problem_without_its_source_line_has_no_excerpt() -> None:
    assert _lines([Problem("m", "p.yaml", 3, 4)]) == ["p.yaml:3:4: error: m", "1 error"]


@pytest.mark.parametrize("column", [1, 20, 34, 35, 36, 100, 198, 199, 200])
def test_the_caret_of_a_long_line_is_within_80_columns_and_under_its_character(column: int) -> None:
    source = (string.ascii_letters + string.digits) * 4
    excerpt, caret = _lines([Problem("m", "p", 3, column, source)])[1:3]
    assert max(len(excerpt), len(caret)) <= 80
    assert excerpt[caret.index("^")] == source[column - 1]


@pytest.mark.parametrize("before", ["\t\t", "漢字", "e\u0301", "\x1b[31m", "漢\x9b" * 60])
def test_the_caret_keeps_its_place_behind_tabs_wide_and_hidden_characters(before: str) -> None:
    lines = _lines([Problem("m", "p", 3, len(before) + 1, f"{before}@ rest")])
    shown = lines[1].partition("@")[0]
    assert columns(shown) == lines[2].index("^")
    assert columns(lines[1]) <= 80


def test_a_tab_is_shown_as_one_space() -> None:
    lines = _lines([Problem("m", "p", 3, 3, "\ta\tb")])
    assert lines[1:3] == ["    3 |  a b", "      |   ^"]


def test_a_column_past_the_end_of_the_line_puts_the_caret_behind_it() -> None:
    assert _lines([Problem("m", "p", 3, 99, "abc")])[1:3] == ["    3 | abc", "      |    ^"]


def test_no_part_of_a_problem_reaches_the_terminal_raw() -> None:
    problem = Problem(HOSTILE, HOSTILE, 1, 5, HOSTILE, HOSTILE)
    text = format_problems([problem], color=False)
    assert "\\x1b[2J" in text
    assert not DANGEROUS.search(text)
    assert len(text.splitlines()) == 5


def test_color_marks_the_severity_and_nothing_else() -> None:
    plain, colored = (format_problems([UNKNOWN_KEY], color=color) for color in (False, True))
    assert colored.replace("\x1b[31m\x1b[1merror:\x1b[0m", "error:") == plain
    assert colored != plain


def test_machines_get_every_field_but_the_source() -> None:
    assert problems_json([UNKNOWN_KEY]) == [
        {
            "severity": "error",
            "message": "unknown key `batchsize`",
            "path": "plans/x.yaml",
            "line": 12,
            "column": 3,
            "hint": "did you mean `batch_size`?",
            "rule": "plan",
            "accepted": None,
        }
    ]


def _lines(problems: list[Problem]) -> list[str]:
    return format_problems(problems, color=False).split("\n")
