"""Build a BackfillPlan from a checked plan document, its catalog and its items."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from runner.model import (
    BUILT_IN,
    Acceptance,
    BackfillPlan,
    Collection,
    Json,
    Operation,
    OrderKey,
    Problem,
    Question,
)
from runner.spec.catalog import Catalog
from runner.spec.document import did_you_mean, echo
from runner.spec.json_limits import MAX_EVENT, fault
from runner.spec.kinds import REPOSITORY, WORKSPACE, ByTemplate, OnceKind, OwnKind
from runner.spec.operations import (
    build_operation,
    check_names,
    check_needs,
    choose_operations,
    own_rows,
)
from runner.spec.plan_document import PlanDocument
from runner.spec.questions import OF_ITEMS, OF_RUNS, Askings, check_ages, names_of, narrowing
from runner.spec.recurring import check_schedule, schedule
from runner.spec.rows import Concatenated, DocumentRows, Part, RowError, SelectedRows
from runner.spec.safeguards import approval, check_control, failure_limit, give_up_after, guards
from runner.spec.warnings import WARNINGS

_VARIABLE = re.compile(r"""\bvars(?:\.|\[["'])([A-Za-z_]\w*)""")


def build_plan(
    checked: PlanDocument,
    catalog: Catalog,
    repositories: Concatenated,
    own: Mapping[str, Collection],
    overrides: Mapping[str, Json],
    *,
    every_operation: bool = True,
    every_repository: bool = True,
) -> tuple[BackfillPlan, list[Problem]]:
    """Build the plan and find its problems; use it only if none of them is an error.

    `every_operation`, `every_repository`: False if `catalog` or `repositories` is incomplete, so
    that it is no problem if something is missing from them.
    """
    value = checked.value
    chosen = choose_operations(checked, catalog)
    problems = list(check_names(checked, catalog)) if every_operation else []
    problems += check_needs(checked, catalog, chosen)
    operations: dict[str, Operation] = {}
    variables = {**value.get("vars", {}), **overrides}
    named = value.get("collections", {})
    asking = Askings(checked, catalog, [*value.get("vars", {}), *overrides], named)
    for name, (path, use) in chosen.kept.items():
        operations[name], found = build_operation(checked, path, use, catalog[name], asking)
        problems += found
    order = catalog.in_order(list(operations))
    problems += _check_variables(checked, catalog, overrides)
    if every_repository:
        problems += _check_scope(checked, [operations[name] for name in order], repositories)
    if every_operation:
        problems += _check_handlers(checked, catalog)
        problems += _check_accept(checked, catalog)
    problems += check_control(checked, [operations[name] for name in order])
    problems += check_ages(checked)
    problems += check_schedule(checked)
    problems += _check_collections(checked, catalog)
    problems += _check_scopes(checked, asking, repositories)
    plan = BackfillPlan(
        name=str(value.get("metadata", {}).get("name", "")),
        path=checked.document.path,
        metadata=value.get("metadata", {}),
        variables=variables,
        collections={
            **_collections(checked, catalog, asking, operations, repositories, variables),
            **own,
        },
        workspace=value.get("workspace"),
        operations=tuple(operations[name] for name in order),
        skipped=chosen.skipped,
        order_by=_order_keys(value.get("order_by", "priority")),
        on_failure=value.get("on_failure", "continue" if "max_failures" in value else "stop"),
        give_up_after=give_up_after(value.get("give_up_after")),
        handlers=value.get("handlers", {}),
        max_failures=failure_limit(value.get("max_failures")),
        approval=approval(value.get("approval")),
        flow=value.get("flow", "stages"),
        canary=value.get("canary", 0),
        scheduled=value.get("pacing") == "scheduled",
        schedule=schedule(value.get("schedule")),
        guards=guards(value.get("guards", [])),
        lookups=tuple(asking.lookups.values()),
        checks=tuple(
            asking.checks(operations, {name: chosen.kept[name][1] for name in operations})
        ),
        coverage=asking.coverage(),
        narrowing=narrowing(checked),
        workspace_repos=asking.workspace_repos(),
        requires=value.get("requires", {}).get("environment"),
        if_empty=value.get("if_empty", "fail"),
        accept=_acceptances(checked),
    )
    problems += _check_subjects(checked, plan)
    return plan, [*problems, *asking.problems]


def _check_subjects(checked: PlanDocument, plan: BackfillPlan) -> Iterator[Problem]:
    """Check that the plan has the items that a check, a goal or its own coverage is about: of none,
    a backlog is always 0. A catalog's coverage is for other plans, too."""
    written = {*checked.value, *checked.pruned}
    if "repos" in written or len(plan.repositories):
        return
    absent = {"repos": "repositories", "ids": "repositories"}
    absent |= {} if {"workspace", "workspaces"} & written else {"workspaces": "workspaces"}
    runs_for = {one.name: one.for_each for one in plan.operations}
    asked: list[tuple[Question, str | None]] = []
    asked += [(one.until.question, one.name) for one in plan.operations if one.until]
    asked += [(one.question, one.operation) for one in plan.checks]
    asked += [(one.question, None) for one in plan.coverage if one.question.place.path == plan.path]
    for question, operation in asked:
        own = runs_for.get(operation or "") in checked.value.get("collections", {})
        for name in names_of(question.query):
            if name in absent and not (own and name == "ids"):
                message = f"the query goes by :{name}, and the plan has no {absent[name]}"
                hint = (
                    "use items that the plan has: a collection's name is a parameter, as in :NAME"
                )
                yield replace(question.place, message=message, hint=hint)


def _collections(
    checked: PlanDocument,
    catalog: Catalog,
    asking: Askings,
    operations: Mapping[str, Operation],
    repositories: Concatenated,
    variables: Mapping[str, Json],
) -> dict[str, Collection]:
    """Return all collections that operations can run for, by `Operation.collection`."""
    metadata = checked.value.get("metadata", {})
    once = DocumentRows(checked.document, [{}], [()], WORKSPACE, checked=True)
    found = {
        "repo": Collection(REPOSITORY, repositories),
        "workspace": Collection(WORKSPACE, _workspaces(checked, asking)),
        "once": Collection(OnceKind(str(metadata.get("name", ""))), Concatenated([once])),
    }
    shared = {"vars": variables, "plan": metadata}
    for name, operation in operations.items():
        if operation.for_each == "row":
            entry = catalog[name]
            path, written = ("operations", name, "for_each"), entry.spec["for_each"]
            asked = asking.of(entry.document)
            kind = OwnKind(ByTemplate(asked.item(written, path), shared))
            question = asked.question(written, path, OF_ITEMS)
            rows = SelectedRows(entry.document, path, kind, question, own_rows(name))
            found[own_rows(name)] = Collection(kind, Concatenated([rows]))
    return found


def _check_collections(checked: PlanDocument, catalog: Catalog) -> Iterator[Problem]:
    """Find names that are no collection, and collections that nothing runs for."""
    named, used = checked.value.get("collections", {}), set[str]()
    there = [*BUILT_IN, *named]
    for path, use in checked.uses():
        entry = catalog.get(use["use"])
        if entry is None:  # an unknown operation may run for any of them
            used.update(named)
            continue
        written, origin = entry.written(use, checked.document, path, "for_each")
        if isinstance(written, str):
            used.add(written)
            if written not in there:
                hint = f"define it under `collections` of the plan; there are: {', '.join(there)}"
                hint = did_you_mean(written, there) or hint
                message = f"`{entry.name}` runs for each {echo(written)}, which is not a collection"
                yield replace(origin.problem(message, hint=hint), rule="plan")
    for value in named.values():
        used.update((value.get("matrix") or {}).values() if isinstance(value, dict) else ())
    for name in named:
        if name not in used:
            message = f"no operation runs for the collection {echo(name)}"
            hint = f"write `for_each: {name}` at an operation, or remove the collection"
            place = ("collections", name)
            yield checked.warning(message, place, key=True, hint=hint, rule="unused-collection")


def _check_scopes(
    checked: PlanDocument, asking: Askings, repositories: Concatenated
) -> Iterator[Problem]:
    """Check that filters and lookups are for a collection that exists."""
    named = checked.value.get("collections", {})
    known = ["repo", "age", *named]
    there = {"repos"} & {*checked.value, *checked.pruned} or len(repositories)
    for name in checked.value.get("filter", {}):
        if name not in known:
            hint = did_you_mean(name, known) or f"there are: {', '.join(known)}"
            message = f"`filter` names {echo(name)}, which is not a collection"
            yield checked.error(message, ("filter", name), key=True, hint=hint)
        elif name not in named and not there:
            message = f"`filter` is for repositories (`{name}`), but the plan has none"
            hint = "remove it, or name the collection that it is for"
            place = ("filter", name)
            yield checked.warning(message, place, key=True, hint=hint, rule="filter")
    scopes = ["repo", "workspace", *named]
    for lookup in asking.lookups.values():
        if lookup.scope not in scopes:
            hint = did_you_mean(lookup.scope, scopes) or f"there are: {', '.join(scopes)}"
            message = (
                f"the lookup `{lookup.name}` is for {echo(lookup.scope)}, which is not a collection"
            )
            yield replace(lookup.question.place, message=message, hint=hint)


def _workspaces(checked: PlanDocument, asking: Askings) -> Concatenated:
    """Return the workspaces that the plan lists beside those of its repositories, in order."""
    parts: list[Part] = []
    for index, written in enumerate(checked.value.get("workspaces", ())):
        path = ("workspaces", index)
        if isinstance(written, dict):
            question = asking.of(checked.document).question(written, path)
            name = "workspaces"
            parts.append(SelectedRows(checked.document, path, WORKSPACE, question, name))
        elif written is not None:
            row = WORKSPACE.named(str(written))
            parts.append(DocumentRows(checked.document, [row], [path], WORKSPACE, checked=True))
    return Concatenated(parts)


def _order_keys(written: Json) -> tuple[OrderKey, ...]:
    keys = [written] if isinstance(written, str) else written
    return tuple(OrderKey(key.removeprefix("-"), key.startswith("-")) for key in keys if key)


def _acceptances(checked: PlanDocument) -> dict[str, Acceptance]:
    return {
        name: Acceptance(reason, checked.document.problem("", ("accept", name), key=True))
        for name, reason in checked.value.get("accept", {}).items()
    }


def _check_accept(checked: PlanDocument, catalog: Catalog) -> Iterator[Problem]:
    """Check that accepted warnings exist, and that each has a reason."""
    known = {
        **WARNINGS,
        **{name: "" for entry in catalog.values() for name in entry.spec.get("warn", {})},
    }
    for name, reason in checked.value.get("accept", {}).items():
        if not reason.strip():
            hint = "say why the warning is accepted: the reason is shown with it"
            yield checked.error(f"the reason of {echo(name)} is blank", ("accept", name), hint=hint)
        if name not in known:
            hint = did_you_mean(name, known) or f"there are: {', '.join(sorted(known))}"
            message = f"no warning is called {echo(name)}"
            yield checked.error(message, ("accept", name), key=True, hint=hint)


def known_of(
    shared: Mapping[str, Json], checked: PlanDocument, catalog: Catalog
) -> dict[str, Json]:
    """Select those of the shared variables that this plan or its templates know."""
    known = _known_variables(checked, catalog) if shared else ()
    return {name: value for name, value in shared.items() if name in known}


def _known_variables(checked: PlanDocument, catalog: Catalog) -> set[str]:
    texts = {checked.document.text, *(entry.document.text for entry in catalog.values())}
    used = (name for text in texts for name in _VARIABLE.findall(text))
    return {*checked.value.get("vars", {}), *used}


def _check_variables(
    checked: PlanDocument, catalog: Catalog, overrides: Mapping[str, Json]
) -> Iterator[Problem]:
    """Check variables: given ones must be known, and none may hold a template."""
    written = checked.value.get("vars", {})
    known = _known_variables(checked, catalog) if overrides else set()
    for name, value in overrides.items():
        if name not in known:
            hint = did_you_mean(name, sorted(known)) or "check --var"
            message = f"the plan has no variable {echo(name)}"
            yield checked.error(message, ("vars",), key=True, hint=hint)
        elif wrong := fault(value):
            message = f"the variable {echo(name)} is given {wrong}"
            yield checked.error(message, ("vars", name), key=True)
    sources = [checked.value, *(document.value for document in catalog.documents)]
    taken = {*OF_ITEMS, *OF_RUNS, *checked.value.get("collections", {})}
    taken |= {"keys"} if any(source.get("lookups") for source in sources) else set()
    taken |= {"workspace"} if any("workspace_repos" in source for source in sources) else set()
    for name, value in {**written, **overrides}.items():
        if name in taken:
            message = (
                f"{echo(name)} cannot be the name of a variable: `:{name}` has another "
                "meaning in queries"
            )
            hint = "give it another name"
            yield checked.error(message, ("vars", name), key=True, hint=hint)
        size = 0 if fault(value) else len(json.dumps(value, ensure_ascii=False))
        if size > MAX_EVENT:
            message = f"the variable {echo(name)} has {size:,} characters, more than {MAX_EVENT:,}"
            hint = "no event can hold that much: keep it in the database, or in a data file"
            yield checked.error(message, ("vars", name), key=True, hint=hint)
    for name, value in written.items():
        if _has_template(value):
            message = f"the variable {echo(name)} holds a template, which is not rendered here"
            hint = "write the template where the variable is used"
            yield checked.error(message, ("vars", name), hint=hint)


def _check_scope(
    checked: PlanDocument, operations: Sequence[Operation], repositories: Concatenated
) -> Iterator[Problem]:
    """Check that there is something for each operation to run for; an empty list is allowed."""
    first = {operation.for_each: operation.name for operation in reversed(operations)}
    if "repos" in checked.value and not len(repositories):
        return
    if "repo" in first and "repos" not in {*checked.value, *checked.pruned}:
        message = f"`repos` is missing, but `{first['repo']}` runs for each repository"
        hint = "list some, as owner/name; or remove the operation"
        yield checked.error(message, ("repos",), key=True, hint=hint)
    named = {"workspace", "workspaces"} & {*checked.value, *checked.pruned}
    if repositories.asked:
        return
    if "workspace" in first and not named and not _any_workspace(repositories):
        name = first["workspace"]
        path = next(path for path, use in checked.uses() if use["use"] == name)
        message = f"`{name}` runs for each workspace, but no workspace is named"
        hint = "add `workspace: ID` to the plan, or to its repositories"
        yield checked.error(message, path, hint=hint, rule="no-workspace")


def _check_handlers(checked: PlanDocument, catalog: Catalog) -> Iterator[Problem]:
    sent = {entry.event: None for entry in catalog.values()}
    for event in checked.value.get("handlers", {}):
        if event not in sent:
            message = f"no operation of the catalog sends {echo(event)}"
            hint = did_you_mean(event, sent) or f"it sends: {', '.join(sent)}"
            yield checked.warning(
                message, ("handlers", event), key=True, hint=hint, rule="unused-handler"
            )


def _has_template(value: Json) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_template, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and "{{" in value


def _any_workspace(repositories: Concatenated) -> bool:
    """Tell whether a repository names a workspace; reads all rows, so call it only if needed."""
    try:
        return any(row.get("workspace") for row in repositories)
    except RowError:  # reported already
        return True
