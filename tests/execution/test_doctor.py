"""What is found before anything is sent: about keys, a server, the plan's queries and its needs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from runner.errors import KeyRefused, TargetError
from runner.execution.doctor import (
    examine_clocks,
    examine_facts,
    examine_github,
    examine_keys,
    examine_migrations,
    examine_questions,
    examine_target,
    listening,
)
from runner.execution.ports import Hello, LastSent
from runner.model import (
    BoundQuestion,
    Check,
    DatabaseClock,
    ExecutionPlan,
    Expect,
    Fact,
    Finding,
    Function,
    GithubGuard,
    Json,
    Measure,
    Needs,
    Pacing,
    Query,
    QueryRefused,
    RowSecurity,
    Selection,
    Stage,
    Table,
    Trigger,
    Until,
)
from runner.planning.event_blocks import pack

AWAY = TargetError("it is away", hint="look at it")
REFUSED = KeyRefused("it refuses the key", hint="look at the key")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BLIND = "grant its role SELECT, or add a policy that shows it rows: an anonymous key reads none"


def levels(found: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(one.about, one.level) for one in found]


@pytest.mark.parametrize(
    ("event_key", "signing_keys", "found"),
    [
        ("event", ["signing"], []),
        ("event", [], []),
        (None, [], ["it is not set"]),
        (None, ["signing"], ["it is not set"]),
        ("", ["signing"], ["it is not set"]),
        ("signkey-prod-1", [], ["it is a signing key"]),
        ("same", ["other", "same"], ["it is the event key"]),
        ("signkey-same", ["signkey-same"], ["it is a signing key", "it is the event key"]),
    ],
)
def test_keys_are_wrong_by_their_form_alone(
    event_key: str | None, signing_keys: list[str], found: list[str]
) -> None:
    findings = examine_keys(event_key, signing_keys)
    assert [one.message for one in findings] == found
    assert all(one.level == "fail" and one.hint for one in findings)


WELCOME = Hello("1.2", None)


@dataclass
class Server:
    """Each attribute is the server's answer, or the error to raise."""

    hello_: Hello | TargetError = WELCOME
    accepts: TargetError | None = None
    follows: str | TargetError | None = None
    api: bool | TargetError | None = None

    async def hello(self) -> Hello:
        if isinstance(self.hello_, TargetError):
            raise self.hello_
        return self.hello_

    async def accept(self) -> None:
        if self.accepts:
            raise self.accepts

    async def follow(self) -> str | None:
        if isinstance(self.follows, TargetError):
            raise self.follows
        return self.follows

    async def api_key(self) -> bool | None:
        if isinstance(self.api, TargetError):
            raise self.api
        return self.api

    async def functions(self) -> Sequence[Function] | None:
        raise AssertionError("it is asked of a plan's events only")


WELL = {"target": "ok", "event key": "ok", "signing key": "ok"}


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (Server(), WELL),
        (Server(Hello(None, 1.0)), {**WELL, "clock": "ok"}),
        (Server(AWAY), {"target": "fail"}),
        (Server(accepts=AWAY), {**WELL, "event key": "fail"}),
        (Server(accepts=REFUSED), {**WELL, "event key": "fail"}),
        (Server(follows=REFUSED), {**WELL, "signing key": "fail"}),
        (Server(api=True), {**WELL, "API key": "ok"}),
        (Server(api=False), {**WELL, "API key": "warn"}),
        (Server(api=REFUSED), {**WELL, "API key": "warn"}),
        (Server(api=AWAY), {**WELL, "API key": "warn"}),
    ],
)
def test_each_thing_that_a_server_is_asked_for_is_told_once(
    server: Server, expected: Mapping[str, str]
) -> None:
    found = asyncio.run(examine_target(server, "dev", follows=True))
    assert dict(levels(found)) == expected
    assert len(found) == len(expected)
    for one in found:
        assert one.level == "ok" or one.hint
        assert one.away == (one.level == "fail"), "whoever is told to mend it would find nothing"


