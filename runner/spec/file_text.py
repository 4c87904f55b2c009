"""Decode a file's text, prepare it for excerpts, and report secrets in it."""

from __future__ import annotations

import re

from runner.model import Problem
from runner.spec.document import problem_at
from runner.spec.files import MAX_YAML

MAX_KEYS = 10
_OTHER_BREAKS = re.compile("\r(?!\n)|[\x85\u2028\u2029]")


def key_problems(path: str, text: str, spans: list[tuple[int, int]]) -> list[Problem]:
    """Report each span of `text` that holds a secret; `text` has them masked already."""
    problems = []
    for start, _ in spans[:MAX_KEYS]:
        line, column = text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)
        message = "this looks like a key or token; keys come from the environment only"
        hint = "remove it from the file, and replace the key: it may be in git's history"
        problems.append(problem_at(path, text, line, column, message, hint=hint, rule="secret"))
    return problems


def excerpts(text: str) -> str:
    """Replace every line break that YAML knows by a line feed, so that line numbers agree."""
    return _OTHER_BREAKS.sub("\n", text)


def decode(raw: bytes, path: str) -> tuple[str, Problem | None]:
    if len(raw) > MAX_YAML:
        return "", too_large(path)
    try:
        return raw.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        return "", not_utf8(raw, error, path)


def too_large(path: str) -> Problem:
    hint = "keep the repositories in a .csv or .jsonl file, which is streamed"
    message = f"the file has more than {MAX_YAML // 1024 // 1024} MiB"
    return Problem(message, path, hint=hint, rule="too-large")


def not_utf8(raw: bytes, error: UnicodeDecodeError, path: str) -> Problem:
    before = raw[: error.start]
    line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
    what = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte 0x{raw[error.start]:02x}"
    message = f"the file is not UTF-8 ({what})"
    return Problem(message, path, line, column, hint="save it as UTF-8", rule="not-utf-8")
