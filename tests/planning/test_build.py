"""BackfillPlan -> ExecutionPlan: exactly what will be sent, the same every time, without I/O."""

from __future__ import annotations

import builtins
import os
import socket
import subprocess
import sys
import tracemalloc
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import InvalidPlan
from runner.model import ExecutionPlan, PlannedEvent
from runner.planning.build import build_execution_plan
from runner.spec.load import load_plan
from tests.depth import depth
from tests.support import make_plan, write_plan

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync:
    event: app/sync
    for_each: repo
    payload: {repo: "{{ repo.repo }}", days: "{{ vars.days | default(1) }}"}
  embed:
    event: app/embed
    for_each: workspace
    after: [sync]
    payload:
      id: "{{ workspace.id }}"
      repos: "{{ workspace.repos }}"
      size: "{{ operation.batch_size }}"
  tell: {event: app/tell, for_each: once, after: [embed], payload: {plan: "{{ plan.name }}"}}
  busy:
    event: app/busy
    for_each: repo
    payload: {repo: "{{ repo.repo }}"}
    when: repo.velocity | default(0) > 10
"""


def with_contract(contract: str) -> str:
    """Return the catalog with a contract for `busy`, its last operation."""
    return f"{CATALOG}    contract: {contract}\n"


def plan_of(
    folder: Path, body: str, *, catalog: str = CATALOG, strict: bool = False
) -> ExecutionPlan:
    return build_execution_plan(
        load_plan(str(write_plan(folder, body, catalog=catalog))), strict=strict
    )


def messages(folder: Path, body: str, *, catalog: str = CATALOG, strict: bool = False) -> list[str]:
    with pytest.raises(InvalidPlan) as caught:
        plan_of(folder, body, catalog=catalog, strict=strict)
    return [problem.message for problem in caught.value.problems]


def sent(plan: ExecutionPlan) -> list[tuple[str, str, Any]]:
    return [(p.operation, p.item, p.event.data) for p in plan.planned()]


BODY = """\
vars: {days: 90}
workspace: w1
repos:
  - o/a
  - {repo: o/b, workspace: w2, velocity: 40}
  - {repo: o/c, skip: [embed], velocity: 5}
  - {repo: o/d, workspace: w3, skip: [embed, embed], priority: high}
