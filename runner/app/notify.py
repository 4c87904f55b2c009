"""Notify webhooks of a run; a failing one never affects what is sent or how the run ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.adapters.webhooks import Undelivered, post, url_problem
from runner.app.session import Session, blocking
from runner.errors import BackfillError
from runner.model import Finding, Hook, Notice

if TYPE_CHECKING:
    from runner.adapters.http import Client
    from runner.adapters.inngest.target import Target
    from runner.adapters.journal.store import Store

DEADLINE = 5.0  # seconds for all deliveries after a run has ended
_EVERY = 1.0  # seconds between two looks at the outbox
_LONGEST = 60.0  # seconds between two attempts, at most
_CI = (
    ("{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}", "GITHUB_RUN_ID"),
    ("{CI_JOB_URL}", "CI_JOB_URL"),
)


def link_of(environ: Mapping[str, str], target: Target) -> str | None:
    """Return the URL to see a run at: the CI job that drives it, else the target's dashboard."""
    for form, sign in _CI:
        with suppress(KeyError):
            if environ.get(sign):
                return form.format_map(environ)
    return target.jobs_url


def examine_hooks(session: Session, plan: str) -> list[Finding]:
    """Examine the webhook URLs in the variables of the plan's project; nothing is delivered."""
    found = []
    for hook in session.project(plan).notify:
        if problem := url_problem(hook, session.environ):
            hint = (
                f"set {hook.variable} to the URL of the webhook: until then it gets no "
                "notifications"
            )
            found.append(Finding("notify", "warn", f"{hook.kind}: {problem}", hint))
        else:
            message = f"{hook.kind}: {hook.variable} is set; it is notified of {', '.join(hook.on)}"
            found.append(Finding("notify", "ok", message))
    return found


def comment_on_pull_request(session: Session, kind: str, text: str, *, anew: bool = True) -> None:
    """Comment on the pull request. `kind` tells the comments of several commands apart."""
    from runner.adapters.github import comment, pull_request

    where = comment(pull_request(session.environ), kind, text, anew=anew)
    said = f"commented: {where}" if where else "no comment was posted: there is nothing to report"
    session.reporter.say(said)


def post_comment(session: Session, kind: str, text: str, *, anew: bool = True) -> None:
    """Comment on the pull request. A failed report ends nothing."""
    try:
        comment_on_pull_request(session, kind, text, anew=anew)
    except BackfillError as failed:
        session.reporter.note(f"no comment was posted: {failed}")


@contextmanager
def commenting_on_refusal(
    session: Session, kind: str, markdown: Callable[[BackfillError], str], *, comment: bool
) -> Iterator[None]:
    """Report a refusal in the pull request, too: the comment that is there is about what was pushed
    before."""
    try:
        yield
    except BackfillError as refused:
        if comment:
            post_comment(session, kind, markdown(refused))
        raise


@dataclass
class Outbox:
    """Delivers the notices of a run. No delivery failure raises.

    `noted`: the failures noted before, also by other steps of a worker.
    """

    store: Store
    run_id: str
    environ: Mapping[str, str] = field(repr=False)
    note: Callable[[str], None]
    noted: set[str] = field(default_factory=set)
    _deaf: set[Hook] = field(default_factory=set)  # hooks that failed for good

    async def keep(self) -> None:
        """Deliver notices as they come, for as long as the run is driven."""
        import asyncio

        from runner.adapters.http import open_client

        with suppress(Exception):
            hooks = self.store.hooks(self.run_id)
            for problem in filter(None, (url_problem(hook, self.environ) for hook in hooks)):
                self._note(f"{problem}: it gets no notifications of this run")
            if not hooks:
                return
            async with open_client(env=self.environ) as client:
                while True:
                    await self._sweep(client)
                    await asyncio.sleep(_EVERY)

    async def empty(self, *, again: bool) -> None:
        """Deliver what is due; `again`: also wait for further attempts that may succeed."""
        import asyncio

        from runner.adapters.http import open_client

        async with open_client(env=self.environ) as client:
            while True:
                told = await self._sweep(client)
                if not told and not (again and self._may_pass()):
                    return
                await asyncio.sleep(_EVERY / 4)

    def _may_pass(self) -> bool:
        left = self.store.notices_left(self.run_id)
        return any(self._may_tell(notice.hook) for notice in left)

    def _may_tell(self, hook: Hook) -> bool:
        return hook not in self._deaf and not url_problem(hook, self.environ)

    async def _sweep(self, client: Client) -> bool:
        """Deliver due notices: one hook's in order, all hooks at once. Return whether any went."""
        import asyncio

        by_hook: dict[Hook, list[Notice]] = {}
        for notice in self.store.due_notices(self.run_id):
            if self._may_tell(notice.hook):
                by_hook.setdefault(notice.hook, []).append(notice)
        every = (self._tell(client, one) for one in by_hook.values())
        told = await asyncio.gather(*every, return_exceptions=True)
        return any(one is True for one in told)

    async def _tell(self, client: Client, notices: Sequence[Notice]) -> bool:
        for number, notice in enumerate(notices):
            if not self.store.claim_notice(notice):
                return number > 0
            again: float | None = 0.0  # if this is cancelled
            try:
                await post(client, notice.hook, notice.body, self.environ)
                again = None
            except Undelivered as error:
                again = max(error.wait, min(_LONGEST, 2.0 ** min(notice.tries, 6)))
                self._deaf |= set() if error.passing else {notice.hook}
                self._note(f"{notice.hook.variable}: {error}")
                return number > 0
            finally:
                self.store.settle_notice(notice, again)
        return True

    def _note(self, what: str) -> None:
        """Note each failure once, however often it recurs."""
        if what not in self.noted:
            self.noted.add(what)
            self.note(f"notify: {what}")


def empty(
    session: Session,
    run_id: str,
    seconds: float | None = None,
    *,
    again: bool = True,
    noted: set[str] | None = None,
) -> None:
    """Deliver the remaining notices of a run that nobody drives now, within `seconds` or the
    deadline; `again`: see `Outbox.empty`; `noted`: see `Outbox`."""
    import asyncio

    with suppress(BackfillError):
        if not session.store.hooks(run_id):
            return
        known = set[str]() if noted is None else noted
        outbox = Outbox(session.store, run_id, session.environ, session.reporter.note, known)

        async def bounded() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(DEADLINE if seconds is None else seconds):
                    await outbox.empty(again=again)

        blocking(bounded())
