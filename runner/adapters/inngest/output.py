"""What a failed job says of itself."""

from __future__ import annotations

from typing import Any

import orjson

from runner.adapters.inngest.answers import words
from runner.adapters.inngest.target import Target

MESSAGE_LENGTH = 500
_CUT = " […] "
_READ = 100_000  # characters in which a key is looked for


def message_of(output: Any, target: Target) -> str | None:
    """A failed job's own words, without keys."""
    message = _own_words(output)
    return message and _cut(target.clean(message))


def _cut(message: str) -> str:
    """What is too long is cut in its middle: a traceback has its cause at its end."""
    if len(message) <= MESSAGE_LENGTH:
        return message
    first = message.partition("\n")[0][: MESSAGE_LENGTH // 3]
    return first + _CUT + message[len(first) + len(_CUT) - MESSAGE_LENGTH :]


def _own_words(output: Any) -> str | None:
    """A failed job's own words: ``{"code", "message", "name", "stack"}``, sometimes as text."""
    if isinstance(output, str):
        try:
            output = orjson.loads(output)
        except orjson.JSONDecodeError:
            return words(output, _READ) or None
    if not isinstance(output, dict):
        return None
    if isinstance(output.get("error"), dict):  # as the lists of /v2 have it
        output = output["error"]
    name, message = output.get("name"), output.get("message")
    if not message:
        return words(name, _READ) or None
    parts = words(name, _READ), words(message, _READ)
    return ": ".join(filter(None, parts)) or None
