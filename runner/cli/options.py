"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from runner.app.session import Session
from runner.cli.completion import (
    complete_collection,
    complete_target,
    complete_used_operation,
)
from runner.cli.printing import DEFAULT_EVENTS, Terminal, asker
from runner.errors import UsageError
from runner.model import Selectors
from runner.spec.document import echo
from runner.spec.units import MOST, counted, parse_span

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

plan_argument = click.argument("plan", type=click.Path(dir_okay=False))


class Count(click.IntRange):
    """A count, within the largest allowed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found: int = super().convert(value, param, ctx)
        if found > MOST:
            self.fail(f"{value} is more than {MOST:,}.", param, ctx)
        return found


env_option: Callable[[Any], Any] = click.option(
    "--env",
    metavar="NAME",
    help="Use this environment of the project file: its target, database, variables and keys.  "
    "[env: BACKFILL_ENV]",
)


def plan_options(command: F) -> F:
    """Add the options that decide how a plan file is read."""
    for option in (
        env_option,
        click.option("--strict", is_flag=True, help="Treat warnings as errors."),
        click.option(
            "--var-file",
            "var_files",
            multiple=True,
            metavar="FILE",
            help="Read template variables from this YAML file; --var overrides it.",
        ),
        click.option(
            "--var",
            "variables",
            multiple=True,
            metavar="NAME=VALUE",
            help="Set a template variable. VALUE is read as JSON if possible, else as text.",
        ),
    ):
        command = option(command)
    return command


_SELECTORS = (
    click.option(
        "--seed",
        type=int,
        default=0,
        show_default=True,
        help="The seed of --sample: another seed chooses other items.",
    ),
    click.option(
        "--sample",
        type=Count(1),
        metavar="N",
        help="Only N items of each collection, chosen by --seed: the same ones each time.",
    ),
    click.option(
        "--limit",
        type=Count(1),
        metavar="N",
        help="Only the first N items of each collection.",
    ),
    click.option(
        "--item",
        "items",
        multiple=True,
        metavar="GLOB",
        help="Only items whose names match; !GLOB excludes them. Workspaces follow from their "
        "repositories.",
    ),
    click.option(
        "--skip",
        multiple=True,
        metavar="OPERATION",
        shell_complete=complete_used_operation,
        help="Leave this operation out.",
    ),
    click.option(
        "--only",
        multiple=True,
        metavar="OPERATION",
        shell_complete=complete_used_operation,
        help="Only this operation.",
    ),
)


def selector_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the options that select a part of a plan, passed on as one `Selectors`."""

    @wraps(command)
    def with_selectors(*arguments: Any, **given_: Any) -> T:
        names = ("only", "skip", "items", "limit", "sample", "seed")
        selectors = Selectors(**{name: given_.pop(name) for name in names})
        if selectors.limit is not None and selectors.sample is not None:
            raise UsageError("--limit and --sample exclude each other", hint="use one of them")
        if selectors.sample is None and given("seed"):
            raise UsageError("--seed does nothing without --sample")
        return command(*arguments, selectors=selectors, **given_)

    for option in _SELECTORS:
        with_selectors = option(with_selectors)
    return with_selectors


def refuse_many(selectors: Selectors) -> None:
    """Raise `UsageError` for selectors of several plans, whose names differ."""
    if selectors:
        message = f"{selectors.words} works for one plan at a time"
        raise UsageError(message, hint="name one plan file")


def _read_collections(
    _context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for assignment in given:
        name, separator, path = assignment.partition("=")
        if not separator or not name or not path:
            message = f"{parameter.opts[0]} needs NAME=FILE"
            raise UsageError(
                message, hint="write it like --collection users=users.csv, or users=- for stdin"
            )
        if name in found:
            raise UsageError(f"{parameter.opts[0]} names {name} twice")
        found[name] = path
    return found


collection_option = click.option(
    "--collection",
    "collections",
    multiple=True,
    metavar="NAME=FILE",
    callback=_read_collections,
    shell_complete=complete_collection,
    help="Take the items of this collection of the plan, or of its `repos`, from FILE. `-` is "
    "stdin: CSV with a header line, or JSON Lines.",
)


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
    """Tell whether the option was given, on the command line or in the environment."""
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def read_duration(
    _context: click.Context, parameter: click.Parameter, value: str | None
) -> float | None:
    """Parse the duration of an option, to seconds; None if it was not given."""
    try:
        return None if value is None else parse_span(value)
    except ValueError as error:
        raise UsageError(f"{parameter.opts[0]}: {error}") from None


_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII | re.IGNORECASE)


