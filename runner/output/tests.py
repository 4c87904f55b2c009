"""The results of plan tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from runner.output.junit import attribute
from runner.output.markdown import cell, code, fitting, with_more
from runner.output.text import document, styled, visible
from runner.planning.expectations import Tested
from runner.spec.units import counted

_MARKDOWN = 20_000  # characters


def tests_text(tested: Sequence[Tested], *, color: bool) -> str:
    lines = []
    for one in tested:
        word = "FAILED" if one.differences else "ok"
        shown = styled(f"{word:6}", "red" if one.differences else "green") if color else f"{word:6}"
        lines.append(f"{shown}  {visible(one.file)}: {visible(one.case)}")
        lines += [f"        {visible(difference)}" for difference in one.differences]
    return "\n".join([*lines, _total(tested)])


def tests_json(tested: Sequence[Tested]) -> dict[str, object]:
    return document(
        "TestResults",
        ok=not any(one.differences for one in tested),
        cases=[
            {
                "file": one.file,
                "case": one.case,
                "ok": not one.differences,
                "line": one.place.line,
                "differences": list(one.differences),
            }
            for one in tested
        ],
    )


def tests_junit(tested: Sequence[Tested]) -> str:
    """Write JUnit XML: a suite per file, a test case per case."""
    failed = sum(bool(one.differences) for one in tested)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="backfill test" tests="{len(tested)}" failures="{failed}">',
    ]
    for file, group in groupby(tested, attrgetter("file")):
        cases = list(group)
        failed = sum(bool(one.differences) for one in cases)
        counts = f'tests="{len(cases)}" failures="{failed}"'
        lines.append(f"<testsuite name={attribute(file)} {counts}>")
        for one in cases:
            head = f"<testcase classname={attribute(file)} name={attribute(one.case)}"
            why = attribute("\n".join(one.differences))
            failure = f"><failure message={why}/></testcase>" if one.differences else "/>"
            lines.append(head + failure)
        lines.append("</testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"


def tests_markdown(tested: Sequence[Tested]) -> str:
    failed = [one for one in tested if one.differences]
    head = f"### {'❌' if failed else '✅'} Tests of plans: {_total(tested)}"
    rows = [
        f"- {code(one.file)} {cell(one.case)}: {cell(difference)}"
        for one in failed
        for difference in one.differences
    ]
    return "\n".join([head, "", with_more(fitting(rows, _MARKDOWN), len(rows), "\n")]) + "\n"


def _total(tested: Sequence[Tested]) -> str:
    failed = sum(bool(one.differences) for one in tested)
    count = counted(len(tested), "case")
    if not failed:
        return f"{count}, all hold" if len(tested) > 1 else f"{count}, it holds"
    return f"{count}, {failed:,} {'does' if failed == 1 else 'do'} not hold"
