"""What refuses a run before anything is sent, and who is asked to confirm."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.adapters.inngest.target import Target, resolve
from runner.app.approval import approved, refuse_unapproved
from runner.app.preflight import confirm, followed, preflight, refuse_another_address, refuse_empty
from runner.app.session import Session, Silent
from runner.errors import BackfillError, PreflightRefused, StalePlan, UsageError
from runner.execution.context import RunOptions
from runner.model import ExecutionPlan, Finding
from tests.depth import paired
from tests.support import Recorder, make_plan, repos

KEYS = {"INNGEST_EVENT_KEY": "e", "INNGEST_SIGNING_KEY": "s"}
CLOUD, DEV, EMBEDDED = (resolve(name, KEYS) for name in ("cloud", "dev", "embedded"))
UNSIGNED = resolve("cloud", {"INNGEST_EVENT_KEY": "e"})
KEYLESS = resolve("cloud", {})


@pytest.fixture
def plan(tmp_path: Path) -> ExecutionPlan:
    return make_plan(tmp_path, repos(2) + "operations: [fire]\n")


def with_stage(plan: ExecutionPlan, **changes: Any) -> ExecutionPlan:
    return replace(plan, stages=tuple(replace(one, **changes) for one in plan.stages))


def in_session(answer: bool | None) -> tuple[Any, list[str]]:
    """Return a session whose user answers (None: there is nobody to ask), and the questions."""
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return bool(answer)

    return SimpleNamespace(confirm=None if answer is None else ask), asked


@pytest.mark.parametrize(
    ("target", "yes", "answer", "refused", "questions"),
    [
        (CLOUD, False, True, None, ["Send 2 events to cloud?"]),
        (CLOUD, False, False, "not confirmed", ["Send 2 events to cloud?"]),
        (CLOUD, False, None, "there is no terminal to ask", []),
        (CLOUD, True, None, None, []),
        (CLOUD, True, False, None, []),
        (DEV, False, None, None, []),
        (DEV, False, False, None, []),
    ],
)
def test_somebody_is_asked_before_events_leave_this_machine(
    plan: ExecutionPlan,
    target: Target,
    yes: bool,
    answer: bool | None,
    refused: str | None,
    questions: list[str],
) -> None:
    """What the user should know is shown before the question."""
    session, asked = in_session(answer)
    said: list[str] = []
    options = RunOptions(yes=yes)
    if refused:
        with pytest.raises(PreflightRefused, match=refused):
            confirm(session, plan, target, options, lambda: said.append("before"))
    else:
        confirm(session, plan, target, options, lambda: said.append("before"))
    assert asked == questions
    assert bool(said) is (answer is not None or yes or target.local)


def test_nobody_is_asked_about_nothing(plan: ExecutionPlan) -> None:
    session, _ = in_session(None)
    confirm(session, replace(plan, stages=()), CLOUD, RunOptions())


def test_a_plan_without_events_is_refused_unless_it_may_be_empty(plan: ExecutionPlan) -> None:
    refuse_empty(plan)
    empty = replace(plan, stages=())
    with pytest.raises(PreflightRefused, match="there is nothing to send"):
        refuse_empty(empty)
    refuse_empty(replace(empty, if_empty="ok"))


@pytest.mark.parametrize(
    ("written", "target", "holds"),
    [
        ({"a.yaml": "digest: {digest}\n"}, CLOUD, True),
        ({"a.yaml": "# {digest}\n"}, CLOUD, True),
        ({"a.yaml": "digest: {digest}\ntarget: cloud\n"}, CLOUD, True),
        ({"a.yaml": "digest: {digest}\ntarget: cloud\n"}, DEV, False),
        ({"a.yaml": "target: dev\ndigest: {digest}\ntarget: cloud\n"}, DEV, True),
        ({"a.yaml": "digest: {digest}0\n", "b.yaml": ""}, CLOUD, False),
        ({"a.yaml": "", "b.yaml": "digest: {digest}\n"}, CLOUD, True),
        ({"a.yaml": "digest: {digest}\n" + "#" * 70_000}, CLOUD, False),
        ({}, CLOUD, False),
    ],
)
def test_an_approval_names_the_digest_and_the_target_or_none(
    plan: ExecutionPlan, written: dict[str, str], target: Target, holds: bool
) -> None:
    folder = Path(plan.path).parent / "approvals"
    for name, text in written.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text.format(digest=plan.digest))
    assert approved(plan.path, plan.digest, target) is holds
    demanding = replace(plan, approval=1)
    if holds:
        refuse_unapproved(demanding, target)
    else:
        with pytest.raises(PreflightRefused, match="needs an approval") as refused:
            refuse_unapproved(demanding, target)
        assert str(refused.value).endswith(f"names its digest for {target.name}")
        assert plan.digest in (refused.value.hint or "")
    refuse_unapproved(plan, target)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ({}, "after a review, the reviewer adds {folder}/test.yaml with: digest: {digest}"),
        (
            {"other.yaml": f"digest: sha256:{'0' * 64}\n"},
            "after a review, the reviewer adds {folder}/test.yaml with: digest: {digest}",
        ),
        (
            {"test.yaml": f"digest: sha256:{'0' * 64}\n"},
            (
                "{folder}/test.yaml names another digest, as what would be sent has changed since; "
                "after a review, the reviewer writes there: digest: {digest}"
            ),
        ),
        (
            {"test.yaml": "digest: sha256:0000\n"},
            (
                "{folder}/test.yaml does not name it; after a review, the reviewer writes there: "
                "digest: {digest}"
            ),
        ),
        (
            {"other.yaml": "digest: {digest}\ntarget: dev\n"},
            (
                "{folder}/other.yaml names {digest}, but not this target; after a review, the "
                "reviewer adds it there"
            ),
        ),
    ],
    ids=["none", "of another plan", "of an older plan", "cut", "for another target"],
)
def test_a_refusal_says_why_the_approval_that_is_there_does_not_count(
    plan: ExecutionPlan, written: dict[str, str], hint: str
) -> None:
    folder = Path(plan.path).parent / "approvals"
    folder.mkdir()
    for name, text in written.items():
        (folder / name).write_text(text.format(digest=plan.digest))
    with pytest.raises(PreflightRefused) as refused:
        refuse_unapproved(replace(plan, approval=1), CLOUD)
    assert refused.value.hint == hint.format(folder=os.path.relpath(folder), digest=plan.digest)


KEPT = [
    ("target: {}", True),
    ("Target: {}", True),
    ("TARGETS:{}", True),
    ("target = {}", True),
    ("- target : '{}'", True),
    ("target: other, {}", True),
    ("targets: [other, {}]", True),
    ("environment: {}", True),
    ("target: {} # alone", True),
    ("only on target: {}", True),
    ("target:", False),
    ("target: other, not {}", False),
    ("target: {}-2", False),
]


@pytest.mark.parametrize(
    ("kept", "digest", "end", "start"),
    paired(
        KEPT,
        ["{}", "digest: {}", 'digest: "{}"', "- `{}`"],
        ["\n", "\r\n"],
        ["", "\ufeff"],
    ),
)
def test_whoever_keeps_an_approval_to_a_target_means_no_other_however_it_is_written(
    plan: ExecutionPlan, kept: tuple[str, bool], digest: str, start: str, end: str
) -> None:
    line, names = kept
    folder = Path(plan.path).parent / "approvals"
    folder.mkdir()
    text = start + end.join([line.format("cloud"), digest.format(plan.digest), ""])
    (folder / "a").write_bytes(text.encode())
    assert approved(plan.path, plan.digest, CLOUD) is names
    assert not approved(plan.path, plan.digest, DEV)


@pytest.mark.parametrize("spelled", ["http://HOST", "http://host:80/", "HTTP://host"])
def test_an_approval_may_spell_the_targets_address_in_any_way(
    plan: ExecutionPlan, spelled: str
) -> None:
    folder = Path(plan.path).parent / "approvals"
    folder.mkdir()
    (folder / "a").write_text(f"target: {spelled}\ndigest: {plan.digest}\n")
    assert approved(plan.path, plan.digest, resolve("http://host", {}))
    assert not approved(plan.path, plan.digest, resolve("http://host:81", {}))


CAPPED, DRAINED = {"cap": SimpleNamespace(events=1, written=True)}, {"until": object()}
WAITING, CANARY = {"wait": "completed"}, {"canary": 1}
NO_WAIT = RunOptions(follow=False)


@pytest.mark.parametrize(
    ("stage", "target", "options", "follows"),
    [
        ({}, CLOUD, RunOptions(), True),
        ({}, CLOUD, NO_WAIT, False),
        ({}, EMBEDDED, RunOptions(), True),
        ({}, EMBEDDED, NO_WAIT, "the embedded target ends with this process"),
        ({}, KEYLESS, RunOptions(), "needs an event key, but none is set"),
        ({}, UNSIGNED, RunOptions(), False),
        ({}, DEV, RunOptions(), True),
        (WAITING, UNSIGNED, RunOptions(), "needs a signing key"),
        (WAITING, UNSIGNED, NO_WAIT, False),
        (WAITING, CLOUD, RunOptions(), True),
        (WAITING, resolve("dev", {}), RunOptions(), True),
        (CAPPED, CLOUD, RunOptions(), True),
        (CAPPED, CLOUD, NO_WAIT, "`max_in_flight` of `fire` limits the jobs"),
        ({"cap": SimpleNamespace(events=1, written=False)}, CLOUD, NO_WAIT, False),
        (DRAINED, CLOUD, RunOptions(), True),
        (DRAINED, CLOUD, NO_WAIT, "`fire` is sent in rounds"),
        (DRAINED, UNSIGNED, RunOptions(), "empty, but following jobs on cloud needs a signing key"),
        (CANARY, CLOUD, RunOptions(), True),
        (CANARY, CLOUD, NO_WAIT, "`fire` waits until its canary has succeeded"),
        (CANARY, UNSIGNED, RunOptions(), "succeeded, but following jobs on cloud needs a signing"),
        (CAPPED, UNSIGNED, RunOptions(), "`max_in_flight` of `fire` .* needs a signing key"),
        ({"begins": 0.0}, CLOUD, RunOptions(), False),
        ({"begins": 0.0, **DRAINED}, CLOUD, RunOptions(), "`fire` is sent in rounds"),
        ({"begins": 0.0}, EMBEDDED, RunOptions(), "the embedded target ends with this process"),
    ],
)
def test_jobs_are_followed_where_that_can_be_and_is_not_declined(
    plan: ExecutionPlan,
    stage: dict[str, Any],
    target: Target,
    options: RunOptions,
    follows: bool | str,
) -> None:
    changed = with_stage(plan, **stage)
    if isinstance(follows, bool):
        assert followed(changed, target, options).follow is follows
    else:
        with pytest.raises((PreflightRefused, UsageError), match=follows):
            followed(changed, target, options)


def test_a_run_goes_on_where_it_began(plan: ExecutionPlan) -> None:
    record: Any = SimpleNamespace(id="01RUN", target="dev", address=DEV.address)
    refuse_another_address(record, DEV)
    elsewhere = resolve("dev", {"INNGEST_DEV": "http://127.0.0.1:9999"})
    with pytest.raises(StalePlan) as refused:
        refuse_another_address(record, elsewhere)
    assert str(refused.value) == (
        "run 01RUN was started on http://127.0.0.1:8288, and `dev` is now http://127.0.0.1:9999"
    )


FOUND = {
    "server": [Finding("app/fire", "warn", "nothing listens", "deploy it"),
               Finding("key", "warn", "is old"), Finding("x", "ok", "is fine")],
    "plan": [Finding("plan", "warn", "is large")],
}  # fmt: skip
FAILS = Finding("app/fire", "fail", "is refused")


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bool]]:
    """Set what the doctor finds; return whether it was as thorough as `backfill doctor` is."""

    def find(**found: list[Finding]) -> list[bool]:
        looked: list[bool] = []

        def of_server(*_: object, thorough: bool) -> object:
            looked.append(thorough)
            return found.get("server", []), ()

        def of_plan(*_: object, thorough: bool) -> object:
            looked.append(thorough)
            return found.get("plan", [])

        monkeypatch.setattr("runner.app.preflight.examine_server", of_server)
        monkeypatch.setattr("runner.app.preflight.examine_plan", of_plan)
        return looked

    return find


def test_what_the_doctor_finds_is_noted_or_refuses_the_run(
    plan: ExecutionPlan, examined: Callable[..., list[bool]]
) -> None:
    """The preview shows what the doctor finds about the plan."""
    heard = Recorder()
    session = Session(environ={}, reporter=Silent(heard))
    looked = examined(**FOUND)
    assert preflight(session, plan, DEV, RunOptions()).functions == ()
    assert looked == [False, False]
    assert heard.notes == ["app/fire: nothing listens (deploy it)", "key: is old"]
    for where in FOUND:
        examined(**{where: [FAILS]})
        with pytest.raises(PreflightRefused) as refused:
            preflight(session, plan, DEV, RunOptions())
        assert refused.value.findings == (FAILS,)
        assert preflight(session, plan, DEV, RunOptions(skip_preflight=True)).functions is None


@pytest.mark.parametrize(
    ("change", "options", "error"),
    [
        ({"stages": ()}, {}, PreflightRefused),
        ({"approval": 1}, {}, PreflightRefused),
        ({}, {"summary_file": "plan.yaml"}, UsageError),
        ({}, {}, None),
    ],
)
def test_what_is_refused_anyway_is_not_examined(
    plan: ExecutionPlan,
    examined: Callable[..., list[bool]],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    options: dict[str, Any],
    error: type[BackfillError] | None,
) -> None:
    monkeypatch.chdir(Path(plan.path).parent)
    looked = examined()
    session = Session(environ={}, reporter=Silent())
    if error is None:
        preflight(session, replace(plan, **change), DEV, RunOptions(**options))
    else:
        with pytest.raises(error):
            preflight(session, replace(plan, **change), DEV, RunOptions(**options))
    assert bool(looked) is (error is None)
