"""The embedded engine: which runs start, how many at once, and how each of them ends."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import orjson
import pytest

from runner.adapters.embedded.engine import CLAIM_SECONDS, CONCURRENCY, Engine, Run
from runner.adapters.embedded.ingest import Event
from runner.adapters.embedded.server import create_app

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
_numbers = itertools.count()


def event(
    name: str = "app/x",
    *,
    id_: str | None = None,
    data: dict[str, Any] | None = None,
    ts: float = NOW,
    received_at: float = NOW,
) -> Event:
    internal_id = f"{next(_numbers):026}"
    return Event(internal_id, id_ or internal_id, name, data, int(ts * 1000), received_at)


def engine(handlers: Mapping[str, Any], clock: Callable[[], float] = lambda: NOW) -> Engine:
    return Engine(handlers, clock)


async def ended(engine: Engine, *events: Event) -> Sequence[Run]:
    """Wait until all runs of `events` have ended, and return them."""
    with anyio.fail_after(10):
        while True:
            runs = [run for event in events for run in engine.runs_of(event.internal_id)]
            if all(run.ended_at is not None for run in runs):
                return runs
            await anyio.sleep(0.001)


async def only(engine: Engine, published: Event) -> Run:
    engine.publish(published)
    (run,) = await ended(engine, published)
    return run


class Panic(BaseException):
    """Like that of an extension module, which is no `Exception`: its run went on for ever."""


class WordlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Gate:
    """An async handler that blocks until it is opened, and counts how many calls wait."""

    def __init__(self) -> None:
        self.waiting, self.most, self.done = 0, 0, 0
        self.full = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, _: Mapping[str, Any]) -> None:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        if self.waiting == CONCURRENCY:
            self.full.set()
        await self.open.wait()
        self.waiting -= 1
        self.done += 1


class TestStarting:
    async def test_an_event_without_handler_costs_no_task_and_no_timer(self) -> None:
        alone, before = engine({}), asyncio.all_tasks()
        for _ in range(1_000):
            alone.publish(event(ts=NOW + 60))
        assert asyncio.all_tasks() == before

    async def test_a_handler_is_given_name_data_id_and_ts(self) -> None:
        run = await only(engine({"app/x": dict}), event(id_="mine", data={"repo": "a/b"}))
        given = {"name": "app/x", "data": {"repo": "a/b"}, "id": "mine", "ts": int(NOW * 1000)}
        assert orjson.loads(run.output or b"") == given

    async def test_an_event_without_data_is_given_with_empty_data(self) -> None:
        run = await only(engine({"app/x": lambda given: given["data"]}), event(data=None))
        assert run.output == b"{}"

    async def test_what_a_handler_does_to_its_event_stays_with_it(self) -> None:
        def spoil(given: Mapping[str, Any]) -> str:
            given["data"]["tags"].append("spoiled")
            return ",".join(given["data"]["tags"])

        under_test, published = engine({"app/x": [spoil, spoil]}), event(data={"tags": ["a"]})
        under_test.publish(published)
        runs = await ended(under_test, published)
        assert [run.output for run in runs] == [b'"a,spoiled"'] * 2
        assert published.data == {"tags": ["a"]}

    async def test_sync_handlers_run_in_threads_and_async_ones_on_the_loop(self) -> None:
        async def on_loop(given: Mapping[str, Any]) -> int:
            return threading.get_ident()

        under_test = engine({"app/x": [lambda _: threading.get_ident(), on_loop]})
        published = event()
        under_test.publish(published)
        in_thread, in_loop = await ended(under_test, published)
        assert int(in_thread.output or 0) != threading.get_ident()
        assert int(in_loop.output or 0) == threading.get_ident()

    async def test_an_object_with_an_async_call_runs_on_the_loop(self) -> None:
        class Work:
            async def __call__(self, _: Mapping[str, Any]) -> int:
                return threading.get_ident()

        run = await only(engine({"app/x": Work()}), event())
        assert int(run.output or 0) == threading.get_ident()

    async def test_a_callable_that_returns_a_coroutine_is_awaited(self) -> None:
        async def work(given: Mapping[str, Any]) -> str:
            return "done"

        run = await only(engine({"app/x": lambda given: work(given)}), event())
        assert run.output == b'"done"'

    async def test_a_bounded_number_of_handlers_runs_at_a_time_and_all_get_their_turn(
        self,
    ) -> None:
        gate = Gate()
        under_test, events = engine({"app/x": gate}), [event() for _ in range(50)]
        for each in events:
            under_test.publish(each)
        with anyio.fail_after(10):
            await gate.full.wait()
        states = [run.status for each in events for run in under_test.runs_of(each.internal_id)]
        assert states.count("Running") == CONCURRENCY
        assert states.count("Scheduled") == 50 - CONCURRENCY
        gate.open.set()
        await ended(under_test, *events)
        assert (gate.done, gate.most) == (50, CONCURRENCY)

    async def test_a_function_keeps_its_id_from_one_start_to_the_next(self) -> None:
        one = await only(engine({"app/x": dict}), event())
        other = await only(engine({"app/x": list}), event())
        assert one.function.id == other.function.id


class TestClaims:
    async def test_an_id_is_claimed_for_24_hours(self) -> None:
        under_test = engine({"app/x": dict})
        last = NOW + CLAIM_SECONDS - 1
        first, again = event(id_="a"), event(id_="a", received_at=last)
        later = event(id_="a", received_at=NOW + CLAIM_SECONDS)
        for each in (first, again, later):
            under_test.publish(each)
        started = [len(list(under_test.runs_of(e.internal_id))) for e in (first, again, later)]
        assert started == [1, 0, 1]
        assert under_test.event(again.internal_id) is again

    async def test_each_function_claims_for_itself(self) -> None:
        """The same callable under another name, or twice under one name, is another function."""
        under_test = engine({"app/x": [dict, dict], "app/y": dict})
        events = event("app/x", id_="a"), event("app/y", id_="a")
        for each in events:
            under_test.publish(each)
        assert len(await ended(under_test, *events)) == 3


class TestEnding:
    @pytest.mark.parametrize(
        ("raised", "name", "message"),
        [
            (ValueError("no such repository"), "ValueError", "no such repository"),
            (KeyError(), "KeyError", ""),
            (SystemExit("bye"), "SystemExit", "bye"),
            (Panic("index out of bounds"), "Panic", "index out of bounds"),
            (StopIteration(), "RuntimeError", "coroutine raised StopIteration"),
            (OSError("file \udcff"), "OSError", "file ?"),
            (WordlessError(), "WordlessError", "<exception str() failed>"),
        ],
    )
    async def test_what_a_handler_raises_is_its_runs_failure(
        self, raised: BaseException, name: str, message: str
    ) -> None:
        def fail(given: Mapping[str, Any]) -> None:
            raise raised

        run = await only(engine({"app/x": fail}), event())
        output = orjson.loads(run.output or b"")
        assert run.status == "Failed"
        assert (output["name"], output["message"]) == (name, message)

    async def test_a_failures_stack_begins_in_the_handler(self) -> None:
        def fail(given: Mapping[str, Any]) -> None:
            raise ValueError("no")

        async def fail_too(given: Mapping[str, Any]) -> None:
            fail(given)

        for handler in (fail, fail_too):
            run = await only(engine({"app/x": handler}), event())
            stack = orjson.loads(run.output or b"")["stack"].splitlines()
            assert stack[0] == "Traceback (most recent call last):"
            assert stack[1].endswith(f"in {handler.__name__}")

    async def test_a_result_that_is_no_json_is_a_failure(self) -> None:
        run = await only(engine({"app/x": lambda _: {1, 2}}), event())
        assert run.status == "Failed"
        assert "not JSON serializable: set" in orjson.loads(run.output or b"")["message"]

    async def test_a_handler_that_cancels_itself_has_failed_and_the_next_one_runs(self) -> None:
        async def cancel_itself(given: Mapping[str, Any]) -> None:
            raise asyncio.CancelledError

        under_test = engine({"app/x": cancel_itself, "app/y": lambda _: "fine"})
        assert (await only(under_test, event("app/x"))).status == "Failed"
        assert (await only(under_test, event("app/y"))).status == "Completed"


class TestTheFuture:
    async def test_a_run_waits_for_its_ts(self) -> None:
        clock_reads = NOW
        under_test = engine({"app/x": lambda _: "ran"}, lambda: clock_reads)
        published = event(ts=NOW + 0.05)
        under_test.publish(published)
        started = time.monotonic()
        (run,) = under_test.runs_of(published.internal_id)
        assert (run.status, run.ended_at) == ("Scheduled", None)
        (run,) = await ended(under_test, published)
        assert run.output == b'"ran"'
        assert time.monotonic() - started >= 0.049

    async def test_a_run_that_is_cancelled_before_its_ts_never_starts(self) -> None:
        started: list[str] = []
        under_test = engine({"app/x": lambda given: started.append(given["id"])})
        cancelled, other = event(id_="a", ts=NOW + 0.01), event(id_="b", ts=NOW + 0.02)
        under_test.publish(cancelled)
        under_test.publish(other)
        (run,) = under_test.runs_of(cancelled.internal_id)
        under_test.cancel(run)
        runs = await ended(under_test, cancelled, other)
        assert [run.status for run in runs] == ["Cancelled", "Completed"]
        assert started == ["b"]


class TestCancelling:
    async def test_an_async_handler_is_cancelled_where_it_waits_and_may_clean_up(self) -> None:
        waiting, cleaned = asyncio.Event(), asyncio.Event()

        async def hold(given: Mapping[str, Any]) -> None:
            waiting.set()
            try:
                await anyio.sleep_forever()
            finally:
                await asyncio.sleep(0)
                cleaned.set()

        under_test, published = engine({"app/x": hold}), event()
        under_test.publish(published)
        with anyio.fail_after(10):
            await waiting.wait()
            (run,) = under_test.runs_of(published.internal_id)
            under_test.cancel(run)
            await cleaned.wait()
        assert (await ended(under_test, published))[0].status == "Cancelled"

    async def test_a_sync_handler_goes_on_but_its_run_has_ended(self) -> None:
        running, release, finished = threading.Event(), threading.Event(), threading.Event()

        def hold(given: Mapping[str, Any]) -> str:
            running.set()
            release.wait(10)
            finished.set()
            return "too late"

        under_test, published = engine({"app/x": hold}), event()
        under_test.publish(published)
        await asyncio.to_thread(running.wait, 10)
        (run,) = under_test.runs_of(published.internal_id)
        under_test.cancel(run)
        (run,) = await ended(under_test, published)
        assert not finished.is_set()
        release.set()
        assert await asyncio.to_thread(finished.wait, 10)
        assert list(under_test.runs_of(published.internal_id)) == [run]
        assert (run.status, run.output) == ("Cancelled", b"{}")

    async def test_a_run_that_waits_for_its_turn_never_starts(self) -> None:
        gate = Gate()
        under_test = engine({"app/x": gate})
        events = [event() for _ in range(CONCURRENCY + 1)]
        for each in events:
            under_test.publish(each)
        (last,) = under_test.runs_of(events[-1].internal_id)
        under_test.cancel(last)
        gate.open.set()
        await ended(under_test, *events)
        assert gate.done == CONCURRENCY

    async def test_closing_cancels_what_is_left_and_leaves_no_task(self) -> None:
        gate, before = Gate(), asyncio.all_tasks()
        under_test = engine({"app/x": gate})
        events = [*(event() for _ in range(20)), event(ts=NOW + 3600)]
        for each in events:
            under_test.publish(each)
        await gate.full.wait()
        await under_test.aclose()
        runs = await ended(under_test, *events)
        assert {run.status for run in runs} == {"Cancelled"}
        assert asyncio.all_tasks() == before

    async def test_the_end_of_the_servers_lifespan_closes_the_engine(self) -> None:
        gate = Gate()
        app = create_app({"app/x": gate})
        under_test: Engine = app.state.engine
        published = event()
        async with app.router.lifespan_context(app):
            under_test.publish(published)
        assert [run.status for run in under_test.runs_of(published.internal_id)] == ["Cancelled"]
