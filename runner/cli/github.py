"""What GitHub is told of a command, in Actions: annotations, the step's summary, one comment."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import click
from click.core import ParameterSource

from runner.cli.summary_file import append_summary
from runner.model import Problem

comment_option: Callable[[Any], Any] = click.option(
    "--comment",
    is_flag=True,
    help="Say it in a comment on the pull request, and bring that up to date from then on. "
    "[env: GITHUB_TOKEN, and what Actions sets]",
)


def in_actions() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def chosen_format(given: str) -> str:
    """In Actions `github` by itself, where no other was asked for."""
    source = click.get_current_context().get_parameter_source("form")
    return "github" if in_actions() and source is ParameterSource.DEFAULT else given


def annotate(problems: Sequence[Problem]) -> None:
    from runner.output.annotations import annotations_of

    for line in annotations_of(problems):
        click.echo(line)


def tell_github(problems: Sequence[Problem], markdown: str) -> None:
    """Annotations on stdout, and the Markdown in the step's summary."""
    annotate(problems)
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        append_summary(path, markdown, "the log above has it")


def say_in_comment(kind: str, text: str, *, anew: bool = True) -> None:
    """`kind` tells the comments of several commands apart; see `comment`."""
    from runner.adapters.github.comments import comment, pull_request

    where = comment(pull_request(os.environ), kind, text, anew=anew)
    click.echo(f"commented: {where}" if where else "no comment: there is nothing to say", err=True)
