"""Whether the workers would accept a run, before it is written down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.adapters.inngest.target import resolve
from runner.adapters.worker.request import EVENT, app_of, filter_of
from runner.app.session import Session
from runner.app.submit import enqueue, refuse_unheard
from runner.errors import PreflightRefused, TargetError
from runner.execution.context import RunOptions
from runner.model import Function, Trigger
from tests.support import Recorder, make_plan, repos

DEV, EMBEDDED = resolve("dev", {}), resolve("embedded", {})
ANY = Function(("any", "other name"), (Trigger("backfill/*"),))
OURS = Function(("ours",), (Trigger(EVENT, filter_of("ours")),))
THEIRS = Function(("theirs",), (Trigger(EVENT, filter_of("theirs")),))
DEAF = Function(("deaf",), (Trigger("app/other"),))
HEARD = f"workers of {DEV.name} that listen for {EVENT}: "


def tells(
    session: Session, monkeypatch: pytest.MonkeyPatch, functions: Sequence[Function] | None
) -> list[str]:
    """Set the functions of the target's server; return the questions that it gets."""
    asked: list[str] = []

    async def accept() -> None:
        asked.append("accept")

    async def told() -> Sequence[Function] | None:
        asked.append("functions")
        return functions

    async def send(*_: object) -> object:
        asked.append("send")
        return SimpleNamespace(refused="the key is wrong")

    @asynccontextmanager
    async def connect(*_: object, **__: object) -> AsyncIterator[object]:
        probe = SimpleNamespace(accept=accept, functions=told)
        yield SimpleNamespace(probe=probe, events=SimpleNamespace(send=send))

    monkeypatch.setattr(session, "connect", connect)
    return asked


@pytest.mark.parametrize(
    ("functions", "app", "note", "hint"),
    [
        ([ANY, DEAF], None, f"{HEARD}any", None),
        ([ANY, OURS, THEIRS], "ours", f"{HEARD}any, ours", None),
        ([OURS, THEIRS], "theirs", f"{HEARD}theirs", None),
        ([replace(ANY, paused=True), OURS], "ours", f"{HEARD}ours; paused: any", None),
        ([DEAF, THEIRS], "ours", None, "start one with `backfill serve`"),
        ([OURS], None, None, "start one with `backfill serve`"),
        ([], "ours", None, "start one with `backfill serve`"),
        ([replace(OURS, paused=True)], "ours", None, "unpause them there, or start one"),
    ],
)
def test_a_run_is_left_only_to_workers_that_listen_and_take_it(
    session: Session,
    heard: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    functions: list[Function],
    app: str | None,
    note: str | None,
    hint: str | None,
) -> None:
    asked = tells(session, monkeypatch, functions)
    if hint is None:
        refuse_unheard(session, DEV, app)
        assert heard.notes == [note]
    else:
        with pytest.raises(PreflightRefused, match=f"no worker listens for {EVENT}") as refused:
            refuse_unheard(session, DEV, app)
        assert (refused.value.hint or "").startswith(hint)
        paused = "; paused: ours" if functions and functions[0].paused else ""
        assert str(refused.value).endswith(f" on {DEV.name}{paused}")
    assert asked == ["accept", "functions"]
    assert not session.has_state


def test_by_default_the_workers_are_those_of_the_state(
    session: Session, heard: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_of(session.store.identity)
    tells(session, monkeypatch, [replace(OURS, triggers=(Trigger(EVENT, filter_of(app)),)), THEIRS])
    refuse_unheard(session, DEV)
    assert heard.notes == [f"{HEARD}ours"]


def test_a_server_that_does_not_tell_is_believed_and_the_embedded_one_has_no_workers(
    session: Session, heard: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tells(session, monkeypatch, None)
    refuse_unheard(session, DEV)
    (note,) = heard.notes
    assert note.startswith(f"{DEV.name} does not tell whether a worker listens")
    with pytest.raises(PreflightRefused, match="the embedded target ends with its process"):
        refuse_unheard(session, EMBEDDED)


def test_a_run_whose_event_is_refused_is_nobodys(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tells(session, monkeypatch, None)
    plan = make_plan(tmp_path, repos(1) + "operations: [sync]\n")
    lease = session.store.lock(plan.name, DEV.address, "RUN1")
    with pytest.raises(TargetError, match="run RUN1 is not submitted: the key is wrong"):
        enqueue(session, lease, DEV, "RUN1", plan.name, RunOptions())
    with session.lock(plan.name, DEV.address, "RUN2"):
        pass
