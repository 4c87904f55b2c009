"""Where the strict reader accepts a YAML text, PyYAML and ruamel.yaml read the same value."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import ruamel.yaml
import ruamel.yaml.error
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.spec.strict_yaml import parse
from tests.depth import depth
from tests.spec.written_plans import PLANS, STYLES, Writer

ROOT = Path(__file__).parents[2]
OURS = sorted(
    path
    for path in ROOT.rglob("*.y*ml")
    if not set(path.parts) & {".venv", "build", "node_modules"}
)
# Scraps that are easily misread.
_WORDS = ["null", "yes", "1.5", "1e3", "0x1", "2024-01-01", "1:30", "*a", "é", "''", "...", "---"]
_MARKS = ["\n  ", "\n- ", ": ", " #", "|-\n  ", ">\n  ", "&a ", "<<: ", "\n---\n"]
SCRAPS = st.sampled_from([*"abn01~-:?#&*!|>%@,[]{}\"' \n", *_WORDS, *_MARKS])
TEXTS = st.lists(SCRAPS, max_size=24).map("".join)


def _strict(raw: bytes) -> Any:
    document, problems, _ = parse(raw, "f.yaml")
    refused = any(one.severity == "error" for one in problems)
    return None if refused else document.value


def _same(ours: Any, other: Any) -> bool:
    """YAML 1.1, and so PyYAML, reads `1e3` as text."""
    if isinstance(ours, dict) and isinstance(other, dict):
        return list(ours) == list(other) and all(_same(ours[key], other[key]) for key in ours)
    if isinstance(ours, list) and isinstance(other, list):
        return len(ours) == len(other) and all(map(_same, ours, other))
    if isinstance(ours, float) and isinstance(other, str):
        return "e" in other.lower() and "." not in other and float(other) == ours
    return type(ours) is type(other) and bool(ours == other)


def _agree(raw: bytes) -> bool:
    value = _strict(raw)
    if not isinstance(value, dict | list):
        return False  # not ours; libyaml ends a block scalar that is the whole text at a `#`
    for read in (yaml.safe_load, ruamel.yaml.YAML(typ="safe", pure=True).load):
        try:
            other = read(raw)
        except (yaml.YAMLError, ruamel.yaml.error.YAMLError):
            continue  # a tab between tokens, say: a reader that refuses reads nothing else
        assert _same(value, other), (value, other)
    return True


@pytest.mark.parametrize("path", OURS, ids=[str(path.relative_to(ROOT)) for path in OURS])
def test_files_of_ours_are_read_alike(path: Path) -> None:
    _agree(path.read_bytes())


@settings(max_examples=depth(60, 2_000), deadline=None)
@given(PLANS, STYLES, st.booleans(), st.integers(0, 1 << 30))
def test_plans_as_anybody_may_write_them_are_read_alike(
    plan: Any, flow: frozenset[str], comments: bool, seed: int
) -> None:
    random = Random(seed)  # noqa: S311
    _agree(Writer(random, flow, comments=comments).text(plan).encode())


@pytest.mark.filterwarnings("ignore::ruamel.yaml.error.ReusedAnchorWarning")
@settings(max_examples=depth(300, 20_000), deadline=None)
@given(TEXTS)
@example("- &1:30")
def test_scraps_are_refused_or_read_alike(text: str) -> None:
    _agree(text.encode())


def test_some_of_it_is_accepted() -> None:
    assert sum(isinstance(_strict(path.read_bytes()), dict | list) for path in OURS) > 20
