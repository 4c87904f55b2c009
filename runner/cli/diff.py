"""`backfill diff`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.app.session import Session
from runner.app.variables import read_variables
from runner.cli.main import ERROR_STATUS
from runner.cli.options import (
    changed_option,
    collection_option,
    comment_option,
    facts_option,
    format_option,
    given,
    pass_session,
    plan_options,
    policy_option,
    refuse_many,
    selector_options,
)
from runner.cli.printing import (
    chosen_format,
    people,
    print_json,
    show_github,
    wants_color,
)
from runner.errors import InvalidPlan, UsageError
from runner.model import Selectors

if TYPE_CHECKING:
    from runner.planning.compare import Difference, Review

_DIFFERENT = 2


@click.command(
    "diff",
    epilog="\b\nExamples:\n  backfill diff old.yaml new.yaml"
    "\n  backfill diff main..HEAD plans/refresh.yaml --format markdown"
    "\n  backfill diff saved.json plans/refresh.yaml --exit-code"
    "\n  backfill diff --changed-since origin/main plans/",
)
@click.argument("paths", nargs=-1, required=True, metavar="OLD NEW | PATH...")
@plan_options
@selector_options
@collection_option
@policy_option
@changed_option
@facts_option
@format_option("text", "json", "markdown", "github")
@comment_option
@click.option(
    "--exit-code", is_flag=True, help="Exit with 0 if nothing differs, with 2 if something does."
)
@pass_session
def diff_command(
    session: Session,
    paths: tuple[str, ...],
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    changed_since: str | None,
    form: str,
    *,
    strict: bool,
    comment: bool,
    exit_code: bool,
    selectors: Selectors,
) -> int:
    """Show what the plan NEW sends differently from the plan OLD.

    Each is a plan file, or a plan that `backfill plan --out` saved. OLD may also be two git
    revisions, as in `main..HEAD`, or one, to compare with the working files; NEW is then the plan
    file in both, or a folder. With --changed-since, compare every plan of the files and folders
    PATH that this branch has added, changed, renamed or removed. Nothing is sent, but the plans'
    databases are asked.
    """
    from runner.app.notify import commenting_on_refusal
    from runner.app.review import difference, review_plans
    from runner.output.review import refused_markdown

    overrides = read_variables(variables, var_files)
    form = chosen_format(form)
    refused = commenting_on_refusal(session, "diff", refused_markdown, comment=comment)
    if changed_since is not None:
        refuse_many(selectors)
        with refused:
            found = review_plans(
                session, paths, changed_since, overrides, of_branch=True, strict=strict
            )
        return _printed(session, found, form, comment=comment, exit_code=exit_code)
    if len(paths) != 2:
        hint = (
            "name both, as in `backfill diff old.yaml new.yaml`; or use --changed-since REV PATH..."
        )
        raise UsageError("diff needs OLD and NEW", hint=hint)
    old, new = paths
    if not Path(old).exists() and Path(new).is_dir():
        refuse_many(selectors)
        with refused:
            found = review_plans(session, [new], old, overrides, strict=strict)
        return _printed(session, found, form, comment=comment, exit_code=exit_code)
    for option, used in (("--comment", comment), ("--policy", given("policy"))):
        if used:
            hint = "use --changed-since REV PATH..., or git revisions and a folder"
            raise UsageError(f"{option} is only for the plans of a branch", hint=hint)
    differs, names = difference(session, old, new, overrides, strict=strict, selectors=selectors)
    _show(differs, names, form)
    return _DIFFERENT if exit_code and differs.changes else 0


def _show(found: Difference, names: tuple[str, str], form: str) -> None:
    if form == "json":
        from runner.output.review import difference_json

        print_json(difference_json(found))
    elif form == "markdown":
        from runner.output.review import difference_markdown

        click.echo(difference_markdown(found, *names), nl=False)
    else:
        from runner.output.review import difference_markdown, write_difference

        write_difference(found, people(), color=wants_color(sys.stdout))
        if form == "github":
            show_github((), difference_markdown(found, *names))


def _printed(
    session: Session, found: Sequence[Review], form: str, *, comment: bool, exit_code: bool
) -> int:
    """Report every plan; return 3 if any is invalid."""
    from runner.output.review import reviews_json, reviews_markdown, write_reviews

    if form == "json":
        print_json(reviews_json(found))
    elif form == "markdown":
        click.echo(reviews_markdown(found), nl=False)
    else:
        write_reviews(found, people(), color=wants_color(sys.stdout))
    differs = any(review.fate != "same" for review in found)
    if form == "github":
        problems = [problem for review in found for problem in review.problems]
        show_github(problems, reviews_markdown(found))
    if comment:
        from runner.app.notify import comment_on_pull_request
        from runner.output.markdown import MAX_COMMENT

        text = reviews_markdown(found, MAX_COMMENT)
        comment_on_pull_request(session, "diff", text, anew=differs)
    if any(review.fate == "invalid" for review in found):
        return ERROR_STATUS[InvalidPlan]
    return _DIFFERENT if exit_code and differs else 0
