"""The outcome of events by the configuration of the functions that listen, however much of it the
server tells."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from runner.execution.progress import summarise
from runner.execution.run import execute
from runner.model import Outcome, Summary
from tests.depth import depth, paired
from tests.engine import Engine, Fn
from tests.support import connect, make_plan, new_store, repos, start_journal

SYNC = "operations: [sync]\non_failure: continue\n"
NOTHING: frozenset[str] = frozenset()
OUTCOMES = ("completed", "failed", "cancelled", "timed_out", "rejected", "dropped", "no_job")

# How much the server tells: what is missing from its answers, by name.
TELLS = {
    "all": NOTHING,
    "by GraphQL": frozenset({"functions"}),
    "without lists": frozenset({"lists"}),
    "without GraphQL": frozenset({"gql"}),
    "lists alone": frozenset({"functions", "gql"}),
    "nothing": frozenset({"functions", "gql", "lists"}),
}
NAMES_FUNCTIONS = {"all", "by GraphQL", "without lists", "without GraphQL"}


def run(tmp_path: Path, server: Engine, count: int = 4, body: str = SYNC) -> Summary:
    plan = make_plan(tmp_path, repos(count) + body)
    journal = start_journal(new_store(tmp_path), plan)

    async def main() -> Summary:
        async with connect(server, journal, clock=server.clock) as context:
            ending = await execute(plan, context)
        return summarise(journal, plan="p", target="t", followed=True, ending=ending)

    return asyncio.run(main())


def outcomes(summary: Summary, count: int = 4) -> dict[str, Outcome]:
    """Return the outcomes by item; each planned event must count under exactly one."""
    totals = asdict(summary.totals)
    assert sum(totals[name] for name in (*OUTCOMES, "unknown")) == totals["planned"] == count
    found: dict[str, Outcome] = {f"o/r{number}": "completed" for number in range(count)}
    assert len({failure.item for failure in summary.failures}) == len(summary.failures)
    found |= {failure.item: failure.outcome for failure in summary.failures}
    assert Counter(found.values()) == Counter(
        {k: n for k, n in totals.items() if k in {*OUTCOMES, "unknown"} and n}
    )
    return found


def messages(summary: Summary) -> set[str]:
    return {failure.message for failure in summary.failures}


@pytest.mark.parametrize("tells", TELLS)
@pytest.mark.parametrize(
    ("fn", "by_config", "says"),
    [
        (Fn("debounced", debounce=60), "dropped", "its debounce (1m: the latest event counts)"),
        (Fn("limited", rate_limit=1), "dropped", "its rate limit (1 in 1d)"),
        (Fn("filtered", only=("o/r3",)), "dropped", "its filter (event.data.repo in ['o/r3'])"),
    ],
    ids=lambda value: value.name if isinstance(value, Fn) else "",
)
def test_what_a_function_drops_is_dropped_where_the_server_tells_and_named(
    tmp_path: Path, tells: str, fn: Fn, by_config: Outcome, says: str
) -> None:
    """If the server does not tell, the message says what the reason may be."""
    summary = run(tmp_path, Engine(functions=[fn], missing=TELLS[tells]))
    found = Counter(outcomes(summary).values())
    assert summary.status == "failed"
    if tells in NAMES_FUNCTIONS:
        assert found == {"completed": 1, by_config: 3}
        (message,) = messages(summary)
        assert says in message
    else:
        late = 0 if fn.debounce else 1  # a debounced job starts when the run waits for it no longer
        assert found == Counter({"no_job": 4 - late, "completed": late})
        assert all("a debounce, a batch, a rate limit" in message for message in messages(summary))


@pytest.mark.parametrize("tells", TELLS)
def test_a_singleton_drops_what_comes_meanwhile_and_every_server_tells(
    tmp_path: Path, tells: str
) -> None:
    server = Engine(functions=[Fn("single", singleton=True, takes=9)], missing=TELLS[tells])
    summary = run(tmp_path, server)
    assert Counter(outcomes(summary).values()) == {"completed": 1, "dropped": 3}
    assert all("singleton" in message for message in messages(summary))


@pytest.mark.parametrize(("tells", "others", "seconds"), paired(TELLS, [0, 450], [5.0, 90.0]))
def test_the_events_of_a_batch_are_its_jobs_or_unknown_and_never_without_a_job(
    tmp_path: Path, tells: str, others: int, seconds: float
) -> None:
    """However many other jobs there are, and however long the batch takes to fill, if the server
    tells that."""
    fn = Fn("batched", batch=seconds)
    server = Engine(functions=[fn], missing=TELLS[tells], others=others)
    summary = run(tmp_path, server)
    found = Counter(outcomes(summary).values())
    if "gql" not in TELLS[tells]:
        assert found == {"completed": 4}
        assert summary.status == "completed"
    elif tells in NAMES_FUNCTIONS or seconds < 20:
        assert found == {"completed": 1, "unknown": 3}
        assert summary.status == "incomplete"
        assert "names only one event of each" in messages(summary).pop()
    else:
        assert found == {"no_job": 4}
        assert "a batch" in messages(summary).pop()


@pytest.mark.parametrize("tells", sorted(NAMES_FUNCTIONS))
def test_every_function_of_an_event_is_waited_for(tmp_path: Path, tells: str) -> None:
    """With two functions, of which a debounced one fails, the other's end does not complete the
    run."""
    functions = [Fn("plain"), Fn("late", debounce=90, fails=True)]
    summary = run(tmp_path, Engine(functions=functions, missing=TELLS[tells]), count=1)
    assert (summary.status, summary.totals.jobs) == ("failed", 2)
    assert outcomes(summary, 1) == {"o/r0": "failed"}
    assert messages(summary) == {"ValueError: no"}


@pytest.mark.parametrize("tells", sorted(NAMES_FUNCTIONS))
def test_an_event_that_a_filter_leaves_to_another_function_is_completed_at_once(
    tmp_path: Path, tells: str
) -> None:
    functions = [Fn("some", only=("o/r0", "o/r1")), Fn("rest", only=("o/r2", "o/r3"))]
    server = Engine(functions=functions, missing=TELLS[tells])
    began = server.clock.now
    summary = run(tmp_path, server)
    assert (summary.status, summary.totals.completed) == ("completed", 4)
    assert server.clock.now - began < 15, "the grace is for what may still come"


@pytest.mark.parametrize("tells", sorted(NAMES_FUNCTIONS))
def test_an_event_that_one_of_its_functions_drops_is_dropped(tmp_path: Path, tells: str) -> None:
    functions = [Fn("plain"), Fn("limited", rate_limit=1)]
    summary = run(tmp_path, Engine(functions=functions, missing=TELLS[tells]))
    assert Counter(outcomes(summary).values()) == {"completed": 1, "dropped": 3}
    assert all("limited`: by its rate limit" in message for message in messages(summary))


def test_a_paused_function_is_the_reason_where_the_server_tells(tmp_path: Path) -> None:
    summary = run(tmp_path, Engine(functions=[Fn("paused", paused=True)]))
    assert set(outcomes(summary).values()) == {"no_job"}
    assert messages(summary) == {"no job started: `my-app-paused` paused on the server"}


def test_where_the_server_tells_its_functions_nobody_listening_is_a_fact(tmp_path: Path) -> None:
    summary = run(tmp_path, Engine(functions=[Fn("other", event="app/other")]))
    assert messages(summary) == {"no function listens to `app/sync`: no job started"}


def test_lists_are_read_of_the_functions_that_hear_the_plan(tmp_path: Path) -> None:
    """Twenty events beside five thousand jobs of other functions read no page of those."""
    server = Engine(functions=[Fn("plain")], others=5_000)
    summary = run(tmp_path, server, count=20)
    assert summary.totals.completed == 20
    sweeps = server.asked.count("/v2/runs") / 3
    assert 1 <= sweeps < 20


@pytest.mark.parametrize("seed", range(depth(10, 100)))
def test_outcomes_are_those_of_the_engine_for_any_functions(tmp_path: Path, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - tests repeat
    items = [f"o/r{number}" for number in range(6)]
    kinds: list[dict[str, Any]] = [
        {},
        {"debounce": random.choice([3.0, 70.0])},
        {"batch": random.choice([3.0, 70.0])},
        {"rate_limit": random.randint(1, 6)},
        {"singleton": True},
        {"only": tuple(random.sample(items, 3))},
        {"paused": True},
    ]
    functions = [
        Fn(
            f"f{number}",
            takes=random.choice([1.0, 4.0, 30.0]),
            fails=random.random() < 0.2,
            **random.choice(kinds),
        )
        for number in range(random.randint(1, 3))
    ]
    missing = frozenset(random.choice([[], ["functions"]]))
    if missing:  # GraphQL does not tell which functions are paused
        functions = [fn for fn in functions if not fn.paused] or [Fn("f")]
    server = Engine(functions=functions, missing=missing, others=random.choice([0, 300]))
    body = SYNC + random.choice(["", "batch_size: 2\ndelay: 2s\n"])
    found = outcomes(run(tmp_path, server, 6, body), 6)
    filters = {fn.name for fn in functions if fn.only}
    for item, outcome in found.items():
        assert outcome == _truth(server.fates[item], filters), (item, functions, server.fates[item])


def _truth(fates: dict[str, Outcome], filters: set[str]) -> Outcome:
    """Return the outcome: a filter leaves an event to the functions that take it, if there are
    any."""
    kinds = set(fates.values())
    taken = {fate for fate in kinds if fate != "dropped"}
    for outcome in ("failed", "dropped"):
        if (
            outcome == "dropped"
            and taken
            and not any(fate == "dropped" and name not in filters for name, fate in fates.items())
        ):
            continue
        if outcome in kinds:
            return outcome
    return "completed" if taken else "no_job"


@dataclass
class Stuttering(Engine):
    """It does not tell its functions for a while, as a server does after a restart."""

    silences: int = 12

    def handle(self, request: httpx.Request) -> httpx.Response:
        if request.url.path in ("/v2/apps", "/v0/gql") and self.silences:
            self.silences -= 1
            return httpx.Response(503)
        return super().handle(request)


def test_functions_that_are_not_told_just_now_are_asked_for_again_before_anything_is_given_up(
    tmp_path: Path,
) -> None:
    server = Stuttering(functions=[Fn("fn-sync", batch=45.0)])
    assert set(outcomes(run(tmp_path, server)).values()) == {"completed"}
    assert not server.silences
