from __future__ import annotations

import pytest

from runner.output.text import columns, shortened, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb\tc\x00", "a\\x0d\\x0ab\\x09c\\x00"),
        ("\x7f\x80\x9b", "\\x7f\\x80\\x9b"),
        ("\u202a\u202e\u2066\u2069\u2028", "\\u202a\\u202e\\u2066\\u2069\\u2028"),
    ],
)
def test_what_moves_the_cursor_or_reorders_text_is_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_letters_of_any_language_stay_as_they_are() -> None:
    assert visible("naïve 漢字 עברית 🚀 [red]\xa0") == "naïve 漢字 עברית 🚀 [red]\xa0"


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    assert [columns(text) for text in ("abc", "漢字", "e\u0301", "🚀")] == [3, 4, 1, 2]


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("abcde", 5, "abcde"),
        ("abcdef", 5, "abcd…"),
        ("漢字漢字", 5, "漢字…"),
        ("漢字漢字", 6, "漢字…"),
        ("漢字漢字", 8, "漢字漢字"),
    ],
)
def test_shortened_text_keeps_within_its_columns(text: str, width: int, short: str) -> None:
    assert shortened(text, width) == short
    assert columns(short) <= width


def test_what_a_ci_takes_for_a_command_is_spelled_out() -> None:
    assert visible("::error::x") == r"\x3a:error::x"
    assert visible("  ::stop-commands::x") == r"  \x3a:stop-commands::x"
    assert visible("a ##[error]b ###[x") == r"a \x23#[error]b #\x23#[x"
    assert visible("a::b # c: d ## e") == "a::b # c: d ## e"
