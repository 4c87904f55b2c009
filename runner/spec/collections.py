"""Checks on a plan's items that a schema cannot make, wherever they come from."""

from __future__ import annotations

from array import array
from collections.abc import Collection as Container
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice, pairwise

from runner.model import Collection, Data, Json, Problem, Rows, frozen
from runner.spec.document import Path, did_you_mean, echo
from runner.spec.kinds import OwnKind
from runner.spec.rows import (
    LEAVING,
    MAX_ITEMS,
    NOTHING,
    Concatenated,
    DocumentRows,
    Fault,
    Part,
    RowError,
    RowKind,
    Uses,
    leaves_out,
)
from runner.spec.units import counted

MAX_PROBLEMS = 50
_PARTS = 16  # into which the hashes of all names are divided


def check_rows(
    rows: Concatenated,
    kind: RowKind,
    operations: Container[str] | None,
    uses: Uses = NOTHING,
) -> list[Problem]:
    """Find unreadable rows, wrong values, unknown operations, and items listed twice.

    `operations`: those of the catalog; None if it could not be read. `uses`: the operations that
    the plan uses.
    """
    if len(rows) > MAX_ITEMS:
        message = f"there are {len(rows):,} {kind.several}, more than {MAX_ITEMS:,}"
        return [_problem(rows, MAX_ITEMS, Fault((), message, "split the plan"))]
    written = [_is_written_in(part, uses.path) for part in rows.sources]
    problems: list[Problem] = []
    alike: dict[str, tuple[int, int]] = {}  # by message: index of the problem, number of rows
    hashes = array("q")
    same, name_of = kind.same, kind.name_of
    for part in rows.parts:
        faults_of = part.faults
        for index in range(len(part)):
            name: str | None = None
            try:
                row = part[index]
            except RowError as error:
                problems.append(_problem(part, index, error.fault))
            else:
                wrong = faults_of(row)  # an empty tuple for most rows
                found = [*islice(wrong, MAX_PROBLEMS)] if wrong else ()
                if found:
                    new = _new(found, alike, problems)
                    problems += [_problem(part, index, fault) for fault in new]
                else:
                    with suppress(ValueError):  # the parts of a product have reported the problem
                        name = same(name_of(row))
                if operations is not None and ("skip" in row or "only" in row):
                    used = uses.operations if _is_written_in(part, uses.path) else ()
                    faults = _leaving(row, kind, operations, used, alone=all(written))
                    faults = islice(faults, MAX_PROBLEMS)
                    problems += [_problem(part, index, fault) for fault in faults]
            # A faulty row is compared with no other: 0 stands for no name.
            hashes.append(hash(name) if name is not None else 0)
            if len(problems) >= MAX_PROBLEMS:
                return [*problems[:MAX_PROBLEMS], _and_more(part)]
    for first, count in alike.values():
        problems[first] = with_others(problems[first], count - 1)
    return problems + _duplicates(rows, kind, hashes)


def _new(
    faults: Sequence[Fault], alike: dict[str, tuple[int, int]], problems: Sequence[Problem]
) -> Iterator[Fault]:
    """Yield the faults that no earlier row has; a template's fault may recur in many rows."""
    for fault in faults:
        first, count = alike.get(fault.message, (len(problems), 0))
        if fault.origin:
            alike[fault.message] = first, count + 1
        if not count:
            yield fault


def with_others(problem: Problem, others: int) -> Problem:
    """Return one problem for all of the items that share it."""
    if not others:
        return problem
    others_too = f"{counted(others, 'other item')} too"
    return replace(problem, message=f"{problem.message} (and for {others_too})")


def check_items(
    items: Collection, operations: Container[str] | None = None, uses: Uses = NOTHING
) -> list[Problem]:
    """Check the rows of a plan's own collection, if they are known."""
    rows, kind = items.rows, items.kind
    if rows.asked or not isinstance(kind, OwnKind):
        return []
    known = rows if isinstance(rows, Concatenated) else Concatenated([_OnePart(rows, kind)])
    return check_rows(known, kind, operations, uses)


@frozen
class _OnePart:
    """Rows that have no source of their own, such as those of a product."""

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


def _is_written_in(part: Part, plan: str) -> bool:
    return isinstance(part, DocumentRows) and part.document.path == plan


def _leaving(
    row: Data,
    kind: RowKind,
    operations: Container[str],
    used: Sequence[str],
    *,
    alone: bool,
) -> Iterator[Fault]:
    """Check the `skip` and `only` of an item.

    `used`: the operations of the plan, if the item is written in it; a data file may be for several
    plans. `alone`: no other source could give the item, so it is listed only to run something.
    """
    item = row.get("repo") if kind.for_each == "repo" else kind.name_of(row)
    if "skip" in row and "only" in row:
        yield Fault(("skip",), f"{item} has both `skip` and `only`", "keep one of them")
        return
    sound = True
    for key in LEAVING:
        names = row.get(key)
        for index, name in enumerate(names if isinstance(names, list) else ()):
            if not isinstance(name, str) or (name in operations and (not used or name in used)):
                continue
            sound = False
            if name not in operations:
                message = f"`{key}` of {item} names the unknown operation {echo(name)}"
                hint = (
                    "list each name by itself; in a CSV cell, separate the names with `;`"
                    if "," in name
                    else None
                )
                yield Fault((key, index), message, did_you_mean(name, operations) or hint)
            else:
                message = f"`{key}` of {item} names `{name}`, which this plan never uses"
                near = did_you_mean(name, used)
                yield Fault((key, index), message, near or "remove it, or add it to `operations`")
    if sound and used and alone and all(leaves_out(row, name) for name in used):
        key = next(key for key in LEAVING if key in row)
        message = f"`{key}` of {item} leaves no operation of this plan to run for it"
        yield Fault((key,), message, f"remove {item} from the list")


def _duplicates(rows: Concatenated, kind: RowKind, hashes: array[int]) -> list[Problem]:
    """Find items listed twice. Sorting the hashes part by part takes little memory and finds the
    suspects; only those are compared by name."""
    parts = [array("q") for _ in range(_PARTS)]
    for one in hashes:
        parts[one % _PARTS].append(one)
    suspects = {a for part in parts for a, b in pairwise(sorted(part)) if a == b} - {0}
    first: dict[Json, int] = {}
    problems: list[Problem] = []
    for index, digest in enumerate(hashes if suspects else ()):
        if digest not in suspects:
            continue
        called = kind.name_of(rows[index])
        name = kind.same(called)
        if name in first:
            before = rows.place(first[name])
            other = kind.name_of(rows[first[name]])
            as_ = "" if other == called else f" as {echo(other)}, the same to GitHub,"
            where = f"first{as_} in {before.path}:{before.line}"
            named = " ".join(f"{{{{ row.{part} }}}}" for part in kind.parts)
            hint = f'name them apart, as by `item: "{named}"`' if named else "keep one of them"
            if not named and before == rows.place(index):  # rows of a query, or of dates
                where = f"first{as_} in another row"
                hint = "let the query give each once"
                if not kind.column:
                    hint = "name its rows apart with `item`, or let each occur once"
            message = f"{echo(called)} is listed twice ({where})"
            problems.append(_problem(rows, index, Fault((), message, hint)))
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
    message = f"these are the first {MAX_PROBLEMS} problems; the remaining rows were not checked"
    return Problem(message, place.path, rule=place.rule)
