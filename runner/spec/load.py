"""Reads the files of a plan; the only place in this room that touches the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath

from runner.errors import InvalidPlan, UsageError
from runner.model import BackfillPlan, Data, Json, Problem
from runner.spec.catalog import BUILTIN, CatalogEntry, build_catalog, builtin_source
from runner.spec.document import Document, Path, problem_at
from runner.spec.plan import Checked, build_plan, check_plan
from runner.spec.repositories import check_repositories
from runner.spec.rows import Concatenated, DocumentRows, Rows, complete, read_csv, read_jsonl
from runner.spec.secrets import find
from runner.spec.strict_yaml import parse


def load_plan(
    path: str, *, overrides: Mapping[str, Json] | None = None, strict: bool = False
) -> BackfillPlan:
    """The plan at `path`, ready for planning.

    Raises `InvalidPlan` with every problem at once (`strict`: warnings count as errors) and
    `UsageError` where there is no such file.
    """
    document, problems = _read_yaml(path)
    if any(problem.rule == "yaml" for problem in problems) and document.value is None:
        raise InvalidPlan(ranked(problems))
    checked = check_plan(document)
    problems += checked.problems
    catalog, wrong = load_catalog(checked)
    problems += wrong
    repositories, wrong = _repositories(checked)
    problems += wrong
    problems += check_repositories(repositories, catalog)
    plan, wrong = build_plan(checked, catalog, repositories, overrides or {})
    problems += wrong
    if strict:
        problems = [replace(problem, severity="error") for problem in problems]
    if any(problem.severity == "error" for problem in problems):
        raise InvalidPlan(ranked(problems))
    return replace(plan, warnings=ranked(problems))


def read_catalog(path: str | None) -> tuple[dict[str, CatalogEntry], list[Problem]]:
    """The operations that the plan at `path` can use; without one, the built-in ones."""
    if path is None:
        return build_catalog([parse_clean(builtin_source(), BUILTIN)[0]])
    document, problems = _read_yaml(path)
    catalog, wrong = load_catalog(check_plan(document))
    return catalog, problems + wrong


def load_catalog(checked: Checked) -> tuple[dict[str, CatalogEntry], list[Problem]]:
    """The operations of the catalogs that a plan names; by default the built-in one."""
    named = checked.value.get("catalog", BUILTIN)
    documents: list[Document] = []
    problems: list[Problem] = []
    for index, name in enumerate([named] if isinstance(named, str) else named):
        path: Path = ("catalog",) if isinstance(named, str) else ("catalog", index)
        raw, problem = _named_file(checked.document, name, path) if name != BUILTIN else (
            builtin_source(), None
        )
        if problem:
            problems.append(problem)
        else:
            document, wrong = parse_clean(raw, _beside(checked.document, name))
            documents.append(document)
            problems += wrong
    catalog, wrong = build_catalog([document for document in documents if document.value])
    return catalog, problems + wrong


def parse_clean(raw: bytes, path: str) -> tuple[Document, list[Problem]]:
    """A YAML document, its syntax problems, and whatever in it looks like a key."""
    document, problems = parse(raw, path)
    return document, [*problems, *_secrets(document.text, path)]


def ranked(problems: list[Problem]) -> tuple[Problem, ...]:
    """Errors before warnings, then as they stand in the files; the same problem once."""
    first: dict[str, int] = {}
    for problem in problems:
        first.setdefault(problem.path, len(first))
    return tuple(
        sorted(
            dict.fromkeys(problems),
            key=lambda p: (p.severity, first[p.path], p.line or 0, p.column or 0),
        )
    )


def _read_yaml(path: str) -> tuple[Document, list[Problem]]:
    try:
        raw = FilePath(path).read_bytes()
    except OSError as error:
        hint = "give the path of a plan file; `backfill init` writes a first one"
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    return parse_clean(raw, path)


def _repositories(checked: Checked) -> tuple[Concatenated, list[Problem]]:
    """The sources of repositories in written order; neighbours written inline share one."""
    parts: list[Rows] = []
    problems: list[Problem] = []
    inline: tuple[list[Data], list[Path]] = ([], [])
    workspace = checked.value.get("workspace")
    for index, entry in enumerate(checked.value.get("repos") or ()):
        if entry is None:
            continue
        if isinstance(entry, dict) and "file" in entry:
            parts.append(DocumentRows(checked.document, *inline))
            inline = ([], [])
            rows, wrong = _data_file(checked.document, index, entry, workspace)
            problems += wrong
            parts += [rows] if rows else []
        else:
            row = {"repo": entry} if isinstance(entry, str) else dict(entry)
            inline[0].append(complete(row, workspace))
            inline[1].append(("repos", index))
    parts.append(DocumentRows(checked.document, *inline))
    return Concatenated(parts), problems


def _data_file(
    document: Document, index: int, entry: Data, workspace: str | None
) -> tuple[Rows | None, list[Problem]]:
    name, workspace = entry["file"], entry.get("workspace", workspace)
    raw, problem = _named_file(document, name, ("repos", index, "file"))
    if problem:
        return None, [problem]
    path = _beside(document, name)
    if name.endswith(".csv"):
        rows, problems = read_csv(path, raw, workspace)
        return rows, problems + _secrets_in_data(raw, path)
    if name.endswith(".jsonl"):
        lines, problems = read_jsonl(path, raw, workspace)
        return lines, problems + _secrets_in_data(raw, path)
    listed, problems = parse_clean(raw, path)
    if not isinstance(listed.value, list):
        problems.append(listed.problem("expected a list of repositories", hint="- owner/name"))
        return None, problems
    rows_of_list = [complete(_row(entry), workspace) for entry in listed.value]
    return DocumentRows(listed, rows_of_list, [(n,) for n in range(len(rows_of_list))]), problems


def _row(entry: Json) -> Data:
    return dict(entry) if isinstance(entry, dict) else {"repo": entry}


def _named_file(document: Document, name: str, at: Path) -> tuple[bytes, Problem | None]:
    """The bytes of a file that a plan names, which must lie in the plan's folder or below it."""
    folder = FilePath(document.path).resolve().parent
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder):
            message = f"`{name}` leaves the plan's folder"
            return b"", document.problem(message, at, hint="keep it beside the plan")
        return path.read_bytes(), None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        hint = "paths are relative to the plan file"
        return b"", document.problem(f"`{name}` cannot be read: {why}", at, hint=hint)


def _beside(document: Document, name: str) -> str:
    return name if name == BUILTIN else str(FilePath(document.path).parent / name)


def _secrets(text: str, path: str) -> list[Problem]:
    problems = []
    for start, _ in find(text)[:10]:
        line, column = text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)
        message = "this looks like a key or token; keys come from the environment only"
        hint = "take it out of the file, and replace the key: it may be in git's history"
        problems.append(problem_at(path, text, line, column, message, hint=hint, rule="secret"))
    return problems


def _secrets_in_data(raw: bytes, path: str) -> list[Problem]:
    return _secrets(raw.decode("utf-8", "replace"), path)
