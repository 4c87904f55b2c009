"""What pauses or ends a run: a plan's failure limit, canary, pacing and guards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from runner.model import (
    CommandGuard,
    Data,
    FailureLimit,
    FileGuard,
    GithubGuard,
    GuardSpec,
    HttpGuard,
    Json,
    Operation,
    Problem,
    SqlGuard,
    WindowGuard,
)
from runner.spec.document import Path, echo
from runner.spec.opening import opening
from runner.spec.plan_document import PlanDocument
from runner.spec.questions import check_bounds, parameters_of
from runner.spec.units import Faulty, parse_duration
from runner.spec.urls import is_http

_GUARDS: Mapping[str, Callable[[Json], GuardSpec]] = {
    "github": lambda written: GithubGuard(**written),
    "http": HttpGuard,
    "sql": lambda written: SqlGuard(**written),
    "command": lambda written: CommandGuard(tuple(written)),
    "file": FileGuard,
    "window": lambda written: WindowGuard(**written),
}


def give_up_after(written: str | None) -> float | None:
    """Return seconds."""
    return None if written is None else parse_duration(written)


def failure_limit(written: Json) -> FailureLimit | None:
    """Parse ``10`` or ``5%``."""
    if isinstance(written, str):
        return FailureLimit(ratio=float(written.removesuffix("%")) / 100)
    return None if written is None else FailureLimit(count=written)


def approval(written: Json) -> int | None:
    """Return the number of events above which an approval is needed; None if never."""
    if not isinstance(written, dict) or not written["required"]:
        return None
    return int(written.get("over_events", 0))


def guards(written: Sequence[Data]) -> tuple[GuardSpec, ...]:
    return tuple(_GUARDS[kind](entry[kind]) for entry in written for kind in entry or ())


def _check_guards(checked: PlanDocument) -> Iterator[Problem]:
    for index, written in enumerate(checked.value.get("guards", [])):
        path = ("guards", index, "window")
        if "sql" in (written or {}):
            yield from _check_query(checked, written["sql"], ("guards", index, "sql"))
        if "http" in (written or {}) and not is_http(written["http"]):
            message = f"{echo(written['http'])} is not the URL of a server"
            yield checked.error(
                message, ("guards", index, "http"), hint="write it like https://host/path"
            )
        if "window" not in (written or {}):
            continue
        try:
            opening(WindowGuard(**written["window"]))
        except Faulty as error:
            for key, message in error.faults:
                yield checked.error(message, (*path, key))
        if checked.value.get("pacing") == "scheduled":
            message = (
                "a window holds back batches, but `pacing: scheduled` sends everything at once"
            )
            yield checked.error(message, path, key=True, hint="leave one of them out")


def _check_query(checked: PlanDocument, written: Data, path: Path) -> Iterator[Problem]:
    yield from check_bounds(checked.document, written, path)
    for name in parameters_of(written["query"])[:1]:
        message = f"the query's parameter {echo(':' + name)} has no value: a guard binds none"
        yield checked.error(message, (*path, "query"), hint="write the value in its place")


def _check_order(checked: PlanDocument) -> Iterator[Problem]:
    """Find a key in both directions: the second orders nothing."""
    written = checked.value.get("order_by", [])
    names = [str(key).removeprefix("-") for key in written] if isinstance(written, list) else []
    for index, name in enumerate(names):
        if name in names[:index]:
            message = f"`order_by` has {echo(name)} in both directions"
            yield checked.error(message, ("order_by", index), hint="leave one of them out")


def _check_timeouts(checked: PlanDocument) -> Iterator[Problem]:
    """Refuse timeouts of a scheduled plan, whose jobs are not followed."""
    places: list[tuple[Path, Data]] = [((), checked.value), *checked.uses()]
    for path, said in places:
        for key in (key for key in ("timeout", "queue_timeout") if key in said):
            message = f"`{key}` can have no effect: `pacing: scheduled` follows no jobs"
            yield checked.error(message, (*path, key), key=True, hint="leave one of them out")


def check_control(checked: PlanDocument, operations: Sequence[Operation]) -> Iterator[Problem]:
    """Find settings that are valid by themselves, but contradict each other."""
    value = checked.value
    if "max_failures" in value and value.get("on_failure") == "stop":
        message = "`max_failures` lets the run go on past failures, but `on_failure` is `stop`"
        yield checked.error(message, ("on_failure",), hint="leave one of them out")
    if value.get("approval", {}).get("required") is False and "over_events" in value["approval"]:
        message = "`over_events` has no effect: no approval is required"
        place = ("approval", "over_events")
        yield checked.error(
            message, place, key=True, hint="leave it out, or write `required: true`"
        )
    yield from _check_order(checked)
    yield from _check_guards(checked)
    if value.get("pacing") != "scheduled":
        return
    if "canary" in value:
        message = "a canary is followed to its end, but `pacing: scheduled` follows no jobs"
        yield checked.error(message, ("canary",), key=True, hint="leave one of them out")
    yield from _check_timeouts(checked)
    written = {use["use"]: path for path, use in checked.uses()}
    for operation in operations:
        if operation.pacing.jitter or operation.at:
            said = "`delay: {between: ...}`" if operation.pacing.jitter else "`at`"
            message = f"{said} of `{operation.name}` and `pacing: scheduled` contradict each other"
            yield checked.error(message, written[operation.name], hint="leave one of them out")
        if operation.until or operation.deferred:
            message = (
                f"`{operation.name}` is resolved when its stage starts, but `pacing: "
                "scheduled` sends everything at once"
            )
            yield checked.error(message, written[operation.name], hint="leave `pacing` out")
    for operation in operations[:-1]:
        if operation.wait == "completed":
            message = (
                f"`{operation.name}` waits for its jobs before the next operation starts, "
                "but `pacing: scheduled` waits for nothing"
            )
            hint = f"write {{use: {operation.name}, wait: sent}}, or leave `pacing` out"
            yield checked.error(message, written[operation.name], hint=hint)
