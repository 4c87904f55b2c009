"""Template variables that are given for a plan, and not written in it."""

from __future__ import annotations

from runner.errors import UsageError


def refuse_secret(source: str, text: str) -> None:
    """Raises `UsageError` where `text` looks like a key; `source` says where it stands."""
    from runner.spec.secrets import find

    if find(text):
        hint = "keys come from the environment only; a payload is kept in journals and logs"
        raise UsageError(f"{source} looks like a key or token", hint=hint)
