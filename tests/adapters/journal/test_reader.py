"""A reader of a state cannot write it, and needs no permission to."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.adapters.journal.reader import JournalReader
from runner.adapters.journal.state import StateReader
from runner.adapters.journal.store import Store
from runner.adapters.journal.writer import JournalWriter
from runner.errors import NoState, TargetError, UsageError
from runner.model import EventFilter
from tests import support
from tests.support import make_plan, new_store, repos, start_journal

BODY = repos(3) + "operations: [sync]\n"
NOBODY = 65534


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may read, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="backfill-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def as_reader(folder: Path, read: Callable[[], object]) -> str:
    """Return the result for a user who may write neither the folder nor a file in it."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(into, str(read()).encode())
        except BaseException as error:  # noqa: BLE001 - the parent shows it
            os.write(into, repr(error).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out) as answer:
        found = answer.read()
    os.waitpid(child, 0)
    return found


def told(folder: Path) -> str:
    """Make all queries of the reading commands."""
    with StateReader(str(folder / "state.db")) as state:
        record = state.find("latest")
        (
            state.view(record),
            state.mark(record),
            state.story(record),
            state.find_events(record, EventFilter(), 9),
        )
        items = [event.item for event in state.events(record)]
        return f"{len(state.runs())} {record.id} {items}"


def test_a_state_that_may_not_be_written_is_read(shared: Path, tmp_path: Path) -> None:
    store = new_store(shared)
    start_journal(store, make_plan(tmp_path, BODY))
    store.close()
    assert [file.name for file in shared.iterdir()] == ["state.db"], "WAL has ended"
    assert as_reader(shared, lambda: told(shared)) == "1 RUN1 ['o/r0', 'o/r1', 'o/r2']"
    assert [file.name for file in shared.iterdir()] == ["state.db"]


def test_it_is_read_while_another_writes_it_too(shared: Path, tmp_path: Path) -> None:
    """Even what only the WAL has."""
    store = new_store(shared)
    start_journal(store, make_plan(tmp_path, BODY))
    assert (shared / "state.db-wal").stat().st_size > 0
    assert as_reader(shared, lambda: told(shared)) == "1 RUN1 ['o/r0', 'o/r1', 'o/r2']"


@pytest.mark.parametrize("ends", [True, False], ids=["closed", "while it is written"])
def test_a_state_that_was_removed_is_not_read_any_more_and_the_next_one_is(
    tmp_path: Path, ends: bool
) -> None:
    """Those who read for long, such as the pages, showed the runs of the removed file for ever."""
    plan = make_plan(tmp_path, BODY)
    before = new_store(tmp_path)
    start_journal(before, plan)
    if ends:
        before.close()
    with StateReader(str(tmp_path / "state.db")) as state:
        assert state.find("latest").planned == 3
        for file in tmp_path.glob("state.db*"):
            file.unlink()
        with pytest.raises(NoState, match="there is no state in"):
            state.runs()
        after = new_store(tmp_path)
        assert state.runs() == []
        start_journal(after, make_plan(tmp_path, repos(5) + "operations: [sync]\n"))
        assert state.find("latest").planned == 5
        before.close()
        assert len(state.runs()) == 1


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_run_whose_state_was_removed_goes_on_in_no_other(tmp_path: Path, replaced: bool) -> None:
    """It ended well, `status` knew nothing of it, and another run of its plan got the lock."""
    plan = make_plan(tmp_path, BODY)
    journal = start_journal(new_store(tmp_path), plan)
    for file in tmp_path.glob("state.db*"):
        file.unlink()
    if replaced:
        start_journal(new_store(tmp_path), plan)
    for use in (journal.keep_lease, journal.control, lambda: journal.note("a")):
        with pytest.raises(TargetError, match="was removed or replaced while it was in use"):
            use()
    assert (tmp_path / "state.db").exists() is replaced


