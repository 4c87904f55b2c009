"""The database questions of plans and catalogs, typed: queries, lookups, checks, drains."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.model import (
    MAX_ROWS,
    PARAMETERS,
    RUN_STARTED,
    CheckSpec,
    Coverage,
    Data,
    Draining,
    Expect,
    ForEach,
    ItemKind,
    Lookup,
    Moment,
    Narrowing,
    Operation,
    Payload,
    Problem,
    Query,
    Question,
    Selection,
)
from runner.model.value import as_compared
from runner.spec.catalog import Catalog
from runner.spec.document import Document, Path, did_you_mean, echo
from runner.spec.payload import Origin, compile_payload
from runner.spec.plan_document import PlanDocument
from runner.spec.units import is_time, parse_duration, unmet

# Parameters that every question may use besides the plan's variables and its own `params`.
OF_ITEMS = tuple(PARAMETERS)
OF_RUNS = ("run_started_at",)
_KEYS: Mapping[ItemKind, str] = {"repo": "repo", "workspace": "workspace_id", "row": "item"}
# Quoted texts and names in each database's notation, and comments; of `$tag$` the opening.
_LITERALS = re.compile(
    r"""(?<!\w)[Ee]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`"""
    r"""|(?<![\w$])(?P<tag>\$(?:[^\W\d]\w*)?\$)|--[^\n]*|/\*.*?\*/""",
    re.DOTALL,
)
_PARAMETER = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)")
_IDENTIFIER = r'(?:"(?:[^"]|"")*"|`[^`]*`|[A-Za-z_][\w$]*)'
_TOKEN = re.compile(rf"{_IDENTIFIER}|::|\S")
# What follows `::`. A type of several words is one of these: else the second word is a name.
_TYPE = re.compile(
    r"\s*(?:double\s+precision|(?:character|char|bit)\s+varying|"
    r"time(?:stamp)?(?:\s*\(\d\))?\s+with(?:out)?\s+time\s+zone|"
    rf"{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER})*)"
    rf"(?:\s*\([\d, ]*\))?(?:\s*\[\s*\])*(?:\s+collate\s+{_IDENTIFIER})?\s*",
    re.IGNORECASE,
)
_NAME = re.compile(rf"(?<![\w$\"`]){_IDENTIFIER}$")
_ENDS = frozenset(
    ("from", "where", "group", "having", "window", "union", "except", "intersect", "order", "limit")
)


def parameters_of(sql: str) -> list[str]:
    """Return the names of an SQL text's parameters, in written order."""
    return _PARAMETER.findall(changed(sql, str, lambda _: "''"))


def changed(sql: str, own: Callable[[str], str], literal: Callable[[str], str] = str) -> str:
    """Change `sql`: its own words by `own`; quoted texts and comments by `literal`."""
    found, end = list[str](), 0
    while begun := _LITERALS.search(sql, end):
        found.append(own(sql[end : begun.start()]))
        end = begun.end()
        if tag := begun["tag"]:
            closed = sql.find(tag, end)
            end = len(sql) if closed < 0 else closed + len(tag)
        found.append(literal(sql[begun.start() : end]))
    return "".join([*found, own(sql[end:])])


