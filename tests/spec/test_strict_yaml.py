"""Strict YAML: JSON's values with their positions, or a problem."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from runner.model import Json, Problem
from runner.spec.document import Document
from runner.spec.json_limits import MAX_DEPTH
from runner.spec.strict_yaml import MAX_ALIASED_NODES, MAX_PROBLEMS, parse

# Text that YAML can hold: no surrogates, no control characters, and short enough for a key.
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), max_codepoint=0xFFFD), max_size=60
)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def read(text: str) -> tuple[Document, list[Problem]]:
    document, problems, _ = parse(text.encode(), "f.yaml")
    return document, [problem for problem in problems if problem.rule != "secret"]


def value_of(text: str) -> Json:
    document, problems = read(text)
    assert not problems
    return document.value


def messages(text: str) -> list[str]:
    return [problem.message for problem in read(text)[1]]


@given(VALUES)
def test_json_reads_as_json(value: Json) -> None:
    """Every JSON document is a YAML document with the same value, types included."""
    assert repr(value_of(json.dumps(value))) == repr(json.loads(json.dumps(value)))


@given(VALUES, st.booleans())
def test_what_pyyaml_writes_reads_as_what_pyyaml_reads(value: Json, flow: bool) -> None:
    """In block and flow style, quoted or not: where there is no problem, both agree.

    The exception is `1e3`, a text in YAML 1.1 and a number in JSON.
    """
    text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=flow, sort_keys=False)
    document, problems = read(text)
    if not problems and not re.search(r"\d\.?[eE][-+]?\d", text):
        assert repr(document.value) == repr(yaml.safe_load(text))


@given(st.text(st.sampled_from("0123456789abefinostruxyNOTZ+-_.,:~ "), min_size=1, max_size=12))
@example("1e5")
@example("00.5")
@example("0o17")
@example("1:30")
@example("2024-01-01 10:00:00")
@example("1_000.5")
@example("+.inf")
@example("=")
def test_no_plain_text_means_something_else_to_yaml_1_1(text: str) -> None:
    """A scalar that YAML 1.1 does not read as a string has the same JSON value here, or is a
    problem."""
    try:
        other = yaml.safe_load(f"- {text}")
    except yaml.YAMLError:
        return
    document, problems = read(f"- {text}")
    if problems or not isinstance(other, list) or isinstance(other[0], str | list | dict):
        return
    assert repr(document.value) == repr(other)


@given(VALUES)
@example({"\u2028": None})
def test_every_value_knows_its_place(value: Json) -> None:
    """Each scalar is found at its line and column."""
    text = _written(value)
    document, _ = read(text)
    lines = text.split("\n")
    for path, leaf in _leaves(value):
        line, column = document.position(path)
        written = lines[line - 1][column - 1 :]
        assert written.startswith(_written(leaf))


def _written(value: Json) -> str:
    """Write JSON, escaping characters that break a line in YAML: a key may not have one."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _leaves(value: Json, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Json]]:
    if isinstance(value, dict):
        return [leaf for key, v in value.items() for leaf in _leaves(v, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, v in enumerate(value) for leaf in _leaves(v, (*path, index))]
    return [(path, value)]


def test_a_path_that_leads_out_gives_the_deepest_place() -> None:
    document, _ = read("a:\n  b: [1, 2]\n")
    assert document.position(("a", "b", 1)) == (2, 10)
    assert document.position(("a", "b", 7, "x")) == (2, 6)
    assert document.position(("a", "b"), key=True) == (2, 3)
    assert document.position(("nowhere",)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: 1\r\nb: no\r\n", 2, 4),
        ("\ufeffa: no\n", 1, 4),
        ("# é 東 🚀\na: [é, 🚀, no]\n", 2, 11),
        ("a: 1\rb: no\r", 2, 4),
        ("# one\u2028b: no\n", 2, 4),
    ],
)
def test_places_count_characters_and_every_line_break(text: str, line: int, column: int) -> None:
    (problem,) = read(text)[1]
    assert (problem.line, problem.column) == (line, column)
    assert problem.source is not None
    assert problem.source[column - 1 :].startswith("no")


def test_the_excerpt_of_a_very_long_line_reaches_its_column() -> None:
    text = "a: [" + "x, " * 5000 + "no]\n"
    (problem,) = read(text)[1]
    assert problem.source is not None
    assert problem.column is not None
    assert problem.source[problem.column - 1 :].startswith("no]")
    (problem,) = read("a: [" + "x, " * 50_000 + "no]\n")[1]
    assert problem.source is None


def test_quoted_and_block_text_is_never_anything_else() -> None:
    text = "a: 'no'\nb: \"010\"\nc: |\n  2024-01-01\nd: !!str 5\ne: '<<'\n"
    assert value_of(text) == {"a": "no", "b": "010", "c": "2024-01-01\n", "d": "5", "e": "<<"}


