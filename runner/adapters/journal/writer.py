"""The journal of one run, for the process that drives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from runner.adapters.journal import answers, figures, leases, notices, requests
from runner.adapters.journal.database import Connection
from runner.adapters.journal.leases import Lease
from runner.adapters.journal.reader import JournalReader
from runner.execution.ports import Answer, Chunk, Control, Ended, Observation
from runner.model import FAILURES, CheckResult, ExecutionPlan, Json, Round, RunStatus, Waiting

_KEEP_EVERY = 1.0  # seconds; a lease lasts many times as long
# The same wait, however often its details change.
GOES_ON = """UPDATE waits SET item = :item, since = :since, again = :again, until = :until,
tries = :tries
WHERE run_id = :run AND stage = :stage AND ended IS NULL AND kind = :kind AND reason = :reason"""


class JournalWriter(JournalReader):
    """Implements `runner.execution.ports.Journal`; each method is one transaction.

    Every write renews the lease in its transaction; if another process has taken over the run, it
    raises `LeaseLost` and writes nothing.
    """

    def __init__(
        self, lease: Lease, run_id: str, started_at: float, clock: Callable[[], float]
    ) -> None:
        super().__init__(lease.database, run_id, started_at, clock)
        self._lease = lease
        self._kept: float | None = None  # until when the run is recorded as driven
        # The latest answer, until it is written; if it is lost, its request is repeated with the
        # same ids.
        self._owed: tuple[Chunk, Answer] | None = None
        self._failed = False  # whether hooks were notified of a first failure

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Open a transaction; write an owed answer first, so that nothing is read or written past
        it."""
        with self._writing() if self._owed else self._database.read() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        owed = self._owed
        with self._database.write() as connection:
            self._lease.renew(connection)
            self._keep(connection)
            yield connection
        if self._owed is owed:
            self._owed = None

    def _keep(self, connection: Connection) -> None:
        """Write what is owed, and until when the run was driven."""
        if self._kept is not None and self._is_due():
            self._kept = self._clock()
            leases.keep_drive(connection, self.run_id, self._kept)
        if self._owed:
            requests.accept(connection, self.run_id, *self._owed, self._clock())
            self._notice_failed(connection, self._owed[1].refused is not None)

    def _is_due(self) -> bool:
        return self._kept is None or not 0 <= self._clock() - self._kept < _KEEP_EVERY

    def drive(self) -> None:
        with self._writing() as connection:
            self._kept = self._clock()
            leases.begin_drive(connection, self.run_id, self._kept)

    def rest(self) -> None:
        with self._writing() as connection:
            if self._kept is not None:
                leases.keep_drive(connection, self.run_id, self._clock())
        self._kept = None

    def _is_driven(self) -> bool:
        return self._kept is not None

    def settle(self) -> None:
        if self._owed:
            self.keep_lease()

    def keep_lease(self) -> None:
        with self._writing():
            pass

    def begin_chunk(self, chunk: Chunk, control: Control) -> bool:
        """Use one transaction for a request, and write the owed answer to the one before with
        it."""
        with self._database.write() as connection:
            begun = requests.begin(connection, self.run_id, self._lease, chunk, control)
            if begun and self._is_due():
                self._lease.renew(connection)
            self._keep(connection)
        self._owed = None
        return begun

    def accept(self, chunk: Chunk, answer: Answer) -> None:
        self.settle()
        self._owed = chunk, answer
        if answer.refused is not None:
            self.settle()

    def withdraw(self, chunk: Chunk) -> None:
        with self._writing() as connection:
            requests.withdraw(connection, self.run_id, chunk)

    def record(self, observations: Sequence[Observation]) -> None:
        if any(observation.jobs or observation.outcome for observation in observations):
            with self._writing() as connection:
                figures.record(connection, self.run_id, observations, self._clock())
                lost = any(one.outcome in FAILURES for one in observations)
                self._notice_failed(connection, lost)

    def complete(self, events: Sequence[Ended]) -> None:
        with self._writing() as connection:
            figures.complete(connection, self.run_id, events, self._clock())

    def _notice_failed(self, connection: Connection, failed: bool) -> None:
        """Report the first failure of the run, or of this part of it; only once."""
        if failed and not self._failed:
            notices.add_failed(connection, self.run_id, self._clock())
            self._failed = True

    def note(self, message: str) -> None:
        with self._writing() as connection:
            connection.change(
                "INSERT INTO notes (run_id, at, message) VALUES (:run, :now, :message)",
                run=self.run_id,
                now=self._clock(),
                message=message,
            )

    def waiting(self, stage: int, wait: Waiting | None) -> None:
        """Record what the stage waits for from now on; None: it no longer waits."""
        now = self._clock()
        with self._writing() as connection:
            if wait and connection.change(GOES_ON, run=self.run_id, stage=stage, **wait._asdict()):
                return
            leases.end_waits(connection, self.run_id, now)
            if wait:
                connection.change(
                    """INSERT INTO waits
                    (run_id, stage, reason, kind, item, since, again, until, tries, began)
                    VALUES (:run, :stage, :reason, :kind, :item, :since, :again, :until, :tries,
                    :now)""",
                    run=self.run_id,
                    stage=stage,
                    **wait._asdict(),
                    now=now,
                )

    def end(self, status: RunStatus, reason: str | None = None) -> None:
        now = self._clock()
        with self._writing() as connection:
            connection.change(
                """UPDATE runs SET status = :status, ended_at = :now, reason = :reason
                WHERE id = :run""",
                run=self.run_id,
                status=status,
                now=now,
                reason=reason,
            )
            leases.end_waits(connection, self.run_id, now)
            leases.end_drive(connection, self.run_id, now)
            notices.add_ended(connection, self.run_id, now)

    def remember(self, name: str, value: Json) -> None:
        with self._writing() as connection:
            answers.remember(connection, self.run_id, name, value)

    def keep_check(self, result: CheckResult) -> None:
        with self._writing() as connection:
            answers.keep_check(connection, self.run_id, result)

    def begin_round(self, plan: ExecutionPlan, begun: Round, origins: Mapping[int, int]) -> None:
        with self._writing() as connection:
            answers.begin_round(connection, self.run_id, plan, begun, origins)

    def reach(self, stage: int, left: float | None, plan: ExecutionPlan | None = None) -> None:
        with self._writing() as connection:
            answers.reach(connection, self.run_id, stage, left)
            if plan:
                none = Round(stage, 1, 0, 0, left, self._clock())
                answers.begin_round(connection, self.run_id, plan, none, {})

    def reopen_undecided(self) -> None:
        with self._writing() as connection:
            requests.reopen_undecided(connection, self.run_id)

    def requeue(self, make_seed: Callable[[], str]) -> None:
        with self._writing() as connection:
            requests.requeue(connection, self.run_id, make_seed)