operations: [tell, embed, sync, busy]
"""


def test_stages_follow_their_needs_and_hold_what_will_be_sent(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, BODY)
    assert [(s.number, s.operation, s.total) for s in plan.stages] == [
        (1, "sync", 4),
        (2, "embed", 2),
        (3, "tell", 1),
        (4, "busy", 1),
    ]
    assert sent(plan) == [
        ("sync", "o/d", {"repo": "o/d", "days": 90}),
        ("sync", "o/a", {"repo": "o/a", "days": 90}),
        ("sync", "o/b", {"repo": "o/b", "days": 90}),
        ("sync", "o/c", {"repo": "o/c", "days": 90}),
        ("embed", "w1", {"id": "w1", "repos": ["o/a", "o/c"], "size": 50}),
        ("embed", "w2", {"id": "w2", "repos": ["o/b"], "size": 50}),
        ("tell", "test", {"plan": "test"}),
        ("busy", "o/b", {"repo": "o/b"}),
    ]


def test_what_is_skipped_has_its_reason(tmp_path: Path) -> None:
    """A workspace is skipped if all of its repositories skip; one that is listed twice counts
    once."""
    plan = plan_of(tmp_path, BODY + "skip: [tell]\n")
    not_busy = "`when: repo.velocity | default(0) > 10` is false"
    assert [(s.operation, s.item, s.reason) for s in plan.skipped] == [
        ("tell", None, "skipped by the plan"),
        ("embed", "w3", "skipped by all of its repositories"),
        ("busy", "o/d", not_busy),
        ("busy", "o/a", not_busy),
        ("busy", "o/c", not_busy),
    ]


def test_an_operation_listed_twice_in_one_skip_counts_once(tmp_path: Path) -> None:
    body = (
        "workspace: w\nrepos: [{repo: o/a, skip: [embed, embed]}, o/b]\noperations: [embed, sync]\n"
    )
    assert [item for name, item, _ in sent(plan_of(tmp_path, body)) if name == "embed"] == ["w"]


def test_an_item_may_name_the_only_operations_that_run_for_it(tmp_path: Path) -> None:
    body = (
        "repos:\n  - {repo: o/a, workspace: w, only: [sync]}\n"
        "  - {repo: o/b, workspace: v, only: [embed, sync]}\noperations: [sync, embed]\n"
    )
    plan = plan_of(tmp_path, body)
    assert [(name, item) for name, item, _ in sent(plan)] == [
        ("sync", "o/a"), ("sync", "o/b"), ("embed", "v"),
    ]  # fmt: skip
    (tmp_path / "repos.csv").write_text("repo,only\no/a,busy\no/b,sync; busy\n", "utf-8")
    plan = plan_of(tmp_path, "repos: [{file: repos.csv}]\noperations: [sync]\n")
    assert [(s.item, s.reason) for s in plan.skipped] == [
        ("o/a", "not in the `only` of the repository")
    ]


def test_workspaces_come_in_the_order_of_their_first_repository(tmp_path: Path) -> None:
    body = (
        "repos:\n  - {repo: o/a, workspace: late}\n"
        "  - {repo: o/b, workspace: early, priority: high}\n"
        "  - {repo: o/c, workspace: late, priority: critical}\n  - o/homeless\n"
        "operations: [embed]\n"
    )
    plan = plan_of(tmp_path, body)
    assert [(item, data["repos"]) for _, item, data in sent(plan)] == [
        ("late", ["o/c", "o/a"]),
        ("early", ["o/b"]),
    ]
    (warning,) = plan.warnings
    assert warning.message.startswith("a repository belongs to no workspace")
    assert len(messages(tmp_path, body, strict=True)) == 1


def test_the_plans_own_workspace_counts_where_no_repository_is_listed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "workspace: w\noperations: [embed]\n")
    assert sent(plan) == [("embed", "w", {"id": "w", "repos": [], "size": 50})]


def test_nothing_to_send_is_said(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "repos: [o/a]\noperations: [busy]\n")
    assert plan.stages == ()
    (warning,) = plan.warnings
    assert warning.message == "there is nothing to send"
    assert warning.hint == "if that is fine, write `if_empty: ok`"


def test_an_attribute_that_orders_nothing_is_said(tmp_path: Path) -> None:
    body = "repos: [o/a]\noperations: [sync]\norder_by: [priority, -velocty]\n"
    assert [w.message for w in plan_of(tmp_path, body).warnings] == [
        "`order_by` names `velocty`, which no item has"
    ]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=depth(15, 40),
    deadline=None,
)
@given(st.integers(0, 60), st.integers(1, 25))
def test_batches_cut_the_items_and_lose_none(tmp_path: Path, count: int, size: int) -> None:
    """Full batches, then the rest, numbered from 1; iterating from any event gives the same
    ones."""
    repos = ", ".join(f"o/r{n}" for n in range(count + 1))
    body = f"repos: [{repos}]\nbatch_size: {size}\ndelay: 2s\noperations: [sync]\n"
    (stage,) = plan_of(tmp_path, body).stages
    events = list(stage.planned())
    assert [event.item for event in events] == [f"o/r{n}" for n in range(count + 1)]
    batches = [list(batch) for _, batch in groupby(events, key=lambda event: event.batch)]
    assert [batch[0].batch for batch in batches] == list(range(1, len(batches) + 1))
    assert all(len(batch) == size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= size
    assert stage.batches == len(batches)
    assert stage.duration == 2 * (len(batches) - 1)
    for start in {0, 1, size, count, count + 1} & set(range(count + 2)):
        assert list(stage.planned(start)) == events[start:]


def test_reading_a_plan_twice_gives_the_same_events(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, BODY)
    assert list(plan.planned()) == list(plan.planned())


PACED = """\
vars: {days: 90}
workspace: w1
repos:
  - o/a
  - {repo: o/b, workspace: w2, velocity: 40}
  - {repo: o/c, skip: [embed], velocity: 5}
batch_size: 40
delay: 4s
on_failure: stop
operations:
  - tell
  - embed
  - sync
  - {use: busy}
