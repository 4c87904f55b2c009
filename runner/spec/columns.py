"""What an SQL text calls the columns of its answer, where that can be told without a database."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_COMMENTS = re.compile(r"('(?:[^']|'')*')|--[^\n]*|/\*.*?\*/", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"]|"")*"|[A-Za-z_][\w$]*|::|\S')
_CAST = re.compile(r"(?:::\s*[A-Za-z_][\w ]*(?:\([\d, ]*\))?(?:\s*\[\s*\])*\s*)+$")
_NAME = re.compile(r'"(?:[^"]|"")*"|[A-Za-z_][\w$]*')
_ENDS = frozenset(
    ("from", "where", "group", "having", "window", "union", "except", "intersect", "order", "limit")
)


def columns_of(sql: str) -> list[str] | None:
    """Their names, in small letters; None where a `*` or an unusual form leaves it open."""
    text = _COMMENTS.sub(lambda found: "''" if found[1] else " ", sql)
    columns = list(_selected(text))
    names = []
    for column in columns:
        if column.endswith("*"):
            return None
        found = _NAME.findall(_CAST.sub("", column))
        named = bool(_NAME.fullmatch(_CAST.sub("", column).split()[-1].rpartition(".")[2]))
        names.append(found[-1].strip('"').lower() if named else "")
    return names or None


def _selected(text: str) -> Iterator[str]:
    """The expressions of the outermost list."""
    tokens = [
        (match.group().lower(), match.start(), match.end()) for match in _TOKEN.finditer(text)
    ]
    first = next(
        (at for at, depth in _depths(tokens) if not depth and tokens[at][0] == "select"), None
    )
    if first is None:
        return
    begins = tokens[first][2]
    for at, depth in _depths(tokens[first + 1 :]):
        word, start, end = tokens[first + 1 + at]
        if depth:
            continue
        before = tokens[first + at][0]
        if word == "," or (word in _ENDS and before not in (".", "distinct", "as")):
            yield text[begins:start].strip()
            begins = end
            if word != ",":
                return
        elif word in ("distinct", "all") and before == "select":
            begins = end
    if last := text[begins:].strip().rstrip(";").strip():
        yield last


def _depths(tokens: Sequence[tuple[str, int, int]]) -> Iterator[tuple[int, int]]:
    """Each token's place, and in how many brackets it stands."""
    depth = 0
    for at, (word, _, _) in enumerate(tokens):
        depth -= word in (")", "]")
        yield at, depth
        depth += word in ("(", "[")
