"""What plans and catalogs ask of the database, typed: queries, lookups, checks, drains."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from runner.model import (
    MAX_ROWS,
    CheckSpec,
    Coverage,
    Data,
    Draining,
    Expect,
    Lookup,
    Payload,
    Problem,
    Query,
    Question,
    RowSource,
    Selection,
)
from runner.spec.document import Document, Path, did_you_mean, echo
from runner.spec.payload import Origin, compile_payload
from runner.spec.units import parse_duration

# What every question may use beside the plan's variables and its own `params`.
OF_ITEMS = ("repos", "ids", "workspaces")
OF_RUNS = ("run_started_at",)
_LITERALS = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_PARAMETER = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)")


def parameters_of(sql: str) -> list[str]:
    """The names of an SQL text's parameters, in written order."""
    return _PARAMETER.findall(_LITERALS.sub("''", sql))


@dataclass(slots=True)
class Asking:
    """Reads the questions of one document; `variables` are the plan's, None where not known."""

    document: Document
    variables: Collection[str] | None
    problems: list[Problem] = field(default_factory=list)

    def question(self, written: Data, path: Path, given: Collection[str] = ()) -> Question:
        """`given`: the parameters that this kind of question has of itself."""
        ask, place = written["query"], (*path, "query")
        own = written.get("params", {})
        parameters, wrong = compile_payload([(own, Origin(self.document, (*path, "params")))])
        self.problems += wrong
        if isinstance(ask, str):
            self._check_sql(ask, place, (*given, *own))
        else:
            ask = Selection(ask["table"], tuple(ask["columns"]), ask.get("where", {}))
        query = Query(ask, written.get("database"), written.get("max_rows", MAX_ROWS))
        if isinstance(ask, Selection):
            self._check_names(names_of(query), place, (*given, *own))
        return Question(query, parameters, self.document.problem("", place, rule="query"))

    def lookups(self, written: Mapping[str, Data], path: Path) -> dict[str, Lookup]:
        found = {}
        for name, entry in written.items():
            required = entry.get("required", False)
            found[name] = Lookup(
                name,
                entry.get("for", "repo"),
                self.question(entry, (*path, name), ("keys",)),
                entry["key"],
                () if required is True else tuple(required) if required else None,
            )
        return found

    def check(self, written: Data, path: Path, operation: str | None) -> CheckSpec:
        """`operation`: whose check it is; a plan's own names one by `after`."""
        moment = written.get("at", "after" if operation or "after" in written else "end")
        expect, bounds = self.expect(written["expect"], (*path, "expect"))
        return CheckSpec(
            name=written["name"],
            question=self.question(written, path, (*OF_ITEMS, *OF_RUNS)),
            expect=expect,
            bounds=bounds,
            moment="after" if "after" in written else moment,
            operation=written.get("after", operation),
            timeout=parse_duration(written.get("timeout", "0s")),
            every=parse_duration(written.get("every", "15s")),
            unchanged=written.get("unchanged", "fail"),
            migration=written.get("migration"),
        )

    def draining(self, written: Data, path: Path) -> Draining:
        expect, bounds = self.expect(written["expect"], (*path, "expect"))
        if expect.column is None or (expect.at_most is None and expect.at_least is None):
            message = "`until` needs a `column` with `at_most` or `at_least`: the goal"
            hint = "expect: {column: pending, at_most: 0}"
            self.problems.append(self.document.problem(message, (*path, "expect"), hint=hint))
        return Draining(
            self.question(written, path, (*OF_ITEMS, *OF_RUNS)),
            expect,
            bounds,
            written.get("stalled_after", 3),
            written.get("max_rounds", 100),
            parse_duration(written.get("max_time", "24h")),
        )

    def rows(self, written: Data, path: Path) -> RowSource:
        item = {"item": written["item"]}
        name, wrong = compile_payload([(item, Origin(self.document, path))])
        self.problems += wrong
        return RowSource(self.question(written, path, OF_ITEMS), name)

    def coverage(self, written: Mapping[str, Data], path: Path) -> list[Coverage]:
        return [
            Coverage(name, self.question(entry, (*path, name), OF_ITEMS))
            for name, entry in written.items()
        ]

    def expect(self, written: Data, path: Path) -> tuple[Expect, Payload]:
        """What is expected, and what of it is a template: a number until then is 0."""
        rows, counts = written.get("rows"), {}
        if rows is not None:
            exact = isinstance(rows, int)
            counts = {
                "rows_at_least": rows if exact else rows.get("at_least"),
                "rows_at_most": rows if exact else rows.get("at_most"),
            }
        about = [key for key in written if key not in ("rows", "column")]
        if ("column" in written) != bool(about):
            missing = "a `column`" if about else "what the column must be, such as `at_least`"
            self.problems.append(self.document.problem(f"`expect` needs {missing}", path))
        if "rows" in written and about:
            message = "`expect` is about a column or about rows, not both"
            hint = "write two checks"
            self.problems.append(self.document.problem(message, path, hint=hint))
        change = next((key for key in ("increased", "decreased") if key in written), None)
        plain = {key: written[key] for key in _PLAIN if key in written}
        templates = {key: text for key, text in plain.items() if "{{" in str(text)}
        bounds, wrong = compile_payload([(templates, Origin(self.document, path))])
        self.problems += wrong
        known: Data = {key: 0 if key in templates else value for key, value in plain.items()}
        return Expect(**known, **counts, change=change), bounds

    def _check_sql(self, sql: str, place: Path, given: Collection[str]) -> None:
        if "{{" in sql or "{%" in sql:
            message = "a query is no template: values are bound to it, never pasted into it"
            hint = 'write :name in it, and `params: {name: "{{ ... }}"}` beside it'
            self.problems.append(self.document.problem(message, place, hint=hint))
        else:
            self._check_names(parameters_of(sql), place, given)

    def _check_names(self, names: list[str], place: Path, given: Collection[str]) -> None:
        if self.variables is None:
            return
        known = list(dict.fromkeys([*given, *self.variables]))
        for name in dict.fromkeys(names):
            if name not in known:
                there = ", ".join(f":{k}" for k in known)
                hint = did_you_mean(name, known) or (
                    f"there are: {there}; `params` adds others" if there else "`params` adds it"
                )
                message = f"the query's parameter {echo(':' + name)} is given nowhere"
                self.problems.append(self.document.problem(message, place, hint=hint))


_PLAIN = ("column", "at_least", "at_most", "equals", "newer_than")


def names_of(query: Query) -> list[str]:
    """The parameters that a query uses."""
    if isinstance(query.ask, str):
        return parameters_of(query.ask)
    return [str(value)[1:] for value in query.ask.where.values() if str(value).startswith(":")]