"""
CHANGES = {
    "an item": ("o/a", "o/x"),
    "the order": ("delay: 4s", "delay: 4s\norder_by: [-velocity]"),
    "a variable that is read": ("days: 90", "days: 91"),
    "an operation": ("  - tell\n", ""),
    "a skip": ("skip: [embed]", "skip: [sync]"),
    "the batch size": ("batch_size: 40", "batch_size: 41"),
    "the delay": ("delay: 4s", "delay: 4001ms"),
    "what to do on failure": ("on_failure: stop", "on_failure: continue"),
    "a workspace": ("workspace: w1", "workspace: w9"),
    "the plan's name": ("name: test", "name: other"),
    "waiting": ("{use: busy}", "{use: busy, wait: sent}"),
    "the timeout": ("{use: busy}", "{use: busy, timeout: 20m}"),
    "a payload": ("{use: busy}", "{use: busy, with: {x: 1}}"),
    "the type of a value": ("days: 90", 'days: "90"'),
    "the jitter": ("delay: 4s", "delay: {between: [4s, 8s]}"),
    "a check": (
        "delay: 4s",
        "delay: 4s\nchecks: [{name: c, query: select 1, expect: {rows: 1}}]",
    ),
}
NO_CHANGES = {
    "a comment": ("workspace: w1", "workspace: w1  # ours"),
    "quotes": ("o/a", "'o/a'"),
    "a variable that nothing reads": ("days: 90", "days: 90, unused: 1"),
    "an attribute that nothing reads": ("velocity: 5", "velocity: 5, label: x"),
    "the reason": ("name: test", "name: test, reason: why"),
    "a handler": ("delay: 4s", "handlers: {app/sync: worker:sync}\ndelay: 4s"),
    "the spelling of a duration": ("delay: 4s", "delay: 4000ms"),
    "the default, written out": ("delay: 4s", "delay: 4s\norder_by: [priority]"),
    "an operation for which nothing is left": ("{use: busy}", "{use: busy}\n  - {use: never}"),
}
NEVER = '  never: {event: app/never, for_each: repo, when: "false"}\n'


def digest(folder: Path, old: str = "", new: str = "") -> str:
    path = write_plan(folder, PACED, catalog=CATALOG + NEVER)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return build_execution_plan(load_plan(str(path))).digest


@pytest.mark.parametrize("change", CHANGES)
def test_the_digest_changes_with_whatever_is_sent_or_paced(tmp_path: Path, change: str) -> None:
    assert digest(tmp_path, *CHANGES[change]) != digest(tmp_path)


@pytest.mark.parametrize("change", NO_CHANGES)
def test_the_digest_stays_where_nothing_that_is_sent_changes(tmp_path: Path, change: str) -> None:
    assert digest(tmp_path, *NO_CHANGES[change]) == digest(tmp_path)


def test_the_same_plan_gives_the_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    path = write_plan(tmp_path, BODY, catalog=CATALOG)
    code = (
        "import sys, json\n"
        "from runner.planning.build import build_execution_plan\n"
        "from runner.spec.load import load_plan\n"
        "plan = build_execution_plan(load_plan(sys.argv[1]))\n"
        "print(plan.digest, plan.skipped, plan.warnings)\n"
        "for p in plan.planned():\n"
        "    print(p.stage, p.operation, p.batch, p.item, json.dumps(p.event.data))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(outputs) == 1


def test_planning_touches_neither_files_nor_network_nor_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All templates and schemas are compiled before planning begins; planning only computes."""
    plan = load_plan(str(write_plan(tmp_path, BODY, catalog=CATALOG)))
    build_execution_plan(plan)  # triggers the imports of a first use

    def refuse(*_args: object, **_kwargs: object) -> Any:
        raise AssertionError("planning does no I/O")

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", refuse)
        patched.setattr(os, "open", refuse)
        patched.setattr(os, "stat", refuse)
        patched.setattr(socket, "socket", refuse)
        patched.setattr(Path, "read_bytes", refuse)
        patched.setattr("time.time", refuse)
        patched.setattr("random.random", refuse)
        execution = build_execution_plan(plan)
        events = list(execution.planned())
    assert len(events) == execution.events == 8


