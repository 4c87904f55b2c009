"""Globs on the names of items, the same wherever items are chosen."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase


def fits(globs: Collection[str], name: str) -> bool:
    """One of the globs fits, where there are any without ``!``, and none of those with it does."""
    into = [glob for glob in globs if not glob.startswith("!")]
    if into and not any(fnmatchcase(name, glob) for glob in into):
        return False
    return not any(fnmatchcase(name, glob[1:]) for glob in globs if glob.startswith("!"))