@dataclass(slots=True)
class Asking:
    """Reads the questions of one document; `variables`: the plan's, None if unknown."""

    document: Document
    variables: Collection[str] | None
    own: Collection[str] = ()  # the plan's own collections; each is a parameter with its items
    problems: list[Problem] = field(default_factory=list)

    def question(self, written: Data, path: Path, given: Collection[str] = ()) -> Question:
        """Read a question. `given`: the parameters that this kind of question always has."""
        ask, place = written["query"], (*path, "query")
        own = written.get("params", {})
        parameters, wrong = compile_payload([(own, Origin(self.document, (*path, "params")))])
        self.problems += wrong
        for name in own:
            if name in given:
                message = (
                    f"{echo(name)} cannot be the name of a parameter: `:{name}` exists already"
                )
                place = (*path, "params", name)
                hint = "give it another name"
                self.problems.append(self.document.problem(message, place, key=True, hint=hint))
        if isinstance(ask, str):
            self._check_sql(ask, place, (*given, *own))
        else:
            ask = Selection(ask["table"], tuple(ask["columns"]), ask.get("where", {}))
        query = Query(ask, written.get("database"), written.get("max_rows", MAX_ROWS))
        if isinstance(ask, Selection):
            self._check_names(names_of(query), place, (*given, *own))
        kinds = {**PARAMETERS, **{name: name for name in self.own}}
        bounded = next((kinds[name] for name in names_of(query) if name in kinds), None)
        place_of_it = self.document.problem("", place, rule="query")
        return Question(query, parameters, place_of_it, bounded)

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

    def check(
        self, written: Data, path: Path, operation: str | None, runs_for: ForEach | None
    ) -> CheckSpec:
        """Read a check. `operation`: the one it belongs to; a plan's own check may name one by
        `after`. `runs_for`: what that operation runs for."""
        moment = written.get("at", "after" if operation or "after" in written else "end")
        expect, bounds = self.expect(written["expect"], (*path, "expect"))
        question = self._timed(written, path)
        if moment == "after" and not (operation or "after" in written):
            message = "`at: after` needs `after`, the operation after which it is asked"
            self.problems.append(self.document.problem(message, (*path, "at")))
        for key, message in _idle(written, expect, moment):
            self.problems.append(self.document.problem(message, (*path, *key), key=True))
        return CheckSpec(
            name=written["name"],
            question=self._of_each(question, written, path, runs_for),
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
            self._timed(written, path),
            expect,
            bounds,
            written.get("stalled_after", 3),
            written.get("max_rounds", 100),
            parse_duration(written.get("max_time", "24h")),
        )

    def item(self, written: Data, path: Path) -> Payload:
        """Compile the template that names each of the items at `path`."""
        item = {"item": written["item"]}
        name, wrong = compile_payload([(item, Origin(self.document, path))])
        self.problems += wrong
        return name

    def coverage(self, written: Mapping[str, Data], path: Path) -> list[Coverage]:
        found = []
        for name, entry in written.items():
            question = self.question(entry, (*path, name), (*OF_ITEMS, *self.own))
            key = "item" if question.of and entry.get("each", True) else None
            found.append(Coverage(name, replace(question, key=key)))
        return found

    def _timed(self, written: Data, path: Path) -> Question:
        """Read a question whose answer may be compared with the run's start."""
        zone = written.get("timezone")
        if zone is not None and not zone_of(zone):
            from zoneinfo import available_timezones

            message = f"there is no time zone {echo(zone)}"
            hint = did_you_mean(zone, available_timezones()) or "Europe/Berlin"
            place = (*path, "timezone")
            self.problems.append(self.document.problem(message, place, hint=hint))
        question = self.question(written, path, (*OF_ITEMS, *self.own, *OF_RUNS))
        if zone and not (
            "newer_than" in written["expect"] or OF_RUNS[0] in names_of(question.query)
        ):
            message = "`timezone` has no effect: no time is compared here"
            place = (*path, "timezone")
            hint = f"it goes with `newer_than: {RUN_STARTED}` and :{OF_RUNS[0]}"
            self.problems.append(self.document.problem(message, place, key=True, hint=hint))
        return replace(question, query=replace(question.query, timezone=zone))

    def _of_each(
        self, question: Question, written: Data, path: Path, runs_for: ForEach | None
    ) -> Question:
        """Add the column that names the item, if the check must hold for each of them."""
        each, key = written.get("each"), written.get("key")
        if each is False:
            if key is not None:
                message = "`key` has no effect with `each: false`"
                self.problems.append(self.document.problem(message, (*path, "key"), key=True))
            return question
        if question.of is None and not each and key is None:
            return question
        kinds = _kinds(question, runs_for, key)
        names = [key] if key else [_KEYS.get(kind, "item") for kind in kinds]
        columns = answered_by(question.query)
        if columns is None:
            return replace(question, of=kinds[-1], key=names[-1])
        there = [column.lower() for column in columns]
        for kind, name in zip(kinds, names, strict=True):
            if name.lower() in there:
                return replace(question, of=kind, key=name)
        called = _CALLED.get(kinds[-1], "item")
        message = (
            f"the check is for each {called}, but its query gives no column `{names[-1]}` "
            "to tell them apart"
        )
        hint = (
            f"select it, as in `select full_name as {names[-1]}, ...`; or name another "
            "column with `key`; or write `each: false` if the query gives one figure for "
            "all"
        )
        if key:
            hint = f"it gives: {', '.join(filter(None, there))}"
        place = (*path, "key") if key else (*path, "query")
        self.problems.append(self.document.problem(message, place, hint=hint))
        return question

    def expect(self, written: Data, path: Path) -> tuple[Expect, Payload]:
        """Return what is expected, with 0 in place of templates, and the templates."""
        rows, counts = written.get("rows"), {}
        if rows is not None:
            exact = isinstance(rows, int)
            counts = {
                "rows_at_least": rows if exact else rows.get("at_least"),
                "rows_at_most": rows if exact else rows.get("at_most"),
            }
        about = [key for key in written if key not in ("rows", "column", "maximum")]
        if ("column" in written) != bool(about):
            missing = "a `column`" if about else "what the column must be, such as `at_least`"
            self.problems.append(self.document.problem(f"`expect` needs {missing}", path))
        if "rows" in written and about:
            message = "`expect` is about a column or about rows, not both"
            hint = "write two checks"
            self.problems.append(self.document.problem(message, path, hint=hint))
        changes = [key for key in ("increased", "decreased") if key in written]
        if len(changes) > 1:
            message = "`decreased` and `increased` contradict each other"
            place = (*path, "decreased")
            self.problems.append(self.document.problem(message, place, key=True, hint=ONE))
        if "newer_than" in written and len(about) > 1:
            other = next(key for key in about if key != "newer_than")
            message = f"`newer_than` and `{other}` contradict each other: a time is not a number"
            place = (*path, other)
            self.problems.append(self.document.problem(message, place, key=True, hint=ONE))
        since = written.get("newer_than", RUN_STARTED)
        if since != RUN_STARTED and "{{" not in since and not is_time(since):
            message = f"`newer_than` is {echo(since)}, which is not a time in ISO 8601"
            self.problems.append(self.document.problem(message, (*path, "newer_than")))
        self.problems += check_bounds(self.document, written, path)
        if isinstance(rows, dict):
            self.problems += check_bounds(self.document, rows, (*path, "rows"))
        if "maximum" in written and "at_least" not in written:
            message = "`maximum` has no effect without `at_least`"
            self.problems.append(self.document.problem(message, (*path, "maximum"), key=True))
        plain = {key: written[key] for key in _PLAIN if key in written}
        templates = {key: text for key, text in plain.items() if "{{" in str(text)}
        bounds, wrong = compile_payload([(templates, Origin(self.document, path))])
        self.problems += wrong
        known: Data = {key: 0 if key in templates else value for key, value in plain.items()}
        return Expect(**known, **counts, change=next(iter(changes), None)), bounds

    def _check_sql(self, sql: str, place: Path, given: Collection[str]) -> None:
        if "{{" in sql or "{%" in sql:
            message = "a query is not a template: values are bound to it, never pasted into it"
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
                    f"there are: {there}; `params` adds others" if there else "add it to `params`"
                )
                message = f"the query's parameter {echo(':' + name)} has no value"
                self.problems.append(self.document.problem(message, place, hint=hint))


