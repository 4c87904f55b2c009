"""Options and steps that several commands share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from glob import escape
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from runner.cli.completion import complete_target
from runner.errors import InvalidPlan, UsageError
from runner.model import BackfillPlan, ExecutionPlan, Json
from runner.spec.files import Refused, read_given, read_plan

if TYPE_CHECKING:
    from runner.adapters.database.open import Databases
    from runner.adapters.journal.leases import Lease
    from runner.adapters.journal.store import StateReader, Store
    from runner.planning.estimate import Past

F = TypeVar("F", bound=Callable[..., Any])

plan_argument = click.argument("plan", type=click.Path(dir_okay=False))


def plan_options(command: F) -> F:
    """What decides how a plan file is read."""
    for option in (
        click.option("--strict", is_flag=True, help="Warnings count as errors."),
        click.option(
            "--var-file",
            "var_files",
            multiple=True,
            metavar="FILE",
            help="A YAML file of template variables; --var goes over it.",
        ),
        click.option(
            "--var",
            "variables",
            multiple=True,
            metavar="NAME=VALUE",
            help="Set a template variable; VALUE is JSON, or else text.",
        ),
    ):
        command = option(command)
    return command


def format_option(*formats: str) -> Callable[[F], F]:
    return click.option(
        "--format",
        "form",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="How to print the result.",
    )


def given(name: str) -> bool:
    """Was the option said, on the command line or in the environment?"""
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def read_duration(
    _context: click.Context, parameter: click.Parameter, value: str | None
) -> float | None:
    """The callback of an option that takes a duration: seconds, None where it was not given."""
    from runner.spec.units import parse_duration

    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise UsageError(f"{parameter.opts[0]}: {error}") from None


target_option = click.option(
    "--target",
    default="embedded",
    show_default=True,
    metavar="TARGET",
    shell_complete=complete_target,
    help="embedded, dev, cloud, or the base URL of a self-hosted server.",
)

state_option = click.option(
    "--state",
    envvar="BACKFILL_STATE",
    default=None,
    metavar="URL",
    help="Where the journal is.  [default: sqlite:///.backfill/state.db; env: BACKFILL_STATE]",
)


def _say_timings(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context = click.get_current_context()

    def say() -> None:
        found = context.meta.get(_DATABASES)
        timings = found.timings if found else []
        seconds = sum(timing.seconds for timing in timings)
        click.echo(f"database: {len(timings):,} questions in {seconds:.3f}s", err=True)
        for timing in timings:
            query = " ".join(timing.query.split())[:80]
            click.echo(f"  {timing.seconds:8.3f}s {timing.rows:9,} rows  {query}", err=True)

    if value:
        context.call_on_close(say)


timings_option = click.option(
    "--timings",
    is_flag=True,
    expose_value=False,
    callback=_say_timings,
    help="Say on stderr how long each question to the database took.",
)


def read_variables(assignments: tuple[str, ...], var_files: tuple[str, ...]) -> dict[str, Json]:
    """`--var-file` first, `--var` over it."""
    variables: dict[str, Json] = {}
    for name in var_files:
        variables.update(_read_var_file(name))
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError("--var wants NAME=VALUE", hint="as in --var window_days=30")
        variables[name] = _value(value)
        _refuse_secret(name, value)
    return variables


@dataclass(frozen=True, slots=True)
class Built:
    """A plan file with what the database says of it, and what a run of it would send."""

    plan: BackfillPlan
    execution_plan: ExecutionPlan


def build(
    plan: str,
    variables: dict[str, Json],
    *,
    strict: bool = False,
    once_loaded: Callable[[BackfillPlan], None] = lambda _: None,
) -> Built:
    """Plan file -> facts -> execution plan, with all problems at once.

    A plan that asks a database is asked for here, also in a dry run: nothing is sent by it.
    `once_loaded` may refuse it before that.
    """
    from runner.planning.build import build_execution_plan
    from runner.planning.facts import gather
    from runner.spec.load import load_plan

    loaded = load_plan(plan, overrides=variables, strict=strict)
    once_loaded(loaded)
    known = gather(loaded, open_databases(plan), datetime.now(UTC))
    return Built(known, build_execution_plan(known, strict=strict))


def open_databases(plan: str) -> Databases:
    """The databases that the plan may ask, closed when the command ends; none is reached yet."""
    from runner.adapters.database.open import Databases
    from runner.spec.project import read_project

    context = click.get_current_context()
    found = context.meta.get(_DATABASES)
    if not isinstance(found, Databases):
        found = Databases(os.environ, read_project(plan).databases)
        context.meta[_DATABASES] = found
        context.call_on_close(found.close)
    return found


_DATABASES = "runner.databases"
_MAX_SOURCE = 256 * 1024  # characters
_PAST_RUNS = 5


def open_store(state: str | None) -> Store:
    """The state store, closed when the command ends; made where there is none."""
    from runner.adapters.journal import DEFAULT_STATE
    from runner.adapters.journal.store import Store

    return click.get_current_context().with_resource(Store(state or DEFAULT_STATE))


def open_to_read(state: str | None) -> StateReader:
    """The same for a command that only reads: none is made, and it may be one that is read-only."""
    from runner.adapters.journal import DEFAULT_STATE
    from runner.adapters.journal.store import StateReader

    return click.get_current_context().with_resource(StateReader(state or DEFAULT_STATE))


def state_file(state: str) -> Path | None:
    """Where a state is that is a file; None for a server's."""
    file = state.removeprefix("sqlite:///")
    return None if "://" in file else Path(file)


