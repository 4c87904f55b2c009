"""How to install an extra, from where this installation came: an index, a checkout or a URL."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit


def how_to_install(extra: str) -> str:
    """Return the command, as a hint."""
    # Imported when something is missing, since each command would wait for it.
    from importlib.metadata import PackageNotFoundError, distribution

    name = f"backfill[{extra}]"
    try:
        origin = distribution("backfill").read_text("direct_url.json")
    except PackageNotFoundError:  # run from its files without installation
        return _pip("-e", f"{Path(__file__).parents[2]}[{extra}]")
    if not origin:
        return _pip(name)
    found = json.loads(origin)  # in the form of PEP 610
    url = found["url"]
    if found.get("dir_info", {}).get("editable"):
        return _pip("-e", f"{unquote(urlsplit(url).path)}[{extra}]")
    if version := found.get("vcs_info"):
        url = f"{version['vcs']}+{url}@{version['commit_id']}"
    return _pip(f"{name} @ {url}")


def _pip(*what: str) -> str:
    return f"install it: {shlex.join(('pip', 'install', *what))}"
