"""Documents -> BackfillPlan: every name resolved, every template compiled, every fault collected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.model import (
    BackfillPlan,
    Data,
    Json,
    Operation,
    OrderKey,
    Pacing,
    Problem,
    Skipped,
)
from runner.spec.advice import advise
from runner.spec.catalog import CatalogEntry
from runner.spec.document import Document, Path, did_you_mean
from runner.spec.order import stable_order
from runner.spec.payload import Contract, Origin, compile_payload
from runner.spec.rows import Concatenated
from runner.spec.schema import check_with_paths
from runner.spec.templates import TemplateError, compile_condition
from runner.spec.units import parse_duration

DEFAULT_BATCH_SIZE = 50
DEFAULT_DELAY = "5s"
_VARIABLE = re.compile(r"\bvars\.([A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Checked:
    """A plan document that has met the schema, with what failed taken out of `value`."""

    document: Document
    value: Data
    problems: tuple[Problem, ...]


def check_plan(document: Document) -> Checked:
    """The schema's problems; what they are about is pruned, so that the rest can still be checked."""
    found = check_with_paths(document, "plan.v1")
    value = document.value
    for path in sorted((path for _, path in found if path is not None), key=len, reverse=True):
        value = _prune(value, path)
    return Checked(document, value if isinstance(value, dict) else {}, tuple(p for p, _ in found))


def build_plan(
    checked: Checked,
    catalog: Mapping[str, CatalogEntry],
    repositories: Concatenated,
    overrides: Mapping[str, Json],
) -> tuple[BackfillPlan, list[Problem]]:
    """The plan and its problems; it may be used only where none of them is an error."""
    value, document = checked.value, checked.document
    uses = list(_uses(value))
    builder = _Builder(document, value, catalog)
    builder.check_names(uses)
    kept = builder.select(uses)
    variables = {**value.get("vars", {}), **overrides}
    operations = {name: builder.operation(path, use) for name, (path, use) in kept.items()}
    needs = {name: entry.after for name, entry in catalog.items()}
    ordered = stable_order(list(operations), needs) if not builder.problems else list(operations)
    builder.check_variables(overrides, variables)
    builder.check_scope(operations.values(), repositories)
    builder.check_handlers(operations.values())
    keys = value.get("order_by", ["priority"])
    plan = BackfillPlan(
        name=str(value.get("metadata", {}).get("name", "")),
        path=document.path,
        metadata=value.get("metadata", {}),
        variables=variables,
        repositories=repositories,
        workspace=value.get("workspace"),
        operations=tuple(operations[name] for name in ordered),
        left_out=tuple(builder.left_out),
        order_by=tuple(
            OrderKey(key.lstrip("-"), key.startswith("-"))
            for key in ([keys] if isinstance(keys, str) else keys)
            if key
        ),
        on_failure=value.get("on_failure", "stop"),
        handlers=value.get("handlers", {}),
        warnings=(),
    )
    return plan, builder.problems


