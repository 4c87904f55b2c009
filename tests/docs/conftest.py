"""A reader's machine for the pages whose commands are run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runner.adapters.embedded.server import create_app
from runner.adapters.worker.request import EVENT
from tests.cli.conftest import served
from tests.contributor_info import handlers
from tests.contributor_info.conftest import Application, application, backfill, faster
from tests.docs.pages import ROOT, Fence, fences
from tests.docs.sandbox import Sandbox

__all__ = ["application", "backfill"]


def _embed(event: Any) -> Any:
    """Do what the application does: with `forceRegenerate`, also redo existing embeddings."""
    if event["data"]["forceRegenerate"]:
        with psycopg.connect(os.environ["WORKER_DATABASE_URL"]) as db:
            db.execute(
                "UPDATE pull_requests SET embedding_generated_at = clock_timestamp()"
                " WHERE repository_id = %s",
                [event["data"]["repositoryId"]],
            )
    return handlers.embed(event)


_WORK: Mapping[str, Any] = {
    "capture/repository.sync.graphql": handlers.sync,
    "capture/repository.issues": handlers.issues,
    "capture/repository.discussions": handlers.discussions,
    "capture/repository.comments.all": handlers.comments,
    "capture/pr.details.graphql": handlers.details,
    "embeddings/compute.requested": _embed,
    "workspace.metrics.aggregate": handlers.aggregate,
}
_EVENT = re.compile(r"^\s*event: (\S+)", re.MULTILINE)
_FILE = re.compile(r"(?<![\w./*-])\w[\w/-]*\.yaml\b")


def _nothing(_: Any) -> None:
    """The job of an event whose work does not matter to the page."""


class _Flaky:
    """The job of a repository called `flaky` fails once."""

    def __init__(self) -> None:
        self.failed = False

    def __call__(self, event: Any) -> None:
        if event["data"].get("repo") == "flaky" and not self.failed:
            self.failed = True
            raise ValueError("GitHub answers 502")


def _served_events(page: list[Fence]) -> dict[str, Any]:
    texts = [fence.text for fence in page]
    texts.append((ROOT / "runner/catalogs/builtin.yaml").read_text("utf-8"))
    found = {event: _nothing for text in texts for event in _EVENT.findall(text)}
    return {**found, "capture/repository.sync": _Flaky(), EVENT: _nothing, **_WORK}


@pytest.fixture
def sandbox(
    request: pytest.FixtureRequest, warm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    """A sandbox with a server for `--target cloud`, and a database if the page needs one."""
    page = fences(request.param)
    env = {"SANDBOX_WARM": warm}
    text = "".join(fence.text for fence in page)
    if "SANDBOX_DATABASE_URL" in text:
        info: Application = request.getfixturevalue("application")
        env["SANDBOX_DATABASE_URL"] = info.url
        monkeypatch.setenv("WORKER_DATABASE_URL", info.owner)
    if "SANDBOX_STATE" in text:
        env["SANDBOX_STATE"] = request.getfixturevalue("new_schema")("state")
    folder = tmp_path / "sandbox"
    folder.mkdir()
    with served(create_app(_served_events(page))) as url:
        made = Sandbox(folder, page, url, env)
        made.copy(sorted(set(_FILE.findall(text))))
        for catalog in made.work.glob("plans/contributor-info/catalog.yaml"):
            catalog.write_text(faster(catalog.read_text("utf-8")), "utf-8")
        made.commit()
        yield made
