"""Build the operations that a plan runs, from the catalog's entries and the plan's own settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from runner.model import (
    Cap,
    Data,
    Draining,
    Load,
    Needs,
    Operation,
    Pacing,
    Payload,
    Problem,
    Skipped,
    Throttle,
    frozen,
)
from runner.spec.catalog import Catalog, CatalogEntry
from runner.spec.document import Document, Path, did_you_mean, echo
from runner.spec.own import BUILT_IN
from runner.spec.payload import (
    AmountTemplate,
    ConditionTemplate,
    Origin,
    PayloadContract,
    compile_payload,
    compile_repeat,
    compile_when,
)
from runner.spec.plan_document import PlanDocument
from runner.spec.questions import Askings
from runner.spec.units import format_duration, parse_delay, parse_duration

DEFAULT_BATCH_SIZE = 50
DEFAULT_DELAY = "5s"


def build_operation(
    checked: PlanDocument, path: Path, use: Data, entry: CatalogEntry, asking: Askings
) -> tuple[Operation, list[Problem]]:
    """Build the operation that the plan's entry at `path` uses, and find its problems."""
    catalogs, origin = entry.payload
    kept = {key: value for key, value in catalogs.items() if key not in use.get("without", ())}
    parts = [(kept, origin)]
    if "with" in use:
        parts.append((use["with"], Origin(checked.document, (*path, "with"))))
    payload, found = compile_payload(parts)
    problems = [problem for problem in found if problem.path == checked.document.path]
    problems += _taken_back(checked, path, use, entry)
    when, wrong = _condition(checked, path, use, entry)
    pacing, raised = _pacing(checked, path, use, entry)
    cap, uncounted = _cap(checked, path, use, entry)
    repeat, bad = _repeat(checked, path, use, entry)
    resolve, resolved = entry.written(use, checked.document, path, "resolve")
    for_each = use.get("for_each", entry.for_each)
    own_id, at, origins, faulty = _own_of_events(checked, path, use, entry)
    throttle, unkeyed = _throttle(entry)
    problems += [*faulty, *unkeyed]
    operation = Operation(
        name=entry.name,
        event=entry.event,
        for_each=for_each,
        payload=payload,
        contract=PayloadContract(entry.contract, entry.accepts, payload),
        after=entry.after,
        pacing=pacing,
        load=entry.load,
        wait=use.get("wait", entry.done),
        timeout=parse_duration(use["timeout"]) if "timeout" in use else entry.timeout,
        when=when,
        description=entry.description,
        collection=own_rows(entry.name) if for_each == "row" else for_each,
        repeat=repeat,
        lookups=_lookups(checked, path, use, entry, for_each, asking),
        deferred=resolve == "stage",
        until=_until(checked, path, use, entry, asking),
        needs=Needs(**entry.spec["needs"]) if "needs" in entry.spec else None,
        advice=tuple(entry.advice),
        group=entry.written(use, checked.document, path, "group")[0] or 1,
        own_id=own_id,
        at=at,
        throttle=throttle,
        cap=cap,
        queue_timeout=_queue_timeout(checked, use, entry),
    )
    problems += _of_events(operation, origins)
    if operation.until:
        problems += _of_rounds(checked, path, use, entry, resolved if resolve == "plan" else None)
    places = {key: _place(checked, path, use, key) for key in ("batch_size", "delay")}
    advice = advise(operation, checked.document, places)
    return operation, [*problems, *wrong, *raised, *uncounted, *bad, *advice]


def _taken_back(
    checked: PlanDocument, path: Path, use: Data, entry: CatalogEntry
) -> Iterator[Problem]:
    """Check that whatever `false` or `without` takes back is in the catalog."""
    name = entry.name
    for key in ("when", "repeat", "until"):
        if use.get(key) is False and key not in entry.spec:
            message = f"`{key}: false` has no effect: the catalog's `{name}` has no `{key}`"
            yield checked.error(message, (*path, key), hint="remove it")
    payload = entry.payload[0]
    for index, key in enumerate(use.get("without", ())):
        place = (*path, "without", index)
        if key is None:
            continue
        if key not in payload:
            message = f"the payload of `{name}` in the catalog has no key {echo(key)}"
            hint = did_you_mean(key, payload) or f"it has: {', '.join(payload) or 'none'}"
            yield checked.error(message, place, hint=hint)
        elif key in use.get("with", {}):
            message = f"{echo(key)} is in `without` and in `with`, which contradict each other"
            yield checked.error(
                message, place, hint="use `with` alone: it overrides the catalog's key"
            )
    known = [check["name"] for check in entry.spec.get("checks", ())]
    for check in use.get("checks", {}):
        if check not in known:
            message = f"the catalog's `{name}` has no check {echo(check)}"
            hint = did_you_mean(check, known) or f"it has: {', '.join(known) or 'none'}"
            yield checked.error(message, (*path, "checks", check), key=True, hint=hint)


