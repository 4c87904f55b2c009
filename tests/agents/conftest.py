"""A server of tools as an agent uses it: a process, with the SDK's client on its stdin and
stdout."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.documents import expect_form
from tests.warm import CLIENT

if TYPE_CHECKING:
    from mcp import Client

ROOT = Path(__file__).parents[2]
SERVER = [sys.executable, "-I", "-S", str(CLIENT), "mcp"]
KEYS = {
    "INNGEST_EVENT_KEY": "agents-event-key-7f3a91",
    "INNGEST_SIGNING_KEY": "signkey-test-0123456789abcdef",
    "BACKFILL_DATABASE_URL": "postgresql://reader:agents-password@127.0.0.1:1/none",
}


@dataclass(frozen=True)
class Reply:
    """The answer of a tool. `said`: all of its text."""

    document: Any
    said: str
    failed: bool
    meta: Mapping[str, Any]


@dataclass
class Agent:
    """A client of a running server. `heard`: the reported progress, in order."""

    folder: Path
    client: Client
    loop: asyncio.AbstractEventLoop
    heard: list[tuple[float, float | None, str]] = field(default_factory=list)

    def start(self, tool: str, /, **arguments: Any) -> Future[Reply]:
        return asyncio.run_coroutine_threadsafe(self._call(tool, arguments), self.loop)

    def __call__(self, tool: str, /, **arguments: Any) -> Reply:
        return self.start(tool, **arguments).result(60)

    def tools(self) -> list[Any]:
        listed = asyncio.run_coroutine_threadsafe(self.client.list_tools(), self.loop)
        return list(listed.result(60).tools)

    async def _call(self, tool: str, arguments: dict[str, Any]) -> Reply:
        async def hear(progress: float, total: float | None, message: str | None) -> None:
            self.heard.append((progress, total, message or ""))

        found = await self.client.call_tool(tool, arguments, progress_callback=hear)
        texts = [part.text for part in found.content if part.type == "text"]
        said = "\n".join(texts)
        for key in KEYS.values():
            assert key not in said + json.dumps(found.structured_content)
        assert "agents-password" not in said
        if found.structured_content is not None:
            assert json.loads(texts[0]) == found.structured_content
            expect_form(texts[0])
        return Reply(found.structured_content, said, found.is_error, found.meta or {})


@contextmanager
def serving(folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[Agent]:
    """Run a server in the folder until the block ends."""
    from mcp import Client, StdioServerParameters  # takes 1.4 s: only its own tests import it

    command = StdioServerParameters(
        command=SERVER[0],
        args=SERVER[1:],
        cwd=folder,
        env={**os.environ, **(environ or {})},
    )
    up: Future[tuple[Client, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def stay() -> None:
        over = asyncio.Event()
        try:
            async with Client(command) as client:
                up.set_result((client, asyncio.get_running_loop(), over))
                await over.wait()
        except BaseException as error:
            if not up.done():
                up.set_exception(error)
            raise

    thread = threading.Thread(target=lambda: asyncio.run(stay()))
    thread.start()
    client, loop, over = up.result(60)
    try:
        yield Agent(folder, client, loop)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(60)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent with the shipped plans; the environment has keys, which no answer may contain."""
    folder = tmp_path_factory.mktemp("agents")
    shutil.copytree(ROOT / "plans", folder / "plans")
    with serving(folder, KEYS) as agent:
        yield agent
