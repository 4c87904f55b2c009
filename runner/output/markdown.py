"""GitHub Markdown: text that is not read as markup, within size limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from runner.errors import BackfillError
from runner.model import Problem
from runner.output.problems import format_problems
from runner.output.text import shortened, visible
from runner.spec.secrets import redact

MAX_CHARACTERS = 65_536  # of a GitHub comment
MAX_COMMENT = MAX_CHARACTERS - 100  # without the mark by which a comment is found again
LINE = 1_000  # columns of one line
NAME = 200  # columns of a name in a heading


def fitting(lines: Iterable[str], room: int) -> list[str]:
    """Return the first lines that fit into `room` characters; read no more of them."""
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
    """Return the blocks that fit into `room` characters, and how many are left out.

    Each is made for its share of the remaining room, but `least` at least; two characters separate
    it from the next.
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
    """Fence the text with more backticks than it has in a row, so that it cannot break out."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def problems_block(problems: Sequence[Problem], room: int) -> str:
    """Show problems as on a terminal, as far as they fit."""
    return fence(with_more(fitting(map(_problem, problems), room), len(problems)))


def _problem(problem: Problem) -> str:
    """Format one problem without the closing count, which is for a whole file."""
    lines = format_problems([problem], color=False).split("\n")[:-1]
    return "\n".join(shortened(line, LINE) for line in lines)


def cell(text: str) -> str:
    """Escape text so that it is no markup or HTML, and mentions nobody."""
    return re.sub(r"[#$&*<>@\[\\\]_`|~]", _entity, visible(shortened(redact(text), LINE)))


def _entity(match: re.Match[str]) -> str:
    # GitHub looks for @name and #1 after decoding entities; a zero-width space prevents a match.
    return f"&#{ord(match[0])};" + ("&#8203;" if match[0] in "@#" else "")


def refusal(error: BackfillError) -> str:
    hint = f" {cell(error.hint)}" if error.hint else ""
    return f"**{cell(str(error))}**{hint}"


def code(text: str) -> str:
    return f"`{visible(shortened(redact(text), NAME)).replace('`', chr(39))}`"
