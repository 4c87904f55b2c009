"""Operation catalogs: the operations that plans may use, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from runner.model import Data, ForEach, Json, Load, Problem, Wait
from runner.spec.document import Document, did_you_mean
from runner.spec.order import find_cycle
from runner.spec.payload import Origin, compile_payload
from runner.spec.schema import check_with_paths, compile_schema
from runner.spec.templates import TemplateError, compile_condition
from runner.spec.units import parse_duration

BUILTIN = "builtin"
DEFAULT_TIMEOUT = "15m"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One operation as its catalog has it; what is None, the plan or the default decides."""

    name: str
    document: Document
    spec: Data
    event: str
    for_each: ForEach
    after: tuple[str, ...]
    load: Load
    done: Wait
    timeout: float
    batch_size: int | None
    delay: float | None
    min_delay: float
    when: str | None
    accepts: Callable[[Json], bool]

    @property
    def description(self) -> str:
        return str(self.spec.get("description", ""))

    @property
    def payload(self) -> tuple[Json, Origin]:
        if "payload" in self.spec:
            return self.spec["payload"], Origin(self.document, self._path("payload"))
        return {}, Origin(self.document, self._path())

    @property
    def contract(self) -> Json:
        return self.spec.get("contract", True)

    def _path(self, *keys: str) -> tuple[str, ...]:
        return ("operations", self.name, *keys)


def builtin_source() -> bytes:
    return (files("runner") / "catalogs" / "builtin.yaml").read_bytes()


def build_catalog(documents: Sequence[Document]) -> tuple[dict[str, CatalogEntry], list[Problem]]:
    """All operations of all catalogs; a later catalog's operation replaces an earlier one's."""
    entries: dict[str, CatalogEntry] = {}
    problems: list[Problem] = []
    for document in documents:
        faults = check_with_paths(document, "catalog.v1")
        problems += [problem for problem, _ in faults]
        if faults:
            continue
        for name, spec in document.value["operations"].items():
            entry, wrong = _entry(document, name, spec)
            entries[name] = entry
            problems += wrong
    problems += _check_needs(entries)
    return entries, problems


def _entry(document: Document, name: str, spec: Data) -> tuple[CatalogEntry, list[Problem]]:
    path = ("operations", name)
    problems: list[Problem] = []
    accepts: Callable[[Json], bool] = lambda _: True  # noqa: E731
    if "contract" in spec:
        try:
            accepts = compile_schema(spec["contract"])
        except ValueError as error:
            message = f"the contract is not a JSON Schema that can be used: {_first_line(error)}"
            problems.append(document.problem(message, (*path, "contract"), key=True))
    if "when" in spec:
        try:
            compile_condition(spec["when"])
        except TemplateError as error:
            problems.append(document.problem(str(error), (*path, "when")))
    entry = CatalogEntry(
        name=name,
        document=document,
        spec=spec,
        event=spec["event"],
        for_each=spec["for_each"],
        after=tuple(spec.get("after", ())),
        load=spec.get("load", "internal"),
        done=spec.get("done", "completed"),
        timeout=parse_duration(spec.get("timeout", DEFAULT_TIMEOUT)),
        batch_size=spec.get("batch_size"),
        delay=parse_duration(spec["delay"]) if "delay" in spec else None,
        min_delay=parse_duration(spec.get("min_delay", "0s")),
        when=spec.get("when"),
        accepts=accepts,
    )
    problems += compile_payload([entry.payload])[1]
    return entry, problems


def _check_needs(entries: dict[str, CatalogEntry]) -> list[Problem]:
    problems = []
    for entry in entries.values():
        for index, need in enumerate(entry.after):
            if need not in entries:
                hint = did_you_mean(need, entries) or f"there are: {', '.join(entries)}"
                message = f"`{entry.name}` comes after `{need}`, which no catalog has"
                path = ("operations", entry.name, "after", index)
                problems.append(entry.document.problem(message, path, hint=hint))
    if cycle := find_cycle({entry.name: entry.after for entry in entries.values()}):
        entry = entries[cycle[0]]
        message = f"the operations need each other in a circle: {' -> '.join(cycle)}"
        path = ("operations", entry.name, "after")
        hint = "take one of them out of an `after`"
        problems.append(entry.document.problem(message, path, key=True, hint=hint, rule="cycle"))
    return problems


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
