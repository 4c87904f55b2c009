"""Shows files of the repository that lie outside `docs`: links to them hold in the site, too.

A page links as GitHub wants it, `../plans/contributor-info`; in the site the same files stand at
`plans/`, and a folder is its README.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
SHOWN = ("plans", "CHANGELOG.md", "CONTRIBUTING.md")
KINDS = (".csv", ".json", ".md", ".py", ".sql", ".yaml")
_OUTWARD = re.compile(r"(?<=\]\()((?:\.\./)+[^)\s#]+)")

# What happens in the reader's world while a test follows the page: see tests/docs/pages.py.
_SANDBOX = re.compile(r"^<!-- sandbox: .*? -->\n", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """MkDocs calls this once: the files that a page may link to."""
    for path in _shown():
        uri = path.relative_to(ROOT).as_posix()
        files.append(
            File.generated(config, uri, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV)
        )
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """MkDocs calls this for each page."""
    shown = _SANDBOX.sub("", markdown)
    return _OUTWARD.sub(lambda found: in_the_site(found[1], page.file.src_uri), shown)


def in_the_site(link: str, page: str) -> str:
    """A link that leaves `docs` from `page`, as it is written in the site; others stay."""
    target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    if target.startswith("docs/"):
        return link
    if (ROOT / target).is_dir():
        target = f"{target}/README.md"
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def _shown() -> Iterator[Path]:
    for name in SHOWN:
        path = ROOT / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (one for one in found if one.suffix in KINDS and one.is_file())