def read_host_names(
    _context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """Check the names under which a server is reached. A name that no request's Host header can
    have would let nobody in."""
    for name in value:
        if not _HOST_NAME.fullmatch(name):
            hint = "write only the name, without scheme, port or path: backfill.example.com"
            message = f"{parameter.opts[0]}: {echo(name)} is not a host name"
            raise UsageError(message, hint=hint)
    return value


changed_option: Callable[[Any], Any] = click.option(
    "--changed-since",
    metavar="REV",
    help="Only plans with a file that this branch has changed since it left REV, a git revision.",
)
held_target_option = click.option(
    "--target",
    "-t",
    metavar="TARGET",
    shell_complete=complete_target,
    help="All runs that send to this target, instead of RUN.",
)
target_option = click.option(
    "--target",
    "-t",
    metavar="TARGET",
    shell_complete=complete_target,
    help="Where to send: embedded, dev, cloud, or the base URL of a self-hosted server.  "
    "[default: the environment's, or embedded]",
)

state_option = click.option(
    "--state",
    envvar="BACKFILL_STATE",
    default=None,
    metavar="URL",
    help="The state store: a SQLite file, or a PostgreSQL URL.  [default: "
    "sqlite:///.backfill/state.db; env: BACKFILL_STATE]",
)


policy_option = click.option(
    "--policy",
    metavar="FILE",
    type=click.Path(),
    help="Apply the `policy` of this file instead of that of the project file.",
)
facts_option = click.option(
    "--facts",
    metavar="FILE",
    type=click.Path(),
    help="Take the database's answers from this file, which `plan --record` wrote, and ask no "
    "database.",
)


def pass_session(command: Callable[..., T]) -> Callable[..., T]:
    """Pass the command a session, which is closed when the command ends."""

    @wraps(command)
    def with_session(
        *arguments: Any,
        state: str | None = None,
        env: str | None = None,
        facts: str | None = None,
        collections: dict[str, str] | None = None,
        policy: str | None = None,
        **given: Any,
    ) -> T:
        context = click.get_current_context()
        context.obj = session = context.with_resource(
            Session(state, environment=env, confirm=asker())
        )
        session.reviewed_since = given.get("changed_since")
        read = (policy, facts, given.get("plan"), *given.get("var_files", ()))
        session.files_given = [file for file in read if file]
        if policy:
            from runner.app.policy import read_policy

            session.policy = read_policy(policy)
        session.collections = collections or {}
        if facts:
            from runner.app.variables import read_facts_file

            session.facts = read_facts_file(facts)
        session.reporter = Terminal(
            session,
            str(given.get("form", "text")),
            given.get("events", DEFAULT_EVENTS),
            context.meta.get(_SUMMARY_FILE),
            quiet=context.meta.get(_QUIET, False),
        )
        return command(*arguments, session=session, **given)

    return with_session


def _say_timings(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    def say() -> None:
        from runner.output.text import shortened

        session = context.obj
        timings = session.timings if isinstance(session, Session) else ()
        seconds = sum(timing.seconds for timing in timings)
        click.echo(f"database: {counted(len(timings), 'question')} in {seconds:.3f}s", err=True)
        for timing in timings:
            query = shortened(" ".join(timing.query.split()), 80)
            click.echo(f"  {timing.seconds:8.3f}s {timing.rows:9,} rows  {query}", err=True)

    if value:
        context.call_on_close(say)


timings_option = click.option(
    "--timings",
    is_flag=True,
    expose_value=False,
    callback=_say_timings,
    help="Print on stderr how long each database query took.",
)


def read_events(_context: click.Context, _parameter: click.Parameter, value: str) -> int | None:
    """Parse a count; None for `all`."""
    if value == "all":
        return None
    if not value.isdecimal():
        raise UsageError("--events needs a number, or all")
    return int(value) if len(value) < len(str(MOST)) else None


events_option = click.option(
    "--events",
    default=str(DEFAULT_EVENTS),
    show_default=True,
    callback=read_events,
    metavar="N|all",
    help="How many events of each stage to show.",
)
comment_option: Callable[[Any], Any] = click.option(
    "--comment",
    is_flag=True,
    help="Post the result as a comment on the pull request, and keep it up to date. [env: "
    "GITHUB_TOKEN, and the variables of GitHub Actions]",
)
yes_option = click.option(
    "--yes", "-y", is_flag=True, help="Do not ask for confirmation before sending."
)
skip_preflight_option = click.option(
    "--skip-preflight",
    is_flag=True,
    help="Send even if the preflight would refuse the run: see `backfill doctor`.",
)


def _keep_summary_file(
    context: click.Context, _parameter: click.Parameter, value: str | None
) -> None:
    context.meta[_SUMMARY_FILE] = value


def summary_file_option(help_: str) -> Callable[[F], F]:
    """Add the option for the file to which the reporter appends summaries; see `summary_file`."""
    return click.option(
        "--summary-file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        expose_value=False,
        callback=_keep_summary_file,
        help=help_,
    )


def summary_file() -> str | None:
    """Return the file of --summary-file."""
    found: str | None = click.get_current_context().meta.get(_SUMMARY_FILE)
    return found


def _keep_quiet(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[_QUIET] = value


quiet_option: Callable[[Any], Any] = click.option(
    "--quiet",
    "-q",
    is_flag=True,
    expose_value=False,
    callback=_keep_quiet,
    help="Show no preview and no progress: only notes, errors and the result.",
)
_SUMMARY_FILE, _QUIET = "runner.summary_file", "runner.quiet"
wait_lock_option = click.option(
    "--wait-lock",
    callback=read_duration,
    default="0s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait while another run of the plan is under way.",
)
no_wait_option = click.option(
    "--no-wait",
    is_flag=True,
    help="Only send: do not follow jobs, and do not wait between stages.",
)


def _anywhere() -> tuple[Callable[[Callable[..., T]], Callable[..., T]], ...]:
    """Return the options of a run that count wherever it is driven."""
    from runner.execution.context import MAX_BYTES, MAX_EVENTS

    return (
        click.option(
            "--request-bytes",
            type=Count(1),
            default=MAX_BYTES,
            show_default=True,
            help="The most bytes in one request.",
        ),
        click.option(
            "--request-events",
            type=click.IntRange(1, MAX_EVENTS),
            default=MAX_EVENTS,
            show_default=True,
            help="The most events in one request.",
        ),
        wait_lock_option,
    )


_HERE = (
    quiet_option,
    summary_file_option(
        'Append a Markdown summary to this file, as in --summary-file "$GITHUB_STEP_SUMMARY".'
    ),
    click.option(
        "--give-up-after",
        callback=read_duration,
        metavar="DURATION",
        help="How long to retry a server, state or database that does not answer, once the "
        "run has begun.  [default: the plan's, or 10m]",
    ),
    click.option(
        "--pause-file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Send nothing while this file exists.",
    ),
    click.option(
        "--grace",
        callback=read_duration,
        metavar="DURATION",
        help="How long to wait for an event's job to appear before concluding that none "
        "starts.  [default: 20s]",
    ),
)


def run_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the options of a run, passed on with the command's own ones as one `RunOptions`."""
    from runner.execution.context import RequestLimits, RunOptions

    @wraps(command)
    def with_options(*arguments: Any, **given: Any) -> T:
        limits = RequestLimits(given.pop("request_events"), given.pop("request_bytes"))
        names = [one.name for one in fields(RunOptions)]
        known = {name: given.pop(name) for name in names if name in given}
        if "no_wait" in given:
            known["follow"] = not given.pop("no_wait")
        options = RunOptions(limits=limits, summary_file=summary_file(), **known)
        return command(*arguments, options=options, **given)

    for option in _anywhere() + _HERE:
        with_options = option(with_options)
    return with_options


# Options of how a run is driven; they change nothing of what it sends.
OF_A_DRIVE = (
    *("yes", "no_wait", "skip_preflight", "quiet", "summary_file", "pause_file", "grace"),
    *("give_up_after", "request_bytes", "request_events"),
)


def refuse_beside(option: str, names: Collection[str]) -> None:
    """Raise `UsageError` if one of these parameters was given, which have no effect with the
    option."""
    context = click.get_current_context()
    for parameter in context.command.params:
        said = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if said and parameter.name in names:
            called = max(parameter.opts, key=len)
            raise UsageError(
                f"{called} does nothing with {option}", hint="leave one of the two out"
            )


def refuse_detached() -> None:
    """Raise `UsageError` for options of this process that have no effect on a worker."""
    from runner.execution.context import OF_A_DRIVER

    for name in OF_A_DRIVER:
        if given(name):
            option = f"--{name.replace('_', '-')}"
            message = f"{option} does nothing with --detach: a worker drives the run"
            hint = "`backfill pause RUN` holds it, and `backfill serve --grace` is for the workers"
            raise UsageError(message, hint=hint)
