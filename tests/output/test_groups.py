"""Failures of one kind are one group, however many; what is cut is counted, and keeps its ends."""

from __future__ import annotations

import io
import itertools

import pytest

from runner.model import Failure, Problem, Summary, Totals, kind_of_failure, of_item
from runner.output.problems import format_problems
from runner.output.summary import write_summary_text
from runner.output.text import clipped

ALIKE = [
    [("HTTP 500 for o/a, request 8f3e9a1c2b", "o/a"), ("HTTP 500 for o/b, request 77aa11", "o/b")],
    [("row 7 of 9 is bad", "7"), ("row 8 of 9 is bad", "8"), ("row 17 of 9 is bad", "17")],
    [("req_01HZX3K8Q2V9T7W5Y6A1B2C3D4 died", "x"), ("req_01HZX3K8Q2V9T7W5Y6A1B2C3D5 died", "y")],
    [("3f1c9b1e-77aa-4b0c-8d1e-aabbccddeeff", "x"), ("3f1c9b1e-77aa-4b0c-8d1e-0011ccddeeff", "x")],
    [("waited 12.5s", "x"), ("waited 9.1s", "y")],
]
DIFFERENT = [
    ("HTTP 500", "HTTP 404"),
    ("404 Not Found", "500 Internal Server Error"),
    ("exit 1", "exit 137"),
    ("error 23505: duplicate", "error 40001: serialization"),
    ("no such repo", "no such branch"),
]


@pytest.mark.parametrize("messages", ALIKE)
def test_messages_that_differ_in_names_ids_and_numbers_are_of_a_kind(
    messages: list[tuple[str, str]],
) -> None:
    assert len({kind_of_failure(message, item) for message, item in messages}) == 1


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_a_code_says_what_went_wrong_and_tells_kinds_apart(one: str, other: str) -> None:
    assert kind_of_failure(one, "o/a") != kind_of_failure(other, "o/b")


def test_an_item_is_replaced_as_a_word_of_its_own() -> None:
    assert of_item("bad a: a/b, aa", "a") == "bad {item}: {item}/b, aa"


def failed(count: int) -> Summary:
    failures = tuple(
        Failure("sync", f"o/r{n}", "app/sync", "failed", f"limit hit, request {n:08x}")
        for n in range(count)
    )
    totals = Totals(planned=count, accepted=count, failed=count)
    return Summary("RUN", "plan", "dev", "failed", totals, failures, 1.0)


def test_thousands_that_differ_in_a_request_id_are_two_lines() -> None:
    out = io.StringIO()
    write_summary_text(failed(3_000), out, color=False)
    lines = out.getvalue().splitlines()
    assert len(lines) < 12
    assert any(line.startswith("    3,000 events: o/r0, o/r1") for line in lines)


def test_a_long_message_keeps_both_of_its_ends() -> None:
    for width, text in itertools.product((9, 40, 400), ("ab" * 300, "界" * 300)):
        said = clipped(f"Head{text}cause", width)
        assert said.startswith("Head"[: width // 2 - 1])
        assert said.endswith("cause"[-(width // 4) :])
        assert said.count("…") == 1
    assert clipped("short", 5) == "short"


def test_thousands_of_problems_are_counted_and_the_first_are_shown() -> None:
    problems = [Problem(f"row {n} is bad", "rows.csv", n, 1) for n in range(1, 3_001)]
    lines = format_problems(problems, color=False).splitlines()
    assert lines[0] == "rows.csv:1:1: error: row 1 is bad"
    assert lines[-2:] == ["... and 2,900 more", "3,000 errors"]
    assert len(lines) == 102
