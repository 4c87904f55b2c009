"""Help, versions, and the one place that handles errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context, IntRange

from runner import __version__
from runner.cli.main import COMMANDS, _guarded, cli, main
from runner.cli.printing import print_json
from tests.support import repos, write_plan
from tests.types import Backfill

README = Path(__file__).parents[2] / "README.md"


def test_help_lists_every_command_with_examples(backfill: Backfill) -> None:
    result = backfill("--help")
    for name, summary in COMMANDS.items():
        assert f"  {name:12}{summary}\n" in result.out, "a line each"
    assert "Examples:" in result.out
    headings = re.findall(r"^(\w+):$", result.out, re.MULTILINE)
    wanted = ["Write", "Review", "Run", "Watch", "Operate", "Serve", "Tools"]
    assert headings == ["Options", *wanted]
    readme = re.findall(r"^\| (\w+) \| (`\w+`.*) \|$", README.read_text("utf-8"), re.MULTILINE)
    assert [heading.title() for heading, _ in readme] == wanted
    listed = [name for _, names in readme for name in re.findall(r"`(\w+)`", names)]
    assert listed == re.findall(r"^  (\w+) {2,}\w", result.out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_examples(backfill: Backfill, name: str) -> None:
    result = backfill(name, "--help")
    assert result.status == 0
    assert "Examples:" in result.out


def test_the_version_is_the_packages(backfill: Backfill) -> None:
    assert backfill("--version").out == f"backfill {__version__}\n"


def test_a_mistyped_command_gets_a_suggestion(backfill: Backfill) -> None:
    result = backfill("vaildate")
    assert result.status == 2
    assert "Did you mean `validate`?" in result.err


def test_a_mistyped_option_is_a_usage_error(backfill: Backfill) -> None:
    result = backfill("plan", "x.yaml", "--stict")
    assert result.status == 2
    assert "--strict" in result.err


@pytest.mark.parametrize("name", ["validate", "plan", "run"])
def test_a_missing_plan_is_one_line_and_a_hint(backfill: Backfill, name: str) -> None:
    result = backfill(name, "nowhere.yaml")
    assert result.status == 2
    assert "nowhere.yaml cannot be read: No such file or directory" in result.err
    assert "backfill init" in result.err


def test_our_own_mistake_is_one_line_and_a_log_without_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INNGEST_EVENT_KEY", "very-secret-key")

    def broken(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("broken near very-secret-key")

    monkeypatch.setattr("runner.cli.main.cli.main", broken)
    assert _guarded(["plan"]) == 70
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "a mistake of backfill's, not yours (RuntimeError)" in err
    log = Path(err.rsplit(" ", 1)[1].strip())
    text = log.read_text(encoding="utf-8")
    log.unlink()
    assert "broken near <INNGEST_EVENT_KEY>" in text
    assert "very-secret-key" not in text + err


@pytest.mark.parametrize(
    "arguments",
    [
        ["{}"],
        ["validate", "--{}"],
        ["completion", "{}"],
        ["plan", "x", "--limit", "{}"],
        ["runs", "{}"],
    ],
)
def test_what_is_wrong_with_an_argument_controls_no_terminal(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In CI an argument may be the title of a stranger's pull request."""
    given = "\x1b[31m\n::error::\u202e##[x]"
    assert _guarded([argument.format(given) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert r"\u202e" in err
    assert not re.search("\x1b|\u202e|##|^::", err, re.MULTILINE)


def test_json_begins_no_command_to_the_ci_that_keeps_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = ["##vso[task.setvariable]", "##[error]", "####"]
    print_json(said)
    out = capsys.readouterr().out
    assert "##" not in out
    assert json.loads(out) == said


def test_windows_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before modules are imported that Windows does not have."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "does not run on Windows" in err
    assert "hint: run it in WSL" in err


def test_what_windows_has_not_is_imported_after_that() -> None:
    """`import fcntl` at the top would end in a traceback."""
    code = (
        "import sys\nfor name in ('fcntl', 'pwd', 'grp', 'resource', 'termios'):\n"
        "    sys.modules[name] = None\n"
        "import runner.cli.main"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_an_argument_that_is_empty_is_refused_by_every_command(
    backfill: Backfill, command: str
) -> None:
    """As a path it would be the working directory; as a run id, the prefix of any run's."""
    done = backfill(command, "")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: an argument after `{command}` is empty\n")


@pytest.mark.parametrize("given", [("--target", ""), ("--policy=",), ("-t", ""), ("--env", "")])
def test_an_option_that_is_empty_is_refused(backfill: Backfill, given: tuple[str, ...]) -> None:
    done = backfill("apply", ".", *given)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: {given[0].rstrip('=')} is empty\n")


COUNTS = [
    (name, option.opts[-1])
    for name, command in ((one, cli.get_command(Context(cli), one)) for one in COMMANDS)
    for option in (command.params if command else ())
    if isinstance(option.type, IntRange) and option.type.max is None
]


@pytest.mark.parametrize(("command", "option"), COUNTS)
def test_a_count_is_one_that_each_state_and_each_list_can_hold(
    backfill: Backfill, command: str, option: str
) -> None:
    done = backfill(command, option, "9" * 12)
    assert (done.status, f"{'9' * 12} is more than 1,000,000,000" in done.err) == (2, True)


def test_there_are_such_counts() -> None:
    assert {"--limit", "--batch-size", "--max-rounds"} <= {option for _, option in COUNTS}


@pytest.mark.parametrize("number", ["9" * 30, "9" * 5000])
def test_more_events_than_there_are_is_all_of_them(
    backfill: Backfill, tmp_path: Path, number: str
) -> None:
    plan = write_plan(tmp_path, repos(9) + "operations: [sync]\n")
    assert "o/r8" in backfill("plan", plan, "--events", number).out


@pytest.mark.parametrize(
    "given",
    [
        ("pause", "--target", "dev", "--reason", "x", "--for", "999999999d"),
        ("pause", "--target", "dev", "--reason", "x", "--for", "0s"),
        ("plan", "plan.yaml", "--out", "x.json", "--expires", "999999999d"),
        ("runs", "--since", "36501d"),
    ],
)
def test_a_span_that_ends_at_no_time_is_refused(backfill: Backfill, given: tuple[str, ...]) -> None:
    """A hold until after the year 9999 once made each later `status` end with 70."""
    done = backfill(*given)
    said = "more than 100 years" in done.err or "a hold of 0s holds nothing" in done.err
    assert (done.status, said) == (2, True)
    assert backfill("runs").status == 0


@pytest.mark.parametrize(
    ("given", "word"),
    [(("--html", "x.html", "--format", "json"), "--format"), (("--env", "staging"), "--env")],
)
def test_an_option_of_a_report_that_does_nothing_is_refused(
    backfill: Backfill, given: tuple[str, ...], word: str
) -> None:
    done = backfill("report", *given)
    assert (done.status, done.err.startswith(f"error: {word} does nothing with")) == (2, True)


@pytest.mark.parametrize("form", ["text", "json", "jsonl", "markdown"])
def test_a_format_of_a_preview_that_is_written_as_a_page_is_refused(
    backfill: Backfill, tmp_path: Path, form: str
) -> None:
    page = tmp_path / "x.html"
    done = backfill("plan", "plans/aggressive-backfill.yaml", "--html", page, "--format", form)
    assert (done.status, done.err.startswith("error: --format does nothing with")) == (2, True)
    assert not page.exists()
