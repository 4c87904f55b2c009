"""Text that GitHub reads as text, in pieces that fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from runner.model import Problem
from runner.output.problems import format_problems
from runner.output.text import shortened, visible
from runner.spec.secrets import redact

MAX_CHARACTERS = 65_536  # the most that a GitHub comment may have
MAX_COMMENT = MAX_CHARACTERS - 100  # ... less the mark that a comment is found again by
LINE = 1_000  # columns of one line
NAME = 200  # columns of a name in a heading


def fitting(lines: Iterable[str], room: int) -> list[str]:
    """The first lines that fit into `room` characters; no more of them are asked for."""
    kept: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept


def shared_out(
    makers: Sequence[Callable[[int], str]], room: int, least: int
) -> tuple[list[str], int]:
    """The blocks that fit into `room` characters, and how many are left out.

    Each is made for its share of what is left, `least` or more; two characters part it from the
    next.
    """
    kept: list[str] = []
    for index, make in enumerate(makers):
        block = make(min(room - 2, max(least, room // (len(makers) - index))))
        if len(block) + 2 <= room:
            kept.append(block)
            room -= len(block) + 2
    return kept, len(makers) - len(kept)


def with_more(kept: list[str], total: int, bullet: str = "") -> str:
    more = total - len(kept)
    return "\n".join([*kept, f"{bullet}... and {more:,} more"] if more else kept)


def folded(title: str, body: str, *, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{title}</summary>\n\n{body}\n\n</details>"


def fence(text: str) -> str:
    """A fence longer than any run of backticks in the text, so that nothing can leave it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def problems_block(problems: Sequence[Problem], room: int) -> str:
    """As a terminal shows them, as far as they fit."""
    return fence(with_more(fitting(map(_problem, problems), room), len(problems)))


def _problem(problem: Problem) -> str:
    """Without the closing count, that stands for one file's problems."""
    lines = format_problems([problem], color=False).split("\n")[:-1]
    return "\n".join(shortened(line, LINE) for line in lines)


def cell(text: str) -> str:
    """Text that is read as text: no markup, no HTML, and nobody is mentioned."""
    return re.sub(r"[#$&*<>@\[\\\]_`|~]", _entity, visible(shortened(redact(text), LINE)))


def _entity(match: re.Match[str]) -> str:
    # GitHub looks for @name and #1 once entities are read; a zero-width space keeps them apart.
    return f"&#{ord(match[0])};" + ("&#8203;" if match[0] in "@#" else "")


def code(text: str) -> str:
    return f"`{visible(shortened(redact(text), NAME)).replace('`', chr(39))}`"