class _Builder:
    """Collects problems while names are resolved; one for each plan."""

    def __init__(
        self, document: Document, value: Data, catalog: Mapping[str, CatalogEntry]
    ) -> None:
        self.document, self.value, self.catalog = document, value, catalog
        self.problems: list[Problem] = []
        self.left_out: list[Skipped] = []

    def check_names(self, uses: list[tuple[Path, Data]]) -> None:
        seen: dict[str, Path] = {}
        for path, use in uses:
            name = use["use"]
            place = (*path, "use") if "use" in (self._written(path) or {}) else path
            if name not in self.catalog:
                self._unknown(name, place)
            elif name in seen:
                line = self.document.position(seen[name])[0]
                self._error(f"the operation `{name}` is listed twice (first on line {line})", place)
            seen.setdefault(name, path)
        for key in ("skip", "only"):
            for index, name in enumerate(self.value.get(key, ())):
                if name is None:
                    continue
                if name not in self.catalog:
                    self._unknown(name, (key, index))
                elif name not in seen:
                    message = f"`{key}` names `{name}`, which this plan never uses"
                    self._error(message, (key, index), hint=did_you_mean(name, seen))
        for name in set(self._names("skip")) & set(self._names("only")):
            index = self.value["skip"].index(name)
            message = f"`{name}` is in `skip` and in `only`, which contradict each other"
            self._error(message, ("skip", index), hint="take it out of one of them")

    def select(self, uses: list[tuple[Path, Data]]) -> dict[str, tuple[Path, Data]]:
        """The operations that stay; those that `skip` or `only` leave out are said."""
        skip, only = self._names("skip"), self._names("only")
        kept: dict[str, tuple[Path, Data]] = {}
        out: set[str] = set()
        for path, use in uses:
            name = use["use"]
            if name not in self.catalog or name in kept:
                continue
            if name in skip or (only and name not in only):
                reason = "skipped by the plan" if name in skip else "not in the plan's `only`"
                self.left_out.append(Skipped(name, None, reason))
                out.add(name)
            else:
                kept[name] = (path, use)
        for name, (path, _) in kept.items():
            for need in self.catalog[name].after:
                if need in out:
                    message = f"`{name}` comes after `{need}`, which this plan skips"
                    hint = f"it works on what the last `{need}` left"
                    self._warn(message, path, hint=hint, rule="needs-skipped")
        return kept

    def operation(self, path: Path, use: Data) -> Operation:
        entry = self.catalog[use["use"]]
        parts = [entry.payload]
        if "with" in use:
            parts.append((use["with"], Origin(self.document, (*path, "with"))))
        payload, problems = compile_payload(parts)
        self.problems += [problem for problem in problems if problem.path == self.document.path]
        pacing = self._pacing(entry, path, use)
        when = None
        condition = use.get("when", entry.when)
        if condition is not None:
            try:
                when = compile_condition(condition)
            except TemplateError as error:
                if "when" in use:
                    self._error(str(error), (*path, "when"))
        timeout = parse_duration(use["timeout"]) if "timeout" in use else entry.timeout
        operation = Operation(
            name=entry.name,
            event=entry.event,
            for_each=entry.for_each,
            payload=payload,
            contract=Contract(entry.contract, entry.accepts, payload),
            after=entry.after,
            pacing=pacing,
            load=entry.load,
            wait=use.get("wait", entry.done),
            timeout=timeout,
            when=when,
            description=entry.description,
        )
        self.problems += advise(operation, self.document, self._pacing_path(path, use))
        return operation

    def check_variables(self, overrides: Iterable[str], variables: Mapping[str, Json]) -> None:
        texts = [self.document.text, *(entry.document.text for entry in self.catalog.values())]
        read = {name for text in set(texts) for name in _VARIABLE.findall(text)}
        for name in overrides:
            if name not in read and name not in self.value.get("vars", {}):
                hint = did_you_mean(name, {*read, *variables} - {name}) or "check --var"
                self._error(f"the plan has no variable `{name}`", ("vars",), key=True, hint=hint)

    def check_scope(self, operations: Iterable[Operation], repositories: Concatenated) -> None:
        scopes = {operation.for_each: operation.name for operation in operations}
        default = self.value.get("workspace")
        written = bool(self.document.value.get("repos")) if self.document.value else False
        if "repo" in scopes and not len(repositories) and not self.problems:
            empty = "is empty" if "repos" in self.value or written else "is missing"
            message = f"`repos` {empty}, and `{scopes['repo']}` runs for each repository"
            self._error(message, ("repos",), key=True, hint="list at least one, as owner/name")
        if "workspace" in scopes and default is None and not self._any_workspace(repositories):
            index = [use["use"] for _, use in _uses(self.value)].index(scopes["workspace"])
            message = f"`{scopes['workspace']}` runs for each workspace, and no workspace is named"
            hint = "add `workspace: ID` to the plan, or to its repositories"
            self._error(message, ("operations", index), hint=hint, rule="no-workspace")

    def check_handlers(self, operations: Iterable[Operation]) -> None:
        sent = {entry.event for entry in self.catalog.values()}
        for event in self.value.get("handlers", {}):
            if event not in sent:
                message = f"no operation of the catalog sends `{event}`"
                hint = did_you_mean(event, sent)
                self._warn(message, ("handlers", event), key=True, hint=hint, rule="handlers")

    def _pacing(self, entry: CatalogEntry, path: Path, use: Data) -> Pacing:
        size = _first(
            use.get("batch_size"), self.value.get("batch_size"), entry.batch_size, DEFAULT_BATCH_SIZE
        )
        written = use.get("delay", self.value.get("delay"))
        own = parse_duration(written) if written is not None else None
        delay = _first(own, entry.delay, parse_duration(DEFAULT_DELAY))
        if delay < entry.min_delay:
            least = entry.spec["min_delay"]
            message = f"`{entry.name}`: the delay is raised to {least}, the least its catalog allows"
            self._warn(message, self._pacing_path(path, use)["delay"], rule="min-delay")
        return Pacing(size, max(delay, entry.min_delay))

    def _pacing_path(self, path: Path, use: Data) -> dict[str, Path]:
        """Where the pacing that holds is written: at the operation, at the top, or nowhere."""
        places: dict[str, Path] = {}
        for key in ("batch_size", "delay"):
            places[key] = (*path, key) if key in use else (key,) if key in self.value else path
        return places

    def _any_workspace(self, repositories: Concatenated) -> bool:
        return any(row.get("workspace") for row in repositories)

    def _names(self, key: str) -> list[str]:
        return [name for name in self.value.get(key, ()) if name is not None]

    def _written(self, path: Path) -> Any:
        value: Any = self.document.value
        for step in path:
            value = value[step]
        return value if isinstance(value, dict) else None

    def _unknown(self, name: str, path: Path) -> None:
        hint = did_you_mean(name, self.catalog) or f"the catalog has: {', '.join(self.catalog)}"
        self._error(f"unknown operation `{name}`", path, hint=hint, rule="unknown-operation")

    def _error(self, message: str, path: Path, **more: Any) -> None:
        self.problems.append(self.document.problem(message, path, **more))

    def _warn(self, message: str, path: Path, **more: Any) -> None:
        self._error(message, path, severity="warning", **more)


def _uses(value: Data) -> Iterable[tuple[Path, Data]]:
    for index, use in enumerate(value.get("operations") or ()):
        if isinstance(use, str):
            yield ("operations", index), {"use": use}
        elif use is not None:
            yield ("operations", index), use


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _prune(value: Json, path: Sequence[str | int]) -> Json:
    """`value` without what is at `path`; an element of a list leaves None, so that indexes hold."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(value, dict) and step in value:
        if not rest:
            return {key: member for key, member in value.items() if key != step}
        return {**value, step: _prune(value[step], rest)}
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        member = _prune(value[step], rest) if rest else None
        return [*value[:step], member, *value[step + 1 :]]
    return value
