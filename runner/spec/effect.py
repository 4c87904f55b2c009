"""Find what a plan has and nothing uses: attributes of items, variables, orders of one item."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from runner.model import Collection, Json, Problem
from runner.spec.catalog import Catalog
from runner.spec.collections import with_others
from runner.spec.document import did_you_mean, echo
from runner.spec.own import BUILT_IN, parts_of
from runner.spec.plan_document import PlanDocument
from runner.spec.questions import parameters_of
from runner.spec.rows import LEAVING, Concatenated, DocumentRows

_EXPRESSIONS = re.compile(r"\{[{%](.*?)[%}]\}", re.DOTALL)
_TEXTS = re.compile(r"'[^']*'|\"[^\"]*\"")
_STEP = r"""(?:\.[A-Za-z_]\w*|\[["'][^"']+["']\])"""
_OF_ROWS = re.compile(rf"\brow\b({_STEP}+)")
_NAMES = re.compile(r"[A-Za-z_]\w*")
_OF_GROUP = re.compile(r"\brows\b\s*(\|\s*(?:length|count|map|sum)\b|\[\d+\]\.)?")  # by attributes
_PATH = re.compile(r"[A-Za-z_][\w.]*")  # as in `map(attribute="team.name")`
_ALWAYS = frozenset(LEAVING)
_OF_REPOSITORIES = frozenset(("repo", "workspace", "owner", "name"))
_ATTRIBUTES = ("repo", "priority", "velocity", *LEAVING, "workspace")
_NAMING = frozenset(("name", "id", "item", "from", "to"))
_CONDITIONS = ("when", "repeat", "if", "throttle.key")


def check_effect(
    checked: PlanDocument, catalog: Catalog, collections: Mapping[str, Collection]
) -> Iterator[Problem]:
    """Yield warnings, or an error for what looks like a mistyped key. Data files are not checked:
    they may have columns for other plans."""
    texts, parameters = list(_expressions(checked, catalog)), _parameters(checked, catalog)
    used = _read_of_items(checked, catalog, texts, parameters)
    whole = _read_as_parts(checked, texts)
    found: dict[tuple[str, str], tuple[Problem, int]] = {}  # its first place, and how many have it
    for name, items in collections.items() if used is not None else ():
        if name in whole:
            continue
        kind = items.kind.called
        read = _ALWAYS | (_OF_REPOSITORIES if name == "repo" else _NAMING) | (used or set())
        for part in _written(items, checked.document.path):
            for keys, count in Counter(map(tuple, part.rows)).items():  # most rows have equal keys
                for key in (key for key in keys if key not in read):
                    if (name, key) not in found:
                        index = next(index for index, row in enumerate(part.rows) if key in row)
                        found[name, key] = _unread(part.place(index, (key,)), key, kind), 0
                    first, before = found[name, key]
                    found[name, key] = first, before + count
    yield from (with_others(problem, count - 1) for problem, count in found.values())
    yield from _leaving_nothing(checked, catalog, collections, parameters)
    yield from _variables(checked, texts, parameters)
    yield from _default_workspace(checked)


def orders_nothing(checked: PlanDocument, catalog: Catalog) -> Problem | None:
    """Warn of an `order_by` that orders nothing, as there is only one workspace."""
    uses = [catalog[use["use"]] for _, use in checked.uses() if use["use"] in catalog]
    if "order_by" not in checked.value or not uses:
        return None
    if any(entry.for_each not in ("workspace", "once") for entry in uses):
        return None
    read = _steps(_expressions(checked, catalog), "workspace")
    if read is None or "repos" in read:
        return None
    return checked.warning(
        "`order_by` orders nothing: there is one item, and nothing reads the order of its"
        " repositories",
        ("order_by",),
        key=True,
        hint="remove it",
        rule="order-by",
    )


def _unread(place: Problem, key: str, kind: str) -> Problem:
    near = None if key in _ATTRIBUTES else did_you_mean(key, _ATTRIBUTES)
    message = f"nothing reads the attribute {echo(key)} of the {kind}"
    if near:
        return replace(place, message=message, hint=near, rule="unknown-key")
    hint = "remove it; or use it in a payload, `order_by`, `filter` or a lookup"
    return replace(place, message=message, hint=hint, severity="warning", rule="unused-attribute")


def _leaving_nothing(
    checked: PlanDocument,
    catalog: Catalog,
    collections: Mapping[str, Collection],
    parameters: set[str],
) -> Iterator[Problem]:
    """Find `skip` and `only` of items that name operations which do not run for them, unless a
    query takes the items as a parameter."""
    runs_for = {
        use["use"]: use.get("for_each", entry.for_each)
        for _, use in checked.uses()
        if (entry := catalog.get(use["use"]))
    }
    found: dict[tuple[str, str, str], tuple[Problem, int]] = {}
    for name, items in collections.items():
        of_repositories = name == "repo"
        bound = {"repos", "workspaces", "ids"} if of_repositories else {name, "ids"}
        if parameters & bound:
            continue
        bearing = (name, "workspace") if of_repositories else (name,)
        concerned = {*bearing}.union(*(_made_of(one, collections) for one in bearing))
        others = {one: kind for one, kind in runs_for.items() if kind not in concerned}
        for part in _written(items, checked.document.path) if others else ():
            for index, row in enumerate(part.rows):
                for key in (key for key in LEAVING if isinstance(row.get(key), list)):
                    for place, operation in enumerate(row[key]):
                        if not isinstance(operation, str) or operation not in others:
                            continue
                        known = name, key, operation
                        if known not in found:
                            at = part.place(index, (key, place))
                            what = items.kind.called
                            found[known] = _unheard(at, key, operation, others, what), 0
                        first, before = found[known]
                        found[known] = first, before + 1
    yield from (with_others(problem, count - 1) for problem, count in found.values())


def _made_of(name: str, collections: Mapping[str, Collection]) -> set[str]:
    """Return the products that the collection is part of, directly or through others."""
    found = {
        of
        for of, items in collections.items()
        if any(part.for_each == name for part in items.kind.parts.values())
    }
    return found.union(*(_made_of(of, collections) for of in found))


def _unheard(
    place: Problem, key: str, operation: str, runs_for: Mapping[str, Json], kind: str
) -> Problem:
    named = {"repo": "repositories", "workspace": "workspaces", "once": "the plan"}
    whose = runs_for[operation]
    whom = named.get(whose, whose) if isinstance(whose, str) and whose != "row" else "its own query"
    message = f"`{key}` of the {kind} names `{operation}`, which runs for {whom}, not for it"
    hint = f"remove it, or write it on what `{operation}` runs for"
    return replace(place, message=message, hint=hint, severity="warning", rule="unused-attribute")


def _written(items: Collection, plan: str) -> Iterator[DocumentRows]:
    """Yield the rows that are written in the plan itself."""
    rows = items.rows
    for part in rows.parts if isinstance(rows, Concatenated) else ():
        if isinstance(part, DocumentRows) and part.document.path == plan:
            yield part


def _expressions(checked: PlanDocument, catalog: Catalog) -> Iterator[str]:
    """Yield the template expressions and conditions of the plan and the operations it uses."""
    for _, use in checked.uses():
        if entry := catalog.get(use["use"]):
            yield from _of_value(entry.spec)
            yield from _of_value(use)
    rows = ("operations", "repos", "collections")
    yield from _of_value({key: one for key, one in checked.value.items() if key not in rows})
    asked = [*checked.value.get("repos", ()), *checked.value.get("collections", {}).values()]
    for entry in asked:  # rows hold no templates, and there may be many of them
        if isinstance(entry, dict) and "repo" not in entry:
            yield from _of_value(entry)
    for document in catalog.documents:
        yield from _of_value({key: v for key, v in document.value.items() if key != "operations"})


def _of_value(value: Json, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _of_value(inner, f"throttle.{name}" if key == "throttle" else name)
    elif isinstance(value, list):
        for inner in value:
            yield from _of_value(inner, key)
    elif isinstance(value, str):
        if key in _CONDITIONS:
            yield _TEXTS.sub(_named, value)
        yield from (_TEXTS.sub(_named, found) for found in _EXPRESSIONS.findall(value))


def _named(text: re.Match[str]) -> str:
    """Blank out a text in an expression, unless it may name a member: ``repo["velocity"]``."""
    return text[0] if _PATH.fullmatch(text[0][1:-1]) else "''"


def _steps(texts: Iterable[str], *roots: str) -> set[str] | None:
    """Return the members of `roots` that are read, at any depth; None if one is read as a whole."""
    whole = re.compile(rf"\b(?:{'|'.join(roots)})\b(?!{_STEP})(?!\w*\()")
    some = re.compile(rf"\b(?:{'|'.join(roots)})\b({_STEP}+)")
    found: set[str] = set()
    for text in texts:
        bare = some.sub("", text)
        if whole.search(re.sub(r"\.\w+|'[^']*'|\"[^\"]*\"", "", bare)):
            return None
        for steps in some.findall(text):
            found.update(_NAMES.findall(steps))
    return found


def _read_of_items(
    checked: PlanDocument, catalog: Catalog, texts: Sequence[str], parameters: set[str]
) -> set[str] | None:
    """Return the attributes that something reads; None if any may be read."""
    found = _steps(texts, "repo", "row")
    grouped = [text for text in texts if _OF_GROUP.search(text)]
    if found is None or not all(all(_OF_GROUP.findall(text)) for text in grouped):
        return None
    found.update(name for text in grouped for name in _NAMES.findall(text))
    value = checked.value
    order = value.get("order_by", "priority")
    found.update(
        str(key).removeprefix("-") for key in ([order] if isinstance(order, str) else order)
    )
    for one in (value.get("filter") or {}).values():
        ages = [one, one.get("age")] if isinstance(one, dict) else []
        found.update(str(age["of"]) for age in ages if isinstance(age, dict) and "of" in age)
    for source in (value, *(document.value for document in catalog.documents)):
        lookups = source.get("lookups") or {}
        found.update(str(one["key"]) for one in lookups.values() if isinstance(one, dict))
    if "ids" in parameters:
        found.add("id")
    return found


def _read_as_parts(checked: PlanDocument, texts: Iterable[str]) -> set[str]:
    """Return the collections whose items are read whole as part of a product: ``row.tenant``."""
    last = {_NAMES.findall(steps)[-1] for text in texts for steps in _OF_ROWS.findall(text)}
    written = checked.value.get("collections", {})
    products = {name: parts_of(entry) for name, entry in written.items()}
    found = {of for parts in products.values() for word, of in parts.items() if word in last}
    for _ in products:  # a product of products contains their mappings
        found.update(of for name in found & products.keys() for of in products[name].values())
    return {BUILT_IN.get(name, name) for name in found}


def _parameters(checked: PlanDocument, catalog: Catalog) -> set[str]:
    """Return the names of the parameters of all queries of the plan and its catalogs."""
    values = [document.value for document in (checked.document, *catalog.documents)]
    return {name for text in _asked(values) for name in parameters_of(text)}


def _asked(value: Json, *, query: bool = False) -> Iterator[str]:
    """Yield the texts of the queries in a value, and what their `where` compares with."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _asked(inner, query=query or key == "query")
    elif isinstance(value, list):
        for inner in value:
            if query or isinstance(inner, dict | list):
                yield from _asked(inner, query=query)
    elif query and isinstance(value, str):
        yield value


def _default_workspace(checked: PlanDocument) -> Iterator[Problem]:
    entries = checked.value.get("repos") or ()
    if "workspace" not in checked.value or not entries:
        return
    if all(isinstance(entry, dict) and "workspace" in entry for entry in entries):
        yield checked.warning(
            "no repository uses this workspace: each names its own",
            ("workspace",),
            key=True,
            hint="remove it",
            rule="unused-workspace",
        )


def _variables(
    checked: PlanDocument, texts: Sequence[str], parameters: set[str]
) -> Iterator[Problem]:
    """Warn of variables that no template and no query reads."""
    read = _steps(texts, "vars")
    if read is None:
        return
    read |= parameters
    for name in checked.value.get("vars", {}):
        if name not in read:
            message = f"nothing reads the variable {echo(name)}"
            near = did_you_mean(name, sorted(read))
            yield checked.warning(
                message,
                ("vars", name),
                key=True,
                hint=near or "remove it, or use it as `{{ vars." + name + " }}`",
                rule="unused-variable",
            )
