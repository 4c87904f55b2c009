"""Which repositories a plan's `filter` keeps."""

from __future__ import annotations

from datetime import UTC, datetime
from fnmatch import fnmatchcase

from runner.model import Data, Narrowing


def fits_name(narrowing: Narrowing, repo: str) -> bool:
    """One of the globs fits, where there are any without ``!``, and none of those with it does."""
    out = [glob[1:] for glob in narrowing.globs if glob.startswith("!")]
    into = [glob for glob in narrowing.globs if not glob.startswith("!")]
    wanted = not into or any(fnmatchcase(repo, glob) for glob in into)
    return wanted and not any(fnmatchcase(repo, glob) for glob in out)


def fits_age(narrowing: Narrowing, row: Data, now: datetime) -> bool:
    """ValueError where the repository has no such time: its age is not known."""
    written = row.get(narrowing.column)
    if written is None:
        raise ValueError(f"{row['repo']} has no `{narrowing.column}`, so its age is not known")
    age = (now - instant(written)).total_seconds()
    newer, older = narrowing.newer_than, narrowing.older_than
    return (newer is None or age <= newer) and (older is None or age > older)


def instant(written: object) -> datetime:
    """A time in ISO 8601, in UTC where it has no zone. ValueError where it is none."""
    try:
        found = datetime.fromisoformat(str(written))
    except ValueError:
        raise ValueError(f"`{written}` is not a time in ISO 8601") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