def test_a_state_is_where_it_was_though_the_folder_of_the_process_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    plan = make_plan(tmp_path, BODY)
    monkeypatch.chdir(tmp_path)
    journal = start_journal(Store("state.db"), plan)
    monkeypatch.chdir(tmp_path / "other")
    journal.keep_lease()
    assert not list((tmp_path / "other").iterdir())


def test_a_reader_leaves_nothing_behind(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    start_journal(store, make_plan(tmp_path, BODY))
    store.close()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if "state" in file.name}
    told(tmp_path)
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir() if "state" in file.name}
    assert before == after


@pytest.mark.usefixtures("state")
def test_the_database_itself_refuses_a_readers_write(tmp_path: Path) -> None:
    new_store(tmp_path).close()
    with (
        StateReader(support.state_url(tmp_path)) as state,
        pytest.raises(TargetError, match=r"read-?only"),
        state._database.read() as connection,
    ):
        connection.change("DELETE FROM runs")


def test_a_reader_has_no_method_that_writes() -> None:
    for reader, writer in ((JournalReader, JournalWriter), (StateReader, Store)):
        assert issubclass(writer, reader)
        for name in (
            "start",
            "reopen",
            "request_pause",
            "lock",
            "note",
            "waiting",
            "end",
            "begin_chunk",
        ):
            assert not hasattr(reader, name)


def test_where_there_is_no_state_a_reader_makes_none(tmp_path: Path, state: str) -> None:
    with pytest.raises(UsageError, match="there is no state in"):
        StateReader(support.state_url(tmp_path))
    assert state == "postgresql" or not (tmp_path / "state.db").exists()


def test_a_wal_without_its_index_is_said(shared: Path, tmp_path: Path) -> None:
    """This happens in a copy of a running state; SQLite reads it only with permission to write."""
    store = new_store(tmp_path)
    start_journal(store, make_plan(tmp_path, BODY))
    for name in ("state.db", "state.db-wal"):
        shutil.copy(tmp_path / name, shared / name)
    found = as_reader(shared, lambda: told(shared))
    assert found.startswith("TargetError(")
    assert "unable to open" in found


def test_a_state_of_another_version_is_refused_by_readers_too(tmp_path: Path) -> None:
    new_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("UPDATE backfill_version SET version = 2")
    connection.close()
    with pytest.raises(TargetError, match="newer version"):
        StateReader(str(tmp_path / "state.db"))


@pytest.mark.parametrize("locked", ["file", "folder"])
def test_a_state_that_becomes_whole_later_is_read_as_it_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    """Files that may not be written are opened again, as they are, each time."""
    folder = tmp_path / "state"
    folder.mkdir()
    forbidden = folder if locked == "folder" else folder / "state.db"
    really = os.access

    def access(path: Path, mode: int) -> bool:
        return path != forbidden and really(path, mode)

    monkeypatch.setattr(os, "access", access)
    plan = make_plan(tmp_path, BODY)
    for number in (1, 2):
        with Store(str(folder / "state.db")) as store:
            support.let_go(store)
            start_journal(store, plan, f"RUN{number}")
        if number == 1:
            state = StateReader(str(folder / "state.db"))
        assert len(state.runs()) == number
        assert [file.name for file in folder.iterdir()] == ["state.db"], "WAL has ended"
    state.close()


def test_a_state_is_written_without_waiting_for_the_disk_and_beside_who_reads_it(
    tmp_path: Path,
) -> None:
    """In a separate process, because tests never wait for the disk."""
    asked = (
        "import sys; from runner.adapters.journal.store import Store\n"
        "with Store(sys.argv[1]) as store, store._database.read() as connection:\n"
        "    print(*(connection.value(f'PRAGMA {one}') for one in ('synchronous', 'journal_mode')))"
    )
    command = [sys.executable, "-c", asked, str(tmp_path / "state.db")]
    assert subprocess.check_output(command, text=True).split() == ["1", "wal"]
