"""A plan's own collections: lists, files, queries, time windows, and products."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from math import prod

from runner.model import Collection, Data, Json, Problem, Rows, frozen
from runner.spec.dependencies import find_cycle, stable_order
from runner.spec.document import Document, Path, did_you_mean, echo
from runner.spec.json_limits import MAX_DEPTH
from runner.spec.kinds import WORKSPACE, ByKey, ByParts, ByTemplate, Naming, OwnKind
from runner.spec.payload import Origin, compile_payload
from runner.spec.plan_document import PlanDocument
from runner.spec.questions import Asking
from runner.spec.rows import Concatenated, DocumentRows, Fault, Part, RowKind, SelectedRows
from runner.spec.units import Faulty, parse_duration, parse_time

# Names of the built-in collections in products, filters and options, and in `for_each`.
BUILT_IN = {"repos": "repo", "workspaces": "workspace"}
RESERVED = frozenset(
    (*BUILT_IN, *BUILT_IN.values(), "once", "row", "rows", "item", "items", "ids", "keys", "age")
)
MAX_PRODUCT = 10_000_000
NO_WORKSPACES = Collection(WORKSPACE, Concatenated([]))  # until they follow from repositories
_SOURCES = ("file", "query", "dates", "matrix")
ReadFile = Callable[[Path, str, RowKind], Part | None]
MAX_WINDOWS = 1_000_000
_DAY = 86_400.0


@frozen
class WindowRows:
    """Time windows as items, all written in one place of the plan."""

    found: Windows
    document: Document
    path: Path
    kind: OwnKind

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int) -> Data:
        return self.found[index]

    def faults(self, row: Data) -> Sequence[Fault]:
        return [*self.kind.faults(row)]

    def place(self, index: int, path: Path = ()) -> Problem:  # noqa: ARG002
        return self.document.problem("", self.path, rule="item")


@frozen
class Product:
    """The product of collections, the first varying slowest. Meets `runner.model.Rows`."""

    parts: Mapping[str, Collection]
    origin: Problem
    wanted: Mapping[str, str]  # collections, by their names in the product

    @property
    def asked(self) -> bool:
        return any(items.rows.asked for items in self.parts.values())

    def __len__(self) -> int:
        return prod(len(items.rows) for items in self.parts.values())

    def __getitem__(self, index: int) -> Data:
        row: Data = {}
        for name, items in reversed(list(self.parts.items())):
            index, at = divmod(index, len(items.rows))
            row[name] = _cell(items.rows[at])
        return {name: row[name] for name in self.parts}

    def __iter__(self) -> Iterator[Data]:
        return map(self.__getitem__, range(len(self)))

    def place(self, index: int, path: Path = ()) -> Problem:  # noqa: ARG002
        return self.origin

    def of(self, collections: Mapping[str, Collection]) -> Product:
        """Return the product of the same collections once their queries are answered."""
        found = {name: collections[BUILT_IN.get(of, of)] for name, of in self.wanted.items()}
        return replace(self, parts=found)


def _cell(row: Data) -> Json:
    """Return only the name of an item that is nothing but a name."""
    return row["name"] if row.keys() == {"name"} else row


@dataclass(slots=True)
class OwnCollections:
    """Reads a plan's `collections`; `replaced`: gives the rows of `--collection`, if any."""

    checked: PlanDocument
    asking: Asking
    shared: Mapping[str, Json]
    read_file: ReadFile
    replaced: Callable[[str, RowKind], Part | None]
    built_in: Mapping[str, Collection]
    problems: list[Problem] = field(default_factory=list)
    _levels: dict[str, int] = field(default_factory=dict)  # of the products, by name

    def read(self) -> dict[str, Collection]:
        """Return the collections without problems, each product after its parts."""
        written = self.checked.value.get("collections", {})
        parts = {name: parts_of(value) for name, value in written.items()}
        needs = {
            name: tuple(of for of in wanted.values() if of in written)
            for name, wanted in parts.items()
        }
        if cycle := find_cycle(needs):
            message = f"the collections are products of each other: {' -> '.join(cycle)}"
            self._wrong(message, (cycle[0], "matrix"), "remove one of them")
        found: dict[str, Collection] = {}
        rest = {name: of for name, of in needs.items() if name not in (cycle or ())}
        for name in list(rest) if find_cycle(rest) else stable_order(list(rest), rest):
            if name in RESERVED:
                self._wrong(
                    f"`{name}` cannot be the name of a collection: it has another meaning in plans",
                    (name,),
                    "give it another name",
                    key=True,
                )
            elif written[name] is not None and (made := self._read(name, written[name], found)):
                found[name] = made
        return found

    def _read(self, name: str, written: Json, known: Mapping[str, Collection]) -> Collection | None:
        if isinstance(written, list):
            kind = self._kind(name, ByKey())
            return Collection(kind, self._rows(name, kind, lambda: self._list(name, written, kind)))
        whole = self.checked.document.value["collections"][name]
        if written != whole and "dates" not in written:
            return None  # the schema has refused a part of it
        sources = [key for key in _SOURCES if key in written]
        if len(sources) != 1:
            said = " and ".join(f"`{key}`" for key in sources) or "none of them"
            message = f"a collection has one of {', '.join(_SOURCES)}, but `{name}` has {said}"
            self._wrong(message, (name,), None)
            return None
        path = ("collections", name)
        if sources == ["matrix"]:
            return self._product(name, written, known)
        naming = self._naming(written, path, ByKey(("from",)) if "dates" in written else ByKey())
        if naming is None:
            return None
        kind = self._kind(name, naming)
        for key in ("params", "database", "max_rows"):
            if key in written and sources != ["query"]:
                self._wrong(f"`{key}` is only for a `query`", (name, key), None, key=True)
        readers: dict[str, Callable[[], Part | None]] = {
            "file": lambda: self.read_file(path, written["file"], kind),
            "query": lambda: self._selected(name, written, path, kind),
            "dates": lambda: self._windows(written["dates"], (*path, "dates"), kind),
        }
        return Collection(kind, self._rows(name, kind, readers[sources[0]]))

    def _rows(self, name: str, kind: OwnKind, read: Callable[[], Part | None]) -> Rows:
        part = self.replaced(name, kind)
        part = read() if part is None else part
        return Concatenated([] if part is None else [part])

    def _kind(self, name: str, naming: Naming) -> OwnKind:
        return OwnKind(naming, for_each=name, unique=True)

    def _naming(self, written: Data, path: Path, default: Naming) -> Naming | None:
        """Name items by the template of `item`, if there is one; None if it is faulty."""
        if "item" not in written:
            return default
        item = {"item": written["item"]}
        payload, wrong = compile_payload([(item, Origin(self.checked.document, path))])
        self.problems += wrong
        at = Origin(self.checked.document, (*path, "item"))
        return None if wrong else ByTemplate(replace(payload, whole=at), self.shared)

    def _list(self, name: str, written: Sequence[Json], kind: OwnKind) -> Part:
        rows, paths = [], []
        for index, entry in enumerate(written):
            if entry is not None:
                rows.append(dict(entry) if isinstance(entry, dict) else kind.named(entry))
                paths.append(("collections", name, index))
        return DocumentRows(self.checked.document, rows, paths, kind)

    def _selected(self, name: str, written: Data, path: Path, kind: OwnKind) -> Part:
        question = self.asking.question(written, path)
        return SelectedRows(self.checked.document, path, kind, question, f"rows of {name}")

    def _windows(self, written: Data, path: Path, kind: OwnKind) -> Part | None:
        payload, wrong = compile_payload([(written, Origin(self.checked.document, path))])
        self.problems += wrong
        if wrong:
            return None
        try:
            given = payload(self.shared)
        except ValueError:
            self.problems += payload.explain(self.shared, "the collection")
            return None
        try:
            found = windows(*(_text(written, given, key) for key in ("from", "to", "every")))
        except Faulty as error:
            for key, why in error.faults:
                self.problems.append(self.checked.error(why, (*path, key), rule="item"))
            return None
        return WindowRows(found, self.checked.document, path, kind)

    def _product(
        self, name: str, written: Data, known: Mapping[str, Collection]
    ) -> Collection | None:
        path, parts = ("collections", name, "matrix"), dict[str, Collection]()
        there = {**known, **{word: self.built_in[of] for word, of in BUILT_IN.items()}}
        for called, of in written["matrix"].items():
            if of in there:
                parts[called] = there[of]
            elif of not in self.checked.value["collections"]:
                hint = did_you_mean(of, there) or f"there are: {', '.join(there)}"
                message = f"there is no collection {echo(of)}"
                self.problems.append(self.checked.error(message, (*path, called), hint=hint))
        if len(parts) < len(written["matrix"]):
            return None
        levels = 1 + max(self._levels.get(of, 0) for of in written["matrix"].values())
        if levels > MAX_DEPTH:
            message = f"the product is one of products, more than {MAX_DEPTH} levels deep"
            self._wrong(message, (name, "matrix"), "name its parts themselves")
            return None
        self._levels[name] = levels
        by_parts = ByParts({called: items.kind for called, items in parts.items()})
        naming = self._naming(written, ("collections", name), by_parts)
        if naming is None:
            return None
        origin = self.checked.document.problem("", path, rule="item")
        found = Product(parts, origin, written["matrix"])
        if len(found) > MAX_PRODUCT:
            message = f"the product has {len(found):,} items, more than {MAX_PRODUCT:,}"
            self._wrong(message, (name, "matrix"), None)
            return None
        kind = replace(self._kind(name, naming), parts=by_parts.parts)
        return Collection(kind, found)

    def _wrong(self, message: str, path: Path, hint: str | None, *, key: bool = False) -> None:
        place = ("collections", *path)
        self.problems.append(self.checked.error(message, place, key=key, hint=hint, rule="item"))