def test_a_server_that_takes_events_and_tells_of_no_jobs_is_a_fault_of_the_target() -> None:
    found = asyncio.run(examine_target(Server(follows=AWAY), "dev", follows=True))
    assert levels(found) == [("target", "ok"), ("event key", "ok"), ("target", "fail")]
    assert found[-1] == Finding("target", "fail", "it is away", "look at it", away=True)


def test_a_server_that_seems_to_tell_of_no_jobs_is_not_said_to_be_followed() -> None:
    found = asyncio.run(examine_target(Server(follows="it has no route"), "dev", follows=True))
    assert levels(found) == [("target", "ok"), ("event key", "ok"), ("target", "warn")]
    assert (found[-1].message, bool(found[-1].hint)) == ("it has no route", True)


@pytest.mark.parametrize(("version", "says"), [("1.2", ", version 1.2"), (None, "")])
def test_a_version_is_shown_where_the_server_tells_it(version: str | None, says: str) -> None:
    found = asyncio.run(examine_target(Server(Hello(version, None)), "dev", follows=True))
    assert found[0].message == f"dev answers{says}"


def test_without_a_signing_key_jobs_are_not_asked_for_and_that_is_a_warning() -> None:
    found = asyncio.run(examine_target(Server(follows=REFUSED), "dev", follows=False))
    assert levels(found) == [("target", "ok"), ("event key", "ok"), ("signing key", "warn")]


@pytest.mark.parametrize(
    ("ahead", "level", "says"),
    [
        (30.0, "ok", "within 30 s of the server's"),
        (-30.0, "ok", "within 30 s of the server's"),
        (30.6, "warn", "31 s behind the server's"),
        (-30.6, "warn", "31 s ahead of the server's"),
    ],
)
def test_the_servers_clock_may_be_half_a_minute_apart(ahead: float, level: str, says: str) -> None:
    found = asyncio.run(examine_target(Server(Hello(None, ahead)), "dev", follows=True))
    assert [(one.level, one.message) for one in found if one.about == "clock"] == [(level, says)]


def sending(event: str, count: int = 1, **how: Any) -> Stage:
    items = pack(event, [(f"o/r{number}", b"{}") for number in range(count)])
    return Stage(1, "sync", event, "repo", Pacing(9, 0.0), "sent", 9.0, items=items, **how)


def plan_of(*stages: Stage, **what: Any) -> ExecutionPlan:
    return ExecutionPlan("p", "p.yaml", "d", stages, (), (), **what)


def hearing(*events: str) -> list[Function]:
    return [Function((f"f{number}",), (Trigger(one),)) for number, one in enumerate(events)]


@pytest.mark.parametrize(
    ("functions", "level", "says"),
    [
        (hearing("app/sync", "app/other", "app/*"), "ok", "`app/sync` starts f0, f2"),
        (hearing("app/synk", "app/other"), "fail", "did you mean `app/synk`?"),
        (
            hearing(*(f"quite/other-{number:02}" for number in range(11))),
            "fail",
            "functions listen to: " + ", ".join(f"quite/other-{number:02}" for number in range(10)),
        ),
        (
            hearing(),
            "fail",
            "no app is connected to this server: start your worker and sync it",
        ),
    ],
)
def test_an_event_that_nothing_hears_is_a_fault_that_names_what_is_heard(
    functions: list[Function], level: str, says: str
) -> None:
    (found,) = listening(plan_of(sending("app/sync")), functions)
    assert (found.level, found.hint or found.message) == (level, says)


@pytest.mark.parametrize(
    ("paused", "expected"),
    [
        ([0], [("ok", "`app/sync` starts f1"), ("warn", "`f0` is paused")]),
        ([1], [("ok", "`app/sync` starts f0"), ("warn", "`f1` is paused")]),
        ([0, 1], [("fail", "`f0` is paused"), ("fail", "`f1` is paused")]),
    ],
)
def test_a_paused_function_is_not_said_to_start(
    paused: list[int], expected: list[tuple[str, str]]
) -> None:
    functions = hearing("app/sync", "app/sync")
    functions = [replace(one, paused=at in paused) for at, one in enumerate(functions)]
    found = listening(plan_of(sending("app/sync")), functions)
    assert [(one.level, one.message.partition(": ")[0]) for one in found] == expected


