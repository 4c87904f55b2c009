"""Exports and logs: what others wrote starts no formula and no command, and moves no cursor."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from runner.cli.printing import print_json
from runner.model import Covered, EventRecord, Job
from runner.output.coverage import write_coverage_csv
from runner.output.junit import attribute
from runner.output.preview import write_json, write_jsonl
from runner.output.progress import JsonLines
from runner.output.run import write_events
from runner.output.text import csv_lines, visible
from tests.output.fakes import FakeItems
from tests.support import make_plan

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
HIDDEN = [
    *("\0", "\x1b[2J", "\r\n", "\x7f", "\x9b", "\u202e", "\u200f", "\u061c", "\u2066", "\u2028"),
    *(
        "\xad",
        "\u200b",
        "\u2060",
        "\ufeff",
        "\U000e0041",
        "\u3164",
        "\u180e",
        "\ufff9",
        "\U000e0100",
    ),
]
COMMANDS = [
    "##vso[task.setvariable variable=x]y",
    "ok ##vso[task.complete]",
    "##[error]x",
    "##teamcity[x]",
    "::set-env name=x::y",
    "  ::error::x",
]
CONTROL = re.compile(
    "[\0-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\u3164\ufeff\ufff9"
    "\U000e0000-\U000e0fff]"
)
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


def written(value: str, form: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command prints as JSON if a stranger wrote `value` everywhere."""
    job = Job("J", value, value, ended=True, url=value)
    event = EventRecord(
        0, 1, value, 1, value, value, None, None, None, None, "failed", value, (job,)
    )
    out = io.StringIO()
    if form.startswith("events"):
        write_events("R", [event], out, form.removeprefix("events "))
    elif form == "log":
        record = logging.LogRecord("x", 20, "", 0, "%s", (value,), None)
        record.run = value
        return JsonLines().format(record)
    elif form == "any document":
        print_json({value: [value, {"nested": value}]})
        return capsys.readouterr().out
    else:
        plan = make_plan(folder, "repos: [o/a]\noperations: [sync]\n")
        (stage,) = plan.stages
        stage = replace(stage, operation=value, items=FakeItems([value], data={value: value}))
        plan = replace(plan, name=value, stages=(stage,))
        if form == "plan jsonl":
            write_jsonl(plan, out)
        else:
            write_json(plan, out, target=value)
    return out.getvalue()


@pytest.mark.parametrize(
    "form", ["events json", "events jsonl", "plan json", "plan jsonl", "log", "any document"]
)
@pytest.mark.parametrize("value", [*HIDDEN, *COMMANDS, "a::b ##c", "\\##[x]", "naïve ☃ 漢字 😀"])
def test_json_is_the_same_to_its_reader_and_commands_nobody(
    value: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = written(value, form, tmp_path, capsys)
    assert not CONTROL.search(text.replace("\n", ""))
    assert not any(COMMAND.search(line) for line in text.splitlines())
    assert "##" not in text
    assert "::" not in text
    texts = set(texts_of(json.loads(text)))
    assert (visible(value) if form == "log" else value) in texts


@pytest.mark.parametrize("value", [*HIDDEN, *COMMANDS, "a::b ##c", "&#x23;#[x]", "naïve ☃ 漢字 😀"])
def test_xml_is_the_same_to_its_reader_and_commands_nobody(value: str) -> None:
    text = f"<a b={attribute(value)}/>"
    assert not CONTROL.search(text)
    assert not COMMAND.search(text)
    there = re.sub(r"[\0-\x08\x0b\x0c\x0e-\x1f]", "\ufffd", value)  # XML cannot contain these
    assert ElementTree.fromstring(text).get("b") == there  # noqa: S314 - our own


def texts_of(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield key
            yield from texts_of(member)
    elif isinstance(value, list):
        for member in value:
            yield from texts_of(member)


@pytest.mark.parametrize("value", ["a::b", "# title", "C# [x]", "##", "[x]", "naïve ☃ 漢字"])
def test_ordinary_text_stays(value: str) -> None:
    assert visible(value) == value
    assert cells("".join(csv_lines([[value]]))) == [value]