def _own_of_events(
    checked: PlanDocument, path: Path, use: Data, entry: CatalogEntry
) -> tuple[Payload | None, Payload | None, Mapping[str, Origin], list[Problem]]:
    """Return the templates of `id` and `at`, where they and `group` are written, and problems."""
    found: dict[str, Payload | None] = {}
    origins: dict[str, Origin] = {}
    problems: list[Problem] = []
    for key in ("id", "at", "group"):
        written, origin = entry.written(use, checked.document, path, key)
        if written not in (None, False):
            origins[key] = origin
        if key != "group" and key in origins:
            above = Origin(origin.document, origin.path[:-1])
            made, wrong = compile_payload([({key: written}, above)])
            found[key] = replace(made, whole=origin)
            problems += wrong
    return found.get("id"), found.get("at"), origins, problems


def _of_events(operation: Operation, origins: Mapping[str, Origin]) -> Iterator[Problem]:
    """Find settings that are valid by themselves, but contradict each other."""
    if "id" in origins and operation.until:
        message = "`until` sends items again, but the server drops a second event with the same id"
        yield origins["id"].problem(
            message, hint="leave `id` out: each event then gets an id of its own"
        )
    if "group" in origins and operation.repeat:
        message = "`group` makes one event of several items, and `repeat` several events of one"
        yield origins["group"].problem(message, hint="leave one of them out")


def _of_rounds(
    checked: PlanDocument, path: Path, use: Data, entry: CatalogEntry, once: Origin | None
) -> Iterator[Problem]:
    """Find settings that contradict rounds; `once`: where it says to resolve them with the plan."""
    if use.get("wait", entry.done) == "sent":
        key = "wait" if "wait" in use else "done"
        message = f"`{key}: sent` can have no effect: `until` waits for the jobs of each round"
        if key in use:
            yield checked.error(message, (*path, key), hint="leave it out")
        else:
            hint = f"leave it out, or write {{use: {entry.name}, wait: completed}}"
            yield entry.document.problem(message, ("operations", entry.name, key), hint=hint)
    if once:
        message = "`resolve: plan` can have no effect: `until` resolves each round when it starts"
        yield once.problem(message, hint="leave it out")


def _throttle(entry: CatalogEntry) -> tuple[Throttle | None, list[Problem]]:
    """Return a throttle with a key; one without a key raises the delay instead."""
    written, path = entry.spec.get("throttle"), ("operations", entry.name, "throttle")
    if written is None:
        return None, []
    period, key, problems = parse_duration(written["per"]), None, list[Problem]()
    if not period:
        message = "a period of no length limits nothing"
        problems.append(entry.document.problem(message, (*path, "per")))
    if "key" not in written:
        return None, problems
    if written["key"] != "item":
        text = str(written["key"])
        bare = text if "{{" in text else "{{ " + text + " }}"
        key, wrong = compile_payload([({"key": bare}, Origin(entry.document, path))])
        problems += wrong
    return Throttle(written["limit"], period, key), problems


def _repeat(
    checked: PlanDocument, path: Path, use: Data, entry: CatalogEntry
) -> tuple[AmountTemplate | None, list[Problem]]:
    written, origin = entry.written(use, checked.document, path, "repeat")
    return (None, []) if written is None else compile_repeat(written, origin)


def own_rows(operation: str) -> str:
    """Return the name of the collection of an operation's own query."""
    return f"rows of {operation}"


def _until(
    checked: PlanDocument, path: Path, use: Data, entry: CatalogEntry, asking: Askings
) -> Draining | None:
    written, origin = entry.written(use, checked.document, path, "until")
    return written and asking.of(origin.document).draining(written, origin.path)


def _lookups(
    checked: PlanDocument,
    path: Path,
    use: Data,
    entry: CatalogEntry,
    for_each: str,
    asking: Askings,
) -> tuple[str, ...]:
    """Return the lookups that it names, or else all that are for what it runs for."""
    written, origin = entry.written(use, checked.document, path, "lookups")
    if written is None:
        found = asking.lookups.items()
        return tuple(name for name, lookup in found if lookup.scope == for_each)
    for index, name in enumerate(written):
        lookup, message = asking.lookups.get(name), None
        if lookup is None:
            known = ", ".join(asking.lookups) or "none"
            hint = did_you_mean(name, asking.lookups) or f"there are: {known}"
            message = f"no lookup is called {echo(name)}"
        elif not _reads(for_each, lookup.scope):
            message = f"the lookup {echo(name)} is for {lookup.scope}, not for {for_each}"
            hint = f"write `for: {for_each}` at the lookup, or leave it out here"
        if message:
            problem = origin.document.problem(message, (*origin.path, index), hint=hint)
            asking.of(origin.document).problems.append(problem)
    return tuple(name for name in written if name in asking.lookups)