@pytest.mark.parametrize(
    ("last", "level", "says"),
    [
        (None, "warn", "the server does not tell which functions listen to `app/sync`"),
        (LastSent("RUN1", True), "ok", "`app/sync` started jobs in run RUN1"),
        (LastSent("RUN1", False), "warn", "`app/sync` started no job in run RUN1"),
    ],
)
def test_where_the_server_does_not_tell_who_hears_an_event_the_last_run_does(
    last: LastSent | None, level: str, says: str
) -> None:
    (found,) = listening(plan_of(sending("app/sync")), None, {"app/sync": last}.get)
    assert (found.level, found.message.startswith(says)) == (level, True)


def fact(name: str, rows: int) -> Fact:
    return Fact(name, "select", rows, "0")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([], []),
        ([fact("repos", 3)], [("ok", "repos: 3 rows")]),
        ([fact("repos", 0)], [("warn", "repos: 0 rows")]),
        ([fact("a", 0), fact("b", 1)], [("warn", "a: 0 rows"), ("ok", "b: 1 row")]),
        ([fact("a", 0), fact("b", 0)], [("fail", "zero rows everywhere (a, b)")]),
    ],
)
def test_zero_rows_are_a_warning_and_everywhere_a_fault(
    facts: list[Fact], expected: list[tuple[str, str]]
) -> None:
    found = examine_facts(facts)
    assert [(one.level, one.message) for one in found] == expected
    assert all(bool(one.hint) == (one.level != "ok") for one in found)


NONE, ZEROS = Table(("n",), ()), Table(("n",), ((0,), (None,)))
ONE = Table(("n",), ((0,), (1,)))
MEASURED = Table(("item", "total", "done"), (("o/r0", 9, 1),))


@dataclass
class Database:
    """The answers to queries, by their text or table."""

    answers: Mapping[str, Table | QueryRefused]
    security: Sequence[RowSecurity] | None = None
    ahead: float = 0.0
    asked: list[Mapping[str, Json]] = field(default_factory=list)

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        self.asked.append(parameters)
        answer = self.answers[query.ask.table if isinstance(query.ask, Selection) else query.ask]
        if isinstance(answer, QueryRefused):
            raise answer
        return answer

    def row_security(
        self, query: Query, parameters: Mapping[str, Json]
    ) -> Sequence[RowSecurity] | None:
        assert query.ask in self.answers
        assert parameters == self.asked[-1]
        return self.security

    def clock(self, name: str | None) -> DatabaseClock:
        return DatabaseClock("", "UTC", 0.0, -self.ahead if name else self.ahead)


def check(name: str, column: str | None = "n", **how: Any) -> Check:
    key, database = how.pop("key", None), how.pop("database", None)
    question = BoundQuestion(Query(name, database), {"days": 3}, key=key)
    return Check(name, question, Expect(column, at_least=1), "end", **how)


def examined(
    answers: Mapping[str, Table | QueryRefused],
    security: Sequence[RowSecurity] | None = None,
    facts: Sequence[Fact] = (),
    **how: Any,
) -> list[tuple[str, str]]:
    plan = plan_of(checks=tuple(check(name, **how) for name in answers), facts=tuple(facts))
    found = examine_questions(plan, Database(answers, security), NOW)
    assert all(bool(one.hint) == (one.level != "ok") for one in found)
    return [(one.level, one.message) for one in found]


def test_a_question_is_asked_as_by_a_run_that_starts_now() -> None:
    database = Database({"a": ONE})
    examine_questions(plan_of(checks=(check("a"),)), database, NOW)
    assert database.asked == [{"run_started_at": NOW.isoformat(), "days": 3}]


