"""Problems as GitHub annotations: within its limits, worst first, and no text can start a
command."""

from __future__ import annotations

from typing import Any

from runner.model import Problem
from runner.output.problems import MOST_OF_A_LEVEL, annotations_of, sarif

ERROR = Problem("no `name`", "plans/a.yaml", 3, 7, hint="add it", rule="schema")
WARNING = Problem("short", "plans/b.yaml", severity="warning", rule="advice")


def test_an_annotation_names_file_line_and_column() -> None:
    assert annotations_of([WARNING, ERROR]) == [
        "::error file=plans/a.yaml,line=3,col=7::no `name` (add it)",
        "::warning file=plans/b.yaml::short",
    ]


def test_what_github_would_hide_is_counted() -> None:
    lines = annotations_of([ERROR] * 13 + [WARNING] * 2)
    assert sum(line.startswith("::error") for line in lines) == MOST_OF_A_LEVEL
    assert lines[-1] == "::notice::+3 more: the log has them all"


def test_no_text_can_begin_a_command_of_its_own() -> None:
    evil = Problem("a\n::set-env name=x::y 100%", "a,line=9::b.yaml\n::error::", 1)
    (line,) = annotations_of([evil])
    assert "\n" not in line
    assert line.startswith("::error file=a%2Cline=9%3A%3Ab.yaml")
    assert line.endswith("100%25")


def test_sarif_has_a_result_for_each_problem_the_errors_first() -> None:
    log: Any = sarif([WARNING, ERROR])
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["schema", "advice"]
    first, second = run["results"]
    assert first == {
        "ruleId": "schema",
        "ruleIndex": 0,
        "level": "error",
        "message": {"text": "no `name` (add it)"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "plans/a.yaml"},
                    "region": {"startLine": 3, "startColumn": 7},
                }
            }
        ],
    }
    assert second["level"] == "warning"
    assert "region" not in second["locations"][0]["physicalLocation"]
