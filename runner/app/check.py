"""Run a plan's checks and coverage queries now, and look it up in the ledger; send nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from runner.app.build import Built, build
from runner.app.queries import of_all_items
from runner.app.session import Session, blocking
from runner.errors import PreflightRefused, TargetDown
from runner.model import Json, QueryRefused, Selectors
from runner.planning.ledger import Checked
from runner.spec.given import refuse_seconds
from runner.spec.units import format_duration

if TYPE_CHECKING:
    from runner.execution.ports import Clock

__all__ = ["Checked", "check"]
_AGAIN = 10.0  # seconds between two rounds of questions, with `wait`


def check(
    session: Session,
    path: str,
    *,
    variables: dict[str, Json] | None = None,
    strict: bool = False,
    applied: str | None = None,
    wait: float = 0.0,
    selectors: Selectors | None = None,
) -> Checked:
    """Ask the checks and the coverage of a plan now; nothing is sent.

    `applied`: the target whose ledger must have the plan, unchanged and completed. `wait`: for how
    many seconds to ask again while something does not hold; after a first answer, this also waits
    for a database that is away; `session.stop` ends it. Raises `PreflightRefused` if a database
    refuses a question, or if there is nothing to ask.
    """

    refuse_seconds("wait", wait)
    noted = set[str]()

    def ask() -> Checked:
        built = build(session, path, variables or {}, strict=strict, selectors=selectors)
        for note in of_all_items(built.execution_plan):
            if note not in noted:
                session.reporter.note(note)
                noted.add(note)
        return _ask(session, path, built, variables or {}, applied)

    waiting = _Waiting(session.clock)
    session.stop = waiting.stop
    found, reported = ask(), ""
    until = session.clock.monotonic() + wait
    while not found.ok and (left := until - session.clock.monotonic()) > 0:
        if not reported:
            reported = "; ".join(found.unmet)
            session.reporter.say(f"waiting for {format_duration(wait)} at most: {reported}")
        blocking(waiting.sleep(min(_AGAIN, left)))
        if waiting.stopped:
            break
        try:
            found = ask()
            now = "; ".join(found.unmet)
        except TargetDown as away:
            if session.clock.monotonic() >= until:
                raise
            now = str(away)
        if now not in ("", reported):
            reported = now
            session.reporter.say(f"still waiting: {reported}")
    return found


@dataclass(slots=True)
class _Waiting:
    """Waits that `stop` ends, from any thread."""

    clock: Clock
    stopped: bool = False
    _wake: Callable[[], object] = lambda: None

    def stop(self) -> None:
        self.stopped = True
        with suppress(RuntimeError):  # the loop is closed: nothing waits
            self._wake()

    async def sleep(self, seconds: float) -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        self._wake = partial(loop.call_soon_threadsafe, over.set)
        if not self.stopped:
            await self.clock.sleep(seconds, over)


def _ask(
    session: Session, path: str, built: Built, variables: dict[str, Json], applied: str | None
) -> Checked:
    from runner.app.apply import ApplyOptions, pending
    from runner.app.queries import covered_now
    from runner.execution.check import ask_now, needs_run, result_of

    plan = built.execution_plan
    skipped = tuple(one.name for one in plan.checks if needs_run(one))
    ready = [one for one in plan.checks if not needs_run(one)]
    if applied is None and not plan.coverage and not ready:
        raise _nothing(path, skipped, [one.name for one in built.plan.checks])
    database, results = session.databases(path), []
    for one in ready:
        try:
            results.append(result_of(one, ask_now(one, database)))
        except QueryRefused as error:
            message = f"the check `{one.name}` cannot be asked: {error}"
            raise PreflightRefused(message, hint=error.hint) from None
    coverage = covered_now(session, path, plan)
    ledger = None
    if applied is not None:
        (ledger,) = pending(session, [built.plan], ApplyOptions(applied, variables))
    return Checked(plan.name, tuple(results), coverage, skipped, applied, ledger)


def _nothing(path: str, skipped: Sequence[str], checks: Sequence[str]) -> PreflightRefused:
    """Refuse to report success if nothing was asked. `skipped`: checks that need a run; `checks`:
    all of the plan's, also of operations that it sends nothing for."""
    if not skipped and checks:
        message = f"{path} has only checks of operations without items: {', '.join(checks)}"
        hint = "`backfill plan` shows what is skipped and why"
    elif skipped:
        message = f"{path} has only checks that need a run: {', '.join(skipped)}"
        hint = "add a check that can be asked without a run, or ask the ledger with --applied"
    else:
        message = f"{path} has no check and no coverage"
        hint = "add `checks:` or `coverage:` to the plan or its catalog, or ask the ledger with"
        hint += " --applied"
    return PreflightRefused(message, hint=hint)
