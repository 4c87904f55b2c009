"""The command line: commands are imported on use, and errors are handled in one place."""

from __future__ import annotations

import atexit
import io
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn, cast

import click

from runner.cli import printing
from runner.cli.printing import environment, print_error
from runner.errors import (
    BackfillError,
    Incomplete,
    Interrupted,
    InvalidPlan,
    LockHeld,
    PreflightRefused,
    RunFailed,
    StalePlan,
    TargetError,
    UsageError,
)
from runner.output.text import shortened, visible
from runner.version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from runner.model import RunStatus, Summary

# The commands' summaries, for help and completion.
COMMANDS = {
    "init": "Write a first plan file",
    "validate": "Check plan files; every problem with its file, line and column",
    "format": "Format plan files",
    "operations": "List the operations that plans can use",
    "schema": "Print a JSON Schema, for editors and other tools",
    "plan": "Show exactly what a run would send; sends nothing",
    "diff": "Show what a change to a plan does",
    "test": "Run the tests of plans: check what they send for given rows",
    "check": "Ask a plan's checks and coverage now, as a gate",
    "coverage": "Show how much of the data is there, before and after",
    "doctor": "Find what would go wrong, before anything is sent",
    "run": "Send a plan's events and follow their jobs to the end",
    "resume": "Continue a run that was stopped, was paused or has crashed",
    "retry": "Send a run's failed events again",
    "apply": "Run the plans of a folder that are pending, once each",
    "sync": "Follow a git branch and apply its plans as they come",
    "status": "Show where a run stands; --watch follows it until it ends",
    "runs": "List the runs",
    "events": "List the events of a run: ids, jobs, outcomes, messages",
    "logs": "Show what a run did, and why it waited",
    "report": "Report on a run as a page, Markdown, JSON or JUnit",
    "ui": "Serve the runs as web pages, live",
    "pause": "Hold a run that is under way; resume continues it",
    "tune": "Change the pace of a run that is under way",
    "cancel": "End a run for good; --jobs also cancels its jobs",
    "serve": "Drive detached and scheduled runs, as an Inngest function",
    "dev": "Serve the embedded target on this machine, to try things out",
    "mcp": "Serve the commands to an agent, as tools (MCP)",
    "skill": "Print or install a skill that teaches agents these commands",
    "completion": "Print the script for shell completion",
}
_HEADINGS = {
    "Write": (
        "init",
        "validate",
        "format",
        "operations",
        "schema",
    ),
    "Review": (
        "plan",
        "diff",
        "test",
        "check",
        "coverage",
        "doctor",
    ),
    "Run": (
        "run",
        "resume",
        "retry",
        "apply",
        "sync",
    ),
    "Watch": (
        "status",
        "runs",
        "events",
        "logs",
        "report",
        "ui",
    ),
    "Operate": (
        "pause",
        "tune",
        "cancel",
    ),
    "Serve": (
        "serve",
        "dev",
        "mcp",
    ),
    "Tools": (
        "skill",
        "completion",
    ),
}
# Exit status by error. An error that is not here gives 1.
ERROR_STATUS: dict[type[BackfillError], int] = {
    RunFailed: 1,
    UsageError: 2,
    InvalidPlan: 3,
    PreflightRefused: 4,
    StalePlan: 5,
    LockHeld: 5,
    TargetError: 6,
    Incomplete: 7,
    Interrupted: 130,
}
RUN_STATUS: dict[RunStatus, int] = {
    "completed": 0,
    "failed": 1,
    "running": 7,
    "incomplete": 7,
    "sent": 0,
    "cancelled": 7,
}
_EPILOG = """\b
Examples:
  backfill init plan.yaml               write a first plan
  backfill validate plans/*.yaml        check plans, as CI does
  backfill plan plan.yaml               preview what would be sent
  backfill run plan.yaml                run it on the embedded target
  backfill run plan.yaml --target dev   ... on an Inngest dev server
"""
_NO_WINDOWS = """\
error: backfill does not run on Windows: its locks, signals and files are those of Linux and macOS
hint: run it in WSL, in a container, or in CI on Linux
"""
_OURS = ("BACKFILL_", "INNGEST_")  # prefixes of variable names
_NAME = 200  # characters of a path in an error message
_INTERNAL = 70  # sysexits.h: EX_SOFTWARE


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            if ctx.resilient_parsing:  # completion must print nothing into the line
                return None
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else " `backfill --help` lists them."
            raise click.UsageError(f"There is no command `{name}`.{hint}", ctx)
        command = getattr(import_module(f"runner.cli.{name}"), f"{name}_command")
        assert isinstance(command, click.Command)  # noqa: S101 - ours, and typed
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete by name only: importing every command for its help would take a second."""
        from click.shell_completion import CompletionItem

        names = (name for name in COMMANDS if name.startswith(incomplete))
        items = [CompletionItem(name, help=COMMANDS[name]) for name in names]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        wide = max(map(len, COMMANDS))
        for heading, names in _HEADINGS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(wide), COMMANDS[name]) for name in names])


@click.group(
    cls=LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="backfill", message="%(prog)s %(version)s")
def cli() -> None:
    """Declarative backfill plans for Inngest: validate, preview, send, follow, prove."""


def main() -> NoReturn:
    if sys.platform == "win32":
        sys.stderr.write(_NO_WINDOWS)
        sys.exit(ERROR_STATUS[UsageError])
    printing.install()
    # httpx would load its own command line, and with that rich and pygments: 0.1 s.
    sys.modules.setdefault("httpx._main", cast(ModuleType, None))
    status = _guarded(sys.argv[1:])
    atexit._run_exitfuncs()  # noqa: SLF001 - handlers may have registered some
    _leave(printing.flushed(status, lost=ERROR_STATUS[UsageError]))


def _leave(status: int) -> NoReturn:
    """Exit at once: Python would take as long to free a large plan as to build it, and would wait
    for threads of embedded handlers left over from a stop."""
    sys.stderr.flush()
    os._exit(status)


def _guarded(arguments: list[str]) -> int:
    """Run one command; report every error on stderr and as an exit status."""
    try:
        return _ended(arguments)
    except printing.StdoutLost:
        return 0  # `flushed` decides the status


def _ended(arguments: list[str]) -> int:
    try:
        _refuse_bytes(arguments)
        _refuse_empty(arguments)
        status = cli.main(arguments, prog_name="backfill", standalone_mode=False)
    except click.ClickException as error:
        error.show(said := io.StringIO())  # the arguments as given are in it
        lines = said.getvalue().expandtabs(4).splitlines()
        click.echo("\n".join(map(visible, lines)), err=True)
        return error.exit_code
    except BackfillError as error:
        print_error(error)
        return status_of(error)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return ERROR_STATUS[Interrupted]
    except printing.StdoutLost:
        raise
    except SystemExit as end:  # click exits like this after a shell completion
        status = end.code
    except OSError as error:
        if not (refused := _refused(error)):
            return _our_mistake()
        print_error(refused)
        return status_of(refused)
    except Exception:  # noqa: BLE001 - the one boundary: our own mistake
        return _our_mistake()
    return status if isinstance(status, int) else 0


def _refuse_bytes(arguments: list[str]) -> None:
    """Raise `UsageError` for text that is not UTF-8, as servers, states and git require it."""
    ours = {name: value for name, value in environment().items() if name.startswith(_OURS)}
    given = [(f"the argument {one!r}", one) for one in arguments]
    for name, text in (*given, *ours.items()):  # a variable may be a key: do not show its value
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{name} is not UTF-8") from None


def _refuse_empty(arguments: list[str]) -> None:
    """Raise `UsageError` for an empty argument, as an unset shell variable gives it: as a path it
    would be the working directory, as an id any run, and as an option no choice."""
    hint = "is the shell variable that gives it set?"
    before = ""
    for one in arguments:
        name, equals, value = one.partition("=")
        if name.startswith("--") and equals and not value:
            raise UsageError(f"{name} is empty", hint=hint)
        if not one:
            what = before if before.startswith("-") else f"an argument after `{before}`"
            raise UsageError(f"{what if before else 'the command'} is empty", hint=hint)
        before = one


def _refused(error: OSError) -> UsageError | None:
    """Turn a system error about a path (too long, locked, gone) into a `UsageError`."""
    if error.filename is not None:
        name = shortened(str(error.filename), _NAME)
        return UsageError(f"{name} cannot be used: {error.strerror}", hint="name another path")
    if isinstance(error, FileNotFoundError):  # without a name it comes from `getcwd` only
        return UsageError(
            "the working directory no longer exists", hint="change to another directory"
        )
    return None


def status_of_kind(kind: type[BackfillError]) -> int:
    return next((ERROR_STATUS[one] for one in kind.__mro__ if one in ERROR_STATUS), 1)


def status_of(what: BackfillError | Summary | RunStatus) -> int:
    """Return the exit status for a result or an error."""
    if isinstance(what, BackfillError):
        return status_of_kind(type(what))
    if isinstance(what, str):
        return RUN_STATUS[what]
    return ERROR_STATUS[Interrupted] if what.interrupted else RUN_STATUS[what.status]


def _our_mistake() -> int:
    import platform
    import tempfile
    import traceback
    from secrets import token_hex

    from runner.adapters.files import write_file
    from runner.spec.secrets import redact, without_keys

    error = sys.exc_info()[0]
    name = error.__name__ if error else "error"
    trace = redact(without_keys(traceback.format_exc(), environment()))
    text = f"backfill {__version__}, Python {platform.python_version()}\n{trace}"
    try:
        log = os.path.join(tempfile.gettempdir(), f"backfill-{token_hex(4)}.log")  # noqa: PTH118
        write_file(log, text, anew=True, private=True)
        where = f"the details are in {log}"
    except (OSError, UsageError):  # a full disk: print the details instead
        where = f"these are the details:\n{text}"
    click.echo(f"error: a mistake of backfill's, not yours ({name}); {where}", err=True)
    return _INTERNAL
