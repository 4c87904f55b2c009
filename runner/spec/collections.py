"""Checks on the items of a plan that no schema can make, wherever they come from."""

from __future__ import annotations

from array import array
from collections.abc import Collection as Container
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from runner.model import Collection, Data, Json, Problem, Rows
from runner.spec.document import Path, did_you_mean, echo
from runner.spec.kinds import OwnKind
from runner.spec.rows import Concatenated, Fault, Part, RowError, RowKind

MAX_PROBLEMS = 50


def check_rows(
    rows: Concatenated, kind: RowKind, operations: Container[str] | None
) -> list[Problem]:
    """Rows that cannot be read or hold wrong values, unknown operations, items listed twice.

    `operations` are those of the catalog; None where it could not be read.
    """
    problems: list[Problem] = []
    alike: dict[str, tuple[int, int]] = {}  # of a template: its problem, and how many rows have it
    hashes = array("q")
    for part in rows.parts:
        for index in range(len(part)):
            name: str | None = None
            try:
                row = part[index]
            except RowError as error:
                problems.append(_problem(part, index, error.fault))
            else:
                found = [*part.faults(row)]
                problems += [_problem(part, index, fault) for fault in _new(found, alike, problems)]
                name = None if found else kind.name_of(row)
                if "skip" in row and operations is not None:
                    unknown = _unknown_operations(row, kind, operations)
                    problems += [_problem(part, index, fault) for fault in unknown]
            # A row that is wrong is compared with no other; 0 is the hash of no name.
            hashes.append(hash(name) if name is not None else 0)
            if len(problems) >= MAX_PROBLEMS:
                return [*problems[:MAX_PROBLEMS], _and_more(part)]
    for first, count in alike.values():
        problems[first] = counted(problems[first], count - 1)
    return problems + _duplicates(rows, kind, hashes)


def _new(
    faults: Sequence[Fault], alike: dict[str, tuple[int, int]], problems: Sequence[Problem]
) -> Iterator[Fault]:
    """Those that no row before has: one of a template is that of many rows."""
    for fault in faults:
        first, count = alike.get(fault.message, (len(problems), 0))
        if fault.origin:
            alike[fault.message] = first, count + 1
        if not count:
            yield fault


def counted(problem: Problem, others: int) -> Problem:
    """One problem for all of the items that share it."""
    if not others:
        return problem
    others_too = f"{others:,} other item{'' if others == 1 else 's'} too"
    return replace(problem, message=f"{problem.message} (and for {others_too})")


def check_items(items: Collection, operations: Container[str] | None = None) -> list[Problem]:
    """The same of a plan's own collection, where its rows are known."""
    rows, kind = items.rows, items.kind
    if rows.asked or not isinstance(kind, OwnKind):
        return []
    known = rows if isinstance(rows, Concatenated) else Concatenated([_OnePart(rows, kind)])
    return check_rows(known, kind, operations)


@dataclass(frozen=True, slots=True)
class _OnePart:
    """Rows that come from no source of their own, as of a product."""

    rows: Rows
    kind: OwnKind

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Data:
        return self.rows[index]

    def faults(self, row: Data) -> Iterable[Fault]:
        return self.kind.faults(row)

    def place(self, index: int, path: Path = ()) -> Problem:  # noqa: ARG002
        return self.rows.place(index)


def _unknown_operations(row: Data, kind: RowKind, operations: Container[str]) -> Iterator[Fault]:
    skip = row["skip"]
    for index, name in enumerate(skip if isinstance(skip, list) else ()):
        if isinstance(name, str) and name not in operations:
            item = row.get("repo") if kind.for_each == "repo" else kind.name_of(row)
            message = f"`skip` of {item} names the unknown operation {echo(name)}"
            yield Fault(("skip", index), message, did_you_mean(name, operations))


def _duplicates(rows: Concatenated, kind: RowKind, hashes: array[int]) -> list[Problem]:
    """Sorting hashes finds the suspects in little memory; only they are compared by name."""
    ordered = sorted(hashes)
    suspects = {a for a, b in pairwise(ordered) if a == b} - {0}
    first: dict[Json, int] = {}
    problems: list[Problem] = []
    for index, digest in enumerate(hashes if suspects else ()):
        if digest not in suspects:
            continue
        name = kind.name_of(rows[index])
        if name in first:
            before = rows.place(first[name])
            message = f"{echo(name)} is listed twice (first in {before.path}:{before.line})"
            problems.append(_problem(rows, index, Fault((), message, "keep one of them")))
        else:
            first[name] = index
        if len(problems) >= MAX_PROBLEMS:
            break
    return problems


def _problem(rows: Part | Concatenated, index: int, fault: Fault) -> Problem:
    place = rows.place(index, fault.path)
    return replace(place, message=fault.message, hint=fault.hint)


def _and_more(part: Part) -> Problem:
    place = part.place(len(part) - 1)
    message = f"these are the first {MAX_PROBLEMS} problems; further rows were not looked at"
    return Problem(message, place.path, rule=place.rule)
