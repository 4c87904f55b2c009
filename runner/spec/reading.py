"""Read the files of a plan, within limits; no other module of this room opens a plan's files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

from runner.errors import UsageError
from runner.model import Input, Problem, frozen
from runner.spec.catalog import BUILTIN, builtin_source
from runner.spec.document import Document, Path, echo, ranked
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
from runner.spec.rows import DocumentRows, Part, RowKind
from runner.spec.secrets import Scrubber, find, mask, suspect
from runner.spec.strict_yaml import MANY_HINT, MAX_NODES, TOO_MANY, parse

_STREAMED = (".csv", ".jsonl")
_MAX_CELLS = 5_000_000  # in all data files of a plan: cells, or members of lists and mappings


@frozen
class Opened:
    """A plan file or a catalog that was read and parsed."""

    document: Document
    problems: tuple[Problem, ...]
    keys: tuple[str, ...]  # secrets found in it
    inputs: tuple[Input, ...]  # the file itself, with its digest

    @property
    def is_catalog(self) -> bool:
        value = self.document.value
        return isinstance(value, dict) and value.get("kind") == "OperationCatalog"


@dataclass
class Reading:
    """The files of one plan while they are read: problems, and secrets that must not be shown."""

    problems: list[Problem] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    replaced: Mapping[str, str] = field(default_factory=dict)  # by collection: the file instead
    pinned: list[Input] = field(default_factory=list)  # by collection: the digest of that file
    _nodes: int = 0
    _bytes: int = 0  # of the files that the plan names
    _cells: int = 0

    @classmethod
    def of(cls, source: str | Opened) -> tuple[Reading, Document]:
        opened = open_plan(source) if isinstance(source, str) else source
        return cls([*opened.problems], [*opened.keys], [*opened.inputs]), opened.document

    @property
    def errors(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    def ranked(self) -> tuple[Problem, ...]:
        """Return the problems, errors first, without any part of a secret."""
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

    def catalog(self, document: Document, name: str, at: Path) -> Document | None:
        """Read a catalog that the plan names; None if it cannot be read."""
        raw = builtin_source() if name == BUILTIN else self._named(document, name, at)
        return None if raw is None else self.yaml(raw, _beside(document, name))

    def data_file(self, document: Document, at: Path, name: str, kind: RowKind) -> Part | None:
        raw = self._named(document, name, (*at, "file"))
        if raw is None:
            return None
        return self._rows_of(raw, _beside(document, name), kind)

    def replacement(self, name: str, kind: RowKind) -> Part | None:
        """Read the rows of the file that replaces a collection; None if there is none."""
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
        """Parse rows by the file extension; without one, as JSON Lines or CSV."""
        from runner.spec.data_files import is_json_lines, read_csv, read_jsonl

        if path.endswith((".yaml", ".yml")):
            return self._yaml_rows(raw, path, kind)
        self._cells += raw.count(b",") + raw.count(b"\n")
        if self._cells > _MAX_CELLS:
            message = f"the plan's data files have more than {_MAX_CELLS:,} cells or values"
            hint = "leave out the columns that the plan does not use, or split the plan"
            self.problems.append(Problem(message, path, hint=hint, rule="too-large"))
            return None
        lines = is_json_lines(path, raw, kind)
        self._find_keys(raw, path)
        rows, problems = (read_jsonl if lines else read_csv)(path, raw, kind)
        self.problems += problems
        return rows

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


def open_plan(path: str, raw: bytes | None = None) -> Opened:
    """Open a plan file; `raw`: its bytes, if read already. Raises `UsageError` if not there."""
    reading = Reading()
    document = reading.plan(path, raw)
    return Opened(document, tuple(reading.problems), tuple(reading.keys), tuple(reading.inputs))


def parse_clean(raw: bytes, path: str) -> tuple[Document, list[Problem]]:
    """Parse a YAML document; return it, its syntax problems, and the secrets found in it."""
    reading = Reading()
    document = reading.yaml(raw, path)
    return document, list(reading.ranked())


def _beside(document: Document, name: str) -> str:
    return name if name == BUILTIN else str(FilePath(document.path).parent / name)
