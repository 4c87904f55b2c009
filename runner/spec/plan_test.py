"""Plan tests, `*.test.yaml`: what a plan sends for given rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from runner.errors import InvalidPlan
from runner.model import Data, Json, frozen
from runner.spec.document import Document, Path, ranked
from runner.spec.schema import check, typed
from runner.spec.strict_yaml import parse
from runner.spec.yaml_text import (
    BYTE_ORDER_MARK,
    LINE_END,
    Edit,
    MappingNode,
    Node,
    SequenceNode,
    applied,
    read_nodes,
)

_OF_A_CASE = ("vars", "only", "skip", "item", "now", "given", "expect")


@frozen
class Case:
    """One case. `given`: rows by the name of the query that asks for them, or a facts file's name.

    `index`: in the list of cases; None if there is no list. `where`: the paths of the case's keys
    in its document.
    """

    name: str
    index: int | None
    variables: Mapping[str, Json]
    only: Sequence[str]
    skip: Sequence[str]
    items: Sequence[str]
    now: str | None
    given: str | Mapping[str, Sequence[Data]]
    expect: Data
    where: Mapping[str, Path]


@frozen
class PlanTest:
    """A file of tests; `plan`: the plan to test, relative to the file."""

    document: Document
    plan: str
    cases: tuple[Case, ...]


def read_plan_test(raw: bytes, path: str) -> PlanTest:
    """Parse a test file. Raises `InvalidPlan` with all problems of its form."""
    parsed, faults, _ = parse(raw, path)
    document = typed(parsed, "test.v1")
    problems = list(faults or check(document, "test.v1")[0])
    if problems:
        raise InvalidPlan(ranked(problems))
    written = document.value
    cases = written.get("cases") or [{"name": path.rpartition("/")[2].partition(".test.")[0]}]
    found: list[Case] = []
    names: set[str] = set()
    for index, case in enumerate(cases):
        if case["name"] in names:
            message = f"there is a case `{case['name']}` already"
            problems.append(document.problem(message, ("cases", index, "name")))
        names.add(case["name"])
        found.append(_case(written, case, index))
    if problems:
        raise InvalidPlan(ranked(problems))
    return PlanTest(document, written["plan"], tuple(found))


def _case(defaults: Data, written: Data, index: int) -> Case:
    """Read a case; the keys above the cases are its defaults."""
    values = {key: written.get(key, defaults.get(key)) for key in _OF_A_CASE}
    listed = "cases" in defaults
    where = {key: ("cases", index, key) if key in written else (key,) for key in _OF_A_CASE}
    return Case(
        written["name"],
        index if listed else None,
        values["vars"] or {},
        values["only"] or (),
        values["skip"] or (),
        values["item"] or (),
        values["now"],
        values["given"] or {},
        values["expect"] or {},
        where,
    )


def with_expectations(text: str, path: str, expected: Mapping[int | None, Data]) -> str:
    """Replace what the cases of a test file expect, by their index (None: above the cases); leave
    all else as written. Raises `InvalidPlan` if that is not possible."""
    bare = text.removeprefix(BYTE_ORDER_MARK)
    before, _, _ = parse(bare.encode(), path)
    new = _with_expectations(bare, expected)
    if not _holds(new, path, before.value, expected):
        alone = {index: {index: value} for index, value in expected.items()}
        index = next(
            (at for at, one in alone.items()
             if not _holds(_with_expectations(bare, one), path, before.value, one)),
            next(iter(expected)),
        )  # fmt: skip
        place = ("expect",) if index is None else ("cases", index, "expect")
        message = (
            "`--update` cannot replace what is expected here: other parts of the file refer to it"
        )
        hint = "write out what has an anchor (`&`), and keys without `?`"
        raise InvalidPlan((before.problem(message, place, hint=hint),))
    return text[: len(text) - len(bare)] + new


def _holds(new: str, path: str, before: Json, expected: Mapping[int | None, Data]) -> bool:
    """Whether the new text has these expectations, and all else as before."""
    wanted = json.loads(json.dumps(before))
    for index, value in expected.items():
        case = wanted if index is None else wanted["cases"][index]
        case["expect"] = json.loads(json.dumps(value))
    document, problems, _ = parse(new.encode(), path)
    wrong = [one for one in problems if one.rule != "secret"]  # which is for others to find
    return not wrong and document.value == wanted


def _with_expectations(text: str, expected: Mapping[int | None, Data]) -> str:
    """Replace expectations in a text without a byte order mark, so that offsets agree."""
    top = read_nodes(text)
    assert isinstance(top, MappingNode)  # noqa: S101 - it has the form
    edits = []
    for index, value in expected.items():
        case: Node = top
        if index is not None:
            cases = _entry(top, "cases")
            assert isinstance(cases, SequenceNode)  # noqa: S101 - it has the form
            case = cases.items[index]
        assert isinstance(case, MappingNode)  # noqa: S101 - it has the form
        edits.append(_edit(text, case, value))
    return applied(text, edits)


def _entry(node: MappingNode, key: str) -> Node | None:
    return next((value for name, value in node.entries if name.value == key), None)


def _edit(text: str, case: MappingNode, value: Data) -> Edit:
    key = next((name for name, _ in case.entries if name.value == "expect"), None)
    old = _entry(case, "expect")
    first = case.entries[0][0].start
    line_end = LINE_END.search(text)
    end = line_end[0] if line_end else "\n"
    begins = max((found.end() for found in LINE_END.finditer(text, 0, first)), default=0)
    indent = " " * (first - begins)
    block = _block(value, indent).replace("\n", end)
    word = text[key.start : key.end] if key else "expect"
    written = f"{word}: {_flow(value)}" if case.flow else f"{word}:{block}"
    if key and old:
        return Edit(key.start, old.end, (written,))
    if case.flow:
        last = case.entries[-1][1].end  # a comma may follow
        return Edit(last, last, (f", {written}",))
    return Edit(case.end, case.end, (f"{end}{indent}{written}",))


def _block(value: Data, indent: str) -> str:
    lines = []
    for key, entries in value.items():
        if isinstance(entries, list) and entries:
            lines.append(f"\n{indent}  {key}:")
            lines += [f"\n{indent}    - {_flow(entry)}" for entry in entries]
        else:
            lines.append(f"\n{indent}  {key}: {_flow(entries)}")
    return "".join(lines)


def _flow(value: Json) -> str:
    """Write JSON, which is valid YAML."""
    return json.dumps(value, ensure_ascii=False)
