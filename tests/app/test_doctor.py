"""What the doctor finds in plans, on the embedded target and in databases, in process."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.adapters.inngest.target import resolve
from runner.app.build import build
from runner.app.control import hold, let_go
from runner.app.doctor import examine, examine_plan, examine_server
from runner.app.session import Session
from runner.errors import BackfillError
from runner.model import Finding, Function
from tests.support import CATALOG, repos, write_plan

EMBEDDED = resolve("embedded", {})
PLAN = repos(2) + "operations: [fire]\n"
QUERY = "query: select n from r"
ASKING = {
    "checks": f"checks: [{{name: some, {QUERY}, expect: {{column: n, at_least: 1}}}}]\n",
    "coverage": "coverage: {issues: {query: 'select item, total, done from c'}}\n",
}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with sqlite3.connect(tmp_path / "app.db") as database:
        database.executescript(
            "create table r (n integer); insert into r values (1);"
            "create table c (item text, total integer, done integer);"
            "insert into c values ('o/r0', 1, 1);"
        )
    database.close()
    environ = {"BACKFILL_DATABASE_URL": f"sqlite:///{tmp_path / 'app.db'}"}
    with Session(str(tmp_path / "state.db"), environ=environ) as session:
        yield session


def found(session: Session, plan: Path | None, **how: Any) -> list[Finding]:
    return examine(session, str(plan) if plan else None, EMBEDDED, **how)


def of(about: str, findings: list[Finding]) -> list[tuple[str, str]]:
    return [(one.level, one.message) for one in findings if one.about == about]


@pytest.mark.parametrize(
    ("body", "level", "message"),
    [
        (PLAN, "ok", "test: 2 events, 1 stage; every payload meets its contract"),
        (PLAN.replace("fire", "{use: fire, when: vars.days > 5}") + "vars: {days: 1}\n", "ok",
         "test: 2 events, 1 stage; every payload meets its contract"),
        (PLAN.replace("fire", "{use: fire, when: 'false'}"), "fail",
         "test: 0 events, 0 stages: there is nothing to send"),
        (PLAN.replace("fire", "{use: fire, when: 'false'}") + "if_empty: ok\n", "ok",
         "test: 0 events, 0 stages; every payload meets its contract"),
    ],
)  # fmt: skip
def test_a_plan_is_what_a_run_would_build(
    session: Session, tmp_path: Path, body: str, level: str, message: str
) -> None:
    variables = {"days": 9} if "vars" in body else None
    findings = found(session, write_plan(tmp_path, body), variables=variables)
    assert of("plan", findings)[0] == (level, message)


_HOUR = "window: {allow: '00:00-24:00'}"


@pytest.mark.parametrize(
    ("guard", "level", "words"),
    [
        ("command: [./nope.sh]", "fail", "`command nope.sh` cannot be asked: there is no such"),
        ("command: [nope-at-all]", "fail", "cannot be asked: there is no such program"),
        ("command: [./there.sh]", "ok", "`command there.sh` is only asked by a run"),
        ("http: http://127.0.0.1:1/x", "ok", "is only asked by a run"),
        ("sql: {query: select nope from r, at_most: 1}", "fail", "`sql` cannot be asked: no such"),
        ("sql: {query: select n from r, at_most: 0}", "warn", "`sql` holds: "),
        ("sql: {query: select n from r, at_most: 1}", "ok", "`sql` lets a run go on"),
        ("file: plan.yaml", "warn", "holds: "),
        ("file: nope", "ok", "lets a run go on"),
        ("github: {remaining: 5}", "fail", "the guard `github` needs a token"),
        (_HOUR, "ok", "lets a run go on"),
    ],
)
def test_a_guard_that_would_refuse_a_run_is_a_fault_and_one_that_would_hold_it_a_warning(
    session: Session, tmp_path: Path, guard: str, level: str, words: str
) -> None:
    """Programs are not run, and addresses not requested."""
    program = tmp_path / "there.sh"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n", "utf-8")
    program.chmod(0o755)
    plan = write_plan(tmp_path, f"{PLAN}guards: [{{{guard}}}]\n")
    ((found_level, message),) = of("guard", found(session, plan))
    assert (found_level, words in message) == (level, True), message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("level", "limit", "expected"),
    [("mandatory", 1, ["fail"]), ("advisory", 1, ["warn"]), ("mandatory", 2, [])],
)
def test_what_the_policy_does_not_allow_is_a_fault(
    session: Session, tmp_path: Path, level: str, limit: int, expected: list[str]
) -> None:
    rule = f"{{name: small, require: totals.events <= {limit}, level: {level}}}"
    head = "apiVersion: backfill/v1\nkind: BackfillProject\n"
    (tmp_path / "backfill.yaml").write_text(f"{head}policy: [{rule}]\n", "utf-8")
    findings = of("policy", found(session, write_plan(tmp_path, PLAN)))
    assert [one for one, _ in findings] == expected


def test_a_needed_approval_is_there_or_its_lack_is_a_fault(
    session: Session, tmp_path: Path
) -> None:
    plan = write_plan(tmp_path, f"{PLAN}approval: {{required: true}}\n")
    ((level, message),) = of("approval", found(session, plan))
    assert (level, "needs an approval" in message) == ("fail", True)
    digest = build(session, str(plan), {}).execution_plan.digest
    (tmp_path / "approvals").mkdir()
    (tmp_path / "approvals" / "x").write_text(digest, "utf-8")
    assert of("approval", found(session, plan)) == [
        ("ok", "a file in `approvals` names its digest")
    ]
    write_plan(tmp_path, PLAN)
    assert of("approval", found(session, plan)) == [], "it needs none"


def test_what_keeps_a_plan_from_being_built_is_found(session: Session, tmp_path: Path) -> None:
    """Its warnings are reported too."""
    body = "repos: [{repo: o/a, odd: 1}]\noperations: [{use: fire, with: {x: '{{ repo.no }}'}}]\n"
    plan = write_plan(tmp_path, body)
    (fault, warning) = of("plan", found(session, plan))
    assert (fault[0], fault[1].startswith(f"{plan}:6: `x`"), warning[0]) == ("fail", True, "warn")
    asked = write_plan(tmp_path, "repos: [{query: select none}]\noperations: [fire]\n")
    ((level, message),) = of("plan", found(session, asked))
    assert (level, "no such column: none" in message) == ("fail", True)


@pytest.mark.parametrize("accept", ["", "accept: {unused-attribute: for others}\n"])
def test_a_warning_is_found_and_one_that_is_accepted_is_well(
    session: Session, tmp_path: Path, accept: str
) -> None:
    body = f"repos: [{{repo: o/a, odd: 1}}]\noperations: [fire]\n{accept}"
    (_, warning) = (
        one for one in found(session, write_plan(tmp_path, body)) if one.about == "plan"
    )
    assert warning.message.startswith("nothing reads the attribute `odd` of the repository (")
    expected = ("ok", "accepted: for others") if accept else ("warn", "remove it; or use it")
    assert (warning.level, (warning.hint or "")[: len(expected[1])]) == expected


def test_of_the_embedded_target_it_is_known_which_events_nobody_handles(
    session: Session, tmp_path: Path
) -> None:
    runs = ("ok", "embedded: handlers run in this process")
    silent = ("warn", "the embedded target has no handler for `app/fire`: no job will start")
    plan = write_plan(tmp_path, PLAN)
    assert of("target", found(session, plan)) == [runs]
    assert of("listeners", found(session, plan)) == [silent]
    assert of("listeners", found(session, None)) == []
    built = build(session, str(plan), {}).execution_plan
    assert examine_server(session, built, EMBEDDED, thorough=False).findings == []
    (tmp_path / "jobs.py").write_text("def fire(event):\n    pass\n")
    write_plan(tmp_path, PLAN + 'handlers: {app/fire: "jobs:fire"}\n')
    assert of("listeners", found(session, plan)) == []


def test_that_a_target_is_held_is_found_of_that_one(session: Session) -> None:
    assert of("hold", found(session, None)) == []
    hold(session, "dev", "not now")
    assert of("hold", found(session, None)) == []
    hold(session, "embedded", "a deploy")
    ((level, message),) = of("hold", found(session, None))
    assert (level, message) == ("warn", f"embedded is held by {session.who}: a deploy")
    let_go(session, "embedded")
    assert of("hold", found(session, None)) == []


@pytest.mark.parametrize("what", ASKING)
def test_whatever_a_plan_asks_is_asked_now(session: Session, tmp_path: Path, what: str) -> None:
    path = write_plan(tmp_path, PLAN + ASKING[what])
    levels = {level for level, _ in of("database", found(session, path))}
    assert levels == {"ok"}
    assert len(of("clock", found(session, path))) == 1
    plan = build(session, str(path), {}).execution_plan
    quick = examine_plan(session, plan, thorough=False)
    assert {one.about for one in quick} == {"database"}
    (tmp_path / "app.db").unlink()
    sqlite3.connect(tmp_path / "app.db").close()
    assert {level for level, _ in of("database", found(session, path))} == {"fail"}


def test_a_database_that_is_not_there_is_found_by_the_doctor_and_ends_a_run(
    tmp_path: Path,
) -> None:
    path = write_plan(tmp_path, PLAN + ASKING["checks"])
    with Session(str(tmp_path / "state.db"), environ={}) as session:
        ((level, message),) = of("database", found(session, path))
        assert (level, "no database" in message) == ("fail", True), message
        plan = build(session, str(path), {}).execution_plan
        with pytest.raises(BackfillError):
            examine_plan(session, plan, thorough=False)


def test_a_plan_that_asks_nothing_needs_no_database(tmp_path: Path) -> None:
    with Session(str(tmp_path / "state.db"), environ={}) as session:
        assert of("database", found(session, write_plan(tmp_path, PLAN))) == []


def test_what_the_plan_takes_of_github_is_told_and_no_token_is_a_warning(
    session: Session, tmp_path: Path
) -> None:
    catalog = CATALOG.replace("done: sent", "done: sent, needs: {github_points: 3}")
    path = write_plan(tmp_path, PLAN, catalog=catalog)
    findings = found(session, path)
    assert of("needs", findings) == [("ok", "the plan takes about 6 GitHub points")]
    assert of("github", findings) == [("warn", "no token, so its rate limit is not known")]
    plan = build(session, str(path), {}).execution_plan
    assert examine_plan(session, plan, thorough=False) == []


CLOUD = {"INNGEST_EVENT_KEY": "key", "INNGEST_SIGNING_KEY": f"signkey-test-{'ab' * 32}"}
SEEN = Finding("listeners", "ok", "seen")
WELL, AWAY = Finding("target", "ok", "it answers"), Finding("target", "fail", "it is away")


@dataclass
class Server:
    """A server outside this process: what the doctor would find there."""

    well: Finding = WELL
    told: list[Function] | None = None
    follows: list[bool] = field(default_factory=list)
    asked: int = 0

    async def functions(self) -> list[Function] | None:
        self.asked += 1
        return self.told

    async def examined(
        self, _probe: object, _name: str, *, follows: bool, **_: object
    ) -> list[Finding]:
        self.follows.append(follows)
        return [self.well]


@pytest.fixture
def server(session: Session, monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()

    @asynccontextmanager
    async def connect(_: object) -> AsyncIterator[object]:
        yield SimpleNamespace(probe=found)

    def listening(_plan: object, told: object, last: Callable[[str], object]) -> list[Finding]:
        return [SEEN._replace(message=f"{told} {last('app/fire')}")]

    monkeypatch.setattr(session, "connect", connect)
    monkeypatch.setattr("runner.app.doctor.examine_target", found.examined)
    monkeypatch.setattr("runner.app.doctor.listening", listening)
    return found


@pytest.mark.parametrize(
    ("environ", "thorough", "well", "told", "found", "follows", "asked"),
    [
        (CLOUD, True, WELL, [], ["target", "listeners"], [True], 1),
        (CLOUD, True, AWAY, [], ["target"], [True], 0),
        ({"INNGEST_EVENT_KEY": "key"}, True, WELL, None, ["target", "listeners"], [False], 1),
        (
            {**CLOUD, "INNGEST_SIGNING_KEY": "key"},
            True,
            WELL,
            None,
            ["signing key", "listeners"],
            [],
            1,
        ),
        (CLOUD, False, AWAY, [], ["listeners"], [], 1),
        (CLOUD, False, WELL, None, [], [], 1),
    ],
)
def test_a_server_is_asked_as_far_as_it_can_be(
    session: Session,
    server: Server,
    tmp_path: Path,
    environ: dict[str, str],
    thorough: bool,
    well: Finding,
    told: list[Function] | None,
    found: list[str],
    follows: list[bool],
    asked: int,
) -> None:
    """A run does not try its keys, and nobody knows who listens if the server does not tell."""
    server.well, server.told = well, told
    plan = build(session, str(write_plan(tmp_path, PLAN)), {}).execution_plan
    cloud = resolve("cloud", environ)
    examined = examine_server(session, plan, cloud, thorough=thorough)
    assert [one.about for one in examined.findings] == found
    assert (server.follows, server.asked) == (follows, asked)
    assert examined.functions == (told if asked else None)
    without = examine_server(session, None, cloud, thorough=thorough)
    assert [one.about for one in without.findings] == [one for one in found if one != "listeners"]
    assert server.asked == asked


def test_when_an_event_was_sent_last_is_told_by_a_state_that_is_there(
    session: Session, server: Server, tmp_path: Path
) -> None:
    plan = build(session, str(write_plan(tmp_path, PLAN)), {}).execution_plan
    dev = resolve("dev", {})

    def said() -> str:
        (listeners,) = of("listeners", examine_server(session, plan, dev, thorough=True).findings)
        return listeners[1]

    assert said() == "None None"
    assert not session.has_state
    assert session.store.runs() == []
    assert said() == "None None"
    assert server.follows == [True, True]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("requires", [False, True])
@pytest.mark.parametrize("target", ["embedded", "dev"])
def test_a_state_that_cannot_be_read_is_a_fault_beside_the_others(
    session: Session, tmp_path: Path, target: str, requires: bool
) -> None:
    (tmp_path / "state.db").write_text("nonsense", encoding="utf-8")
    project = (
        "apiVersion: backfill/v1\nkind: BackfillProject\nenvironments: {staging: {}}\n"
        "policy: [{name: first, requires: {environment: staging}}]\n"
    )
    if requires:
        (tmp_path / "backfill.yaml").write_text(project, encoding="utf-8")
    plan = str(write_plan(tmp_path, PLAN + ASKING["checks"]))
    findings = examine(session, plan, resolve(target, {}))
    faults = [one for one in findings if one.level == "fail"]
    assert [one.about for one in faults] == [*(["plan"] if requires else []), "state"]
    assert all(one.away and "cannot be used" in one.message for one in faults)
    assert of("target", findings)
    assert bool(of("database", findings)) is not requires  # a plan that is not known asks nothing
