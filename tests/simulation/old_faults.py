"""Old faults of the code, each put back by a patch, with a seed that shows it.

A seed belongs to the current code and model; if either changes, another one nearby shows the fault.
``python -m tests.simulation --fault NAME --count 5000`` looks for the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from runner.adapters.journal import chains, views
from runner.adapters.journal.writer import JournalWriter
from runner.app import drive, schedules
from runner.execution import doctor, judge, rounds
from runner.execution.check import QueryRunner
from runner.execution.pacing import Pacer
from runner.model import Function, Patience
from tests.simulation.clockwork import Patches
from tests.simulation.story import Story, simulate

PutBack = Callable[[Patches], None]
# Where the search for each starts: this seed shows the fault, or one soon after.
SEEDS = {
    "by-name": 57,
    "rows": 97,
    "blind": 17,
    "clocks": 764,
    "saturated": 216,
    "standstill": 186,
    "delays": 96,
    "tries": 117,
    "early": 47,
    "rest": 16,
    "figures": 169,
    "firing": 11,
    "fence": 807,
}


class OldFault(NamedTuple):
    """`where`: selects worlds that could show it; the others are skipped."""

    what: str
    put_back: PutBack
    where: Callable[[Story], bool] = lambda _story: True

    def breaks(self, seed: int) -> bool:
        return simulate(seed, then=self.put_back, where=self.where).broken is not None


def _by_name(patches: Patches) -> None:
    real = chains.retriable

    def retriable(connection: Any, run_id: str, kinds: Any, patterns: Any) -> dict[int, int]:
        query = "SELECT item FROM outcomes WHERE run_id <> :run AND outcome = 'completed'"
        good = set(connection.values(query, run=run_id))
        query = "SELECT position, item FROM outcomes WHERE run_id = :run"
        items = dict(map(tuple, connection.rows(query, run=run_id)))
        found = real(connection, run_id, kinds, patterns)
        once = {items[position]: position for position in reversed(found)}
        return {at: found[at] for item, at in sorted(once.items()) if item not in good}

    patches.set(chains, "retriable", retriable)


def _rows_that_came(patches: Patches) -> None:
    patches.set(judge._Rows, "missing", property(lambda _self: []))


def _blind_zero(patches: Patches) -> None:
    patches.set(judge, "blinded", lambda _security: None)
    patches.set(rounds, "blinded", lambda _security: None)
    patches.set(doctor, "blinded", lambda _security: None)


def _runners_clock(patches: Patches) -> None:
    def since(self: QueryRunner, question: Any) -> Any:
        clock = self._began.get(question.query.database)
        if clock is None:
            return None
        found = judge.Since.of(clock, question.query.timezone)
        return replace(found, at=datetime.fromtimestamp(self.journal.started_at, UTC))

    patches.set(QueryRunner, "since", since)


def _saturated(patches: Patches) -> None:
    patches.set(judge, "_is_full", lambda _check, _value: False)


def _standstill_counts(patches: Patches) -> None:
    patches.set(rounds.Rounds, "_worked", lambda self, since: self.clock.time() - since)


def _waits_anew(patches: Patches) -> None:
    def owed(self: Pacer, stage: Any) -> float:
        waits = stage.begins is None and stage.number in self._sent
        return self.of(stage).delay if waits else 0.0

    patches.set(Pacer, "owed", owed)


def _tries(patches: Patches) -> None:
    real: Any = Patience.wait

    def wait(self: Patience, tries: int, *given: Any) -> float | None:
        found: float | None = real(self, tries, *given)
        return None if tries > 5 else found

    patches.set(Patience, "wait", wait)


def _done_too_early(patches: Patches) -> None:
    real: Any = vars(drive)["summarise"]

    def summarise(*given: Any, **how: Any) -> Any:
        found = real(*given, **how)
        return replace(found, status="completed") if found.status == "sent" else found

    patches.set(drive, "summarise", summarise)


def _no_rest(patches: Patches) -> None:
    patches.set(Function, "rest", property(lambda _self: 0.0))


def _figures_differ(patches: Patches) -> None:
    real = views.lines

    def lines(connection: Any, *given: Any) -> list[Any]:
        query = "SELECT coalesce(sum(last - first + 1), 0) FROM chunks WHERE run_id = :run"
        return [
            replace(line, sent=int(connection.value(query, run=line.record.id)))
            for line in real(connection, *given)
        ]

    patches.set(views, "lines", lines)


def _twice_an_hour(patches: Patches) -> None:
    patches.set(schedules, "firing_id", lambda *_given: None)


def _unfenced(patches: Patches) -> None:
    def note(self: JournalWriter, message: str) -> None:
        with self._database.write() as connection:
            connection.change(
                "INSERT INTO notes (run_id, at, message) VALUES (:run, :now, :message)",
                run=self.run_id,
                now=self._clock(),
                message=message,
            )

    patches.set(JournalWriter, "note", note)


def _fails(story: Story) -> bool:
    return story.server.failure_rate > 0


def _checks(story: Story) -> bool:
    return story.written[-1].check is not None


OLD_FAULTS: Mapping[str, OldFault] = {
    "by-name": OldFault("a retry knows events by operation and item", _by_name, _fails),
    "rows": OldFault("a check holds for the rows that came", _rows_that_came, _checks),
    "blind": OldFault("zero of zero is success", _blind_zero, lambda story: story.data.blind),
    "clocks": OldFault(
        "times of two clocks are compared",
        _runners_clock,
        lambda story: story.written[-1].check == "moved" and story.data.ahead != 0,
    ),
    "saturated": OldFault(
        "what can go no further has not changed",
        _saturated,
        lambda story: story.written[-1].check == "full" and not story.written[-1].allow,
    ),
    "standstill": OldFault(
        "a drain's time runs while nobody drives it",
        _standstill_counts,
        lambda story: story.written[-1].drains,
    ),
    "delays": OldFault(
        "a delay begins anew after other waits",
        _waits_anew,
        lambda story: story.calm and story.written[-1].delay > 11,
    ),
    "tries": OldFault("patience is a number of tries", _tries, lambda story: not story.calm),
    "early": OldFault(
        "a run that nobody followed is completed",
        _done_too_early,
        lambda story: not story.follow,
    ),
    "rest": OldFault("a debounce or a batch is taken for silence", _no_rest),
    "figures": OldFault("the list of runs counts what has no answer", _figures_differ),
    "firing": OldFault(
        "a repeated hour fires twice", _twice_an_hour, lambda story: story.kind == "schedule"
    ),
    "fence": OldFault(
        "a process that lost its run writes notes", _unfenced, lambda story: not story.calm
    ),
}


def table() -> str:
    """Return the table of docs/testing.md."""
    rows = [f"| {one.what} | `{name}` | {SEEDS[name]} |" for name, one in OLD_FAULTS.items()]
    return "\n".join(["| fault | `--fault` | seed |", "|---|---|--:|", *rows])