@pytest.mark.parametrize(
    ("answer", "how", "expected"),
    [
        (ONE, {}, ("ok", "check a: 2 rows")),
        (ONE, {"column": None}, ("ok", "check a: 2 rows")),
        (ONE, {"column": "m"}, ("fail", "check a gives no column `m`")),
        (ONE, {"key": "repo", "column": "m"}, ("fail", "check a gives no column `repo`")),
        (ONE, {"key": "n"}, ("ok", "check a: 2 rows")),
        (QueryRefused("no such table", "make it"), {}, ("fail", "check a: no such table")),
    ],
)
def test_what_a_question_names_must_be_there(
    answer: Table | QueryRefused, how: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert examined({"a": answer}, **how) == [expected]


def test_goals_and_coverage_are_asked_as_checks_are() -> None:
    until = Until(BoundQuestion(Query("goal"), {}), Expect("left", at_most=0), 3, 9, 60.0)
    measure = Measure("here", BoundQuestion(Query("covered"), {}))
    plan = plan_of(sending("app/sync", until=until), coverage=(measure,))
    found = examine_questions(plan, Database({"goal": ONE, "covered": ONE}), NOW)
    assert [one.message for one in found] == [
        "until of sync gives no column `left`",
        "coverage here gives no column `item`",
    ]
    left = Table(("left",), ((1,),))
    found = examine_questions(plan, Database({"goal": left, "covered": MEASURED}), NOW)
    assert [one.message for one in found] == ["until of sync: 1 row", "coverage here: 1 row"]


@pytest.mark.parametrize(("items", "blind"), [((), False), (("o/a",), True)])
def test_of_no_items_no_zero_smells_of_anything(items: tuple[str, ...], blind: bool) -> None:
    """Without items, zeros are no reason to suspect anything: the stage finds its items only at its
    start."""
    asked = BoundQuestion(Query("a"), {}, "users", None, items)
    one, other = check("a", None), check("b", None)
    checks = (replace(one, question=asked), other)
    found = examine_questions(plan_of(checks=checks), Database({"a": NONE, "b": ZEROS}), NOW)
    assert any(finding.message == "only zeros everywhere" for finding in found) is blind


@pytest.mark.parametrize(
    ("answers", "facts", "blind"),
    [
        ({"a": NONE, "b": ZEROS}, [], True),
        ({"a": NONE, "b": ZEROS}, [fact("repos", 0)], True),
        ({"a": NONE, "b": ZEROS}, [fact("repos", 1)], False),
        ({"a": ZEROS, "b": ZEROS, "c": ONE, "d": Table(("m",), ())}, [], False),
        ({"a": ZEROS, "b": ONE}, [], False),
        ({"a": ZEROS}, [], False),
        ({"a": ZEROS, "b": QueryRefused("no", "do")}, [], False),
        ({"a": ZEROS, "b": NONE, "c": QueryRefused("no", "do")}, [], True),
    ],
)
def test_nothing_but_zeros_in_all_answers_smells_of_permissions(
    answers: dict[str, Table | QueryRefused], facts: list[Fact], blind: bool
) -> None:
    found = examined(answers, facts=facts)
    assert (("fail", "only zeros everywhere") in found) == blind
    assert len(found) == len(answers) + blind


def test_zeros_of_a_database_that_tells_what_a_role_may_not_see_are_zeros() -> None:
    """Such as SQLite, which has no roles: nothing is left to do, which is no fault."""
    found = examined({"a": ZEROS, "b": ZEROS}, security=[])
    assert found == [("ok", "check a: 2 rows"), ("ok", "check b: 2 rows")]


SEES, SEES_NONE = RowSecurity("repos", False), RowSecurity("repos", True)
FILTERS = ("warn", "check a: row-level security filters `repos`")


@pytest.mark.parametrize(
    ("answer", "security", "expected"),
    [
        (ONE, [], None),
        (ONE, [SEES], FILTERS),
        (ONE, [SEES_NONE], FILTERS),
        (ZEROS, [SEES], FILTERS),
        (
            ZEROS,
            [SEES_NONE],
            (
                "fail",
                (
                    "check a: row-level security hides all rows of `repos` from this "
                    "role: 0 would prove nothing"
                ),
            ),
        ),
    ],
)
def test_rows_that_policies_hide_are_said_and_where_nothing_is_seen_it_is_a_fault(
    answer: Table, security: list[RowSecurity], expected: tuple[str, str] | None
) -> None:
    found = examined({"a": answer}, security)
    assert found[0] == ("ok", "check a: 2 rows")
    assert found[1:] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("answer", "level", "says"),
    [
        (Table(("version",), (("2",),)), "ok", "2 is applied"),
        (Table(("version",), ()), "fail", "2 is not applied: its does not have it"),
        (QueryRefused("no table"), "fail", "cannot tell whether 2 is applied: no table"),
    ],
)
def test_each_migration_that_checks_name_is_looked_for_once(
    answer: Table | QueryRefused, level: str, says: str
) -> None:
    checks = (check("a", migration="2"), check("b", migration="2"), check("c"))
    found = examine_migrations(plan_of(checks=checks), Database({"its": answer}), "its", "version")
    assert [(one.level, one.message) for one in found] == [(level, says)]
    assert bool(found[0].hint) == (level == "fail")