def _reads(for_each: str, scope: str) -> bool:
    """Whether items of this kind may have what a lookup for `scope` finds."""
    return for_each in (scope, "once", "row") or {for_each, scope} <= {*BUILT_IN.values()}


def _condition(
    checked: PlanDocument, path: Path, use: Data, entry: CatalogEntry
) -> tuple[ConditionTemplate | None, list[Problem]]:
    """Compile the plan's condition, else the catalog's, whose faults were reported with it."""
    if use.get("when") is False:
        return None, []
    if "when" in use:
        return compile_when(use["when"], Origin(checked.document, (*path, "when")))
    return (compile_when(*entry.condition)[0] if entry.when is not None else None), []


def _pacing(
    checked: PlanDocument, path: Path, use: Data, entry: CatalogEntry
) -> tuple[Pacing, list[Problem]]:
    """Take the entry's pacing, else the plan's, else the catalog's; at least its `min_delay`."""
    plan = checked.value
    size = int(
        _first(use.get("batch_size"), plan.get("batch_size"), entry.batch_size, DEFAULT_BATCH_SIZE)
    )
    written = use.get("delay", plan.get("delay"))
    if written is None:
        delay, jitter = _first(entry.delay, parse_duration(DEFAULT_DELAY)), 0.0
    else:
        delay, jitter = parse_delay(written)
        bound, why = _least_delay(entry, size, delay)
        if delay < bound:
            least = format_duration(bound)
            message = f"`{entry.name}`: {why.format(least=least)}"
            place = _place(checked, path, use, "delay")
            warning = checked.warning(
                message, place, hint=f"write `delay: {least}`", rule="min-delay"
            )
            return Pacing(size, bound, max(0.0, delay + jitter - bound)), [warning]
    return Pacing(size, max(delay, _least_delay(entry, size, delay)[0]), jitter), []


def _least_delay(entry: CatalogEntry, size: int, delay: float) -> tuple[float, str]:
    """Return the shortest delay that the catalog allows, and why: `min_delay` or the throttle."""
    throttle = entry.spec.get("throttle")
    if throttle and "key" not in throttle:
        period, limit = parse_duration(throttle["per"]), throttle["limit"]
        needed = size * period / limit
        if needed > entry.min_delay:
            per = format_duration(period)
            pace = f"{size * period / delay:,.3g}" if delay else f"{size:,} at once"
            why = f"{pace} in {per} against a throttle of {limit:,}"
            return needed, f"{why}: the delay is raised to {{least}}"
    return entry.min_delay, "the delay is raised to {least}, the shortest that its catalog allows"


def _queue_timeout(checked: PlanDocument, use: Data, entry: CatalogEntry) -> float | None:
    """Return the entry's value, else the plan's, else the catalog's, else None."""
    for said in (use, checked.value, entry.spec):
        if "queue_timeout" in said:
            return parse_duration(said["queue_timeout"])
    return None


# The default cap on events without an outcome, by the kind of load.
_CAPS: dict[Load, int] = {"external": 50, "heavy": 20}


def _cap(
    checked: PlanDocument, path: Path, use: Data, entry: CatalogEntry
) -> tuple[Cap | None, list[Problem]]:
    """Take the entry's cap, else the plan's, else the catalog's, else that of its load. An explicit
    cap is an error unless the run waits for the operation's jobs."""
    key = "max_in_flight"
    written = _first(use.get(key), checked.value.get(key), entry.spec.get(key), False)
    silent = not any(key in said for said in (use, checked.value, entry.spec))
    why = None
    if checked.value.get("pacing") == "scheduled":
        why = "`pacing: scheduled` sends everything at once"
    elif use.get("wait", entry.done) == "sent":
        why = f"`{entry.name}` is done when it is sent, so what is still in flight is not known"
    if written is False:
        most = _CAPS.get(entry.load) if silent and not why else None
        return None if most is None else Cap(most, written=False), []
    if why:
        here = _place(checked, path, use, key)
        hint = f"leave it out, or write {{use: {entry.name}, {key}: false}}"
        problem = checked.error(f"`{key}` can have no effect: {why}", here, hint=hint)
        return None, [problem]
    return Cap(written), []


def _place(checked: PlanDocument, path: Path, use: Data, key: str) -> Path:
    """Return where a setting is written: at the operation, at the top, or else the operation."""
    return (*path, key) if key in use else (key,) if key in checked.value else path


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


@frozen
class ChosenOperations:
    """The operations that the plan runs, each with its place and entry; and the skipped ones."""

    kept: Mapping[str, tuple[Path, Data]]
    skipped: tuple[Skipped, ...]


