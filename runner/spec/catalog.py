"""Operation catalogs: the operations that plans may use, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath

from runner.model import Advice, Data, ForEach, Json, Load, Problem, Wait, frozen
from runner.spec.dependencies import find_cycle, stable_order
from runner.spec.document import Document, Path, did_you_mean, echo
from runner.spec.payload import Origin, compile_payload, compile_when
from runner.spec.schema import SchemaError, check, compile_contract, typed
from runner.spec.units import parse_duration
from runner.spec.warnings import WARNINGS

BUILTIN = "builtin"
DEFAULT_TIMEOUT = "15m"


class Catalog(dict[str, "CatalogEntry"]):
    """Operations by name; `documents` are the catalogs they come from, the last one first."""

    def __init__(self, documents: Sequence[Document] = ()) -> None:
        super().__init__()
        self.documents = tuple(reversed(documents))

    def in_order(self, names: Sequence[str]) -> list[str]:
        """Sort operations after those they need; return them as given if there is a cycle."""
        needs = {name: entry.after for name, entry in self.items()}
        return list(names) if find_cycle(needs) else stable_order(names, needs)


@frozen
class CatalogEntry:
    """An operation as its catalog defines it; for None, the plan's value or a default counts."""

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
    def condition(self) -> tuple[str, Origin]:
        return self.when or "", Origin(self.document, self._path("when"))

    @property
    def advice(self) -> Sequence[Advice]:
        """Its `warn` rules whose conditions compile; the others have been reported."""
        found = []
        for name, written in self.spec.get("warn", {}).items():
            origin = Origin(self.document, self._path("warn", name, "if"))
            condition = compile_when(written["if"], origin, "if")[0]
            if condition:
                place = self.document.problem("", self._path("warn", name), key=True)
                found.append(
                    Advice(name, condition, written["message"], written.get("hint"), place)
                )
        return found

    def written(self, use: Data, plan: Document, path: Path, key: str) -> tuple[Json, Origin]:
        """Return the value of `key` in the plan's entry at `path`, else in the catalog; None if
        neither has it, or if the plan takes the catalog's back with `false`."""
        if key in use:
            return None if use[key] is False else use[key], Origin(plan, (*path, key))
        return self.spec.get(key), Origin(self.document, self._path(key))

    @property
    def contract(self) -> Json:
        return self.spec.get("contract", True)

    def _path(self, *keys: str) -> tuple[str, ...]:
        return ("operations", self.name, *keys)


def builtin_source() -> bytes:
    return (FilePath(__file__).parents[1] / "catalogs" / "builtin.yaml").read_bytes()


def build_catalog(documents: Sequence[Document]) -> tuple[Catalog, list[Problem]]:
    """Merge all catalogs; an operation of a later one replaces that of an earlier one."""
    problems: list[Problem] = []
    sound: list[Document] = []
    for document in (typed(one, "catalog.v1") for one in documents):
        faults, _ = check(document, "catalog.v1")
        problems += faults
        sound += [] if faults else [document]
    entries = Catalog(sound)
    for document in sound:
        for name, spec in document.value["operations"].items():
            entry, wrong = _entry(document, name, spec)
            entries[name] = entry
            problems += wrong
    if not problems:
        problems += _check_needs(entries)
    return entries, problems


def _entry(document: Document, name: str, spec: Data) -> tuple[CatalogEntry, list[Problem]]:
    problems: list[Problem] = []
    accepts: Callable[[Json], bool] = _anything
    if "contract" in spec:
        path = ("operations", name, "contract")
        try:
            accepts = compile_contract(spec["contract"])
        except SchemaError as error:
            message = f"the contract is not a usable JSON Schema: {error}"
            problems.append(document.problem(message, (*path, *error.path), hint=error.hint))
    entry = CatalogEntry(
        name=name,
        document=document,
        spec=spec,
        event=spec["event"],
        for_each="row" if isinstance(spec["for_each"], dict) else spec["for_each"],
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
    if entry.when is not None:
        problems += compile_when(*entry.condition)[1]
    for advice, written in spec.get("warn", {}).items():
        here = ("operations", name, "warn", advice)
        if advice in WARNINGS:
            message = f"{echo(advice)} is the name of one of backfill's own warnings"
            problems.append(document.problem(message, here, key=True, hint="choose another name"))
        problems += compile_when(written["if"], Origin(document, (*here, "if")), "if")[1]
    if entry.delay is not None and entry.delay < entry.min_delay:
        message = "`delay` is shorter than `min_delay`"
        problems.append(document.problem(message, ("operations", name, "delay")))
    return entry, problems


def _check_needs(entries: Catalog) -> list[Problem]:
    problems = []
    for entry in entries.values():
        for index, need in enumerate(entry.after):
            if need not in entries:
                hint = did_you_mean(need, entries) or f"there are: {', '.join(entries)}"
                message = f"`{entry.name}` comes after {echo(need)}, which no catalog has"
                path = ("operations", entry.name, "after", index)
                problems.append(entry.document.problem(message, path, hint=hint))
    if cycle := find_cycle({entry.name: entry.after for entry in entries.values()}):
        entry = entries[cycle[0]]
        message = f"the operations depend on each other in a cycle: {' -> '.join(cycle)}"
        place = ("operations", entry.name, "after")
        hint = "remove one of them from an `after`"
        problems.append(entry.document.problem(message, place, key=True, hint=hint, rule="cycle"))
    return problems


def _anything(_: Json) -> bool:
    return True
