"""Follow a git branch: look, decide, apply, record, and look again."""

from __future__ import annotations

import hashlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from runner.adapters.git import GitFailed
from runner.adapters.git_mirror import Mirror
from runner.adapters.inngest.target import Target, resolve
from runner.adapters.journal.store import Store
from runner.app.apply import Applied, ApplyOptions, apply
from runner.app.plan_files import SUFFIXES, paths_of, plans_to_apply
from runner.app.session import HERE, Session
from runner.errors import (
    BackfillError,
    Incomplete,
    PreflightRefused,
    StalePlan,
    TargetError,
    UsageError,
)
from runner.model import Json, Summary, SyncRecord, frozen
from runner.spec.secrets import redact

_FOLDER = ".backfill/sync"
_SHORTEST = 1.0  # seconds between two looks, at least


@frozen
class SyncOptions:
    """What to follow, what commits must satisfy, and how to apply their plans.

    `path`: the folder of plans in the repository. `every`: seconds between two looks. `signed`: a
    commit needs a signature that git accepts, by a key in the file `allowed_signers` if given.
    """

    repository: str
    branch: str
    path: str
    every: float
    apply: ApplyOptions
    signed: bool = False
    allowed_signers: str | None = None
    allow_force_push: bool = False


@frozen
class Synced:
    """The result of the last look. `applied`: None if it got no further than the look, or there was
    nothing to apply at `commit`. `stopped`: the signal that ended it. `amid`: it came while plans
    were applied."""

    commit: str | None = None
    applied: Applied | None = None
    error: BackfillError | None = None
    stopped: signal.Signals | None = None
    amid: bool = False
    target: str = ""

    @property
    def idle(self) -> bool:
        """Whether nothing was run, and nothing is left to apply."""
        return self.applied is None or not (self.applied.ran or self.applied.open)


class Stopped(BaseException):
    """A signal, while no run is driven that would have to stop first."""


def sync(
    session: Session,
    options: SyncOptions,
    *,
    once: bool = False,
    report: Callable[[BackfillError], None] = lambda _: None,
) -> Synced:
    """Follow the branch until SIGINT or SIGTERM, or look `once`.

    `report` gets each error once, as long as it stays the same; with `once`, errors are in the
    result instead. Raises `UsageError`, `PreflightRefused`, and `LockHeld` if another process of
    this machine follows the same.
    """
    if options.every < _SHORTEST:
        raise UsageError("--every must be at least 1s")
    named_target = options.apply.target
    where = f"environment {session.environment_name or ''}"  # of the repository's project file
    if named_target:
        target = resolve(named_target, session.environ)
        where = target.address  # `dev` on different addresses is followed separately
        _refuse_unasked(options, target)
    repository = options.repository
    if Path(repository).is_dir():
        repository = str(Path(repository).resolve())
    named = "\n".join((repository, options.branch, options.path, where))
    sync_id = hashlib.sha256(named.encode()).hexdigest()[:16]
    folder = Path(_FOLDER).parent.resolve() / Path(_FOLDER).name / sync_id
    mirror = Mirror(folder, repository, options.branch, session.environ)
    record = SyncRecord(
        sync_id, repository, options.branch, options.path, named_target or "", options.every,
        session.who, time.time(),
    )  # fmt: skip
    with mirror.opened():
        return _Syncing(session, options, mirror, record, report).run(once=once)


def _refuse_unasked(options: SyncOptions, target: Target) -> None:
    if not (options.apply.run.yes or target.local):
        message = f"`sync` cannot ask for confirmation before it sends to {target.name}"
        raise PreflightRefused(message, hint="say --yes")


