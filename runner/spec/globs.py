"""Globs on item names, with the same meaning wherever items are chosen."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase


def fits(globs: Collection[str], name: str) -> bool:
    """Tell whether one glob without ``!`` matches (if there are any), and none with it."""
    into = [glob for glob in globs if not glob.startswith("!")]
    if into and not any(fnmatchcase(name, glob) for glob in into):
        return False
    return not any(fnmatchcase(name, glob[1:]) for glob in globs if glob.startswith("!"))