def source_of(plan: ExecutionPlan) -> str | None:
    """The plan file as it was reviewed; None where it is not what the plan was made of any more."""
    try:
        raw = read_plan(plan.path)
    except Refused:
        return None
    same = any(read.sha256 == sha256(raw).hexdigest() for read in plan.inputs)
    return raw.decode("utf-8", "replace")[:_MAX_SOURCE] if same else None


def past(plan: ExecutionPlan, store: StateReader) -> Mapping[str, Past]:
    """What the latest runs of the plan have shown of how long its jobs take."""
    from runner.planning.estimate import past_of

    lines = store.runs(plan=escape(plan.name), limit=_PAST_RUNS)
    return past_of(store.glance(line.record) for line in lines)


def local_past(plan: ExecutionPlan) -> Mapping[str, Past]:
    """The same for a dry run, which reaches nothing: from a file that is there, if it is one."""
    from runner.adapters.journal import DEFAULT_STATE
    from runner.errors import BackfillError

    file = state_file(os.environ.get("BACKFILL_STATE") or DEFAULT_STATE)
    if file is None or not file.is_file():
        return {}
    from runner.adapters.journal.store import StateReader

    try:
        with StateReader(str(file)) as store:
            return past(plan, store)
    except BackfillError:
        return {}  # a preview is no less true without it


def take_lock(store: Store, plan: str, address: str, run_id: str, wait: float) -> Lease:
    """The right to send for a plan, until the command ends; waits `wait` seconds for it."""
    from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

    from runner.adapters.journal.leases import holding
    from runner.errors import LockHeld

    def say(state: Any) -> None:
        if state.attempt_number == 1:
            click.echo(f"waiting for the lock: {state.outcome.exception()}", err=True)

    tries = Retrying(
        retry=retry_if_exception_type(LockHeld),
        stop=stop_after_delay(wait),
        wait=wait_fixed(min(1.0, wait)),
        before_sleep=say,
        reraise=True,
    )
    lease = tries(store.lock, plan, address, run_id)
    return click.get_current_context().with_resource(holding(lease))


def wants_color(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _value(text: str) -> Json:
    try:
        return json.loads(text, parse_constant=lambda _: text)
    except ValueError:
        return text


def _read_var_file(name: str) -> dict[str, Json]:
    from runner.spec.load import parse_clean

    try:
        raw = read_given(name)
    except Refused as error:
        message = f"--var-file {name} cannot be read: {error}"
        raise UsageError(message, hint=error.hint) from None
    document, problems = parse_clean(raw, name)
    if not problems and not isinstance(document.value, dict):
        problems = [document.problem("expected a mapping of variables", hint="window_days: 30")]
    if problems:
        raise InvalidPlan(tuple(problems))
    return dict(document.value)


def _refuse_secret(name: str, value: str) -> None:
    from runner.spec.secrets import find

    if find(f"{name}={value}"):
        hint = "keys come from the environment only; a payload is kept in journals and logs"
        raise UsageError(f"--var {name} looks like a key or token", hint=hint)
