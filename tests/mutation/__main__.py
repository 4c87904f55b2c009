"""``python -m tests.mutation --count 60`` changes one decision of the code at a time, in a copy of
the repository, and counts which changes the tests notice.

The sample is drawn by ``--seed`` from what decides about sending, proving and outcomes.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PARTS = ("runner", "tests", "schemas", "plans", "pyproject.toml")
# Each file, and the tests that stand for it: in process, and done in seconds.
CODE: Mapping[str, Sequence[str]] = {
    "runner/execution/judge.py": ("execution/test_judge.py", "execution/test_proof.py"),
    "runner/execution/listeners.py": ("execution/test_listeners.py",),
    "runner/execution/recover.py": ("execution/test_resume.py", "execution/test_control.py"),
    "runner/execution/pacing.py": ("execution/test_control.py", "execution/test_pacing.py"),
    "runner/adapters/journal/chains.py": ("faults/test_stateful.py", "execution/test_retries.py"),
}
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
    file: str
    line: int
    what: str
    text: str


def mutants(file: str) -> Iterator[Mutant]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    for place, node in enumerate(ast.walk(tree)):
        if what := _change(deepcopy(node)):
            changed = deepcopy(tree)
            _change(list(ast.walk(changed))[place])
            yield Mutant(file, getattr(node, "lineno", 0), what, ast.unparse(changed))


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


def _is_killed(copy: Path, mutant: Mutant) -> bool:
    path = copy / mutant.file
    kept = path.read_text("utf-8")
    path.write_text(mutant.text, "utf-8")
    try:
        return _run(copy, CODE[mutant.file]) != 0
    finally:
        path.write_text(kept, "utf-8")


def _run(copy: Path, tests: Sequence[str]) -> int:
    named = [f"tests/{test}" for test in tests]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider"]
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ran = subprocess.run(
            [*command, *named], cwd=copy, env=env, capture_output=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return 1  # it waits for ever: that is noticed
    return ran.returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", choices=CODE, action="append", help="of these files alone")
    given = parser.parse_args()
    files = given.file or list(CODE)
    found = [mutant for file in files for mutant in mutants(file)]
    sample = Random(given.seed).sample(found, min(given.count, len(found)))  # noqa: S311
    with tempfile.TemporaryDirectory() as made:
        for part in PARTS:
            source, there = ROOT / part, Path(made) / part
            shutil.copytree(source, there) if source.is_dir() else shutil.copy(source, there)
        killed = 0
        for number, mutant in enumerate(sorted(sample), 1):
            dead = _is_killed(Path(made), mutant)
            killed += dead
            if not dead:
                print(f"lives: {mutant.file}:{mutant.line}: {mutant.what}", flush=True)
            if number % 10 == 0 or number == len(sample):
                print(f"{killed} of {number} are noticed ({len(found):,} in all)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
