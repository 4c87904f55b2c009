"""What a program passes is held to the limits of the command line's options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runner
from tests.support import repos, write_plan

PLAN = "plan.yaml"
PLAN = "plan.yaml"
NAN, INFINITY = float("nan"), float("inf")
NO_COUNT = (0, -1, 1.5, "2", True, 10**30)
# An iterator used to be empty when it was read again: the whole plan was selected.
NO_LIST = ("failed", None, 1, iter(["failed"]), map(str, [1]), [b"failed"], ["\0"], {"failed"})
NO_TIME = (-1, NAN, INFINITY, "5s", True, 1e300)
Do = Callable[[runner.Session, Any], object]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[runner.Session]:
    """A session whose state has a run of two events."""
    path = write_plan(tmp_path, repos(2) + "operations: [sync]\nhandlers: {app/sync: 'jobs:go'}\n")
    path.with_name("jobs.py").write_text("def go(event): return {}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with runner.Session("state.db", environ={}) as opened:
        opened.run(opened.plan(path))
        yield opened


def planned(session: Any, **selectors: Any) -> Any:
    return session.plan(PLAN, selectors=runner.Selectors(**selectors))


def driven(session: Any, **options: Any) -> Any:
    return session.run(session.plan(PLAN), options=runner.RunOptions(**options))


COUNTS: dict[str, Do] = {
    "batch_size": lambda session, value: session.tune(batch_size=value),
    "max_in_flight": lambda session, value: session.tune(max_in_flight=value),
    "limit": lambda session, value: planned(session, limit=value),
    "sample": lambda session, value: planned(session, sample=value),
    "max_rounds": lambda session, value: driven(session, max_rounds=value),
    "limit of runs": lambda session, value: session.runs(limit=value),
    "limits.events": lambda session, value: driven(session, limits=runner.RequestLimits(value)),
}
TIMES: dict[str, Do] = {
    "delay": lambda session, value: session.tune(delay=value),
    "wait": lambda session, value: session.check(PLAN, wait=value),
    "grace": lambda session, value: driven(session, grace=value),
    "wait_lock": lambda session, value: driven(session, wait_lock=value),
    "seconds": lambda session, value: session.hold("embedded", "why", value),
    "max_time": lambda session, value: session.resume(options=runner.RunOptions(max_time=value)),
    "give_up_after": lambda session, value: session.retry(
        options=runner.RunOptions(give_up_after=value)
    ),
}
WORDS: dict[str, Do] = {
    "seed": lambda session, value: planned(session, sample=1, seed=value),
    "unanswered": lambda session, value: session.resume(
        options=runner.RunOptions(unanswered=value)
    ),
}
LISTS: dict[str, Do] = {
    "only": lambda session, value: planned(session, only=value),
    "skip": lambda session, value: planned(session, skip=value),
    "items": lambda session, value: planned(session, items=value),
    "items of a retry": lambda session, value: session.retry(items=value),
}
OUTCOMES: dict[str, Do] = {"outcomes": lambda session, value: session.retry(outcomes=value)}


@pytest.mark.parametrize(
    ("name", "do", "values"),
    [
        *((name.partition(" ")[0], do, NO_COUNT) for name, do in COUNTS.items()),
        *((name, do, NO_TIME) for name, do in TIMES.items()),
        *((name, do, ("resend", 1.5, True, [])) for name, do in WORDS.items()),
        *((name.partition(" ")[0], do, NO_LIST) for name, do in LISTS.items()),
        *((name, do, NO_LIST[:-1]) for name, do in OUTCOMES.items()),
    ],
)
def test_what_no_option_takes_is_refused_by_its_name(
    session: runner.Session, name: str, do: Do, values: tuple[object, ...]
) -> None:
    for value in values:
        with pytest.raises(runner.UsageError, match=f"`{name}` is ") as refused:
            do(session, value)
        assert refused.value.hint


@pytest.mark.parametrize(
    ("selectors", "words"),
    [
        ({"limit": 1, "sample": 1}, "`limit` and `sample` exclude each other"),
        ({"seed": 4}, "`seed` does nothing without `sample`"),
    ],
)
def test_selectors_that_have_no_effect_are_refused(
    session: runner.Session, selectors: dict[str, Any], words: str
) -> None:
    for ask in (session.plan, session.check, session.coverage):
        with pytest.raises(runner.UsageError, match=words):
            ask(PLAN, selectors=runner.Selectors(**selectors))


@pytest.mark.parametrize(
    ("do", "options"),
    [
        ("run", {"max_rounds": 5}),
        ("run", {"past_failures": True}),
        ("submit", {"pause_file": "hold"}),
        ("submit", {"unanswered": "send"}),
        ("retry", {"max_time": 0.0}),
        ("retry", {"follow": False}),
        ("resume", {"follow": False}),
        ("resume", {"skip_preflight": True}),
    ],
)
def test_options_that_change_nothing_are_refused(
    session: runner.Session, do: str, options: dict[str, Any]
) -> None:
    given: Any = {"run": session.plan(PLAN), "submit": session.plan(PLAN)}.get(do, "latest")
    with pytest.raises(runner.UsageError, match=f"has no effect with `{next(iter(options))}`"):
        getattr(session, do)(given, options=runner.RunOptions(yes=True, **options))


@pytest.mark.parametrize("value", ["signkey-test-12345678", {"a": ["postgresql://u:pass@h/d"]}])
def test_a_key_is_no_variable(session: runner.Session, value: Any) -> None:
    """It was taken, and written into the journal and the payloads."""
    for ask in (session.plan, session.check, session.coverage):
        with pytest.raises(runner.UsageError, match="the variable `n` looks like a key") as refused:
            ask(PLAN, variables={"n": value})
        assert str(value) not in repr(vars(refused.value))


NOTHING: dict[str, Callable[[runner.Session], object]] = {
    "state": lambda _: runner.Session(""),
    "environment": lambda _: runner.Session(environment=""),
    "runs": lambda session: session.runs(plan=""),
    "plan": lambda session: session.plan(PLAN, target=""),
    "check": lambda session: session.check(PLAN, applied=""),
    "hold": lambda session: session.hold("", "why"),
    "hold nothing": lambda session: session.hold(None, "why"),  # type: ignore[arg-type]
    "let_go": lambda session: session.let_go(""),
    "let_go of nothing": lambda session: session.let_go(None),  # type: ignore[arg-type]
    "status": lambda session: session.status(""),
    "events": lambda session: list(session.events("")),
    "pause": lambda session: session.pause(""),
    "cancel": lambda session: session.cancel(""),
    "tune": lambda session: session.tune("", batch_size=1),
    "resume": lambda session: session.resume(""),
    "retry": lambda session: session.retry(""),
    "pause_file": lambda session: driven(session, pause_file=""),
    "summary_file": lambda session: driven(session, summary_file=""),
}


@pytest.mark.parametrize("do", NOTHING.values(), ids=NOTHING.keys())
def test_an_empty_text_names_no_target_and_no_run(
    session: runner.Session, do: Callable[[runner.Session], object]
) -> None:
    """Such as an unset variable gives; it used to mean the default target, or the only run."""
    with pytest.raises(runner.UsageError, match=r"is empty$|is no run ''$") as refused:
        do(session)
    assert refused.value.hint


def test_what_there_is_not_is_not_retried(session: runner.Session) -> None:
    with pytest.raises(runner.UsageError, match="there is no outcome `faild`") as refused:
        session.retry(outcomes=["faild"])  # type: ignore[list-item]
    assert refused.value.hint == "did you mean `failed`?"


def test_what_an_option_takes_is_taken(session: runner.Session) -> None:
    assert planned(session, limit=1).plan.events == 1
    assert planned(session, sample=1, seed=4).plan.events == 1
    assert planned(session, items=["o/r1"]).plan.events == 1
    with pytest.raises(runner.PreflightRefused, match="has nothing to retry"):
        session.retry(outcomes={"failed"}, items=["o/r1"])
    with pytest.raises(runner.UsageError, match="is not under way"):
        session.tune(delay=0.5, batch_size=1)