def test_a_broken_contract_names_the_item_and_the_templates_line(tmp_path: Path) -> None:
    catalog = with_contract("{properties: {repo: {enum: [o/a, o/b]}}}")
    body = "repos:\n" + "".join(f"  - {{repo: o/{n}, velocity: 50}}\n" for n in "abcde")
    with pytest.raises(InvalidPlan) as caught:
        plan_of(tmp_path, body + "operations: [busy, sync]\n", catalog=catalog)
    (problem,) = caught.value.problems
    assert problem.message == (
        "the payload for o/c breaks the contract: `repo` is `o/c`; expected one of o/a, o/b"
        " (and for 2 other items too)"
    )
    assert Path(problem.path).name == "catalog.yaml"
    assert problem.line == 20


def test_the_same_fault_of_many_items_is_one_problem(tmp_path: Path) -> None:
    repos = ", ".join(f"o/r{n}" for n in range(250))
    templates = "{a: '{{ repo.x }}', b: '{{ repo.y }}'}"
    body = f"repos: [{repos}]\noperations: [{{use: sync, with: {templates}}}]\n"
    assert messages(tmp_path, body) == [
        "`a` cannot be rendered for o/r0: `repo` has no `x` (and for 99 other items too)",
        "`b` cannot be rendered for o/r0: `repo` has no `y` (and for 99 other items too)",
        "`sync`: 150 more items have such problems",
    ]


def test_a_contract_that_only_one_validator_can_follow_still_holds(tmp_path: Path) -> None:
    r"""Only the validator that decides accepts the pattern `\p{L}`, not the one that explains."""
    catalog = with_contract(r"{properties: {repo: {pattern: '^\p{L}+$'}}}")
    body = "repos: [{repo: o/r, velocity: 50}]\noperations: [busy]\n"
    (message,) = messages(tmp_path, body, catalog=catalog)
    assert message.startswith("the payload for o/r breaks the contract: ")
    assert "does not match" in message


def test_a_contract_may_refer_to_itself(tmp_path: Path) -> None:
    tree = (
        "{additionalProperties: {anyOf: [{type: string}, {$ref: '#/definitions/x'}]}, type: object}"
    )
    catalog = with_contract(f"{{$ref: '#/definitions/x', definitions: {{x: {tree}}}}}")
    body = "repos: [{repo: o/r, velocity: 50}]\noperations: [busy]\n"
    assert plan_of(tmp_path, body, catalog=catalog).events == 1
    bad = body.replace("[busy]", "[{use: busy, with: {y: {z: {a: 1}}}}]")
    assert len(messages(tmp_path, bad, catalog=catalog)) == 1


def test_many_rows_are_not_held_as_events(tmp_path: Path) -> None:
    count = depth(8_000, 100_000)
    rows = "".join(f"owner/name-{n},{n % 7}\n" for n in range(count))
    (tmp_path / "r.csv").write_text(f"repo,velocity\n{rows}", encoding="utf-8")
    body = "repos: [{file: r.csv}]\norder_by: [-velocity]\noperations: [sync]\n"
    catalog = CATALOG.replace(', days: "{{ vars.days | default(1) }}"', "")  # Jinja is slow
    loaded = load_plan(str(write_plan(tmp_path, body, catalog=catalog)))
    tracemalloc.start()
    plan = build_execution_plan(loaded)
    held, peak = tracemalloc.get_traced_memory()
    first: PlannedEvent = next(plan.planned())
    tracemalloc.stop()
    assert plan.events == count
    assert first.item == "owner/name-6"
    assert held < 50 * count  # one or two indexes of 8 bytes an item; an event takes 500 and more
    assert peak < 300 * count


@pytest.mark.parametrize(("written", "seconds"), [("", 86_400), ("queue_timeout: 0s\n", 0)])
def test_a_job_has_the_time_to_start_that_is_written(
    tmp_path: Path, written: str, seconds: float
) -> None:
    (stage,) = make_plan(tmp_path, f"repos: [o/a]\noperations: [sync]\n{written}").stages
    assert stage.queue_timeout == seconds