def test_constants_and_numbers_are_jsons() -> None:
    text = "[~, null, true, False, 0, -1, +2, 1.5, .5, 1., 1e3, -0.0, , ]".replace(", , ]", "]")
    assert repr(value_of(text)) == repr(
        [None, None, True, False, 0, -1, 2, 1.5, 0.5, 1.0, 1000.0, -0.0]
    )


def test_numbers_end_where_64_bits_end() -> None:
    assert value_of(f"[{2**64 - 1}, {-(2**63)}]") == [2**64 - 1, -(2**63)]
    for number in (2**64, -(2**63) - 1, "9" * 100_000):
        assert messages(f"a: {number}")[0].endswith("is a number that does not fit into 64 bits")


@pytest.mark.parametrize("text", ["[", "a: b: c", "{a: 1", "- a\nb", "%", "`", "@a"])
def test_a_syntax_error_leaves_no_value(text: str) -> None:
    document, problems = read(text)
    assert problems
    assert document.value is None


def test_refused_keys_are_left_out_so_that_nothing_else_complains_of_them() -> None:
    document, problems = read("a: &x {b: 1}\nc:\n  <<: *x\n  1: one\n  [d]: list\n  e: 2\n")
    assert len(problems) == 3
    assert document.value == {"a": {"b": 1}, "c": {"e": 2}}


def test_all_duplicates_are_said_and_the_first_place_is_named() -> None:
    assert messages("a: 1\nb: {c: 1, c: 2}\na: 3\n") == [
        "the key `c` is written twice (first on line 2)",
        "the key `a` is written twice (first on line 1)",
    ]


def test_aliases_are_bounded_in_size_and_in_depth() -> None:
    bomb = "a: &a [" + "x, " * 1000 + "x]\nb: [" + "*a, " * (MAX_ALIASED_NODES // 1000) + "*a]\n"
    assert "expand" in messages(bomb)[0]
    half = MAX_DEPTH // 2
    deep = f"a: &a {'[' * half}{']' * half}\nb: {'[' * half}*a{']' * half}\n"
    assert "nested" in messages(deep)[0]
    assert "contains itself" in messages("a: &a {b: *a}")[0]


def test_an_anchor_may_be_used_and_written_again() -> None:
    assert value_of("[&a 1, *a, &a 2, *a]") == [1, 1, 2, 2]


@pytest.mark.parametrize("mark", "?:")
@pytest.mark.parametrize("text", ["&a{}b", "- &a{}b", "!!str &a{}b", "&a{} [1]", "[&a 1, *a{}]"])
def test_a_name_that_is_longer_to_yaml_12_is_refused(text: str, mark: str) -> None:
    """PyYAML reads `&1:30` as the text `:30`, ruamel.yaml as an empty node with the name `1:30`."""
    document, problems = read(text.replace("{}", mark))
    assert any("goes on in YAML 1.2" in one.message for one in problems) or document.value is None
    assert value_of("[&a b, *a, &c [1], *c]") == ["b", "b", [1], [1]]


def test_depth_is_bounded() -> None:
    assert messages("[" * MAX_DEPTH + "]" * MAX_DEPTH) == []
    assert "nested" in messages("[" * 100_000 + "]" * 100_000)[0]


def test_problems_are_bounded() -> None:
    assert len(messages("- no\n" * 10_000)) == MAX_PROBLEMS


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"a: \xff", "not UTF-8 (byte 0xff)"),
        ("a: 1".encode("utf-16"), "not UTF-8 (UTF-16)"),
        ("a: 1".encode("utf-16-le"), "U+0000"),
        ("é: \x07".encode(), "U+0007"),
        (b'a: "\\ud800"', "escape"),
        (b"\x7fELF\x02\x01\x01\x00", "U+"),
        (b"PK\x03\x04", "U+0003"),
    ],
)
def test_bytes_that_are_no_text_are_a_problem(raw: bytes, words: str) -> None:
    (problem,) = parse(raw, "f.yaml")[1]
    assert words in problem.message


def test_a_control_character_is_placed_by_characters_not_bytes() -> None:
    (problem,) = read("# 東京\né: 東\x07\n")[1]
    assert (problem.line, problem.column) == (2, 5)


def test_a_tab_inside_a_line_is_not_blamed() -> None:
    assert "tab" in messages("a:\n\tb: 1\n")[0]
    assert "tab" not in messages('a: "x\ty" z\n')[0]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "--- # nothing\n...\n"])
def test_an_empty_document_is_null_without_a_problem(text: str) -> None:
    assert value_of(text) is None
