"""`backfill test`."""

from __future__ import annotations

import sys

import click

from runner.app.session import Session
from runner.cli.main import ERROR_STATUS
from runner.cli.options import format_option, pass_session
from runner.cli.printing import chosen_format, people, print_json, wants_color
from runner.errors import RunFailed, UsageError


@click.command(
    "test",
    epilog="\b\nExamples:\n  backfill test\n  backfill test plans/stale.test.yaml --update"
    "\n  backfill test plans/ --format junit > tests.xml",
)
@click.argument("paths", nargs=-1, type=click.Path(exists=True))
@format_option("text", "json", "github", "junit")
@click.option(
    "--update", is_flag=True, help="Write the actual results into the test files, and exit with 0."
)
@pass_session
def test_command(session: Session, paths: tuple[str, ...], form: str, *, update: bool) -> int:
    """Run the tests of plans: the files `*.test.yaml` of PATHS, or of this folder and those in it.

    Each case plans from the rows that it gives, and compares events, skipped items and problems
    with those that it expects. No database is asked and nothing is sent. The exit status is 1 if a
    case does not hold, and 3 if a file is not a valid test of its plan.
    """
    from runner.app.plan_tests import files_of, run_tests, update_tests
    from runner.output.tests import tests_json, tests_junit, tests_markdown, tests_text

    if update and form != "text":
        raise UsageError("--update prints only text", hint="leave --format out")
    form = chosen_format(form) if not update else form
    tested = list(run_tests(session, files_of(paths or (".",))))
    if update:
        changed = update_tests(tested)
        click.echo("\n".join(f"{path}: updated" for path in changed) or "every case holds")
        return 0
    if form == "json":
        print_json(tests_json(tested))
    elif form == "junit":
        click.echo(tests_junit(tested), nl=False)
    else:
        people().write(f"{tests_text(tested, color=wants_color(sys.stdout))}\n")
    if form == "github":
        from runner.cli.printing import show_github

        show_github([problem for one in tested for problem in one.problems], tests_markdown(tested))
    return ERROR_STATUS[RunFailed] if any(one.differences for one in tested) else 0
