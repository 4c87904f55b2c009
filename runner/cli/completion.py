"""`backfill completion`, and the shell completion of runs, targets and operations."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from runner.model import Data, RunRecord

_SHELLS = {
    "bash": 'eval "$(backfill completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(backfill completion zsh)"   in ~/.zshrc',
    "fish": "backfill completion fish | source   in ~/.config/fish/config.fish",
}
_MOST = 50


@click.command(
    "completion",
    epilog="\b\nExamples:\n  " + "\n  ".join(_SHELLS.values()),
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def completion_command(shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, files, runs and targets."""
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - click has all three
    root = click.get_current_context().find_root().command
    if shell == "bash":  # bash splits words at colons, which `latest:NAME` and addresses have
        click.echo("COMP_WORDBREAKS=${COMP_WORDBREAKS//:}")
    click.echo(found(root, {}, "backfill", "_BACKFILL_COMPLETE").source())


def complete_run(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the latest runs, and the last one of each plan, from a state file on this machine;
    completion reaches nothing else."""
    from runner.adapters.journal.records import LATEST_OF

    records = _records(context)
    named = {record.id: record for record in records if record.id.startswith(incomplete.upper())}
    for record in records:
        name = f"{LATEST_OF}{record.plan}"
        if name.startswith(incomplete):
            named.setdefault(name, record)
    return [
        CompletionItem(name, help=f"{record.plan} on {record.target}: {record.status}")
        for name, record in named.items()
    ]


def complete_target(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from runner.adapters.inngest.target import NAMES

    return [CompletionItem(name) for name in NAMES if name.startswith(incomplete)]


def complete_plan_name(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the names of plans that were run."""
    names = dict.fromkeys(record.plan for record in _records(context))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_operation(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the operations of the latest run."""
    from runner.planning.serialize import load_head

    head = next((record.head for record in _records(context)), None)
    stages = load_head(head).stages if head else ()
    names = (name for stage in stages for name in stage.operations)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_used_operation(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the operations of the plan file that is already on the line."""
    uses = _plan_on_the_line(context).get("operations") or ()
    found = [use["use"] if isinstance(use, dict) else use for use in uses if use]
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]


def complete_collection(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the collections of the plan file that is already on the line, as `NAME=`."""
    written = _plan_on_the_line(context)
    named = written.get("collections")
    names = [*(["repos"] if "repos" in written else []), *(named or ())]
    return [CompletionItem(f"{name}=") for name in names if f"{name}=".startswith(incomplete)]


def _plan_on_the_line(context: click.Context) -> Data:
    from runner.errors import BackfillError
    from runner.spec.plan_document import check_plan
    from runner.spec.reading import open_plan

    given = context.params.get("plan") or context.params.get("plans") or context.params.get("paths")
    # While an option's value is completed, click leaves the arguments after it unparsed.
    words = [*([given] if isinstance(given, str) else given or ()), *context.args]
    path = next((word for word in reversed(words) if Path(word).is_file()), None)
    try:
        return check_plan(open_plan(path).document).value if path else {}
    except BackfillError:
        return {}


def _records(context: click.Context) -> list[RunRecord]:
    from runner.app.session import Session
    from runner.errors import BackfillError

    state = context.params.get("state")
    with Session(str(state) if state else None) as session:
        if session.state_file is None:
            return []
        try:
            return [line.record for line in session.reader.runs(limit=_MOST)]
        except BackfillError:
            return []
