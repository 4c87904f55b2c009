"""What a release says of itself: `release.py check v1.2.3`, `release.py notes v1.2.3`.

`check` ends with 1 where the tag is not the program's version, or the changelog has no section of
it; `notes` prints that section, which is the release's notes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)


def notes(changelog: str, version: str) -> str | None:
    """The section of the version, without its heading."""
    heading = rf"^## \[{re.escape(version)}\](?: - \d{{4}}-\d\d-\d\d)?$"
    found = re.search(rf"{heading}\n(.*?)(?=^## \[|^\[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() + "\n" if found and found[1].strip() else None


def fault(tag: str, version: str, changelog: str) -> str | None:
    if tag != f"v{version}":
        return f"the tag is {tag}, and runner/version.py says {version}"
    if notes(changelog, version) is None:
        return f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD`, or nothing in it"
    return None


def main(arguments: list[str]) -> int:
    command, tag = arguments
    found = _VERSION.search((ROOT / "runner/version.py").read_text("utf-8"))
    version = found[1] if found else ""
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    if wrong := fault(tag, version, changelog):
        sys.stderr.write(f"error: {wrong}\n")
        return 1
    if command == "notes":
        sys.stdout.write(notes(changelog, version) or "")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
