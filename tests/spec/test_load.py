"""Files: a path leads to a plan, to all of its problems, or to the error that it cannot be read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import InvalidPlan, UsageError
from runner.model import Problem
from runner.planning.build import build_execution_plan
from runner.spec.files import MAX_YAML
from runner.spec.load import load_plan
from tests.depth import depth

ROOT = Path(__file__).parents[2]
WRITE = "write `kind: BackfillPlan`"
HEAD = "apiVersion: backfill/v1\nkind: BackfillPlan\nmetadata: {name: x}\n"
BODY = "repos: [o/r]\noperations: [repository-sync]\n"


def problems(folder: Path, plan: str | bytes) -> list[Problem]:
    path = folder / "plan.yaml"
    path.write_bytes(plan if isinstance(plan, bytes) else plan.encode())
    with pytest.raises(InvalidPlan) as caught:
        build_execution_plan(load_plan(str(path)))
    assert caught.value.problems
    return list(caught.value.problems)


@pytest.mark.parametrize("name", ["nowhere.yaml", ".", "a\0b", "x" * 5000, "", "plan.yaml/x"])
def test_a_path_that_cannot_be_read_is_a_usage_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "plan.yaml").write_text(HEAD + BODY, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_plan(f"{tmp_path}/{name}" if name else "")
    assert caught.value.hint


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * MAX_YAML)  # a sparse file of several terabytes
    with pytest.raises(InvalidPlan) as caught:
        load_plan(str(path))
    (problem,) = caught.value.problems
    assert problem.message == "the file has more than 64 MiB"


def test_a_plan_may_come_through_a_pipe(tmp_path: Path) -> None:
    """As with `backfill plan <(render-plan)`."""
    read, write = os.pipe()
    os.write(write, (HEAD + BODY).encode())
    os.close(write)
    assert load_plan(f"/dev/fd/{read}").name == "x"
    os.close(read)


@pytest.mark.parametrize("key", ["file", "catalog"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../out.yaml", "outside the plan's repository or folder"),
        ("/etc/out.yaml", "outside the plan's repository or folder"),
        ("sub/../../out.yaml", "outside the plan's repository or folder"),
        ("link.yaml", "outside the plan's repository or folder"),
        ("linked/out.yaml", "outside the plan's repository or folder"),
        ("loop.yaml", "cannot be read"),
        ("folder.yaml", "is not a file"),
        ("pipe.yaml", "is not a file"),
        ("nowhere.yaml", "cannot be read"),
        ("a\0b.yaml", "cannot be read"),
        ("x" * 300 + ".yaml", "cannot be read"),
    ],
)
def test_files_are_read_from_the_plans_folder_only_where_there_is_no_repository(
    tmp_path: Path, key: str, name: str, words: str
) -> None:
    folder = tmp_path / "plans"
    (folder / "sub").mkdir(parents=True)
    (folder / "folder.yaml").mkdir()
    (tmp_path / "out.yaml").write_text("[o/secret]", encoding="utf-8")
    (folder / "link.yaml").symlink_to(tmp_path / "out.yaml")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    os.mkfifo(folder / "pipe.yaml")
    plan: dict[str, Any] = {"apiVersion": "backfill/v1", "kind": "BackfillPlan"}
    plan |= {"metadata": {"name": "x"}, "operations": ["repository-sync"]}
    plan |= {"repos": [{"file": name}]} if key == "file" else {"repos": ["o/r"], "catalog": name}
    (problem,) = problems(folder, json.dumps(plan))
    assert words in problem.message
    assert len(problem.message) < 200
    assert "secret" not in repr(problem)


PLANS = [
    path
    for folder in ("plans", "tests/examples/valid")
    for path in sorted((ROOT / folder).rglob("*.yaml"))
    if "kind: BackfillPlan" in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", PLANS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_catalog_that_cannot_be_read_would_have_is_not_said_to_be_missing(
    tmp_path: Path, path: Path
) -> None:
    written = {**yaml.safe_load(path.read_text("utf-8")), "catalog": "nowhere.yaml"}
    shutil.copytree(path.parent, tmp_path / "plans")
    plan = tmp_path / "plans" / path.name
    plan.write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(InvalidPlan) as caught:
        load_plan(str(plan))
    (problem,) = caught.value.problems
    assert problem.message.startswith("`nowhere.yaml` cannot be read")


def test_a_file_may_lie_below_the_plan_and_be_a_link_within(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "r.csv").write_text("repo\no/r\n", encoding="utf-8")
    (tmp_path / "link.csv").symlink_to("sub/r.csv")
    path = tmp_path / "plan.yaml"
    path.write_text(
        HEAD + "repos: [{file: link.csv}]\noperations: [repository-sync]\n", encoding="utf-8"
    )
    assert [row["repo"] for row in load_plan(str(path)).repositories] == ["o/r"]


def test_faults_of_every_file_show_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("repo,skip\nbad,\no/r,nothing\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("{\n", encoding="utf-8")
    (tmp_path / "c.yaml").write_text("- {repo: o/x, priority: no}\n", encoding="utf-8")
    (tmp_path / "cat.yaml").write_text(
        "apiVersion: backfill/v1\nkind: OperationCatalog\n"
        "operations: {own: {event: a/b, for_each: repo, when: 'a b', payload: {x: '{{'}}}\n",
        encoding="utf-8",
    )
    found = problems(
        tmp_path,
        HEAD + "repos: [{file: a.csv}, {file: b.jsonl}, {file: c.yaml}, {file: d.csv}]\n"
        "catalog: [builtin, cat.yaml]\noperations: [own]\nbatchsize: 3\n",
    )
    files = {Path(problem.path).name for problem in found}
    assert files == {"plan.yaml", "a.csv", "b.jsonl", "c.yaml", "cat.yaml"}
    assert all(problem.line for problem in found)


@pytest.mark.parametrize(
    "plan",
    [
        b"\x00" * 1000,
        bytes(range(256)) * 10,
        b"\x1f\x8b\x08\x00" + b"x" * 100,
        b"%PDF-1.7\n",
        b"\xef\xbb\xbf",
        b"\r\r\r",
        b"- " * 100_000,
        b"a: " * 10_000,
        b"? " * 10_000,
        b"{" * 100_000,
        b"[" * 100_000,
        b"&a " * 1000,
        b"!!set {a, b}",
        b"!!python/object/apply:os.system [echo]",
        b"%YAML 3.0\n---\na: 1",
        b"%TAG ! tag:x,2000:\n---\n!x a",
        b"x" * 1_000_000,
        b'"' + b"x" * 1_000_000,
        ("a" * 2000 + ": 1\n").encode(),
        ("? " + "a" * 100_000 + "\n: 1\n" + HEAD + BODY).encode(),
        (HEAD + BODY + "skip: [" + "x" * 100_000 + "]\n").encode(),
        (HEAD + "repos: [" + "x" * 100_000 + "]\noperations: [" + "y" * 100_000 + "]\n").encode(),
    ],
)
def test_no_bytes_are_more_than_a_few_short_problems(tmp_path: Path, plan: bytes) -> None:
    for problem in problems(tmp_path, plan):
        assert len(problem.message) < 300
        assert len(problem.hint or "") < 500
        assert len(problem.source or "") < 100_000
        assert "Traceback" not in problem.message


# Values that do not belong in the place where they are put.
WRONG: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        2**64,
        10**400,
        "",
        "x",
        "{{ x }}",
        "{{",
        "no",
        "é\u2028",
        "\\ud800",
    ),
    *([], {}, [[]], [None], [1], ["x", "x"], [{}], {"x": 1}, {"": {}}, {"file": 1}, {"use": 1}),
    *({"repo": "o/r", "file": "a.csv"}, {"repo": ["o/r"]}, {"use": "embeddings", "with": []}),
    *(
        {"use": "embeddings", "with": {"a": {"b": ["{{ vars.x.y.z }}"]}}},
        {"file": "plan.yaml"},
        "-",
        "--x",
    ),
    *(
        {"file": "../x.csv"},
        {"file": ".csv"},
        "a/b",
        "builtin",
        "5s",
        "99999999999999h",
        "plan.yaml",
    ),
]
WHOLE: dict[str, Any] = {
    "apiVersion": "backfill/v1",
    "kind": "BackfillPlan",
    "metadata": {"name": "x", "owner": "o", "reason": "r"},
    "vars": {"days": 90, "nested": {"a": [1]}},
    "catalog": ["builtin"],
    "workspace": "w",
    "repos": ["o/r", {"repo": "o/s", "priority": "high", "velocity": 4, "skip": ["embeddings"]}],
    "operations": [
        "repository-sync",
        {"use": "embeddings", "batch_size": 10, "delay": "5s", "wait": "completed"}
        | {"timeout": "15m", "when": "workspace.id != 'x'", "with": {"d": "{{ vars.days }}"}},
    ],
    "skip": [],
    "only": ["embeddings", "repository-sync"],
    "batch_size": 50,
    "delay": "5s",
    "order_by": ["priority", "-velocity"],
    "on_failure": "stop",
    "handlers": {"workspace/aggregate": "worker:f"},
    "collections": {
        "days": {"dates": {"from": "2026-01-01", "to": "2026-01-03", "every": "1d"}},
        "names": ["a", {"item": "b"}],
        "cells": {"matrix": {"name": "names", "day": "days"}},
        "rows": {"query": "select 1 as id", "item": "{{ row.id }}"},
        "file": {"file": "rows.csv", "item": "{{ row.id }}"},
    },
    "guards": [
        {"window": {"allow": "22:00-06:00", "days": "mon-fri", "timezone": "Europe/Berlin"}},
        {"sql": {"query": "select 1", "at_most": 3}},
        {"github": {"remaining": 100}},
        {"command": ["true"]},
    ],
    "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"},
    "max_failures": "5%",
    "max_in_flight": 20,
    "canary": 1,
    "flow": "stages",
    "if_empty": {"ok": 0},
    "accept": {"needs-skipped": "so be it"},
    "filter": {"repo": ["o/*"], "days": {"if": "row.from < '2026'"}},
    "checks": [{"name": "c", "query": "select 1 as n", "expect": {"column": "n", "at_most": 1}}],
    "coverage": {"m": {"query": "select 1 as item, 2 as total, 1 as done"}},
    "approval": {"required": True, "over_events": 5},
}


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    listed = enumerate(value) if isinstance(value, list) else ()
    for step, one in value.items() if isinstance(value, dict) else listed:
        yield from _paths(one, (*path, step))


_PATHS = [
    *_paths(WHOLE),
    *((*path, "x") for path in [("repos", 1), ("metadata",), ("operations", 1), ("extra",)]),
    *(("repos", 1, "workspace"), ("skip", 0), ("handlers", "a/b")),
]


def _put(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(value, list) and isinstance(step, int):
        value = [*value, None] if step >= len(value) else value
        return [_put(v, rest, new) if n == step else v for n, v in enumerate(value)]
    if isinstance(value, dict):
        return {**value, step: _put(value.get(str(step)), rest, new)}
    return new


def _survives(folder: Path, text: bytes) -> None:
    """The claim of all fuzz tests: a plan, or one of two errors that says something."""
    path = folder / "plan.yaml"
    path.write_bytes(text)
    try:
        list(build_execution_plan(load_plan(str(path))).planned())
    except UsageError:
        return
    except InvalidPlan as error:
        problems = error.problems
    else:
        return
    assert problems
    for problem in problems:
        assert problem.message
        assert len(problem.message) < 500
        (problem.message + (problem.hint or "") + (problem.source or "")).encode()


FUZZ = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=depth(75, 300),
    deadline=None,
)


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(_PATHS), st.sampled_from(WRONG)), min_size=1, max_size=3))
def test_no_value_anywhere_is_more_than_a_problem(
    tmp_path: Path, changes: list[tuple[tuple[str | int, ...], Any]]
) -> None:
    plan = WHOLE
    for path, new in changes:
        plan = _put(plan, path, new)
    _survives(tmp_path, json.dumps(plan, ensure_ascii=False).encode())


_SNIPPETS = [
    b"{{",
    b"}}",
    b"&a ",
    b"*a",
    b"!!int ",
    b": ",
    b"- ",
    b"\n",
    b"\t",
    b"[",
    b"]",
    b"{",
    b"}",
]
_SNIPPETS += [
    b"'",
    b'"',
    b"|",
    b">",
    b"%",
    b"#",
    b"?",
    b"<<",
    b"\x00",
    b"\xff",
    b"\xe2\x80\xa8",
    b"\r",
    b"~",
]


@FUZZ
@given(
    st.sampled_from(
        [(HEAD + BODY).encode(), json.dumps(WHOLE).encode(), json.dumps(WHOLE, indent=1).encode()]
    ),
    st.lists(
        st.tuples(
            st.integers(0, 2000),
            st.integers(0, 20),
            st.sampled_from(_SNIPPETS) | st.binary(max_size=4),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_no_change_to_the_text_of_a_plan_is_more_than_a_problem(
    tmp_path: Path, text: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    for at, gone, new in changes:
        start = at % (len(text) + 1)
        text = text[:start] + new + text[start + gone :]
    _survives(tmp_path, text)


CATALOG: dict[str, Any] = {
    "apiVersion": "backfill/v1",
    "kind": "OperationCatalog",
    "metadata": {"name": "ours"},
    "operations": {
        "sync": {
            "description": "one",
            "event": "app/sync",
            "for_each": "repo",
            "payload": {"a": "{{ repo.repo }}", "b": {"c": ["{{ vars.x | default(1) }}"]}},
            "contract": {"type": "object", "properties": {"a": {"type": "string"}}},
            "after": [],
            "load": "heavy",
            "batch_size": 5,
            "delay": "5s",
            "min_delay": "1s",
            "when": "repo.repo != 'x'",
            "done": "sent",
            "timeout": "5m",
        },
        "next": {"event": "app/next", "for_each": "once", "after": ["sync"]},
    },
}
SYNC: dict[str, Any] = CATALOG["operations"]["sync"]
CATALOG_PATHS: list[tuple[str | int, ...]] = [
    *((key,) for key in CATALOG),
    *(("operations", "sync", key) for key in (*SYNC, "extra")),
    *(("operations", "sync", "payload", "a"), ("operations", "sync", "payload", "b", "c", 0)),
    *(("operations", "sync", "contract", key) for key in ("type", "properties", "$ref", "$schema")),
    *(("operations", "sync", "contract", key) for key in ("required", "pattern", "if", "$defs")),
    *(("operations", "sync", "contract", "properties", "a", key) for key in ("enum", "type")),
    *(("operations", "next", "after", 0), ("operations", "a b"), ("operations", "next")),
]
SCHEMAS: list[Any] = [
    "#",
    "#/nowhere",
    "http://x/y",
    "file:///etc/passwd",
    "^(a+)+$",
    "(",
    "object",
]


@FUZZ
@given(
    st.lists(
        st.tuples(st.sampled_from(CATALOG_PATHS), st.sampled_from(WRONG + SCHEMAS)),
        min_size=1,
        max_size=3,
    )
)
def test_no_value_in_a_catalog_is_more_than_a_problem(
    tmp_path: Path, changes: list[tuple[tuple[str | int, ...], Any]]
) -> None:
    catalog = CATALOG
    for path, new in changes:
        catalog = _put(catalog, path, new)
    (tmp_path / "catalog.yaml").write_text(json.dumps(catalog, ensure_ascii=False), "utf-8")
    body = "catalog: catalog.yaml\nrepos: [o/r]\noperations: [sync, next]\n"
    _survives(tmp_path, (HEAD + body).encode())


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("SavedPlan", "name the plan file that it was made of"),
        ("OperationCatalog", f"if this is a catalog, name a plan file; else {WRITE}"),
        ("BackfillProject", f"if this is a project file, name a plan file; else {WRITE}"),
        (
            "BackfillTest",
            f"if this is a test of a plan (`*.test.yaml`), name a plan file; else {WRITE}",
        ),
        ("Backfill", WRITE),
        (["BackfillPlan"], WRITE),
    ],
)
def test_another_file_where_a_plan_file_is_wanted_is_told_as_one(
    tmp_path: Path, kind: object, hint: str
) -> None:
    path = tmp_path / "saved.json"
    path.write_text(json.dumps({"apiVersion": "backfill/v1", "kind": kind}))
    with pytest.raises(InvalidPlan) as refused:
        load_plan(str(path))
    assert hint in [problem.hint for problem in refused.value.problems]


def test_a_key_with_a_space_for_an_underscore_is_no_text_that_a_comma_has_cut(
    tmp_path: Path,
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(HEAD + BODY + "batch size:\n")
    with pytest.raises(InvalidPlan) as refused:
        load_plan(str(path))
    assert [one.hint for one in refused.value.problems] == ["did you mean `batch_size`?"]


@pytest.mark.parametrize(
    ("body", "cut"),
    [
        ("collections: {a: {query: select id, b from c}}\noperations: [sync]\n", "b from c"),
        ("repos: [{query: select a as repo, b}]\noperations: [sync]\n", None),
        ("repos: [o/r]\noperations: [{use: sync, when: x, y or z}]\n", "y or z"),
    ],
)
def test_a_text_that_a_comma_has_cut_is_told_as_one(
    tmp_path: Path, body: str, cut: str | None
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(HEAD + body)
    with pytest.raises(InvalidPlan) as refused:
        load_plan(str(path))
    found = {one.message: one.hint or "" for one in refused.value.problems}
    if cut:
        assert found[f"unknown key `{cut}`"].startswith("within { }, a comma ends a value")
    else:
        assert "known here" in found["unknown key `b`"]
