"""Checks on the repositories of a plan that JSON Schema cannot make, wherever they come from."""

from __future__ import annotations

import re
from array import array
from collections.abc import Container, Iterator

from runner.model import Data, Json, Problem
from runner.spec.document import did_you_mean
from runner.spec.rows import Concatenated, RowError
from runner.spec.units import PRIORITIES

MAX_PROBLEMS = 50
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+\Z")


def check_repositories(rows: Concatenated, catalog: Container[str]) -> list[Problem]:
    """Malformed names, unknown priorities and operations, and repositories listed twice."""
    problems: list[Problem] = []
    hashes = array("q")
    for index in range(len(rows)):
        try:
            row = rows[index]
        except RowError as error:
            problems.append(_problem(rows, index, str(error)))
        else:
            hashes.append(hash(row.get("repo")))
            if "skip" in row or "priority" in row or not _well_formed(row.get("repo")):
                problems += [
                    _problem(rows, index, message, hint)
                    for message, hint in _faults(row, catalog)
                ]
        if len(problems) >= MAX_PROBLEMS:
            return problems
    if len(hashes) == len(rows):
        problems += _duplicates(rows, hashes)
    return problems


def _well_formed(repo: Json) -> bool:
    return type(repo) is str and _NAME.match(repo) is not None


def _faults(row: Data, catalog: Container[str]) -> Iterator[tuple[str, str | None]]:
    repo, priority = row.get("repo"), row.get("priority")
    if not _well_formed(repo):
        yield f"`{repo}` is not a repository", "write it as owner/name"
    if priority is not None and (not isinstance(priority, str) or priority not in PRIORITIES):
        hint = did_you_mean(str(priority), PRIORITIES)
        yield f"the priority `{priority}` is not one of {', '.join(PRIORITIES)}", hint
    skip = row.get("skip", [])
    for name in skip if isinstance(skip, list) else [skip]:
        if name is not None and name not in catalog:
            hint = did_you_mean(str(name), catalog) if isinstance(catalog, dict) else None
            yield f"`skip` of {repo} names the unknown operation `{name}`", hint


def _duplicates(rows: Concatenated, hashes: array[int]) -> list[Problem]:
    """Sorting hashes finds the suspects in little memory; only they are compared by name."""
    ordered = sorted(hashes)
    suspects = {a for a, b in zip(ordered, ordered[1:], strict=False) if a == b}
    if not suspects:
        return []
    first: dict[Json, int] = {}
    problems: list[Problem] = []
    for index, digest in enumerate(hashes):
        if digest not in suspects:
            continue
        repo = rows[index]["repo"]
        if repo in first:
            before = rows.place(first[repo])
            message = f"`{repo}` is listed twice (first in {before.path}:{before.line})"
            problems.append(_problem(rows, index, message, "keep one of them"))
        else:
            first[repo] = index
        if len(problems) >= MAX_PROBLEMS:
            break
    return problems


def _problem(rows: Concatenated, index: int, message: str, hint: str | None = None) -> Problem:
    place = rows.place(index)
    return Problem(
        message, place.path, place.line, place.column, place.source, hint, rule="repository"
    )