@dataclass
class _Syncing:
    """Follows the branch. `record`: the result of the last look; changes are kept in the state.
    `applied`: the commit that this process has applied; an earlier process may have had other
    variables or another target."""

    session: Session
    options: SyncOptions
    mirror: Mirror
    record: SyncRecord
    report: Callable[[BackfillError], None]
    stopped: signal.Signals | None = None
    applying: bool = False
    applied: str | None = None
    reported: list[str] = field(default_factory=list)

    def run(self, *, once: bool) -> Synced:
        before = {one.id: one for one in self.session.store.syncs()}.get(self.record.id)
        if before:
            self.record = replace(
                self.record,
                target=before.target,
                seen=before.seen,
                applied=before.applied,
                applied_at=before.applied_at,
            )
        found = Synced()
        with self._signals():
            try:
                while True:
                    found = self._look()
                    if once or self.stopped:
                        break
                    self._once(found)
                    time.sleep(self.record.every)
            except Stopped:
                found = Synced(amid=self.applying)
            found = replace(found, stopped=self.stopped, target=self.record.target)
        self._keep(ended_at=time.time())
        return found

    @contextmanager
    def _signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._signalled) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. Without a frame it comes from a run's driver, which stops the run."""
        first, self.stopped = self.stopped is None, signal.Signals(number)
        if frame and first:
            raise Stopped

    def _look(self) -> Synced:
        try:
            commit = self._commit()
            if commit == self.applied == self.record.seen:
                self._keep(outcome="applied", message=None)
                return Synced(commit)
            folder = self._folder(commit)
            self._goes_to(folder)
        except BackfillError as error:
            refused = isinstance(error, (StalePlan, PreflightRefused, UsageError))
            self._keep(outcome="refused" if refused else "unreachable", message=_words(error))
            return Synced(error=error)
        self._keep(outcome="applying", message=None, seen=commit)
        self.session.reporter.say(f"{commit[:12]}: applying {self.record.path}")
        return self._apply(commit, folder)

    def _commit(self) -> str:
        """Return the branch's commit, which must descend from the one seen before.

        Raises `TargetError`, `StalePlan` and `PreflightRefused`.
        """
        options, seen = self.options, self.record.seen
        try:
            found = self.mirror.fetch()
        except GitFailed as error:
            hint = "check the address, the branch and git's credentials"
            hint = f"{hint} {error.hint}" if error.hint else hint
            raise TargetError(f"{self.mirror.repository}: {error}", hint=hint) from None
        if seen and not options.allow_force_push and not self.mirror.leads_to(seen, found):
            message = (
                f"{options.branch} was rewritten: it was at {seen[:12]}, and {found[:12]} "
                "does not descend from that"
            )
            hint = "--allow-force-push accepts it; plans that were applied stay applied"
            raise StalePlan(message, hint=hint)
        if options.signed or options.allowed_signers:
            self.mirror.refuse_unsigned(found, options.allowed_signers)
        return found

    def _folder(self, commit: str) -> Path:
        """Check out the commit; return its folder of plans. Raises `UsageError`."""
        files, outside = self.mirror.check_out(commit)
        tree = self.mirror.folder.resolve()
        folder = (tree / self.options.path).resolve()
        if not folder.is_relative_to(tree) or not folder.exists():
            message = f"there is no {self.options.path} in {commit[:12]} of {self.options.branch}"
            raise UsageError(message)
        for link in outside:
            if link.parent.resolve() == folder and link.suffix in SUFFIXES:
                message = (
                    f"the link {link.relative_to(self.mirror.folder)} leads out of the repository"
                )
                raise UsageError(message, hint="keep the plan in the repository")
        for path in paths_of([str(folder)], strictly=False):
            if Path(path).relative_to(tree).parts not in files:
                hint = "remove it: only what is committed is applied"
                raise UsageError(f"{path} is not in {commit[:12]}", hint=hint)
        _forget_modules(tree)
        self.session.forget_projects()
        return folder

    def _goes_to(self, folder: Path) -> None:
        """Resolve the target as the commit's project file has it.

        Raises `PreflightRefused` and `UsageError`."""
        named = self.options.apply.target
        plan = str(folder / HERE if folder.is_dir() else folder)
        target = self.session.target(named, plan)
        self._keep(target=self.session.named_target(named, plan))
        _refuse_unasked(self.options, target)

    def _apply(self, commit: str, folder: Path) -> Synced:
        options = self.options
        self.applying = True
        with self._beating():
            try:
                variables: dict[str, Json] = options.apply.variables
                plans = plans_to_apply(
                    self.session, [str(folder)], variables, strict=options.apply.strict
                )
                applied = apply(self.session, plans, options.apply)
            except BackfillError as error:
                self.applying = False
                self._unapply(commit)
                self._keep(outcome="failed", message=_words(error))
                return Synced(commit, error=error)
        self.applying = False
        left = applied.error or applied.open
        if left:
            self._unapply(commit)
        if left is None:
            again = commit == self.record.applied and not applied.ran
            at, self.applied = self.record.applied_at if again else time.time(), commit
            self._keep(outcome="applied", message=None, applied=commit, applied_at=at)
        elif isinstance(left, Summary):
            self._keep(outcome="failed", message=f"run {left.run_id} is {left.status}")
        elif left is applied.open and isinstance(left, Incomplete):
            self._keep(message=_words(left))  # the workers drive it
        else:
            self._keep(outcome="failed", message=_words(left))
        return Synced(commit, applied, applied.error, amid=self.stopped is not None)

    def _unapply(self, commit: str) -> None:
        """Record that the commit is not applied, if an earlier process has applied it: not with
        these variables, or to this target."""
        if commit == self.record.applied:
            self._keep(applied=None, applied_at=None)

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """Keep the record fresh while plans are applied, to show that this process is alive."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self.record.every):
                with suppress(TargetError), Store(self.session.state) as store:
                    store.keep_sync(replace(self.record, checked_at=time.time()))

        beating = threading.Thread(target=beat, daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()

    def _keep(self, **changes: Any) -> None:
        self.record = replace(self.record, checked_at=time.time(), **changes)
        try:
            self.session.store.keep_sync(self.record)
        except TargetError as error:  # applying refuses by itself; keep looking
            self.session.reporter.note(str(error))

    def _once(self, found: Synced) -> None:
        """Report an error once, as long as it stays the same."""
        words = [_words(found.error)] if found.error else []
        if found.error and self.reported != words:
            self.report(found.error)
        self.reported = words


def _words(error: BackfillError) -> str:
    return redact(str(error))


def _forget_modules(folder: Path) -> None:
    """Unload the handlers of an earlier commit."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder):
            del sys.modules[name]
