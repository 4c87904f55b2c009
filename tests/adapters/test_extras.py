"""A missing extra is installed from where this installation came from: no hint names a package of
an index that may belong to somebody else."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError

import pytest

from runner.adapters import extras

ORIGINS = {
    "an index": (None, ["backfill[mcp]"]),
    "an editable checkout": (
        {"url": "file:///srv/a%20b", "dir_info": {"editable": True}},
        ["-e", "/srv/a b[mcp]"],
    ),
    "a checkout": ({"url": "file:///srv/x", "dir_info": {}}, ["backfill[mcp] @ file:///srv/x"]),
    "a wheel": (
        {"url": "https://host/x.whl", "archive_info": {}},
        ["backfill[mcp] @ https://host/x.whl"],
    ),
    "git": (
        {"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "1a2b"}},
        ["backfill[mcp] @ git+https://host/x.git@1a2b"],
    ),
}


@pytest.mark.parametrize("name", ORIGINS)
def test_an_extra_is_installed_from_where_backfill_came(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    origin, wanted = ORIGINS[name]

    class Installed:
        def read_text(self, _: str) -> str | None:
            return json.dumps(origin) if origin else None

    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Installed())
    said = extras.how_to_install("mcp").removeprefix("install it: ")
    assert shlex.split(said) == ["pip", "install", *wanted]


def test_files_that_were_never_installed_are_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr("importlib.metadata.distribution", missing)
    assert shlex.split(extras.how_to_install("mcp"))[-2] == "-e"
