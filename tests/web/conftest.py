"""Runs to look at, and the web application that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.door import Bounded, Door, hosts_of
from runner.adapters.embedded.server import create_app as create_target
from runner.adapters.web.app import create_app
from runner.cli.ui import Journals
from runner.output.page import ASSETS, asset
from tests.cli.conftest import Jobs, backfill, served, start
from tests.support import new_store, repos, write_plan
from tests.web.browser import browser

__all__ = ["backfill", "browser", "start"]

HOSTILE = "<script>document.title='taken over'</script>\u202e\x1b[2J'\"&"


class Hostile(Jobs):
    """Jobs that fail with messages that would take over a page."""

    async def __call__(self, event: Any) -> None:
        await super().__call__(event)
        if event["data"]["repo"].endswith("7"):
            raise ValueError(HOSTILE)


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journals:
    """The pages of a state that commands write to as well."""
    monkeypatch.setenv("BACKFILL_STATE", f"sqlite:///{tmp_path / 'state.db'}")
    return Journals(new_store(tmp_path))


def web(pages: Journals, hosts: Iterable[str] = (), **options: Any) -> Any:
    app = create_app(pages, {name: asset(name) for name in ASSETS}, **options)
    return Bounded(app, Door(0, hosts_of(hosts)))


@pytest.fixture
def site(pages: Journals) -> Iterator[str]:
    with served(web(pages)) as url:
        yield url


@pytest.fixture
def target() -> Callable[[Jobs], AbstractContextManager[str]]:
    """Serve an Inngest server with the given handler."""

    @contextmanager
    def serve(jobs: Jobs) -> Iterator[str]:
        with served(create_target({"app/sync": jobs})) as url:
            yield url

    return serve


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Path]:
    def write(count: int, settings: str = "") -> Path:
        return write_plan(tmp_path, f"{repos(count)}operations: [sync]\n{settings}")

    return write
