"""Each file under tests/examples is a test: a new example needs no new code.

`invalid/NAME.yaml` gives exactly the messages of `invalid/NAME.expected`; after an intended change,
`RECORD_EXAMPLES=1 pytest tests/spec/test_examples.py` rewrites them, to be reviewed in the diff. A
first line `# with: {...}` passes variables (`vars`) or `strict`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InvalidPlan
from runner.model import ExecutionPlan, Problem
from runner.planning.build import build_execution_plan
from runner.planning.facts import asks
from runner.spec.load import load_plan

EXAMPLES = Path(__file__).parents[1] / "examples"
INVALID = sorted(path.name for path in (EXAMPLES / "invalid").glob("*.yaml"))
VALID = sorted(path.name for path in (EXAMPLES / "valid").glob("*.yaml"))

# Stand-ins for real keys in the examples: no part of them may ever be shown.
KEYS = (EXAMPLES / "invalid" / "data" / "keys.txt").read_text(encoding="utf-8").split()


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_plan_gives_its_recorded_messages(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, line, column, words and hint of every problem, in order."""
    monkeypatch.chdir(EXAMPLES / "invalid")
    with pytest.raises(InvalidPlan) as caught:
        _build(name)
    found = "".join(map(_lines, caught.value.problems))
    expected = Path(name).with_suffix(".expected")
    if os.environ.get("RECORD_EXAMPLES"):
        expected.write_text(found, encoding="utf-8")
    assert found == expected.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_plan_never_echoes_a_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a message, a hint or an excerpt, not even a part that could be of use."""
    monkeypatch.chdir(EXAMPLES / "invalid")
    with pytest.raises(InvalidPlan) as caught:
        _build(name)
    shown = repr(caught.value.problems)
    for key in KEYS:
        assert not any(key[at : at + 8] in shown for at in range(len(key) - 7)), name


@pytest.mark.parametrize("name", VALID)
def test_a_valid_plan_is_read_and_has_something_to_send(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES / "valid")
    if asks(load_plan(name)):
        return  # what it sends depends on the database
    assert sum(1 for _ in _build(name).planned()) > 0


def _build(name: str) -> ExecutionPlan:
    head = Path(name).read_bytes().split(b"\n")[0]
    given: dict[str, Any] = json.loads(head[8:]) if head.startswith(b"# with: ") else {}
    strict = bool(given.get("strict"))
    plan = load_plan(name, overrides=given.get("vars"), strict=strict)
    return build_execution_plan(plan, strict=strict)


def _lines(problem: Problem) -> str:
    place = [problem.path, problem.line, problem.column]
    where = ":".join(str(part) for part in place if part is not None)
    hint = f"hint: {problem.hint}\n" if problem.hint else ""
    return f"{where}: {problem.severity}: {problem.message}\n{hint}"
