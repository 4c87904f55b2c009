"""Who is notified of a run, how often, and in which order, whatever happens to the run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.adapters.inngest.target import resolve
from runner.adapters.webhooks import Undelivered, slack
from runner.app import notify
from runner.app.notify import Outbox, comment_on_pull_request, empty, examine_hooks, link_of
from runner.app.session import Session
from runner.errors import BackfillError
from runner.model import OUTCOMES, Finding, Hook, Notice, Outcome, Totals
from runner.output.words import outcomes

ONE, TWO, UNSET = (Hook("webhook", name) for name in ("ONE", "TWO", "UNSET"))
URLS = {"ONE": "http://one.test", "TWO": "http://two.test"}
PASSES, STAYS = Undelivered("it is away", passing=True), Undelivered("it answers 404")


@dataclass
class Kept:
    """The notices of a run in a state, which are due until they are delivered."""

    left: list[Notice]
    mine: bool = True
    broken: Hook | None = None
    settled: list[tuple[int, float | None]] = field(default_factory=list)
    sweeps: int = 0

    def hooks(self, _run: str) -> list[Hook]:
        return [*{notice.hook: None for notice in self.left}]

    def due_notices(self, _run: str) -> list[Notice]:
        self.sweeps += 1
        return list(self.left)

    notices_left = due_notices

    def claim_notice(self, notice: Notice) -> bool:
        if notice.hook == self.broken:
            raise BackfillError("the state is away")
        return self.mine or notice.number == 1

    def settle_notice(self, notice: Notice, again: float | None) -> None:
        self.settled.append((notice.number, again))
        if again is None:
            self.left.remove(notice)


@dataclass
class Told:
    """A stand-in for the network. `script`: the result of each try, by hook."""

    script: dict[str, deque[Exception | None]] = field(default_factory=dict)
    bodies: list[int] = field(default_factory=list)

    async def post(self, _: object, hook: Hook, body: Mapping[str, Any], *_more: object) -> None:
        outcomes = self.script.get(hook.variable)
        if outcomes and (error := outcomes.popleft()):
            raise error
        self.bodies.append(body["n"])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found = Told()
    monkeypatch.setattr(notify, "post", found.post)
    monkeypatch.setattr(notify, "_EVERY", 0.0)
    return found


def notices(*hooks: Hook, tries: int = 1) -> list[Notice]:
    return [Notice(number, hook, {"n": number}, tries) for number, hook in enumerate(hooks, 1)]


def emptied(kept: Kept, *, again: bool) -> list[str]:
    notes: list[str] = []
    store: Any = kept
    asyncio.run(Outbox(store, "RUN", URLS, notes.append).empty(again=again))
    return notes


def test_each_hook_is_told_in_order_and_one_that_cannot_be_told_is_in_nobodys_way(
    told: Told,
) -> None:
    kept = Kept(notices(ONE, TWO, ONE, UNSET, TWO))
    told.script["TWO"] = deque([STAYS])
    assert emptied(kept, again=True) == ["notify: TWO: it answers 404"]
    assert told.bodies == [1, 3]
    assert [notice.number for notice in kept.left] == [2, 4, 5], "what is after it waits for it"


@pytest.mark.parametrize(("again", "bodies"), [(True, [1, 2]), (False, [])])
def test_what_may_pass_is_tried_again_where_there_is_time_and_said_once(
    told: Told, again: bool, bodies: list[int]
) -> None:
    kept = Kept(notices(ONE, ONE))
    told.script["ONE"] = deque([PASSES, PASSES])
    assert emptied(kept, again=again) == ["notify: ONE: it is away"]
    assert told.bodies == bodies


@pytest.mark.parametrize(
    ("tries", "asked", "wait"), [(1, 0.0, 2.0), (3, 0.0, 8.0), (9, 0.0, 60.0), (1, 90.0, 90.0)]
)
def test_the_waits_between_two_tries_grow_up_to_a_minute_or_are_what_the_server_asks_for(
    told: Told, tries: int, asked: float, wait: float
) -> None:
    kept = Kept(notices(ONE, tries=tries))
    told.script["ONE"] = deque([Undelivered("busy", passing=True, wait=asked)])
    emptied(kept, again=False)
    assert kept.settled == [(1, wait)]


@pytest.mark.parametrize(("first", "bodies", "sweeps"), [(ONE, [1], 2), (TWO, [], 1)])
def test_what_another_process_is_at_is_left_to_it(
    told: Told, first: Hook, bodies: list[int], sweeps: int
) -> None:
    """That process goes on as long as there are notices."""
    kept = Kept([one for one in notices(ONE, ONE, TWO) if first == ONE or one.hook == TWO])
    kept.mine = False
    emptied(kept, again=False)
    assert (told.bodies, kept.sweeps) == (bodies, sweeps)


def test_a_state_that_fails_for_one_hook_keeps_no_other_from_being_told(told: Told) -> None:
    assert emptied(Kept(notices(ONE, TWO), broken=ONE), again=False) == []
    assert told.bodies == [2]


def test_while_a_run_is_driven_what_comes_is_told_and_unset_variables_are_noted(
    told: Told,
) -> None:
    notes: list[str] = []
    kept: Any = Kept(notices(ONE, UNSET))

    async def drive(store: Any) -> None:
        keeping = asyncio.create_task(Outbox(store, "RUN", URLS, notes.append).keep())
        for _ in range(20):
            await asyncio.sleep(0)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    asyncio.run(drive(kept))
    assert told.bodies == [1]
    assert kept.sweeps > 1
    assert notes == ["notify: UNSET is not set: it gets no notifications of this run"]
    silent = Kept([])
    asyncio.run(drive(silent))
    assert silent.sweeps == 0


@pytest.mark.parametrize("seconds", [0.01, None])
def test_at_the_end_of_a_run_it_takes_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch, told: Told, seconds: float | None
) -> None:
    """Whoever goes on with the run delivers the unfinished notice at once."""

    async def hang(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(notify, "post", hang)
    monkeypatch.setattr(notify, "DEADLINE", 0.01)
    kept = Kept(notices(ONE))
    session: Any = SimpleNamespace(store=kept, environ=URLS, reporter=SimpleNamespace(note=print))
    empty(session, "RUN", seconds)
    assert kept.settled == [(1, 0.0)]
    monkeypatch.setattr(notify, "post", told.post)
    empty(session, "RUN", 60.0)
    assert told.bodies == [1]
    kept.sweeps = 0
    empty(session, "RUN")
    assert kept.sweeps == 0, "nobody is to be told of anything"


GITHUB = {
    "GITHUB_SERVER_URL": "https://github.test",
    "GITHUB_REPOSITORY": "o/r",
    "GITHUB_RUN_ID": "7",
}


@pytest.mark.parametrize(
    ("environ", "link"),
    [
        (GITHUB, "https://github.test/o/r/actions/runs/7"),
        ({"CI_JOB_URL": "https://gitlab.test/7"}, "https://gitlab.test/7"),
        ({**GITHUB, "CI_JOB_URL": "x"}, "https://github.test/o/r/actions/runs/7"),
        ({"GITHUB_RUN_ID": "7"}, "http://127.0.0.1:8288/runs"),
        ({}, "http://127.0.0.1:8288/runs"),
    ],
)
def test_a_run_can_be_looked_at_where_it_is_driven(environ: dict[str, str], link: str) -> None:
    assert link_of(environ, resolve("dev", {})) == link


def test_whether_somebody_would_be_told_is_found_without_telling_anybody(tmp_path: Path) -> None:
    head = "apiVersion: backfill/v1\nkind: BackfillProject\n"
    hooks = "{kind: webhook, url: ONE, on: [failed]}, {kind: slack, url: UNSET}"
    (tmp_path / "backfill.yaml").write_text(f"{head}notify: [{hooks}]\n")
    with Session(environ=URLS) as session:
        found = examine_hooks(session, str(tmp_path / "plan.yaml"))
    assert found == [
        Finding("notify", "ok", "webhook: ONE is set; it is notified of failed"),
        Finding("notify", "warn", "slack: UNSET is not set",
                "set UNSET to the URL of the webhook: until then it gets no notifications"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("https://x.test/1", "commented: https://x.test/1"),
        (None, "no comment was posted: there is nothing to report"),
    ],
)
def test_what_became_of_a_comment_is_said(
    monkeypatch: pytest.MonkeyPatch, where: str | None, said: str
) -> None:
    monkeypatch.setattr("runner.adapters.github.pull_request", lambda _: object())
    monkeypatch.setattr("runner.adapters.github.comment", lambda *_, **__: where)
    heard: list[str] = []
    session: Any = SimpleNamespace(environ={}, reporter=SimpleNamespace(say=heard.append))
    comment_on_pull_request(session, "plan", "text")
    assert heard == [said]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_slack_reads_what_the_terminal_shows(outcome: Outcome) -> None:
    """Slack said "1 no job" where all else says "1 started no job"."""
    totals = asdict(Totals(planned=3, accepted=2)) | {outcome: 1}
    body = {"environment": None, "target": "dev", "plan": "p", "event": "ended", "run_id": "R"}
    more = {"status": "failed", "failure": None, "reason": None, "link": None, "totals": totals}
    text = slack(body | more)["blocks"][0]["text"]["text"]
    assert text.endswith(f"3 planned, 2 accepted, {', '.join(outcomes({outcome: 1}))}")
