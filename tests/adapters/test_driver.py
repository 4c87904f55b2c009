"""PostgreSQL's driver is an extra: without it, the error says what to install, and SQLite works."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest

from runner.adapters.database.open import configured_url
from runner.adapters.extras import how_to_install
from runner.adapters.journal.store import Store
from runner.errors import PreflightRefused

URL = "postgresql://u:secret@127.0.0.1:1/db"


@pytest.fixture(autouse=True)
def _no_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "psycopg":
            raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in [name for name in sys.modules if name.partition(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, name)


def test_a_missing_driver_is_named_with_its_extra_and_without_the_url() -> None:
    for connect in (
        lambda: configured_url({"BACKFILL_DATABASE_URL": URL}),
        lambda: Store(URL),
    ):
        with pytest.raises(PreflightRefused, match="psycopg 3") as refused:
            connect()
        assert refused.value.hint == how_to_install("postgres")
        assert "secret" not in str(refused.value)


def test_sqlite_needs_no_driver() -> None:
    assert configured_url({"BACKFILL_DATABASE_URL": "sqlite:///x.db"}).kind == "sqlite"
