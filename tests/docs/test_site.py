"""The documentation builds as a site, makes no requests to the network, and is complete."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from runner import errors
from runner.cli.main import COMMANDS, status_of_kind
from tests.docs.pages import ROOT

NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site strictly: a broken link is an error. A proxy that does not exist stands for
    the network."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ".mkdocs.yml", "-d"]
    done = subprocess.run(
        [*command, str(folder)],
        cwd=ROOT,
        env={**os.environ, **NO_NETWORK, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def page(site: Path, name: str) -> str:
    return (site / f"{name}.html").read_text("utf-8")


def schema(name: str) -> dict[str, object]:
    text = (ROOT / "schemas" / f"{name}.v1.schema.json").read_text("utf-8")
    found: dict[str, object] = json.loads(text)
    return found


def descriptions(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("description"), str):
            yield node["description"]
        for child in node.values():
            yield from descriptions(child)
    elif isinstance(node, list):
        for child in node:
            yield from descriptions(child)


def plain(text: str) -> str:
    """Return the text without markup and whitespace."""
    return re.sub(r"[\s`]+", "", unescape(re.sub(r"<[^>]+>", "", text)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_reference(site: Path, command: str) -> None:
    assert f'id="backfill-{command}"' in page(site, "reference/cli")


@pytest.mark.parametrize("name", ["plan", "catalog", "project"])
def test_whatever_a_schema_describes_is_in_its_page(site: Path, name: str) -> None:
    html = page(site, f"reference/{name}")
    properties = schema(name)["properties"]
    assert isinstance(properties, dict)
    assert [key for key in properties if f'id="{key}"' not in html] == []
    text = plain(html)
    told = {plain(description) for description in descriptions(schema(name))}
    assert [description for description in told if description not in text] == []


def test_every_exit_status_is_in_its_page(site: Path) -> None:
    html = page(site, "reference/exit-statuses")
    classes = [found for found in vars(errors).values() if isinstance(found, type)]
    known = [one for one in classes if issubclass(one, errors.BackfillError)]
    for error in known:
        if error is not errors.BackfillError:
            row = rf"<td[^>]*>{status_of_kind(error)}</td>\s*<td>\s*<code>{error.__name__}</code>"
            assert re.search(row, html), error


def test_every_built_in_operation_is_in_its_page(site: Path) -> None:
    html = page(site, "reference/operations")
    for name in ("repository-sync", "embeddings", "workspace-aggregation"):
        assert f'id="{name}"' in html


def test_every_page_has_a_title_in_words(site: Path) -> None:
    titles = {
        path.stem: unescape(found[1])
        for path in site.rglob("*.html")
        if (found := re.search(r"<title>(.+) - backfill</title>", path.read_text("utf-8")))
    }
    assert len(titles) > 30
    assert [name for name, title in titles.items() if re.fullmatch(r"[a-z0-9_-]+", title)] == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loads = re.compile(
        r'<(?:script|img|iframe)[^>]+src="?(https?://|//)|<link[^>]+href="?(https?:)?//'
    )
    loud = [path.name for path in site.rglob("*.html") if loads.search(path.read_text("utf-8"))]
    assert loud == []


def test_every_variable_that_the_program_reads_is_in_its_page() -> None:
    text = (ROOT / "docs/reference/environment.md").read_text("utf-8")
    named = re.compile(r'"((?:INNGEST|BACKFILL|SUPABASE|GITHUB)_[A-Z_]+)"')
    read = {
        name
        for path in ROOT.glob("runner/**/*.py")
        for name in named.findall(path.read_text("utf-8"))
    }
    assert sorted(name for name in read if name not in text) == []
