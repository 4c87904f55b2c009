"""Make text from elsewhere safe for terminals, CI logs and spreadsheets; and colour it."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from runner.spec.secrets import redact

# What a CI log takes for a command: GitHub's `::name::` at the beginning of a line, and `##[name]`,
# Azure's `##vso[name]` and the like anywhere.
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\w*\[)")
# Control characters (C0, DEL, C1), line separators, marks that reorder text, and the invisible ones
# (Unicode's Default_Ignorable_Code_Point, and annotations), except the joiners and variation
# selectors that scripts and emoji need.
_UNSEEN = (
    r"\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff"
)
_HIDDEN = re.compile(rf"[\x00-\x1f{_UNSEEN}]")
_UNSEEN_IN_DATA = re.compile(f"[{_UNSEEN}]")
_STYLE, _WORD = re.compile("\x1b\\[\\d+m"), re.compile(r" *[^ ]+")
_HANGING = 4  # columns by which the rest of a wrapped line is indented
# What a spreadsheet takes for a formula, also after blanks and in full-width characters.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
FORM = "backfill/v1"


def visible(text: str) -> str:
    """Redact and spell out `text`: whatever others wrote is printed through here."""
    return spelled(redact(text))


def spelled(text: str) -> str:
    """Spell out every character that could move the cursor, reorder the line, or begin a command
    in a CI log."""
    if ":" in text or "##" in text:
        text = _COMMAND.sub(lambda found: r"\x23" if found[0] == "#" else rf"{found[1]}\x3a", text)
    return _HIDDEN.sub(_numeral, text)


def _numeral(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def json_safe(encoded: str) -> str:
    """Escape JSON so that a CI log finds no command in its texts (`##vso[`, `##[`, `##teamcity[`,
    `::name::`), and a terminal no control character.

    JSON may escape any character of a text, and has neither ``##`` nor ``::`` outside of texts, so
    readers get the same values.
    """
    if "##" in encoded or "::" in encoded:
        encoded = encoded.replace("##", "#\\u0023").replace("::", ":\\u003a")
    if encoded.isascii() and "\x7f" not in encoded:
        return encoded
    return _UNSEEN_IN_DATA.sub(_numbered, encoded)


def _numbered(match: re.Match[str]) -> str:
    raw = match[0].encode("utf-16-be").hex()
    return "".join(f"\\u{raw[at : at + 4]}" for at in range(0, len(raw), 4))


def xml_safe(encoded: str) -> str:
    """Escape XML as `json_safe` does JSON; its texts are on one line, after their tag's name."""
    encoded = encoded.replace("##", "#&#x23;")
    return _UNSEEN_IN_DATA.sub(lambda found: f"&#x{ord(found[0]):x};", encoded)


def csv_lines(rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yield the rows as CSV lines. A ``'`` is put before what a spreadsheet would take for a
    formula; numbers stay numbers, and a missing value is an empty cell."""
    import csv

    line = io.StringIO()
    writer = csv.writer(line)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return "" if value is None else value
    shown = visible(value)
    if _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{shown}"
    return shown


def columns(text: str) -> int:
    """Return the number of terminal columns that `text` takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def fitted(line: str, width: int) -> Iterator[str]:
    """Wrap the line at blanks into pieces of at most `width` columns, indented from the second on.
    A word that is wider stays whole, so that it can be copied."""
    if columns(_STYLE.sub("", line)) <= width:
        yield line
        return
    indent = " " * (len(line) - len(line.lstrip(" ")) + _HANGING)
    piece, at = "", 0
    for word in _WORD.findall(line):
        wide = columns(_STYLE.sub("", word))
        if piece.strip() and at + wide > width:
            yield piece
            word = indent + word.lstrip(" ")
            piece, at = word, columns(_STYLE.sub("", word))
        else:
            piece, at = piece + word, at + wide
    yield piece


def shortened(text: str, width: int) -> str:
    """Cut to at most `width` columns, with an ellipsis if something is cut."""
    if columns(text) <= width:
        return text
    end, room = 0, width - 1
    while (room := room - _columns(text[end])) >= 0:
        end += 1
    return text[:end] + "…"


def clipped(text: str, width: int) -> str:
    """Cut a message in the middle: the cause is often at the end."""
    text = redact(text)  # before cutting, which could leave half of a key
    if columns(text) <= width:
        return text
    first = shortened(text, width // 2)[:-1]
    last = shortened(text[::-1], width - width // 2)[-2::-1]
    return f"{first}…{last}"


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


_CODES = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36, "white": 37}


_CODES["dim"] = 2


_CODES |= {f"bright_{name}": code + 60 for name, code in list(_CODES.items())}


_BOLD, _RESET = "\x1b[1m", "\x1b[0m"


def styled(text: str, color: str | None, *, bold: bool = False) -> str:
    begin = f"\x1b[{_CODES[color]}m" if color else ""
    return f"{begin}{_BOLD if bold else ''}{text}{_RESET}"


def document(kind: str, **body: object) -> dict[str, object]:
    """Make a document, with its texts redacted."""
    return {"apiVersion": FORM, "kind": kind, **{name: redacted(body[name]) for name in body}}


def redacted(value: object) -> object:
    """Return `value` with its texts redacted."""
    return rewritten(value, redact, _redacted_name)


def rewritten(value: object, text: Callable[[str], str], name: Callable[[str], str]) -> object:
    """Return `value` with `text` applied to each text in it, and `name` to each key."""
    match value:
        case str():
            return text(value)
        case Mapping():
            return {name(str(key)): rewritten(inner, text, name) for key, inner in value.items()}
        case list() | tuple():
            return [rewritten(inner, text, name) for inner in value]
    return value


@lru_cache(1_000)
def _redacted_name(name: str) -> str:
    """Redact a key; cached, as a million rows have the same keys."""
    return redact(name)