@pytest.mark.parametrize(
    ("remaining", "guards", "level", "says"),
    [
        (300, (), "ok", "300 of 5,000 points are left until noon"),
        (299, (), "fail", "299 of 5,000 points are left until noon, and the plan needs about 300"),
        (
            299,
            (GithubGuard(10),),
            "ok",
            (
                "299 of 5,000 points are left until noon, and the plan needs about 300; its guard "
                "waits for more"
            ),
        ),
    ],
)
def test_a_plan_that_needs_more_of_github_than_is_left_needs_a_guard(
    remaining: int, guards: tuple[GithubGuard, ...], level: str, says: str
) -> None:
    stage = sending("app/sync", 3, needs=Needs(github_points=100.0))
    found = examine_github(plan_of(stage, guards=guards), remaining, 5_000, "noon")
    assert (found.level, found.message, bool(found.hint)) == (level, says, level == "fail")


@pytest.mark.parametrize(
    ("ahead", "level", "says"),
    [
        (2.0, "ok", "within 2 s of"),
        (-2.0, "ok", "within 2 s of"),
        (2.1, "warn", "2.1 s ahead of"),
        (-2.1, "warn", "2.1 s behind"),
    ],
)
def test_each_database_that_is_asked_tells_its_clock_once(
    ahead: float, level: str, says: str
) -> None:
    checks = (check("a"), check("b"))
    (found,) = examine_clocks(plan_of(checks=checks), Database({}, ahead=ahead))
    whose = "the clock of the database is"
    shown = f"{whose} {says} this machine's; its session's time zone is UTC"
    assert (found.level, found.message) == (level, shown)


def test_a_database_that_does_not_tell_the_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_database: Database, _name: str | None) -> DatabaseClock:
        raise QueryRefused("no time", "ask another")

    monkeypatch.setattr(Database, "clock", refuse)
    (found,) = examine_clocks(plan_of(checks=(check("a"),)), Database({}))
    shown = ("fail", "the clock of the database cannot be read: no time", "ask another")
    assert (found.level, found.message, found.hint) == shown


def test_clocks_of_several_databases_are_told_by_name() -> None:
    checks = (check("a"), check("b", database="analytics"))
    found = examine_clocks(plan_of(checks=checks), Database({}, ahead=5.0))
    assert [one.message.split(";")[0] for one in found] == [
        "the clock of the database is 5.0 s ahead of this machine's",
        "the clock of the database `analytics` is 5.0 s behind this machine's",
    ]