def check_names(checked: PlanDocument, catalog: Catalog) -> Iterator[Problem]:
    """Find unknown operations, duplicates, and contradictions between `skip` and `only`."""
    yield from _check_uses(checked, catalog)
    yield from _check_some_left(checked, catalog)
    used = [use["use"] for _, use in checked.uses()]
    only = {name for _, name in checked.names("only")}
    for key in ("skip", "only"):
        for path, name in checked.names(key):
            if name not in catalog:
                yield _unknown(checked, catalog, name, path)
            elif name not in used:
                message = f"`{key}` names `{name}`, which this plan never uses"
                known = [use for use in used if use in catalog]
                hint = did_you_mean(name, known) or "remove it, or add it to `operations`"
                yield checked.error(message, path, hint=hint)
            elif key == "skip" and name in only:
                message = f"`{name}` is in `skip` and in `only`, which contradict each other"
                yield checked.error(message, path, hint="remove it from one of them")


def choose_operations(checked: PlanDocument, catalog: Catalog) -> ChosenOperations:
    skip = {name for _, name in checked.names("skip")}
    only = {name for _, name in checked.names("only")}
    kept: dict[str, tuple[Path, Data]] = {}
    skipped: dict[str, Skipped] = {}
    for path, use in checked.uses():
        name = use["use"]
        if name not in catalog or name in kept:
            continue
        if name in skip:
            skipped[name] = Skipped(name, None, "skipped by the plan")
        elif only and name not in only:
            skipped[name] = Skipped(name, None, "not in the plan's `only`")
        else:
            kept[name] = (path, use)
    return ChosenOperations(kept, tuple(skipped.values()))


def _check_some_left(checked: PlanDocument, catalog: Catalog) -> Iterator[Problem]:
    """Refuse a plan that runs no operation."""
    used = [use["use"] for _, use in checked.uses() if use["use"] in catalog]
    chosen = choose_operations(checked, catalog)
    if used and not chosen.kept:
        key = "skip" if checked.value.get("skip") else "only"
        message = f"`{key}` leaves the plan without an operation"
        yield checked.error(message, (key,), hint="remove an operation from it")


def check_needs(
    checked: PlanDocument, catalog: Catalog, chosen: ChosenOperations
) -> Iterator[Problem]:
    """Warn of operations that run without one they come after."""
    out = {skipped.operation for skipped in chosen.skipped}
    for name, (path, _) in chosen.kept.items():
        for need in catalog[name].after:
            if need in out:
                message = f"`{name}` comes after `{need}`, which this plan skips"
                hint = f"it works on the results of the last `{need}`"
                yield checked.warning(message, path, hint=hint, rule="needs-skipped")


def _check_uses(checked: PlanDocument, catalog: Catalog) -> Iterator[Problem]:
    seen: dict[str, Path] = {}
    for path, use in checked.uses():
        name, place = use["use"], (*path, "use")
        if name not in catalog:
            yield _unknown(checked, catalog, name, place)
        elif name in seen:
            line = checked.document.position(seen[name])[0]
            message = f"the operation `{name}` is listed twice (first on line {line})"
            yield checked.error(message, place, hint="keep one of them")
        seen.setdefault(name, path)


def _unknown(checked: PlanDocument, catalog: Catalog, name: str, path: Path) -> Problem:
    hint = did_you_mean(name, catalog) or f"the catalog has: {', '.join(catalog)}"
    message = f"unknown operation {echo(name)}"
    return checked.error(message, path, hint=hint, rule="unknown-operation")


# Recommended batch sizes and delays in seconds, by the kind of load.
_BATCHES: dict[Load, tuple[int, str]] = {
    "internal": (100, "more than 100 risks timeouts"),
    "external": (50, "APIs with rate limits need 10-50"),
    "heavy": (100, "more than 100 risks timeouts"),
}
_DELAYS: dict[Load, tuple[float, str]] = {
    "internal": (1, "internal work needs 1-5s"),
    "external": (5, "external APIs with rate limits need 5-15s"),
    "heavy": (15, "heavy work needs 15-30s"),
}


def advise(
    operation: Operation, document: Document, places: Mapping[str, Path]
) -> Iterator[Problem]:
    size, delay = operation.pacing.batch_size, operation.pacing.delay
    most, why = _BATCHES[operation.load]
    if size > most:
        message = f"`{operation.name}`: a batch of {size:,} is large; {why}"
        hint = f"write `batch_size: {most}` or less"
        yield document.problem(
            message, places["batch_size"], hint=hint, severity="warning", rule="large-batch"
        )
    least, why = _DELAYS[operation.load]
    if delay < least:
        message = f"`{operation.name}`: a delay of {format_duration(delay)} is short; {why}"
        hint = f"write `delay: {format_duration(least)}` or more"
        yield document.problem(
            message, places["delay"], hint=hint, severity="warning", rule="short-delay"
        )
