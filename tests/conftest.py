"""Tests are kept from the user's environment: a test that forgets to isolate itself fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_KEPT = ("BACKFILL_TEST_INNGEST_URL", "BACKFILL_TEST_DATABASE_URL")


@pytest.fixture(autouse=True)
def isolated(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """No key of the user's, no state of the user's, and a working folder of the test's own."""
    for name in list(os.environ):
        if name.startswith(("INNGEST_", "BACKFILL_", "SUPABASE_", "GITHUB_")) and name not in _KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    assert not (Path.home() / ".backfill").exists()


@pytest.fixture(autouse=True)
def closed_stores() -> Iterator[None]:
    """Stores that a test has opened end with it, as a process would end them."""
    yield
    from tests.support import open_stores

    while open_stores:
        open_stores.pop().close()
