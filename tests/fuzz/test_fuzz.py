"""Whatever bytes arrive at an entrance: they give a value, or an error of ours, and never a
crash."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.adapters.database.sql import SqlDatabase
from runner.adapters.database.url import parse_url
from runner.adapters.http import open_client
from runner.adapters.inngest.event_api import HttpEventApi
from runner.adapters.inngest.http import Retry
from runner.adapters.inngest.jobs_api import HttpJobsApi
from runner.app.saved import load_saved
from runner.app.variables import facts_of
from runner.errors import BackfillError
from runner.model import Patience, Query, QueryRefused
from runner.planning.build import build_execution_plan
from runner.spec.load import load_plan
from tests.depth import depth
from tests.security.commands import MEMORY, SECONDS
from tests.support import CATALOG, server_target, write_plan

ROOT = Path(__file__).parents[2]
INPUTS = depth(60, 5_000)
ODD = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\xc3\x28",
    b"{",
    b"]",
    b"- ",
    b": ",
    b"{{",
    b"}}",
    b"\r\n",
    b"&a *a",
]
PLANS = [path.read_bytes() for path in sorted((ROOT / "plans").rglob("*.yaml"))]
GOLDEN = sorted((ROOT / "tests/forms/golden").glob("*.json"))


def _mutated(raw: bytes, random: Random) -> bytes:
    """Replace, remove or repeat some of the bytes."""
    for _ in range(random.randint(1, 6)):
        start = random.randint(0, len(raw))
        end = min(len(raw), start + random.choice([0, 1, 1, 8, 64]))
        new = random.choice([b"", raw[start:end] * 2, random.choice(ODD), random.randbytes(3)])
        raw = raw[:start] + new + raw[end:]
    return raw


def _plan(raw: bytes, folder: Path) -> None:
    (folder / "catalog.yaml").write_text(CATALOG, "utf-8")
    (folder / "plan.yaml").write_bytes(raw)
    build_execution_plan(load_plan(str(folder / "plan.yaml")))


def _rows(raw: bytes, folder: Path, ending: str) -> None:
    (folder / f"rows.{ending}").write_bytes(raw)
    _plan(
        write_plan(folder, f"repos: [{{file: rows.{ending}}}]\noperations: [sync]\n").read_bytes(),
        folder,
    )


def _saved(raw: bytes, folder: Path) -> None:
    (folder / "saved.json").write_bytes(raw)
    load_saved(str(folder / "saved.json"))


def _facts(raw: bytes, _folder: Path) -> None:
    facts_of(raw, "facts.json")


def _answers(raw: bytes, _folder: Path) -> None:
    """Give these bytes as the server's answer to each request of a run."""
    status = 200 if raw[:1] in b"{[" else 100 + (raw[0] if raw else 0) % 500

    async def ask() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(max(200, status), content=raw))
        retry = Retry(_soon, Random(0), print, patience=Patience(0.0))  # noqa: S311
        async with open_client(transport) as client:
            jobs = HttpJobsApi(client, server_target(), retry)
            asked: list[Callable[[], Any]] = [
                lambda: jobs.jobs("0" * 26),
                jobs.functions,
                lambda: jobs.listed(0.0, None, lambda: 5.0),
                lambda: jobs.batch("0" * 26),
                lambda: HttpEventApi(client, server_target(), retry).send(
                    b"[]", 1, "1,AAAAAAAAAAAAAA=="
                ),
            ]
            for one in asked:
                try:
                    await one()
                except BackfillError:
                    continue

    asyncio.run(ask())


async def _soon(_seconds: float) -> None: ...


ANSWERS = [
    b'{"data": [{"run_id": "00000000000000000000000001", "status": "Failed", "output": {"a": 1}}]}',
    b'{"data": [{"id": "00000000000000000000000001", "status": "COMPLETED"}], "page": {}}',
    b'{"ids": ["01M5VJ1JG0AZB6TB0HQGK4H3SC"], "status": 200}',
    b'{"data": {"apps": [{"functions": [{"slug": "a", "triggers": [{"type": "EVENT"}]}]}]}}',
]
DOORS: dict[str, tuple[Callable[[bytes, Path], None], list[bytes]]] = {
    "plans": (_plan, PLANS),
    "jsonl": (
        lambda raw, at: _rows(raw, at, "jsonl"),
        [b'{"repo": "a/b", "n": 1}\n{"repo": "c/d"}\n'],
    ),
    "csv": (lambda raw, at: _rows(raw, at, "csv"), [b'repo,n\na/b,1\n"c/d",2\n']),
    "saved plans": (_saved, [path.read_bytes() for path in GOLDEN]),
    "facts": (_facts, [path.read_bytes() for path in GOLDEN]),
    "answers": (_answers, ANSWERS),
}


@pytest.mark.parametrize("door", DOORS)
def test_no_bytes_at_a_door_are_a_crash(door: str) -> None:
    """Nor may any take more time or memory than a stranger's file may."""
    read, examples = DOORS[door]
    for seed in range(INPUTS):
        random = Random(seed)  # noqa: S311
        raw = (
            random.randbytes(40)
            if random.random() < 0.1
            else _mutated(random.choice(examples), random)
        )
        with tempfile.TemporaryDirectory() as folder, suppress(BackfillError):
            try:
                with bounded():
                    read(raw, Path(folder))
            except BackfillError:
                raise
            except BaseException as error:
                error.add_note(f"{door}, seed {seed}: {raw[:2_000]!r}")
                raise


@contextmanager
def bounded() -> Iterator[None]:
    """Apply the limits of tests/security to what is done in this process."""

    def late(*_: object) -> None:
        raise AssertionError(f"it takes more than {SECONDS} s of the processor")

    before, (soft, hard) = (
        signal.signal(signal.SIGPROF, late),
        resource.getrlimit(resource.RLIMIT_AS),
    )
    statm = Path("/proc/self/statm")  # if there is none, only the time is limited
    if statm.exists():
        now = int(statm.read_text("ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.binary(max_size=20),
    st.text(max_size=20),
)


@settings(max_examples=INPUTS, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), max_size=5))
def test_no_values_of_a_database_are_a_crash(rows: list[tuple[Any, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "app.db"
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE t (a, b)")
            database.executemany("INSERT INTO t VALUES (?, ?)", [_storable(row) for row in rows])
        asked = SqlDatabase(parse_url(f"sqlite:///{path}", "test"))
        try:
            with bounded():
                table = asked.ask(Query("select a, b from t"), {})
            assert len(table.rows) == len(rows)
            json.dumps(table.rows, allow_nan=False)
        except QueryRefused:
            pass
        finally:
            asked.close()


def _storable(row: tuple[Any, Any]) -> tuple[Any, ...]:
    """Make text that SQLite accepts."""
    return tuple(
        value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for value in row
    )