def _idle(written: Data, expect: Expect, moment: Moment) -> Iterator[tuple[Path, str]]:
    """Yield the places in a check that have no effect or contradict each other, and why."""
    if "every" in written and "timeout" not in written:
        yield ("every",), "`every` has no effect without `timeout`: the check is asked once"
    if "at" in written and "after" in written and written["at"] != "after":
        yield ("at",), f"`at: {written['at']}` and `after` contradict each other"
    if expect.change and moment == "before":
        message = f"it cannot have {expect.change}: no value from before the run is known"
        yield ("expect", expect.change), message
    if "unchanged" in written and (expect.change or expect.newer_than or expect.column is None):
        what = expect.change or ("newer_than" if expect.newer_than else "rows")
        yield ("unchanged",), f"`unchanged` has no effect with `{what}`"
    if (expect.rows_at_least, expect.rows_at_most) == (0, None):
        yield ("expect", "rows"), "every answer has at least 0 rows"


ONE = "leave one of them out"
_PLAIN = ("column", "at_least", "at_most", "equals", "newer_than", "maximum")


_BUILT_IN = ("repo", "workspace")


_CALLED: Mapping[ItemKind, str] = {"repo": "repository", "workspace": "workspace"}


def _kinds(question: Question, runs_for: ForEach | None, key: str | None) -> list[ItemKind]:
    """Return what the check may be for, the likeliest last: what its operation runs for, or the
    kind of items its query is bound by. Its own `key` may be any column's name."""
    bounded, names = question.of, names_of(question.query)
    own: ItemKind | None = None if runs_for == "once" else runs_for
    if own not in (None, *_BUILT_IN) and PARAMETERS.keys() & names == {"ids"}:
        bounded = own
    if key == _KEYS["row"]:  # may be of any kind: the plan's own collections come first
        of_its_own = [kind for kind in (own, bounded) if kind not in (None, *_BUILT_IN)]
        return [next(iter(of_its_own), bounded or own or "repo")]
    if key in _KEYS.values():
        return [kind for kind, name in _KEYS.items() if name == key]
    if own and own not in _BUILT_IN and bounded and key is None:
        if own != "row" and bounded not in _BUILT_IN and own not in names:
            return [bounded]  # both would be called `item`
        return [own, bounded] if own != bounded else [own]
    bounds_own = own in [PARAMETERS.get(name, name) for name in names]
    return [own if own and (bounded is None or bounds_own) else bounded or "repo"]


