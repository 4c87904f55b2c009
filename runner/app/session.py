"""The session of a command or a program: the one place that opens what use cases need.

The state, the users' databases and the connections to targets are opened on first use, and closed
with the session.
"""

from __future__ import annotations

import os
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from runner.adapters.journal import DEFAULT_STATE
from runner.errors import LockHeld, NoState
from runner.model import (
    Database,
    ExecutionPlan,
    Observer,
    Patience,
    RunHead,
    StageRecord,
    Summary,
    Waiting,
)
from runner.spec.given import refuse_empty

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

    from runner.adapters.database.open import Databases, Timing
    from runner.adapters.inngest.connection import Connection
    from runner.adapters.inngest.target import Target
    from runner.adapters.journal.leases import Lease
    from runner.adapters.journal.state import StateReader
    from runner.adapters.journal.store import Store
    from runner.execution.ports import Clock
    from runner.planning.answers import Answer, Facts
    from runner.planning.ledger import PlanRun
    from runner.spec.project import Environment, Project, Rule

T = TypeVar("T")
_HEARS = 0.5  # seconds until a signal is heard
DEFAULT_TARGET = "embedded"
HERE = "-"  # stands for a plan in the working directory


class Reporter(Protocol):
    """Gets reports of what a use case does; decides nothing."""

    def note(self, message: str, /) -> None:
        """Report something that the user should know."""

    def say(self, message: str, /) -> None:
        """Report what is being done, or was done."""

    def planned(self, plan: ExecutionPlan, target: str, /) -> None:
        """Report the plan that is about to be sent, and the name of its target."""

    def driving(self) -> AbstractContextManager[Observer]:
        """Return the observer of a run that this process drives."""

    def ended(self, summary: Summary, /) -> None:
        """Report the result of a run, also if an error follows."""


class Silent:
    """Meets `Reporter` and `Observer`: passes notes on to an observer, if there is one."""

    def __init__(self, observer: Observer | None = None) -> None:
        self._observer = observer

    def note(self, message: str) -> None:
        if self._observer:
            self._observer.note(message)

    def say(self, message: str) -> None:
        self.note(message)

    def planned(self, plan: ExecutionPlan, target: str) -> None: ...

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None: ...

    def progress(self, progress: StageRecord) -> None: ...

    def driving(self) -> AbstractContextManager[Observer]:
        return nullcontext(self._observer or self)

    def ended(self, summary: Summary) -> None: ...


