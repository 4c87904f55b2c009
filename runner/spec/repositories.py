"""Checks on the repositories of a plan that no schema can make, wherever they come from."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from itertools import pairwise

from runner.model import Data, Json, Problem
from runner.spec.document import did_you_mean, echo
from runner.spec.rows import Concatenated, Fault, RowError, Rows

MAX_PROBLEMS = 50


def check_repositories(rows: Concatenated, operations: Collection[str] | None) -> list[Problem]:
    """Rows that cannot be read or hold wrong values, unknown operations, repositories listed twice.

    `operations` are those of the catalog; None where it could not be read.
    """
    problems: list[Problem] = []
    hashes = array("q")
    for part in rows.parts:
        for index in range(len(part)):
            repo: Json = None
            try:
                row = part[index]
            except RowError as error:
                problems.append(_problem(part, index, error.fault))
            else:
                repo = row.get("repo")
                for fault in part.faults(row):
                    problems.append(_problem(part, index, fault))
                    repo = None
                if "skip" in row and operations is not None:
                    unknown = _unknown_operations(row, operations)
                    problems += [_problem(part, index, fault) for fault in unknown]
            # A row that is wrong is compared with no other; 0 is the hash of no name.
            hashes.append(hash(repo) if type(repo) is str else 0)
            if len(problems) >= MAX_PROBLEMS:
                return [*problems[:MAX_PROBLEMS], _and_more(part)]
    return problems + _duplicates(rows, hashes)


def _unknown_operations(row: Data, operations: Collection[str]) -> Iterator[Fault]:
    skip = row["skip"]
    for index, name in enumerate(skip if isinstance(skip, list) else ()):
        if isinstance(name, str) and name not in operations:
            message = f"`skip` of {row.get('repo')} names the unknown operation {echo(name)}"
            yield Fault(("skip", index), message, did_you_mean(name, operations))


def _duplicates(rows: Concatenated, hashes: array[int]) -> list[Problem]:
    """Sorting hashes finds the suspects in little memory; only they are compared by name."""
    ordered = sorted(hashes)
    suspects = {a for a, b in pairwise(ordered) if a == b} - {0}
    first: dict[Json, int] = {}
    problems: list[Problem] = []
    for index, digest in enumerate(hashes if suspects else ()):
        if digest not in suspects:
            continue
        repo = rows[index]["repo"]
        if repo in first:
            before = rows.place(first[repo])
            message = f"{echo(repo)} is listed twice (first in {before.path}:{before.line})"
            problems.append(_problem(rows, index, Fault((), message, "keep one of them")))
        else:
            first[repo] = index
        if len(problems) >= MAX_PROBLEMS:
            break
    return problems


def _problem(rows: Rows | Concatenated, index: int, fault: Fault) -> Problem:
    place = rows.place(index, fault.path)
    return Problem(
        fault.message,
        place.path,
        place.line,
        place.column,
        place.source,
        fault.hint,
        rule=place.rule,
    )


def _and_more(part: Rows) -> Problem:
    place = part.place(len(part) - 1)
    message = f"these are the first {MAX_PROBLEMS} problems; further rows were not looked at"
    return Problem(message, place.path, rule=place.rule)
