"""Adapt error messages, which are written for the command line, to agents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from runner.agents.tool import Tool
from runner.errors import BackfillError, InvalidPlan
from runner.output.errors import error_text

_NAMED = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)|`backfill ([a-z]+)")
_CALLED = {  # options of commands, and the arguments of tools that do the same
    "--collection": "collections",
    "--dropped": "outcome",
    "--failed": "outcome",
    "--no-job": "outcome",
    "--out": "out",
    "--rejected": "outcome",
    "--unknown": "outcome",
    "--var": "vars",
}


def for_an_agent(error: BackfillError, tools: Sequence[Tool]) -> str:
    """Return the error, with notes on the options and commands in it that no tool has."""
    text = error_text(error)
    ours = text
    if isinstance(error, InvalidPlan):  # the rest quotes the plan
        ours = "\n".join(problem.hint or "" for problem in error.problems)
    taken = {argument for tool in tools for argument in tool.takes["properties"]}
    return "\n".join([text, *_beyond(ours, {tool.name for tool in tools}, taken)])


def _beyond(text: str, names: set[str], taken: set[str]) -> Iterator[str]:
    found = dict.fromkeys(
        option or f"backfill {command}" for option, command in _NAMED.findall(text)
    )
    others = [f"`{one}`" for one in found if one.startswith("--") and _argument(one) not in taken]
    others += [f"`{one}`" for one in found if one[:1] != "-" and one.split()[1] not in names]
    arguments = {_argument(one): one for one in found if one in _CALLED}
    for argument, option in arguments.items():
        yield f"`{option}` is the argument `{argument}` here"
    if others:
        yield f"no tool has {', '.join(others)}: a person can use the command line"


def _argument(option: str) -> str:
    return _CALLED.get(option, option[2:].replace("-", "_"))