def answered_by(query: Query) -> list[str] | None:
    """Return the names of the columns of a query's answer; see `columns_of`."""
    if isinstance(query.ask, str):
        return columns_of(query.ask)
    return [called for _, called in query.ask.named]


def zone_of(name: str) -> bool:
    """Tell whether it is the name of a time zone."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return bool(ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def check_bounds(document: Document, written: Data, path: Path) -> Iterator[Problem]:
    """Find bounds at `path` that no number meets. Templates are checked once rendered."""
    if crossed := unmet(written):
        yield document.problem(nothing_meets(written, crossed), (*path, crossed[0]), hint=ONE)


def nothing_meets(written: Data, crossed: tuple[str, str]) -> str:
    low, high = (f"`{key}: {as_compared(written[key])}`" for key in crossed)
    return f"{low} and {high} contradict each other: no figure meets both"


def names_of(query: Query) -> list[str]:
    """Return the parameters that a query uses."""
    if isinstance(query.ask, str):
        return parameters_of(query.ask)
    return [str(value)[1:] for value in query.ask.where.values() if str(value).startswith(":")]


def columns_of(sql: str) -> list[str] | None:
    """Return the columns' names, those without quotes in lower case; None if a `*` or an unusual
    form hides them."""
    text = changed(sql, str, _stand_in)
    columns = list(_selected(text))
    names = []
    for column in columns:
        if column.endswith("*"):
            return None
        found = _NAME.search(_uncast(column))
        name = found.group() if found else ""
        names.append(name.strip('"`') if name.startswith(('"', "`")) else name.lower())
    return names or None


def _uncast(column: str) -> str:
    """Remove the casts at its end, which do not change its name."""
    end = len(column)
    while (at := column.rfind("::", 0, end)) >= 0 and _TYPE.fullmatch(column, at + 2, end):
        end = at
    return column[:end].rstrip()


def _stand_in(literal: str) -> str:
    """Keep a name, replace a text by an empty one, and a comment by a blank."""
    if literal.startswith(('"', "`")):
        return literal
    return " " if literal.startswith(("--", "/*")) else "''"


def _selected(text: str) -> Iterator[str]:
    """Yield the expressions of the outermost select list."""
    tokens = [
        (match.group().lower(), match.start(), match.end()) for match in _TOKEN.finditer(text)
    ]
    first = next(
        (at for at, depth in _depths(tokens) if not depth and tokens[at][0] == "select"), None
    )
    if first is None:
        return
    begins = tokens[first][2]
    for at, depth in _depths(tokens[first + 1 :]):
        word, start, end = tokens[first + 1 + at]
        if depth:
            continue
        before = tokens[first + at][0]
        if word == "," or (word in _ENDS and before not in (".", "distinct", "as")):
            yield text[begins:start].strip()
            begins = end
            if word != ",":
                return
        elif word in ("distinct", "all") and before == "select":
            begins = end
    if last := text[begins:].strip().rstrip(";").strip():
        yield last


def _depths(tokens: Sequence[tuple[str, int, int]]) -> Iterator[tuple[int, int]]:
    """Yield each token's index, and its depth in brackets."""
    depth = 0
    for at, (word, _, _) in enumerate(tokens):
        depth -= word in (")", "]")
        yield at, depth
        depth += word in ("(", "[")


