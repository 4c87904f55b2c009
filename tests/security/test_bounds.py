"""Anything in a stranger's plan or catalog ends as a problem at its place, within bounds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.depth import depth, some
from tests.security.commands import Done, run

HOSTILE = Path(__file__).parent / "hostile"
CASES = sorted(
    path.name for path in HOSTILE.glob("*.yaml") if not path.name.endswith(".catalog.yaml")
)
ROOT = Path(__file__).parents[2]


def problems(done: Done) -> list[dict[str, Any]]:
    return list(json.loads(done.out)["problems"])


@pytest.mark.parametrize("name", some(CASES, 14))
def test_a_hostile_file_is_a_problem_at_its_place(name: str, warm: str) -> None:
    head = [line for line in (HOSTILE / name).read_text("utf-8", "replace").split("\n") if line]
    wanted = dict(line[2:].split(": ", 1) for line in head if line.startswith("# "))
    done = run(warm, HOSTILE, "validate", name, "--format", "json")
    assert done.status == 3
    found = [
        problem
        for problem in problems(done)
        if wanted["says"] in problem["message"] and problem["line"] == int(wanted["line"])
    ]
    assert found, problems(done)
    assert found[0]["path"] == wanted.get("file", name)


PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {{name: sized}}
catalog: catalog.yaml
{vars}repos:
  - {repo}
operations:
  - {{use: anything, with: {{x: {value}}}}}
"""
CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  anything: {{description: Anything, event: {event}, for_each: repo{more}}}
"""


def sized(folder: Path, **parts: str) -> Path:
    given = {"vars": "", "repo": "acme/x", "value": "1", "event": "test/x", "more": "", **parts}
    folder.joinpath("plan.yaml").write_text(PLAN.format(**given), "utf-8")
    folder.joinpath("catalog.yaml").write_text(CATALOG.format(**given), "utf-8")
    return folder


MANY = "[" + ", ".join(["'{{ vars.x }}'"] * 400) + "]"
LIMITS: dict[str, tuple[Callable[[int], dict[str, str]], int, int, str, int]] = {
    # the input, a size that passes, one that does not, the message, and its line
    "repository": (lambda n: {"repo": "acme/" + "x" * n}, 190, 2_000_000, "200 characters", 6),
    "event's name": (lambda n: {"event": "e" * n}, 256, 257, "is not an event name", 4),
    "constant": (lambda n: {"value": "y" * n}, 300_000, 3_200_000, "more than 3,145,728", 8),
    "variable": (
        lambda n: {"vars": f"vars: {{x: {'y' * n}}}\n", "value": "1"},
        300_000,
        3_200_000,
        "more than 3,145,728",
        5,
    ),
    "many references": (
        lambda n: {"vars": f"vars: {{x: {'y' * n}}}\n", "value": MANY},
        1_000,
        300_000,
        "larger than allowed",
        4,
    ),
    "repeated text": (
        lambda n: {"more": f", repeat: {n}", "value": "\"{{ 'x' * 200000 }}\""},
        10,
        10_000,
        "together take too much work",
        8,
    ),
    "repeated constant": (
        lambda n: {"more": f", repeat: {n}", "value": "y" * 1_000_000},
        10,
        200,
        "more than 134,217,728",
        8,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_larger_than_a_server_takes_is_a_problem(
    name: str, tmp_path: Path, warm: str
) -> None:
    write, ordinary, large, words, line = LIMITS[name]
    passed = run(warm, sized(tmp_path, **write(ordinary)), "validate", "plan.yaml")
    assert passed.status == 0, passed.err[-500:]
    done = run(warm, sized(tmp_path, **write(large)), "validate", "plan.yaml", "--format", "json")
    assert done.status == 3
    found = [one for one in problems(done) if words in one["message"]]
    assert found, done.out[-500:]
    assert found[0]["line"] == line
    assert all(len(json.dumps(one)) < 5_000 for one in problems(done))


ORDINARY = [
    '(["x"] * 100) | select("in", ["y"] * 100) | list | length',
    '[1, 2] | reject("in", [2]) | list',
    '["b", "a"] | sort',
    '["b", "B"] | unique | list',
    '[{"a": 2}, {"a": 1}] | sort(attribute="a") | map(attribute="a") | list',
    "3 is odd and 4 is divisibleby 2",
    '"x" ~ "y" ~ 1',
    '"text"[1:]',
    "[1] * 100 == [1] * 100",
    "10 ** 3",
    '"ff" | int(0, 16)',
    '"  x " | trim',
    '"a" | replace("a", "b")',
    '"a b" | urlencode',
    "1 < 2 <= 2 != 3",
    '"x" not in ["y"] and "x" in "xyz" and "a" in {"a": 1}',
]


def test_ordinary_expressions_of_the_same_shape_pass(tmp_path: Path, warm: str) -> None:
    value = json.dumps(["{{ " + expression + " }}" for expression in ORDINARY])
    done = run(warm, sized(tmp_path, value=value), "validate", "plan.yaml")
    assert done.status == 0, done.err


TREE = "{anyOf: [{type: 'null'}, {$ref: '#/$defs/t'}]}"
CONTRACTS = [
    ("type: object, properties: {x: {type: string, pattern: '^a+$'}}", "aaa"),
    ("$defs: {a: {type: string}}, properties: {x: {$ref: '#/$defs/a'}}", "text"),
    (
        f"$defs: {{t: {{properties: {{l: {TREE}, r: {TREE}}}}}}}, properties: {{x: {TREE}}}",
        "{l: {l: null, r: {l: null}}, r: null}",
    ),
    ("properties: {x: {items: {type: integer, multipleOf: 2}, uniqueItems: true}}", "[2, 4]"),
]


@pytest.mark.parametrize(("contract", "value"), CONTRACTS)
def test_an_ordinary_contract_passes(contract: str, value: str, tmp_path: Path, warm: str) -> None:
    more = f", contract: {{{contract}}}"
    done = run(warm, sized(tmp_path, value=value, more=more), "validate", "plan.yaml")
    assert done.status == 0, done.err


SHIPPED = [
    *sorted({*(ROOT / "plans").glob("*.yaml")} - {*(ROOT / "plans").glob("*.test.yaml")}),
    *sorted((ROOT / "tests" / "examples" / "valid").glob("*.yaml")),
]
INSERTED = [
    *("\0", "\t", "\ufeff", "\u2028", "\ud7ff", "&a ", "*a", "!!binary ", "<<: ", "{{ ", "{% x %}"),
    *("[[[[", "}}", '"', "'", "|", "- ", ": ", "~", "null", "1e999", "0x1", "-0", ".nan", "{}"),
    *("yes", "2026-01-01", "{{ 1 / 0 }}", "{{ vars.nothing }}", "[]", "'{{ repo }}'", "?", "# "),
]


@pytest.mark.parametrize("seed", range(depth(8, 40)))
def test_no_change_of_a_shipped_plan_is_more_than_a_problem(
    seed: int, tmp_path: Path, warm: str
) -> None:
    """A fixed number of seeds over the bytes of shipped plans: cut, doubled, swapped, inserted."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    source = SHIPPED[seed % len(SHIPPED)]
    raw = bytearray(source.read_bytes())
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(raw) or 1)
        end = start + chance.randint(1, 40)
        match chance.randrange(4):
            case 0:
                del raw[start:end]
            case 1:
                raw[start:start] = chance.choice(INSERTED).encode()
            case 2:
                raw[start:end] = chance.choice(INSERTED).encode()
            case _:
                raw[start:start] = bytes(chance.randrange(256) for _ in range(2))
    tmp_path.joinpath("plan.yaml").write_bytes(bytes(raw))
    done = run(warm, tmp_path, "validate", "plan.yaml")
    assert done.status in {0, 2, 3}, done.err


