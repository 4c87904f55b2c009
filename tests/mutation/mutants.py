"""Mutants: one decision of a function changed. Lists them, and compiles the code with one."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from textwrap import shorten
from types import CodeType
from typing import NamedTuple, TypeAlias

import yaml

ROOT = Path(__file__).parents[2]
# Mutants that behave like the original; each has a reason.
EQUIVALENT = Path(__file__).with_name("equivalent.yaml")
WANTED = 0.85  # share of the sample that must be noticed; of the deciding mutants, all must
FOLDERS = (
    "runner/execution",
    "runner/planning",
    "runner/app",
    "runner/adapters/journal",
)
# Files that decide about sending (when, how many, whether again, who may), about proofs, and about
# outcomes: every mutant of these must be noticed. The rest of the four folders passes on, queries,
# lists and words; of that a sample is drawn.
DECIDING = (
    "runner/execution/cancel.py",
    "runner/execution/check.py",
    "runner/execution/follow.py",
    "runner/execution/gate.py",
    "runner/execution/judge.py",
    "runner/execution/listeners.py",
    "runner/execution/pacing.py",
    "runner/execution/poller.py",
    "runner/execution/progress.py",
    "runner/execution/recover.py",
    "runner/execution/rounds.py",
    "runner/execution/send.py",
    "runner/adapters/journal/chains.py",
    "runner/adapters/journal/leases.py",
    "runner/adapters/journal/writer.py",
)
_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
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
_TURNED = (ast.Eq, ast.NotEq, ast.In, ast.NotIn, ast.Is, ast.IsNot)
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """`place`: the index of the change in its file, in tree order."""

    file: str
    function: str
    lines: range  # of the changed node
    statement: range  # of the statement around it
    change: str
    place: int

    @property
    def key(self) -> tuple[str, str, str]:
        return self.file, self.function, self.change

    def __str__(self) -> str:
        return f"{self.file}:{self.lines.start} in {self.function}: {self.change}"

    def code(self) -> CodeType:
        """Compile the whole file, changed."""
        path = ROOT / self.file
        tree = ast.parse(path.read_text("utf-8"))
        next(islice(_changes(tree), self.place, None)).make()
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


def mutants(file: str) -> list[Mutant]:
    """Return the mutants of a file. Code that runs at import is left out: it decides nothing."""
    made: list[Mutant] = []
    alike: Counter[tuple[str, str]] = Counter()
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    for place, one in enumerate(_changes(tree)):
        before = _text(one.node)
        back = one.make()
        text = f"{before} -> {_text(one.node)}"
        back()
        alike[one.function, text] += 1
        if (number := alike[one.function, text]) > 1:
            text = f"{text} ({number})"
        lines = range(one.at.lineno, (one.at.end_lineno or one.at.lineno) + 1)
        made.append(Mutant(file, one.function, lines, _lines(one.statement), text, place))
    return made


def equivalents() -> dict[tuple[str, str, str], str]:
    """Return the reasons, by file, function and change."""
    listed = yaml.safe_load(EQUIVALENT.read_text("utf-8")) or {}
    return {
        (file, one["in"], one["change"]): one["why"]
        for file, each in listed.items()
        for one in each
    }


def holds(sample: Sequence[Mutant], lived: Sequence[Mutant]) -> bool:
    """Tell whether enough of the sample is noticed, and all deciding mutants."""
    decides = any(one.file in DECIDING for one in lived)
    return not decides and len({*sample} & {*lived}) <= (1 - WANTED) * len(sample)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.If | ast.While):
        node = node.test
    return shorten(ast.unparse(node), 120, placeholder=" ...")


def _lines(statement: ast.stmt) -> range:
    """Return the statement's own lines, without those of nested statements."""
    body = getattr(statement, "body", None)
    end = body[0].lineno if body else (statement.end_lineno or statement.lineno) + 1
    return range(statement.lineno, max(end, statement.lineno + 1))


Back = Callable[[], None]


class _Change(NamedTuple):
    """`make` changes the tree, and returns a function that changes it back."""

    function: str
    statement: ast.stmt
    node: ast.AST
    at: ast.expr | ast.stmt  # where it is
    make: Callable[[], Back]


_Changes: TypeAlias = Iterator[_Change]


def _changes(node: ast.AST, function: str = "", statement: ast.stmt | None = None) -> _Changes:
    """Yield changes in order, without code that runs once: at import, or in a class body."""
    match node:
        case ast.FunctionDef(name=name, body=body) | ast.AsyncFunctionDef(name=name, body=body):
            for one in body:
                yield from _changes(one, f"{function}.{name}".removeprefix("."), one)
            return
        case ast.ClassDef(name=name, body=body):
            for one in body:
                yield from _changes(one, f"{function}.{name}".removeprefix("."))
            return
    if statement:
        statement = node if isinstance(node, ast.stmt) else statement
        yield from (_Change(function, statement, node, *change) for change in _of(node, statement))
    for name, value in ast.iter_fields(node):
        if name != "annotation":
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _changes(child, function, statement)


def _of(  # noqa: C901 - a case for each kind of node
    node: ast.AST, within: ast.stmt
) -> Iterator[tuple[ast.expr | ast.stmt, Callable[[], Back]]]:
    at: ast.expr | ast.stmt = node if isinstance(node, ast.expr | ast.stmt) else within
    match node:
        case ast.Compare(ops=ops):
            for number, op in enumerate(ops):
                yield (
                    at,
                    _put(node, "ops", [*ops[:number], _COMPARED[type(op)](), *ops[number + 1 :]]),
                )
        case ast.BoolOp(op=op):
            yield at, _put(node, "op", ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if not _turns(test) and not isinstance(test, ast.Constant):
                yield test, _put(node, "test", _negated(test))
        case ast.comprehension(ifs=ifs):
            for number, test in enumerate(ifs):
                if not _turns(test):
                    others = [*ifs[:number], _negated(test), *ifs[number + 1 :]]
                    yield test, _put(node, "ifs", others)
        case ast.match_case(guard=ast.expr() as guard) if not _turns(guard):
            yield guard, _put(node, "guard", _negated(guard))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield at, _put(node, "operand", _negated(operand))
        case ast.BinOp(op=counts) | ast.AugAssign(op=counts) if type(counts) in _COUNTED:
            yield at, _put(node, "op", _COUNTED[type(counts)]())
        case ast.Constant(value=bool()):
            yield at, _put(node, "value", not node.value)
        case ast.Constant(value=int() | float() as number):
            yield at, _put(node, "value", number + 1)
        case ast.Expr(value=ast.Call() | ast.Await() as call):
            yield at, _put(node, "value", ast.IfExp(ast.Constant(False), call, ast.Constant(None)))


def _turns(test: ast.expr) -> bool:
    """Tell whether another change within inverts the test already."""
    match test:
        case ast.UnaryOp(op=ast.Not()):
            return True
        case ast.Compare(ops=[op]):
            return isinstance(op, _TURNED)
    return False


def _negated(test: ast.expr) -> ast.expr:
    return ast.copy_location(ast.UnaryOp(ast.Not(), test), test)


def _put(node: ast.AST, name: str, value: object) -> Callable[[], Back]:
    def make() -> Back:
        was = getattr(node, name)
        setattr(node, name, value)
        return lambda: setattr(node, name, was)

    return make
