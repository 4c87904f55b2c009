"""Exports and logs: what others have written begins no formula, no command, and moves no cursor."""

from __future__ import annotations

import csv
import io
import re

import pytest

from runner.model import Covered, EventRecord
from runner.output.coverage import write_coverage_csv
from runner.output.run import write_events
from runner.output.text import csv_lines, visible

FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\uff1d1",
]
NUMBERS = ["5", "-5", "+5.25", "-1e-6", "-0"]
HIDDEN = ["\0", "\x1b[2J", "\r\n", "\x7f", "\x9b", "\u202e", "\u200f", "\u061c", "\u2066", "\u2028"]
COMMANDS = [
    "##vso[task.setvariable variable=x]y",
    "ok ##vso[task.complete]",
    "##[error]x",
    "##teamcity[x]",
    "::set-env name=x::y",
    "  ::error::x",
]
CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
COMMAND = re.compile(r"^\s*::|##\w*\[")


def cells(text: str) -> list[str]:
    (row,) = csv.reader(io.StringIO(text, newline=""))
    return row


@pytest.mark.parametrize("value", [*FORMULAS, *HIDDEN, *COMMANDS])
def test_a_cell_is_text_of_one_line(value: str) -> None:
    (cell,) = cells("".join(csv_lines([[value]])))
    assert cell[0] not in "=+-@\t\r\uff1d"
    assert not CONTROL.search(cell)
    assert not COMMAND.search(cell)


@pytest.mark.parametrize("value", [*FORMULAS, *HIDDEN, *COMMANDS])
def test_every_export_is_made_of_such_cells(value: str) -> None:
    event = EventRecord(
        0, 1, "sync", 1, value, "app/sync", None, None, None, None, "failed", value, ()
    )
    events, coverage = io.StringIO(), io.StringIO()
    write_events("RUN", [event], events, "csv")
    write_coverage_csv({value: [Covered(value, value, 1, 1)]}, coverage)
    for out in (events, coverage):
        rows = list(csv.reader(io.StringIO(out.getvalue(), newline="")))
        assert len(rows) == 2
        assert not any(CONTROL.search(cell) or COMMAND.search(cell) for cell in rows[1])
        assert not any(cell[:1] in {*"=+@\uff1d"} for cell in rows[1])


@pytest.mark.parametrize("value", NUMBERS)
def test_numbers_stay_numbers(value: str) -> None:
    assert cells("".join(csv_lines([[value, float(value), None]]))) == [
        value,
        str(float(value)),
        "",
    ]


@pytest.mark.parametrize("value", [*HIDDEN, *COMMANDS])
def test_a_line_for_a_terminal_moves_nothing_and_commands_nobody(value: str) -> None:
    assert not CONTROL.search(visible(value))
    assert not COMMAND.search(visible(value))


@pytest.mark.parametrize("value", ["a::b", "# title", "C# [x]", "##", "[x]", "naïve ☃ 漢字"])
def test_ordinary_text_stays(value: str) -> None:
    assert visible(value) == value
    assert cells("".join(csv_lines([[value]]))) == [value]
