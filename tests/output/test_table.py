"""Every list fits the terminal, is complete when piped, and can be copied from."""

from __future__ import annotations

import re

import pytest

from runner.output.table import Cell, Row, table
from runner.output.text import columns

RUN = "01M8HZXEV658X70STCKVG8HRTV"
ROWS: list[Row] = [
    (RUN, Cell("failed", "red"), "110/120", "onboard-acme", "production: cloud", ""),
    (
        RUN[::-1],
        Cell("running", "cyan"),
        "9/1,200,000",
        "日本",
        "dev",
        f"retries {RUN}, by\x1b[2J me",
    ),
]
HEADINGS = ("run", "state", ">events", "plan", "target", "")


def _lines(width: int | None, *, color: bool = False) -> list[str]:
    return list(table(HEADINGS, ROWS, width=width, color=color))


@pytest.mark.parametrize("width", [40, 80, 160])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_missing(width: int) -> None:
    lines = _lines(width)
    assert max(map(columns, lines)) <= width
    words = " ".join(lines).split()
    for row in ROWS:
        for cell in row:
            text = (cell.text if isinstance(cell, Cell) else cell).replace("\x1b", "\\x1b")
            assert all(word in words for word in text.split())


def test_a_pipe_gets_a_row_a_line_in_columns() -> None:
    head, *rows = _lines(None)
    assert [len(rows), head.split()] == [2, ["run", "state", "events", "plan", "target"]]
    assert {row.index(state) for row, state in zip(rows, ("failed", "running"), strict=True)} == {
        28
    }
    assert rows[0].index("110/120") + 7 == rows[1].index("9/1,200,000") + 11, "numbers end alike"
    assert rows[1].endswith(r"by\x1b[2J me")


def test_color_moves_nothing() -> None:
    for width in (40, 80, 160, None):
        colored = [re.sub(r"\x1b\[\d+m", "", line) for line in _lines(width, color=True)]
        assert colored == _lines(width)


def test_a_word_that_is_too_wide_stays_whole() -> None:
    url = "https://example.com/" + "x" * 60
    assert any(
        url in line for line in table(("item", "job"), [("a/b", url)], width=40, color=False)
    )


def test_no_rows_are_no_lines() -> None:
    assert list(table(HEADINGS, [], width=None, color=False)) == []
