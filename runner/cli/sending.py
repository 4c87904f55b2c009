"""What a command is told of how to send: the options, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import click

from runner.cli.common import given, read_duration
from runner.errors import UsageError
from runner.execution.limits import MAX_BYTES, MAX_EVENTS, RequestLimits


@dataclass(frozen=True, slots=True)
class Sending:
    """How requests are cut and jobs are awaited; a grace of None is the target's own."""

    grace: float | None = None
    wait_lock: float = 0.0
    limits: RequestLimits = field(default_factory=RequestLimits)
    pause_file: str | None = None
    summary_file: str | None = None


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
    help="Send without following: no job is looked at, no stage waited for.",
)
_ANYWHERE = (
    click.option(
        "--request-bytes",
        type=click.IntRange(1),
        default=MAX_BYTES,
        show_default=True,
        help="The most bytes that one request may have.",
    ),
    click.option(
        "--request-events",
        type=click.IntRange(1, MAX_EVENTS),
        default=MAX_EVENTS,
        show_default=True,
        help="The most events that one request may hold.",
    ),
    wait_lock_option,
)
_HERE = (
    click.option(
        "--summary-file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help='Add a summary in Markdown to this file, as in --summary-file "$GITHUB_STEP_SUMMARY".',
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
        help="How long to wait for an event's job to appear before it counts as one that no "
        "function listens to.  [default: 20s]",
    ),
)


def sending_options(command: Callable[..., int]) -> Callable[..., int]:
    """All options of `Sending`, which the command is handed as `sending`."""
    return _handed(command, _ANYWHERE + _HERE)


def detached_options(command: Callable[..., int]) -> Callable[..., int]:
    """Those that count wherever the run is carried out."""
    return _handed(command, _ANYWHERE)


def refuse_detached() -> None:
    """Raises `UsageError` for what was said to this process and means nothing to a worker."""
    for name in ("summary_file", "pause_file", "grace"):
        if given(name):
            option = f"--{name.replace('_', '-')}"
            message = f"{option} does nothing with --detach: the run is carried out elsewhere"
            hint = "`backfill pause` holds it there; `serve --grace` is the workers'"
            raise UsageError(message, hint=hint)


def _handed(
    command: Callable[..., int], options: Sequence[Callable[..., Any]]
) -> Callable[..., int]:
    @wraps(command)
    def with_sending(*arguments: Any, request_events: int, request_bytes: int, **said: Any) -> int:
        names = [name for name in Sending.__slots__ if name in said]
        chosen = {name: said.pop(name) for name in names}
        limits = RequestLimits(request_events, request_bytes)
        return command(*arguments, sending=Sending(limits=limits, **chosen), **said)

    for option in options:
        with_sending = option(with_sending)
    return with_sending
