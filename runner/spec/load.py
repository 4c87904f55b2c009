"""Reads the files of a plan; the only place in this room that touches the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

from runner.errors import InvalidPlan, UsageError
from runner.model import BackfillPlan, Data, Input, Json, Problem, frozen
from runner.model import Collection as Items
from runner.spec.catalog import BUILTIN, Catalog, build_catalog, builtin_source
from runner.spec.collections import check_items, check_rows
from runner.spec.data_files import read_csv, read_jsonl
from runner.spec.document import Document, Path, did_you_mean, echo, ranked
from runner.spec.effect import check_effect, orders_nothing
from runner.spec.file_text import key_problems, too_large
from runner.spec.files import (
    MAX_DATA,
    MAX_YAML,
    FileRefused,
    TooLarge,
    read_given,
    read_named,
    read_plan,
)
from runner.spec.kinds import REPOSITORY, RepositoryKind
from runner.spec.own import NO_WORKSPACES, OwnCollections
from runner.spec.plan import build_plan, known_of
from runner.spec.plan_document import PlanDocument, check_plan
from runner.spec.questions import Asking
from runner.spec.rows import Concatenated, DocumentRows, Part, RowKind, SelectedRows, Uses
from runner.spec.secrets import Scrubber, find, mask, suspect
from runner.spec.strict_yaml import MANY_HINT, MAX_NODES, TOO_MANY, parse
from runner.spec.warnings import accepted, reasons_of, strictly

_STREAMED = (".csv", ".jsonl")
_MAX_CELLS = 5_000_000  # of a plan's data files together: cells, or members of lists and mappings


@frozen
class Opened:
    """A plan file or a catalog that was read and parsed."""

    document: Document
    problems: tuple[Problem, ...]
    keys: tuple[str, ...]  # which it should not hold
    inputs: tuple[Input, ...]  # the file itself, with its digest

    @property
    def is_catalog(self) -> bool:
        value = self.document.value
        return isinstance(value, dict) and value.get("kind") == "OperationCatalog"


def open_plan(path: str, raw: bytes | None = None) -> Opened:
    """`raw`: what was read of it already. Raises `UsageError` where there is no such file."""
    reading = _Reading()
    document = reading.plan(path, raw)
    return Opened(document, tuple(reading.problems), tuple(reading.keys), tuple(reading.inputs))


def load_plan(
    source: str | Opened,
    *,
    overrides: Mapping[str, Json] | None = None,
    shared: Mapping[str, Json] | None = None,
    replaced: Mapping[str, str] | None = None,
    strict: bool = False,
) -> BackfillPlan:
    """The plan at a path, or one that was opened, ready for planning.

    Raises `InvalidPlan` with every problem at once (`strict`: warnings count as errors) and
    `UsageError` where there is no such file. `replaced`: files in place of collections, by name.
    """
    reading, document = _Reading.of(source)
    if document.value is None and reading.problems:
        raise InvalidPlan(reading.ranked())
    checked = reading.check(document)
    catalog, whole = reading.catalog(checked)
    overrides = {**known_of(shared or {}, checked, catalog), **(overrides or {})}
    variables = [*checked.value.get("vars", {}), *overrides]
    reading.replaced = replaced or {}
    repositories, complete = reading.repositories(checked, variables)
    known = catalog if whole else None
    uses = Uses(checked.used(), document.path)
    reading.problems += check_rows(repositories, REPOSITORY, known, uses)
    own = reading.own(checked, overrides, repositories, known, uses)
    plan, wrong = build_plan(
        checked,
        catalog,
        repositories,
        own,
        overrides,
        every_operation=whole,
        every_repository=complete,
    )
    reading.problems += wrong
    if whole:
        known_items = {"repo": Items(REPOSITORY, repositories), **own}
        found = list(check_effect(checked, catalog, known_items))
        if reading.errors:  # what cannot be read yet may be what reads it
            found = [problem for problem in found if problem.severity == "error"]
        reading.problems += found
        plan = replace(plan, idle_order=orders_nothing(checked, catalog))
    reasons = reasons_of(plan)
    problems = accepted(reading.ranked(), reasons)
    if strict:
        problems = ranked(strictly(problems))
    if any(problem.severity == "error" for problem in problems):
        raise InvalidPlan(problems)
    pinned = tuple(reading.pinned)
    return replace(plan, warnings=problems, inputs=tuple(reading.inputs), replaced=pinned)


def check_catalog(opened: Opened) -> tuple[Problem, ...]:
    """What is wrong with the catalog."""
    reading, document = _Reading.of(opened)
    problems = build_catalog([document])[1]
    if problems:  # it may go on from the built-in one, as in `catalog: [builtin, catalog.yaml]`
        problems = build_catalog([parse_clean(builtin_source(), BUILTIN)[0], document])[1]
    reading.problems += problems
    return reading.ranked()


def read_catalog(path: str | None) -> tuple[Catalog, list[Problem]]:
    """The operations that the plan at `path` can use; without one, the built-in ones."""
    if path is None:
        return build_catalog([parse_clean(builtin_source(), BUILTIN)[0]])
    reading = _Reading()
    document = reading.plan(path)
    if document.value is None and reading.problems:
        return Catalog(), list(reading.ranked())
    checked = check_plan(document)
    if checked.problems and not checked.value:
        reading.problems += checked.problems
    catalog, _ = reading.catalog(checked)
    return catalog, list(reading.ranked())


def parse_clean(raw: bytes, path: str) -> tuple[Document, list[Problem]]:
    """A YAML document, its syntax problems, and whatever in it looks like a key."""
    reading = _Reading()
    document = reading.yaml(raw, path)
    return document, list(reading.ranked())


@dataclass
class _Reading:
    """The files of one plan while they are read: what is wrong, and what must never be shown."""

    problems: list[Problem] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    replaced: Mapping[str, str] = field(default_factory=dict)  # files in place of collections
    pinned: list[Input] = field(default_factory=list)  # ... and what was in them, by collection
    _nodes: int = 0
    _bytes: int = 0  # of the files that the plan names
    _cells: int = 0

    @classmethod
    def of(cls, source: str | Opened) -> tuple[_Reading, Document]:
        opened = open_plan(source) if isinstance(source, str) else source
        return cls([*opened.problems], [*opened.keys], [*opened.inputs]), opened.document

    @property
    def errors(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    def ranked(self) -> tuple[Problem, ...]:
        """The problems, best first, without any part of a key."""
        if not self.keys:
            return ranked(self.problems)
        scrub = Scrubber(self.keys)
        return ranked(
            replace(
                problem,
                message=scrub(problem.message),
                hint=problem.hint and scrub(problem.hint),
                source=problem.source and scrub(problem.source),
            )
            for problem in self.problems
        )

    def plan(self, path: str, raw: bytes | None = None) -> Document:
        try:
            raw = read_plan(path) if raw is None else raw
        except TooLarge:
            self.problems.append(too_large(path))
            return Document(path, "", None, None)
        except FileRefused as error:
            hint = "give the path of a plan file; `backfill init` writes a first one"
            raise UsageError(f"{path} cannot be read: {error}", hint=error.hint or hint) from None
        self._remember(FilePath(path), raw)
        return self.yaml(raw, path)

    def yaml(self, raw: bytes, path: str) -> Document:
        document, problems, keys = parse(raw, path)
        self.problems += problems
        self.keys += keys
        self._nodes += document.nodes
        if document.nodes <= MAX_NODES < self._nodes:
            self.problems.append(Problem(TOO_MANY, path, hint=MANY_HINT, rule="too-large"))
            return replace(document, value=None)
        return document

    def check(self, document: Document) -> PlanDocument:
        checked = check_plan(document)
        self.problems += checked.problems
        return checked

    def catalog(self, checked: PlanDocument) -> tuple[Catalog, bool]:
        """The operations of the catalogs that the plan names, by default the built-in one.

        False where something is wrong with them, so that operations may be missing.
        """
        before = len(self.problems)
        named = checked.value.get("catalog", BUILTIN)
        documents: list[Document] = []
        for index, name in enumerate([named] if isinstance(named, str) else named):
            if not isinstance(name, str):
                continue
            path: Path = ("catalog",) if isinstance(named, str) else ("catalog", index)
            raw = builtin_source() if name == BUILTIN else self._named(checked.document, name, path)
            if raw is not None:
                count = len(self.problems)
                document = self.yaml(raw, _beside(checked.document, name))
                if document.value is not None or len(self.problems) == count:
                    documents.append(document)
        catalog, wrong = build_catalog(documents)
        self.problems += wrong
        return catalog, len(self.problems) == before and "catalog" not in checked.pruned

    def repositories(
        self, checked: PlanDocument, variables: Collection[str]
    ) -> tuple[Concatenated, bool]:
        """The sources of repositories in written order; neighbours written inline share one.

        False where something is wrong with them, so that repositories may be missing.
        """
        kind = RepositoryKind(checked.value.get("workspace"))
        if "repos" in self.replaced:
            rows = self._replacement("repos", kind)
            return Concatenated([rows] if rows else []), rows is not None
        parts: list[Part] = []
        inline: tuple[list[Data], list[Path]] = ([], [])
        written = checked.value.get("repos", [])
        before, whole = len(self.problems), "repos" not in checked.pruned
        for index, entry in enumerate(written):
            if isinstance(entry, dict) and ("file" in entry or "repo" not in entry):
                parts.append(DocumentRows(checked.document, *inline, kind, checked=True))
                inline = ([], [])
                own = RepositoryKind(entry.get("workspace", kind.workspace))
                path: Path = ("repos", index)
                if "file" in entry:
                    rows = self._data_file(checked.document, path, entry["file"], own)
                else:
                    rows = self._selected(checked, path, entry, own, variables)
                parts += [] if rows is None else [rows]
            elif entry is not None:
                row = kind.named(entry) if isinstance(entry, str) else dict(entry)
                inline[0].append(kind.complete(row))
                inline[1].append(("repos", index))
        parts.append(DocumentRows(checked.document, *inline, kind, checked=True))
        return Concatenated(parts), whole and len(self.problems) == before

    def own(
        self,
        checked: PlanDocument,
        overrides: Mapping[str, Json],
        repositories: Concatenated,
        operations: Collection[str] | None,
        uses: Uses,
    ) -> dict[str, Items]:
        """The plan's own collections in which nothing is wrong."""
        variables = {**checked.value.get("vars", {}), **overrides}
        asking = Asking(checked.document, variables)
        own = OwnCollections(
            checked,
            asking,
            {"vars": variables, "plan": checked.value.get("metadata", {})},
            lambda path, name, kind: self._data_file(checked.document, path, name, kind),
            self._replacement,
            {"repo": Items(REPOSITORY, repositories), "workspace": NO_WORKSPACES},
        )
        found = own.read()
        self.problems += [*own.problems, *asking.problems]
        known = ["repos", *checked.value.get("collections", {})]
        for name in self.replaced:
            if name not in known:
                message = f"--collection: the plan has no collection {echo(name)}"
                hint = did_you_mean(name, known) or f"it has: {', '.join(known)}"
                self.problems.append(checked.error(message, ("collections",), key=True, hint=hint))
        for items in found.values():
            self.problems += check_items(items, operations, uses)
        return found

    def _replacement(self, name: str, kind: RowKind) -> Part | None:
        """The rows of the file that goes in place of a collection; None where there is none."""
        if name not in self.replaced:
            return None
        path = self.replaced[name]
        try:
            raw = read_given(path, limit=MAX_DATA)
        except FileRefused as error:
            message = f"--collection {name}: {path} cannot be read: {error}"
            raise UsageError(message, hint=error.hint) from None
        shown = "stdin" if path == "-" else path
        self.pinned.append(Input(name, hashlib.sha256(raw).hexdigest()))
        return self._rows_of(raw, shown, kind)

    def _rows_of(self, raw: bytes, path: str, kind: RowKind) -> Part | None:
        """By the name's ending; JSON Lines or CSV by what the first byte tells, without one."""
        if path.endswith((".yaml", ".yml")):
            return self._yaml_rows(raw, path, kind)
        self._cells += raw.count(b",") + raw.count(b"\n")
        if self._cells > _MAX_CELLS:
            message = f"the plan's data files have more than {_MAX_CELLS:,} cells or values"
            hint = "leave out the columns that the plan does not use, or split the plan"
            self.problems.append(Problem(message, path, hint=hint, rule="too-large"))
            return None
        lines = path.endswith(".jsonl") or raw.lstrip()[:1] in (b"{", b'"')
        self._find_keys(raw, path)
        rows, problems = (read_jsonl if lines else read_csv)(path, raw, kind)
        self.problems += problems
        return rows

    def _selected(
        self,
        checked: PlanDocument,
        path: Path,
        entry: Data,
        kind: RepositoryKind,
        variables: Collection[str],
    ) -> Part | None:
        if "query" in entry:
            asking = Asking(checked.document, variables)
            question = asking.question(entry, path)
            self.problems += asking.problems
            return SelectedRows(checked.document, path, kind, question, "repositories")
        if "workspace" not in entry:
            return None
        name = f"repositories of {kind.workspace}"
        return SelectedRows(checked.document, path, kind, None, name, kind.workspace)

    def _data_file(self, document: Document, at: Path, name: str, kind: RowKind) -> Part | None:
        raw = self._named(document, name, (*at, "file"))
        if raw is None:
            return None
        return self._rows_of(raw, _beside(document, name), kind)

    def _yaml_rows(self, raw: bytes, path: str, kind: RowKind) -> Part | None:
        count = len(self.problems)
        listed = self.yaml(raw, path)
        if listed.value is None and len(self.problems) > count:
            return None
        if not isinstance(listed.value, list):
            message = f"expected a list of {kind.several}"
            self.problems.append(listed.problem(message, hint=kind.example))
            return None
        rows = [
            kind.complete(dict(entry) if isinstance(entry, dict) else kind.named(entry))
            for entry in listed.value
        ]
        return DocumentRows(listed, rows, [(n,) for n in range(len(rows))], kind)

    def _named(self, document: Document, name: str, at: Path) -> bytes | None:
        limit = MAX_DATA if name.endswith(_STREAMED) else MAX_YAML
        try:
            path, raw = read_named(name, document.path, limit=limit)
        except FileRefused as error:
            message = f"{echo(name)} cannot be read: {error}"
            hint = error.hint or "paths are relative to the plan file"
            self.problems.append(document.problem(message, at, hint=hint))
            return None
        self._bytes += len(raw)
        if self._bytes > MAX_DATA:
            message = f"the files that the plan names have more than {MAX_DATA >> 20} MiB together"
            self.problems.append(document.problem(message, at, hint="split the plan"))
            return None
        self._remember(path, raw)
        return raw

    def _remember(self, path: FilePath, raw: bytes) -> None:
        self.inputs.append(Input(str(path.resolve()), hashlib.sha256(raw).hexdigest()))

    def _find_keys(self, raw: bytes, path: str) -> None:
        if not suspect(raw):
            return
        text = raw.decode("utf-8", "replace")
        spans = find(text)
        self.keys += [text[start:end] for start, end in spans]
        self.problems += key_problems(path, mask(text, spans), spans)


def _beside(document: Document, name: str) -> str:
    return name if name == BUILTIN else str(FilePath(document.path).parent / name)