def many_cases(n: int) -> str:
    cases = ", ".join(f"{{name: c{i}}}" for i in range(n))
    return f"expect: {{events: {{count: 300}}}}\ncases: [{cases}]\n"


def some_of(n: int) -> str:
    listed = ", ".join(f"{{operation: anything{'' if n < 10 else i}}}" for i in range(n))
    return f"expect: {{events: {{some: [{listed}]}}}}\n"


def any_order(n: int) -> str:
    listed = ", ".join(f"{{batch: {9 if n < 10 else -i}}}" for i in range(n))
    return f"expect: {{events: {{any_order: [{listed}]}}}}\n"


@pytest.mark.parametrize(
    ("write", "ordinary", "large", "status"),
    [(many_cases, 3, 3_000, 0), (some_of, 3, 20_000, 0), (any_order, 3, 20_000, 1)],
)
def test_the_tests_of_a_stranger_are_bounded_work(
    write: Callable[[int], str],
    ordinary: int,
    large: int,
    status: int,
    tmp_path: Path,
    warm: str,
) -> None:
    sized(tmp_path, repo="\n  - ".join(f"acme/x{n}" for n in range(300)))
    head = "apiVersion: backfill/v1\nkind: BackfillTest\nplan: plan.yaml\n"
    for size, wanted in ((ordinary, status), (large, 3)):
        (tmp_path / "plan.test.yaml").write_text(head + write(size), "utf-8")
        done = run(warm, tmp_path, "test", "plan.test.yaml")
        assert done.status == wanted, done.err[-500:]
    assert "too much work" in done.err