@dataclass(slots=True)
class Askings:
    """One `Asking` per document; a plan's lookups and coverage override those of a catalog."""

    checked: PlanDocument
    catalog: Catalog
    variables: Collection[str]
    own: Collection[str] = ()  # the plan's own collections
    lookups: dict[str, Lookup] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)
    _by_path: dict[str, Asking] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for document in reversed(self.catalog.documents):
            written = document.value.get("lookups", {})
            self.lookups |= self.of(document).lookups(written, ("lookups",))
        plan = self.checked
        written = plan.value.get("lookups", {})
        self.lookups |= self.of(plan.document).lookups(written, ("lookups",))

    @property
    def problems(self) -> list[Problem]:
        return [problem for asking in self._by_path.values() for problem in asking.problems]

    def of(self, document: Document) -> Asking:
        if document.path not in self._by_path:
            self._by_path[document.path] = Asking(document, self.variables, self.own)
        return self._by_path[document.path]

    def checks(
        self, operations: Mapping[str, Operation], uses: Mapping[str, Data]
    ) -> Iterator[CheckSpec]:
        """Yield the checks of the plan, and of the catalog for the operations it `uses` (as written
        there), except those that the plan takes back."""
        for name, use in uses.items():
            entry = self.catalog[name]
            for index, written in enumerate(entry.spec.get("checks", ())):
                if written["name"] in use.get("checks", {}):
                    continue
                path = ("operations", name, "checks", index)
                of = operations[name].for_each
                yield self._once(entry.document, written, path, name, of)
        asking = self.of(self.checked.document)
        unknown = {use["use"] for _, use in self.checked.uses()} - {*self.catalog}
        for index, written in enumerate(self.checked.value.get("checks", ())):
            if written is None:
                continue
            after = written.get("after")
            if after is not None and after not in {*operations, *unknown}:
                hint = did_you_mean(after, operations) or f"it runs: {', '.join(operations)}"
                message = f"the check comes after {echo(after)}, which this plan does not run"
                place = ("checks", index, "after")
                asking.problems.append(self.checked.error(message, place, hint=hint))
            runs_for = operations[after].for_each if after in operations else None
            yield self._once(self.checked.document, written, ("checks", index), None, runs_for)

    def _once(
        self,
        document: Document,
        written: Data,
        path: Path,
        operation: str | None,
        runs_for: ForEach | None,
    ) -> CheckSpec:
        """Read a check, and refuse a used name: results are kept by name, so it would not run."""
        asking, name = self.of(document), written["name"]
        if name in self._named:
            message = f"two checks are called {echo(name)}"
            hint = "give one of them another name"
            asking.problems.append(document.problem(message, (*path, "name"), hint=hint))
        self._named.add(name)
        return asking.check(written, path, operation, runs_for)

    def coverage(self) -> tuple[Coverage, ...]:
        documents = [*reversed(self.catalog.documents), self.checked.document]
        found: dict[str, Coverage] = {}
        for document in documents:
            value = self.checked.value if document is self.checked.document else document.value
            written = value.get("coverage", {})
            for name in [name for name, asked in written.items() if asked is False]:
                if found.pop(name, None) is None:
                    message = f"the catalog has no coverage {echo(name)} to remove"
                    hint = did_you_mean(name, found) or f"it has: {', '.join(found) or 'none'}"
                    place = ("coverage", name)
                    problem = self.checked.error(message, place, key=True, hint=hint)
                    self.of(document).problems.append(problem)
            asked = {name: one for name, one in written.items() if one is not False}
            for one in self.of(document).coverage(asked, ("coverage",)):
                found[one.name] = one
        return tuple(found.values())

    def workspace_repos(self) -> Question | None:
        for document in self.catalog.documents:
            if "workspace_repos" in document.value:
                written = document.value["workspace_repos"]
                return self.of(document).question(written, ("workspace_repos",), ("workspace",))
        return None


def narrowing(checked: PlanDocument) -> dict[ForEach, Narrowing]:
    """Return a plan's `filter`, by collection."""
    written: Data = checked.value.get("filter", {})
    found: dict[ForEach, Narrowing] = {}

    def place(name: str) -> Problem:
        return checked.warning("", ("filter", name), key=True, rule="filter")

    if written.get("repo") or written.get("age"):
        at = place("repo" if written.get("repo") else "age")
        found["repo"] = _narrowing(written.get("repo"), written.get("age"), at)
    for name, own in written.items():
        if name not in ("repo", "age") and own:
            globs, age = (own.get("item"), own.get("age")) if isinstance(own, dict) else (own, None)
            found[name] = _narrowing(globs, age, place(name))
    return found


def check_ages(checked: PlanDocument) -> Iterator[Problem]:
    """Find filters by an age that no item can have."""
    written: Data = checked.value.get("filter", {})
    for name, own in written.items():
        path: Path = ("filter", name) if name == "age" else ("filter", name, "age")
        age = own if name == "age" else own.get("age") if isinstance(own, dict) else None
        if not age or not {"newer_than", "older_than"} <= age.keys():
            continue
        if parse_duration(age["newer_than"]) <= parse_duration(age["older_than"]):
            message = (
                f"`newer_than: {age['newer_than']}` and `older_than: {age['older_than']}` "
                "contradict each other: no item is both"
            )
            yield checked.error(message, (*path, "newer_than"), hint=ONE)


def _narrowing(globs: str | Sequence[str] | None, age: Data | None, place: Problem) -> Narrowing:
    globs = globs or ()
    found = Narrowing((globs,) if isinstance(globs, str) else tuple(globs), place=place)
    if not age:
        return found
    newer, older = (
        parse_duration(age[key]) if key in age else None for key in ("newer_than", "older_than")
    )
    return replace(found, column=age["of"], newer_than=newer, older_than=older)
