"""``python -m tests.mutation --count 60`` changes one decision of the code at a time, in a copy of
the repository, and counts which changes the tests notice.

The sample is drawn by ``--seed`` from what decides about sending, proving and outcomes.
"""

from __future__ import annotations

import argparse
import ast
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("runner", "tests", "schemas", "plans", "pyproject.toml")
_JOURNAL = ("adapters/journal", "execution/test_retries.py", "execution/test_control.py")
_RUNS = ("execution/test_run.py", "execution/test_control.py", "execution/test_retries.py")
_WORLD = ("simulation/test_simulation.py",)
# What each folder's files are judged by: in process, and done in seconds; where these notice
# nothing, by the second list as well.
CODE: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "runner/execution": (_RUNS, ("execution",)),
    "runner/planning": (("planning",), ("output", "spec", "execution/test_run.py")),
    "runner/app": (("app", *_WORLD), ("cli", "planning/test_facts.py")),
    "runner/adapters/journal": (_JOURNAL, ("execution", "faults/test_stateful.py", *_WORLD)),
}
# ... and what stands for one file alone, asked first of all.
OWN: Mapping[str, Sequence[str]] = {
    "runner/execution/judge.py": ("execution/test_judge.py", "execution/test_proof.py"),
    "runner/execution/check.py": ("execution/test_check.py", "execution/test_proof.py"),
    "runner/execution/listeners.py": ("execution/test_listeners.py",),
    "runner/execution/recover.py": ("execution/test_resume.py", "execution/test_control.py"),
    "runner/execution/pacing.py": ("execution/test_control.py", "execution/test_pacing.py"),
    "runner/execution/poller.py": ("execution/test_poller.py",),
    "runner/execution/progress.py": ("execution/test_progress.py", "execution/test_surfaces.py"),
    "runner/execution/rounds.py": ("execution/test_pacing.py", "execution/test_limits.py"),
    "runner/adapters/journal/chains.py": ("faults/test_stateful.py", "execution/test_retries.py"),
    "runner/adapters/journal/leases.py": ("adapters/journal/test_leases.py",),
    "runner/adapters/journal/outage.py": ("adapters/journal/test_outages.py",),
    "runner/planning/estimate.py": ("planning/test_estimate.py",),
    "runner/planning/compare.py": ("planning/test_compare.py",),
    "runner/planning/facts.py": ("planning/test_facts.py",),
}
# Imported once, before a test begins in a fork: none of it is changed.
_WARM = ("httpx", "hypothesis", "inngest", "jinja2", "jsonschema_rs", "orjson", "psycopg", "yaml")
_SECONDS = 120  # of the processor, for one list; what takes longer is noticed by that
_COMPARED: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


class Mutant(NamedTuple):
    """`place`: of the node that is changed, in the order of `ast.walk`."""

    file: str
    line: int
    what: str
    place: int

    def text(self) -> str:
        tree = ast.parse((ROOT / self.file).read_text("utf-8"))
        _change(list(ast.walk(tree))[self.place])
        return ast.unparse(tree)


def mutants(file: str) -> Iterator[Mutant]:
    for place, node in enumerate(ast.walk(ast.parse((ROOT / file).read_text("utf-8")))):
        if what := _change(copy(node)):
            yield Mutant(file, getattr(node, "lineno", 0), what, place)


def _change(node: ast.AST) -> str | None:
    """One decision, made otherwise in place; None where the node decides nothing."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARED:
            node.ops = [_COMPARED[type(op)]()]
            return f"{type(op).__name__} to {type(node.ops[0]).__name__}"
        case ast.BoolOp():
            was = type(node.op).__name__
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            return f"{was} to {type(node.op).__name__}"
        case ast.If() | ast.IfExp():
            node.test = ast.UnaryOp(ast.Not(), node.test)
            return "an if, turned round"
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            was = type(node.op).__name__
            node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            return f"{was} to {type(node.op).__name__}"
    return None


def _is_killed(there: Path, mutant: Mutant) -> bool:
    path = there / mutant.file
    kept = path.read_text("utf-8")
    path.write_text(mutant.text(), "utf-8")
    first, second = CODE[str(Path(mutant.file).parent)]
    lists = filter(None, (OWN.get(mutant.file, ()), first, second))
    try:
        return any(_fails(there, tests) for tests in lists)
    finally:
        path.write_text(kept, "utf-8")


def _fails(there: Path, tests: Sequence[str]) -> bool:
    child = os.fork()
    if child == 0:
        _test(there, tests)
    _, status = os.waitpid(child, 0)
    return status != 0


def _test(there: Path, tests: Sequence[str]) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    os.chdir(there)
    sys.path[:0] = [str(there)]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("runner", "tests")]:
        del sys.modules[name]
    sys.dont_write_bytecode = True
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(silent, stream)
    named = [f"tests/{test}" for test in tests]
    how = ["-n", "0", "-x", "-q", "-p", "no:cacheprovider"]
    os._exit(pytest.main([*how, "-W", "ignore:Module already imported", *named]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", action="append", help="of files whose path has this")
    given = parser.parse_args()
    files = [
        str(path.relative_to(ROOT))
        for folder in CODE
        for path in sorted((ROOT / folder).glob("*.py"))
        if not given.of or any(part in str(path) for part in given.of)
    ]
    found = [mutant for file in files for mutant in mutants(file)]
    sample = Random(given.seed).sample(found, min(given.count, len(found)))  # noqa: S311
    for name in _WARM:
        __import__(name)
    with tempfile.TemporaryDirectory() as made:
        for part in PARTS:
            source, there = ROOT / part, Path(made) / part
            shutil.copytree(source, there) if source.is_dir() else shutil.copy(source, there)
        killed = 0
        for number, mutant in enumerate(sample, 1):
            dead = _is_killed(Path(made), mutant)
            killed += dead
            if not dead:
                print(f"lives: {mutant.file}:{mutant.line}: {mutant.what}", flush=True)
            if number % 5 == 0 or number == len(sample):
                print(f"{killed} of {number} are noticed ({len(found):,} in all)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