class Session:
    """Gives use cases the state, databases and targets; close it, or use it with `with`.

    `state`: a path or URL; the default is `BACKFILL_STATE`, or a file in `.backfill`. `environ`:
    the variables with keys and addresses. `environment`: the project file's environment to use; the
    default is `BACKFILL_ENV`, or the project file's own. `confirm`: asks the user a question;
    without it nobody is asked, and whatever needs a yes is refused unless it was given.
    """

    def __init__(
        self,
        state: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        environment: str | None = None,
        reporter: Reporter | None = None,
        confirm: Callable[[str], bool] | None = None,
        clock: Clock | None = None,
    ) -> None:
        refuse_empty(state=state, environment=environment)
        self.environ: Mapping[str, str] = os.environ if environ is None else environ
        self.state = os.fspath(state or self.environ.get("BACKFILL_STATE") or DEFAULT_STATE)
        self.environment_name = environment or self.environ.get("BACKFILL_ENV") or None
        self.reporter: Reporter = Silent() if reporter is None else reporter
        self.confirm = confirm
        self._clock = clock
        self.facts: Facts | None = None
        self.collections: dict[str, str] = {}  # by name: files that replace a plan's collections
        self.recorded: dict[bytes, Answer] | None = None
        self.policy: Sequence[Rule] | None = None
        self.files_given: list[str] = []  # read for options of the command
        self.reviewed_since: str | None = None
        self.agent = False  # whether an agent uses the session
        self._open = ExitStack()
        self._store: Store | None = None
        self._reader: StateReader | None = None
        self._databases: dict[object, Databases] = {}
        self._projects: dict[str, Project] = {}  # by the plan
        self._projects_read: dict[Path | None, Project] = {}
        # Stops the run driven here after the request in flight, or the wait of a check; callable
        # from any thread.
        self.stop: Callable[[], None] = lambda: None
        self.projects_then: dict[str, Project | None] = {}  # of `reviewed_since`, by their folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close everything. Measurements such as `timings` stay readable."""
        self._open.close()
        self._store = self._reader = None

    @property
    def state_file(self) -> Path | None:
        """The file of the state; None if it is on a server."""
        file = self.state.removeprefix("sqlite:///")
        return None if "://" in file else Path(file)

    def refuse_to_write(self, written: Mapping[str, str | None], read: Iterable[str]) -> None:
        """Raise `UsageError` if an option names a file to write that is an input, the state, or a
        database; see `runner.adapters.files.refuse_overwriting`."""
        if not any(written.values()):
            return
        from runner.adapters.database.url import sqlite_files
        from runner.adapters.files import refuse_overwriting

        own = [self.state_file, *self.files_given, *sqlite_files(self.environ)]
        projects = [project.path for project in self._projects_read.values()]
        refuse_overwriting(written, [*read, *(str(one) for one in (*own, *projects) if one)])

    @property
    def has_state(self) -> bool:
        """Whether there is a state; creates none. Raises `TargetError` if it cannot be read."""
        try:
            return self.reader is not None
        except NoState:
            return False

    @property
    def store(self) -> Store:
        """The state store, created if there is none. Raises `TargetError`."""
        if self._store is None:
            from runner.adapters.journal.store import Store

            self._store = self._open.enter_context(Store(self.state, self.clock.time, self.who))
        return self._store

    @property
    def existing(self) -> Store:
        """The state store, for use cases about an existing run or hold: creates none. Raises
        `TargetError`, and `NoState` if there is none."""
        if self._store is None and self._reader is None:
            from runner.adapters.journal.state import StateReader

            StateReader(self.state, self.clock.time).close()
        return self.store

    @property
    def reader(self) -> StateReader:
        """The state for reading only: creates none, and may be read-only.

        Raises `TargetError`, and `NoState` if there is none.
        """
        if self._store is not None:
            return self._store
        if self._reader is None:
            from runner.adapters.journal.state import StateReader

            self._reader = self._open.enter_context(StateReader(self.state, self.clock.time))
        return self._reader

    @property
    def who(self) -> str:
        """The user of the session, for people to read."""
        from runner.adapters.journal.leases import who

        return who(self.environ, agent=self.agent)

    def project(self, plan: str) -> Project:
        """Return the project file that the plan belongs to; read once. If the plan's folder is not
        here, another machine has begun its run: then it is that of the working directory.

        Raises `InvalidPlan`."""
        from runner.spec.files import as_seen_here, find_project
        from runner.spec.project import Project, project_of

        if plan not in self._projects:
            path, known = find_project(plan), self._projects_read
            if path is None and not Path(plan).parent.exists():
                path = find_project(HERE)
            if path not in known:
                known[path] = project_of(as_seen_here(path)) if path else Project()
            self._projects[plan] = known[path]
        return self._projects[plan]

    def forget_projects(self) -> None:
        """Forget the project files: they may have changed."""
        self._projects.clear()
        self._projects_read.clear()

    def environment(self, plan: str, name: str | None = None) -> Environment | None:
        """Return the environment that the plan uses: `name`, as of a started run (`""`: none), else
        the session's, else the project's default.

        Raises `UsageError` if the project has none of that name, and `InvalidPlan`.
        """
        if name == "":
            return None
        project = self.project(plan)
        chosen = name or self.environment_name or project.default_environment
        return project.environment(chosen) if chosen else None

    def databases(self, plan: str, environment: str | None = None) -> Databases:
        """Return the databases that the plan file may query in an environment (see `environment`);
        each is connected on its first query."""
        from runner.adapters.database.open import Databases

        found = self.environment(plan, environment)
        names = found.databases if found else self.project(plan).databases
        default, foreign = (found.database, found.foreign) if found else (None, frozenset[str]())
        key = (tuple(sorted(names.items())), default, foreign)
        if key not in self._databases:
            opened = Databases(self.environ, names, default, foreign, found.name if found else None)
            self._databases[key] = opened
            self._open.callback(opened.close)
        return self._databases[key]

    def query_runner(self, plan: str, environment: str | None = None) -> Database:
        """Return what answers the questions that a plan is built from: its databases, or `facts`.
        If `recorded` is set, answers are recorded there."""
        if self.facts is not None:
            return self.facts
        databases = self.databases(plan, environment)
        if self.recorded is None:
            return databases
        from runner.planning.answers import Recorder

        return Recorder(databases, self.recorded)

    @property
    def timings(self) -> Sequence[Timing]:
        """How long each database query took."""
        return [timing for database in self._databases.values() for timing in database.timings]

    def environ_in(self, plan: str, environment: str | None = None) -> Mapping[str, str]:
        """Return the variables with an environment's keys and addresses, under their usual
        names (see `environment`)."""
        found = self.environment(plan, environment)
        if found is None:
            return self.environ
        environ = {name: value for name, value in self.environ.items() if name not in found.foreign}
        environ |= {usual: self.environ.get(name, "") for usual, name in found.keys.items()}
        if found.inngest_env:
            environ["INNGEST_ENV"] = found.inngest_env
        if found.database:
            environ["BACKFILL_DATABASE_URL"] = self.environ.get(found.database, "")
        return environ

    def named_target(self, named: str | None, plan: str, environment: str | None = None) -> str:
        """Return the target's name as given, else the environment's, else the default."""
        refuse_empty(target=named)
        found = self.environment(plan, environment)
        return named or (found.target if found else None) or DEFAULT_TARGET

    def where(self, named: str | None, plan: str) -> str:
        """Return the names of the environment and the target, as people read them."""
        found, target = self.environment(plan), self.named_target(named, plan)
        return f"{found.name}: {target}" if found else target

    def target(self, named: str | None, plan: str = HERE, environment: str | None = None) -> Target:
        """Return where events go in an environment, with its keys (see `environment`).

        Raises `UsageError`."""
        from runner.adapters.inngest.target import resolve

        found = self.environment(plan, environment)
        target = resolve(
            self.named_target(named, plan, environment),
            self.environ_in(plan, environment),
            found.keys if found else {},
            f"the `target` of environment {found.name}" if found and named is None else "--target",
        )
        return replace(target, name=f"{found.name}: {target.name}") if found else target

    def ledger(self, name: str, plan: str, target: str | None) -> Sequence[PlanRun]:
        """Return the runs of the plan of that name where `plan`, a path, would be run; see
        `StateReader.ledger`. Creates no state."""
        if not self.has_state:
            return ()
        found = self.environment(plan)
        address = self.target(target, plan).address
        return self.reader.ledger(name, address, environment=found.name if found else "")

    @property
    def clock(self) -> Clock:
        if self._clock is None:
            from runner.adapters.clock import SystemClock

            self._clock = SystemClock()
        return self._clock

    @asynccontextmanager
    async def connect(
        self,
        target: Target,
        plan: ExecutionPlan | None = None,
        *,
        note: Callable[[str], None] = lambda _: None,
        away: Callable[[Waiting | None], None] = lambda _: None,
        stop: asyncio.Event | None = None,
        patience: Patience | None = None,
    ) -> AsyncIterator[Connection]:
        """Connect to the target's server until the block ends; the embedded one runs the handlers
        of `plan`.

        Unanswered requests are retried until `stop` is set or `patience` runs out, and reported to
        `note` and `away`. The default patience is that before a run's first request.
        """
        import asyncio
        from random import SystemRandom

        from runner.adapters.inngest.connection import connected, embedded
        from runner.adapters.inngest.http import Retry

        until = stop or asyncio.Event()

        async def sleep(seconds: float) -> None:
            await self.clock.sleep(seconds, until)

        retry = Retry(sleep, SystemRandom(), note, until.is_set, away, patience or Patience())
        async with AsyncExitStack() as stack:
            transport = None
            if target.kind == "embedded" and plan is not None:
                server = embedded(plan.handlers, plan.path)
                transport = await stack.enter_async_context(server)
            connection = connected(target, retry, self.environ, transport)
            yield await stack.enter_async_context(connection)

    @contextmanager
    def lock(self, plan: str, address: str, run_id: str, wait: float = 0.0) -> Iterator[Lease]:
        """Take the right to send for a plan, until the block ends; wait up to `wait` seconds.

        Raises `LockHeld`.
        """
        from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

        from runner.adapters.journal.leases import holding

        def say(state: Any) -> None:
            if state.attempt_number == 1:
                self.reporter.say(f"waiting for the lock: {state.outcome.exception()}")

        tries = Retrying(
            retry=retry_if_exception_type(LockHeld),
            stop=stop_after_delay(wait),
            wait=wait_fixed(min(1.0, wait)),
            before_sleep=say,
            reraise=True,
        )
        with holding(tries(self.store.lock, plan, address, run_id)) as lease:
            yield lease


def blocking(work: Coroutine[Any, Any, T], interrupted: Callable[[], None] | None = None) -> T:
    """Run `work` and return its result, even if this thread has a running event loop, as in a
    notebook.

    `interrupted`: called if ^C comes to such a thread, which then waits for the work to end; None:
    ^C raises KeyboardInterrupt.
    """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor, wait

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool, _on_interrupt(interrupted):
        result = pool.submit(asyncio.run, work)
        while not result.done():  # a signal just before an endless wait would be heard at its end
            wait([result], _HEARS)
        return result.result()


@contextmanager
def _on_interrupt(act: Callable[[], None] | None) -> Iterator[None]:
    """Let ^C call `act`, or raise KeyboardInterrupt: a running loop's own handler would only cancel
    a task that waits for this thread. After `act` it is called, so that a caller that drives
    several runs stops as well."""
    import signal
    import threading

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if act is None:
            raise KeyboardInterrupt
        act()
        if before is not signal.default_int_handler:
            before(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
