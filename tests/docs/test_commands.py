"""Every command of the documentation is run, page by page, as a reader would run it.

`test_how_tos.py` runs those of `how-to/`, so that two workers share the work.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from runner.spec.reading import parse_clean
from runner.spec.schema import check
from tests.docs.pages import HOW_TOS, PAGES, ROOT, Fence, fences, name_of
from tests.docs.sandbox import Sandbox
from tests.types import Backfill


def _is_run(fence: Fence) -> bool:
    return fence.language == "sh"


OTHERS = [page for page in PAGES if page not in HOW_TOS and any(map(_is_run, fences(page)))]
SCHEMAS = {
    "BackfillProject": "project.v1",
    "BackfillTest": "test.v1",
    "OperationCatalog": "catalog.v1",
}


@pytest.mark.parametrize("sandbox", OTHERS, indirect=True, ids=name_of)
def test_the_commands_of_a_page_do_as_it_says(sandbox: Sandbox) -> None:
    sandbox.follow()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_command_escapes(page: Path) -> None:
    """Commands in a fence that is not `sh` would not be run."""
    escaped = [
        f"{name_of(page)}:{fence.line}: {line}"
        for fence in fences(page)
        if fence.language not in ("sh", "meanwhile")
        for line in fence.text.splitlines()
        if line.startswith("backfill ")
    ]
    assert escaped == []


def _kind(fence: Fence) -> str | None:
    """Return the kind of a whole file; a fence may also show a part of one."""
    found = re.search(r"^kind: (\w+)", fence.text, re.MULTILINE)
    is_whole = fence.language == "yaml" and re.search("^apiVersion: ", fence.text, re.MULTILINE)
    return found[1] if found and is_whole else None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_whole_files_are_valid(page: Path, tmp_path: Path, backfill: Backfill) -> None:
    """A catalog may follow operations of another one, so only its form is checked here."""
    shutil.copytree(ROOT / "plans", tmp_path / "plans")
    (tmp_path / "more-repos.csv").write_text("repo\nacme/website\n", "utf-8")
    plans = []
    for fence in fences(page):
        path = tmp_path / (fence.title or f"line-{fence.line}.yaml")
        if fence.title or _kind(fence):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fence.text, "utf-8")
        if _kind(fence) == "BackfillPlan":
            plans.append(path)
        elif kind := _kind(fence):
            assert check(parse_clean(fence.text.encode(), path.name)[0], SCHEMAS[kind]) == ([], [])
    if plans:
        done = backfill("validate", "--strict", *plans)
        assert done.status == 0, done.out
