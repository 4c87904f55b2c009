"""The cost of a stranger's data file is bounded, whatever its kind and shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from runner.spec.secrets import Scrubber
from tests.depth import some
from tests.security.commands import CATALOG, HEAD, Done, run


class Case(NamedTuple):
    file: str
    write: Callable[[int], str]
    ordinary: int
    large: int
    words: str
    line: int | None
    entries: int = 1  # how often the plan names it; normally once


KNOWN, UNKNOWN = '"sync"', '"syncc"'


def keys(n: int) -> str:
    return ", ".join(f'"k{i}": {i}' for i in range(n))


def alike(n: int) -> str:
    return f"token: {'a' * 20}{n}, {'aaaaaaaa ' * 400}\n" if n else "repo\na/b\n"


CASES = {
    "columns": Case(
        "x.csv",
        lambda n: f"repo,{','.join(f'c{i}' for i in range(n))}\na/b,{','.join('1' * n)}\n",
        999,
        1_000_000,
        "this row has more than 3,145,728 bytes",
        1,
    ),
    "columns of one letter": Case(
        "x.csv",
        lambda n: f"repo{',c' * n}\n" if n > 1 else "repo,c\na/b,1\n",
        1,
        1_500_000,
        "names 1,500,001 columns, more than 1,000",
        1,
    ),
    "a column many times": Case(
        "x.csv",
        lambda n: f"repo,{','.join('c' if n > 1 else 'd' for _ in range(n))}\na/b,1\n",
        1,
        200_000,
        "more than 1,000",
        1,
    ),
    "a wide table": Case(
        "x.csv",
        lambda n: f"repo{',c'.join(map(str, range(500)))}\n".replace("repo0", "repo", 1)
        + "".join(f"a/b{j}{',1' * 499}\n" for j in range(n)),
        20,
        11_000,
        "more than 5,000,000 cells",
        None,
    ),
    "rows of CSV": Case(
        "x.csv",
        lambda n: "repo\n" + "".join(f"a/b{j}\n" for j in range(n)),
        1_000,
        1_000_001,
        "there are 1,000,001 repositories, more than 1,000,000",
        1_000_002,
    ),
    "rows of JSON Lines, together": Case(
        "x.jsonl",
        lambda n: "".join(f'"a/b{j}"\n' for j in range(n)),
        1_000,
        400_000,
        "there are 1,200,000 repositories, more than 1,000,000",
        200_001,
        entries=3,
    ),
    "blank lines": Case(
        "x.csv", lambda n: "repo\na/b\n" + "\n" * n, 10, 6_000_000, "more than 5,000,000", None
    ),
    "a cell of line ends": Case(
        "x.csv",
        lambda n: f'repo,x\na/b,"{chr(10) * n}y"\n',
        10,
        3_200_000,
        "this row has more than 3,145,728 bytes",
        2,
    ),
    "an open quote": Case(
        "x.csv", lambda n: f'repo,x\na/b,"{"y" * n}"\n', 10, 4_000_000, "this row has more", 2
    ),
    "members of a list": Case(
        "x.jsonl",
        lambda n: f'{{"repo": "a/b", "x": [{",".join("1" * n)}]}}\n',
        1_000,
        6_000_000,
        "more than 5,000,000 cells",
        None,
    ),
    "keys of a mapping": Case(
        "x.jsonl", lambda n: f'{{"repo": "a/b", {keys(n)}}}\n', 1_000, 300_000, "this row has", 1
    ),
    "a key twice among many": Case(
        "x.jsonl",
        lambda n: f'{{"repo": "a/b", {keys(abs(n))}{", " + keys(1) if n > 10 else ""}}}\n',
        10,
        100_000,
        "the key `k0` is written twice",
        1,
    ),
    "unknown operations": Case(
        "x.jsonl",
        lambda n: f'{{"repo": "a/b", "skip": [{", ".join([UNKNOWN if n > 1 else KNOWN] * n)}]}}\n',
        1,
        200_000,
        "names the unknown operation `syncc`",
        1,
    ),
    "unknown operations in a cell": Case(
        "x.csv",
        lambda n: f"repo,skip\na/b,{';'.join(['sync' + 'c' * (n > 1)] * n)}\n",
        1,
        200_000,
        "names the unknown operation `syncc`",
        2,
    ),
    "rows of YAML": Case(
        "x.yaml",
        lambda n: "".join(f"- a/b{j}\n" for j in range(n)),
        1_000,
        1_000_001,
        "more than 1,000,000 keys and values",
        1_000_001,
    ),
    "YAML, together": Case(
        "x.yaml",
        lambda n: "".join(f"- a/b{j}\n" for j in range(n)),
        1_000,
        260_000,
        "more than 1,000,000 keys and values",
        None,
        entries=4,
    ),
    "bytes, together": Case(
        "x.csv",
        lambda n: "repo,x\n" + "".join(f"a/b{j},{'y z ' * 200_000}\n" for j in range(n)),
        2,
        60,
        "more than 128 MiB together",
        None,
        entries=3,
    ),
    "keys of services that begin alike": Case(
        "x.csv", lambda n: "".join(map(alike, range(n))), 1, 3_000, "this looks like a key", 3
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", some(CASES, 6))
def test_a_data_file_of_any_shape_is_bounded(name: str, tmp_path: Path, warm: str) -> None:
    case = CASES[name]
    (tmp_path / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
    passed = _validated(warm, tmp_path, case, case.ordinary, 1)
    assert passed.status == 0, passed.err[:500]
    done = _validated(warm, tmp_path, case, case.large, case.entries)
    assert done.status == 3
    found = json.loads(done.out)["problems"]
    said = [one["line"] for one in found if case.words in one["message"]]
    assert said, [one["message"] for one in found][:5]
    assert case.line in {None, said[0]}, found[0]


def _validated(warm: str, folder: Path, case: Case, size: int, entries: int) -> Done:
    (folder / case.file).write_text(case.write(size), encoding="utf-8")
    listed = ", ".join([f"{{file: {case.file}}}"] * entries)
    plan = f"{HEAD}catalog: catalog.yaml\noperations: [sync]\nrepos: [{listed}]\n"
    (folder / "plan.yaml").write_text(plan, encoding="utf-8")
    return run(warm, folder, "validate", "plan.yaml", "--format", "json")


def test_keys_that_begin_alike_are_each_taken_out() -> None:
    scrub = Scrubber([*(f"aaaaaaaa{n}" for n in range(100)), "aaaaaaaabcdef", "bbbbbbbbb"])
    assert scrub("x aaaaaaaa7 aaaaaaaabcd aaaaaaaa99y bbbbbbbbb") == "x *** *** ***y ***"