def parts_of(written: Json) -> Mapping[str, str]:
    """Return the collections that a product is made of, by their names in it; else empty."""
    found = written.get("matrix") if isinstance(written, dict) else None
    return found or {}


@frozen
class Windows:
    """Time windows. `days`: write them as dates."""

    begins: datetime
    ends: datetime
    every: timedelta
    days: bool

    def __len__(self) -> int:
        return -((self.begins - self.ends) // self.every)

    def __getitem__(self, index: int) -> Data:
        begins = self.begins + index * self.every
        is_whole = self.every < self.ends - begins  # never computes a date after the year 9999
        ends = begins + self.every if is_whole else self.ends
        return {"from": self._written(begins), "to": self._written(ends)}

    def __iter__(self) -> Iterator[Data]:
        return map(self.__getitem__, range(len(self)))

    def _written(self, time: datetime) -> str:
        if self.days:
            return time.date().isoformat()
        return time.isoformat().replace("+00:00", "Z")


def _text(written: Data, given: Data, key: str) -> str | None:
    """Return a rendered value as JSON has it; None if the schema has refused what is written."""
    if written.get(key) is None:
        return None
    value = given[key]
    return value if isinstance(value, str) else json.dumps(value)


def windows(begins: str | None, ends: str | None, every: str | None) -> Windows:
    """Make windows. None stands for a value that was refused already. Raises `Faulty`."""
    faults = list[tuple[str, str]]()
    first, last = (_time(key, it, faults) for key, it in (("from", begins), ("to", ends)))
    seconds = parse_duration(every) if every else None
    step = timedelta(seconds=seconds or 0)  # zero below a microsecond
    if seconds is not None and not step:
        faults.append(("every", "windows of no length never reach the end"))
    if first and last and first >= last:
        faults.append(("to", f"`{ends}` is not after `{begins}`, and the end is exclusive"))
    days = seconds is not None and seconds % _DAY == 0
    for key, time, written in (("from", first, begins), ("to", last, ends)):
        if days and step and time and time.time() != time_of_day.min:
            faults.append(
                (key, f"{echo(written)} is not a whole day, but `every: {every}` is whole days")
            )
    if first and last and step and (last - first) / step > MAX_WINDOWS:
        faults.append(("every", f"they make more than {MAX_WINDOWS:,} windows"))
    if faults or not (first and last and step):
        raise Faulty(faults)
    return Windows(first, last, step, days)


def _time(key: str, written: str | None, faults: list[tuple[str, str]]) -> datetime | None:
    try:
        return None if written is None else parse_time(written).astimezone(UTC)
    except (ValueError, OverflowError):
        hint = "write it like 2026-01-31 or 2026-01-31T12:00:00Z"
        faults.append((key, f"{echo(written)} is not a day or a time; {hint}"))
        return None
