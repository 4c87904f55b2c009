"""`validate`, `plan`, `operations`, `schema`, `init`: everything that sends nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.cli.conftest import ROOT
from tests.git import Git
from tests.support import repos, write_plan
from tests.types import Backfill, Result

SYNC = "operations: [sync]\n"
# Without contributor-info, whose plans query a database: tests/contributor_info runs those.
PLANS = sorted(
    path
    for path in (*ROOT.glob("plans/*.yaml"), *ROOT.glob("plans/quickstart/*.yaml"))
    if ".test." not in path.name
)


@pytest.mark.parametrize("plan", PLANS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_plan_is_valid_and_shows_events(backfill: Backfill, plan: Path) -> None:
    result = backfill("validate", plan)
    assert (result.status, result.out.splitlines()[-1]) == (0, f"{plan} is valid")
    assert backfill("plan", plan, "--detailed-exitcode", "--format", "jsonl").status == 2


def test_validate_takes_catalogs_and_says_what_plans_share_once(
    backfill: Backfill, tmp_path: Path
) -> None:
    plan = write_plan(tmp_path, repos(1) + SYNC)
    catalog = tmp_path / "catalog.yaml"
    assert backfill("validate", plan, catalog).out == "2 plans are valid\n"
    catalog.write_text(catalog.read_text("utf-8").replace("for_each", "for_eech", 1), "utf-8")
    result = backfill("validate", plan, catalog)
    assert result.status == 3
    assert result.out.count("unknown key `for_eech`") == 1


TEST = "apiVersion: backfill/v1\nkind: BackfillTest\nplan: plan.yaml\ncases: [{name: a}]\n"
PROJECT = "apiVersion: backfill/v1\nkind: BackfillProject\n"


@pytest.mark.parametrize(("name", "text"), [("plan.test.yaml", TEST), ("backfill.yaml", PROJECT)])
def test_what_lies_beside_plans_is_checked_in_its_own_form(
    backfill: Backfill, tmp_path: Path, name: str, text: str
) -> None:
    """Named alone, as a pre-commit hook does; by a shell pattern; in a folder; on a branch that
    changed no plan."""
    plan = write_plan(tmp_path, repos(1) + SYNC)
    beside = tmp_path / name
    beside.write_text(text, "utf-8")
    Git.init(tmp_path).commit("one")
    ways = ([beside], [plan, beside], [tmp_path], [tmp_path, "--changed-since", "HEAD"])
    here = {"GITHUB_WORKSPACE": str(tmp_path)}
    for way in ways:
        assert backfill("validate", *way, env=here).status == 0, way
    assert backfill("plan", plan, beside).status == 0
    beside.write_text(text + "no-key: 1\n", "utf-8")
    for way in ways:
        found = backfill("validate", *way, env=here)
        assert (found.status, f"{beside}:" in found.out) == (3, True), way


def test_a_catalog_may_go_on_from_the_built_in_one(backfill: Backfill, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.yaml"
    text = (
        "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n"
        "  index: {event: app/index, for_each: repo, after: [repository-sync], payload: {}}\n"
    )
    catalog.write_text(text, "utf-8")
    assert backfill("validate", catalog).status == 0
    catalog.write_text(text.replace("-sync", "-synk"), "utf-8")
    wrong = backfill("validate", catalog)
    assert wrong.status == 3
    assert "did you mean `repository-sync`?" in wrong.out


def test_validate_reports_all_problems_of_all_files_and_exits_3(
    backfill: Backfill, tmp_path: Path
) -> None:
    good = write_plan(tmp_path, repos(1) + SYNC)
    bad = tmp_path / "bad.yaml"
    bad.write_text(good.read_text("utf-8").replace("sync]", "snyc]") + "dealy: 5s\n", "utf-8")
    result = backfill("validate", good, bad)
    assert result.status == 3
    assert f"{bad}:6:14: error: unknown operation `snyc`" in result.out
    assert "hint: did you mean `sync`?" in result.out
    assert f"{bad}:7:1: error: unknown key `dealy`" in result.out
    assert result.out.rstrip().endswith("2 errors")


def test_validate_as_json(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(1) + "operations: [snyc]\n")
    result = backfill("validate", plan, "--format", "json")
    answer = json.loads(result.out)
    assert answer["valid"] is False
    assert answer["problems"][0]["line"] == 6
    assert answer["problems"][0]["hint"] == "did you mean `sync`?"


def test_strict_makes_advice_an_error(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(1) + SYNC + "delay: 0s\n")
    assert backfill("validate", plan).status == 0
    result = backfill("validate", plan, "--strict")
    assert result.status == 3
    assert "error: `sync`: a delay of 0s is short" in result.out


ADVICE = 'policy: [{name: few, require: "totals.events < 1", level: advisory}]\n'


@pytest.mark.parametrize(
    ("command", "more", "project", "strict"),
    [
        ("plan", "", "", 3),
        ("run", "", "", 3),
        ("run --dry-run", "", "", 3),
        ("apply --yes", "", "", 3),
        ("doctor", "", "", 4),
        ("plan", "", ADVICE, 4),
        ("validate", "", ADVICE, 4),
        ("plan", "accept: {no-handler: nobody is there}\n", "", 0),
    ],
)
def test_strict_counts_every_warning_that_is_told(
    backfill: Backfill, tmp_path: Path, command: str, more: str, project: str, strict: int
) -> None:
    """Also warnings of the target, of the policy, and those that only planning finds."""
    (tmp_path / "backfill.yaml").write_text(PROJECT + project, "utf-8")
    handlers = 'handlers: {app/sync: "worker:sync"}\n' if project else ""
    plan = write_plan(tmp_path, repos(1) + SYNC + handlers + more)
    words = command.split()
    assert backfill(words[0], plan, *words[1:], "--strict").status == strict


@pytest.mark.parametrize(
    "words",
    [
        "run PLAN --dry-run --summary-file s.md",
        "run PLAN --dry-run -q",
        "run PLAN --dry-run --detach",
        "retry latest --dry-run -y",
        "apply PLAN --dry-run --summary-file s.md",
        "apply PLAN --dry-run --resume",
        "apply PLAN --baseline test --reason x --dry-run",
        "serve --list PLAN --port 8000",
    ],
)
def test_an_option_that_does_nothing_beside_another_is_refused(
    backfill: Backfill, tmp_path: Path, words: str
) -> None:
    """The option in the middle makes the last one useless."""
    plan = write_plan(tmp_path, repos(1) + SYNC)
    done = backfill(*(str(plan) if word == "PLAN" else word for word in words.split()))
    assert (done.status, " does nothing with --" in done.err) == (2, True)


def test_an_invalid_plan_prints_nothing_on_stdout(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(1) + "operations: [snyc]\n")
    for command in ("plan", "run"):
        result = backfill(command, plan, "--format", "json")
        assert (result.status, result.out) == (3, "")
        assert "unknown operation" in result.err


def test_json_meets_its_published_schema_and_holds_every_event(
    backfill: Backfill, tmp_path: Path
) -> None:
    body = (
        "repos: [o/a, {repo: o/b, skip: [sync]}, o/c]\noperations: [sync, embed]\nbatch_size: 2\n"
    )
    plan = write_plan(tmp_path, body)
    answer = json.loads(backfill("plan", plan, "--format", "json").out)
    jsonschema.validate(answer, json.loads(backfill("schema", "execution-plan").out))
    lines = [
        json.loads(line) for line in backfill("plan", plan, "--format", "jsonl").out.splitlines()
    ]
    flat = [
        {"stage": stage["number"], "operation": stage["operation"], **item}
        for stage in answer["stages"]
        for item in stage["items"]
    ]
    assert flat == lines
    assert lines[0] == {
        "stage": 1,
        "operation": "sync",
        "batch": 1,
        "item": "o/a",
        "event": {"name": "app/sync", "data": {"repo": "o/a"}},
    }
    assert answer["totals"] == {"events": 5, "batches": 3, "stages": 2, "duration_s": 5.0}
    assert answer["skipped"] == [
        {"operation": "sync", "item": "o/b", "reason": "skipped by the repository"}
    ]


def test_the_same_input_gives_the_same_bytes_whatever_the_hash_seed(
    backfill: Backfill, tmp_path: Path
) -> None:
    plan = write_plan(tmp_path, repos(9) + "operations: [embed, fire, sync]\n")
    outs = {
        backfill("plan", plan, "--format", "json", env={"PYTHONHASHSEED": seed}).out
        for seed in ("0", "42")
    }
    assert len(outs) == 1


def test_the_text_fits_80_columns_and_names_the_target(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(400) + SYNC + "batch_size: 7\n")
    result = backfill("plan", plan, "--target", "cloud")
    assert "→ cloud" in result.out
    assert "... and 397 more (--events all)" in result.out
    assert "400 events, 58 batches, 1 stage; 4m45s of pacing" in result.out
    assert max(len(line.rstrip()) for line in result.out.splitlines()) <= 80


def test_events_all_shows_every_one(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(40) + SYNC)
    out = backfill("plan", plan, "--events", "all").out
    assert all(f"o/r{number}  " in out for number in range(40))


def test_nothing_to_send_is_said_and_has_its_own_exit_status(
    backfill: Backfill, tmp_path: Path
) -> None:
    plan = write_plan(tmp_path, "repos: []\n" + SYNC)
    result = backfill("plan", plan, "--detailed-exitcode")
    assert result.status == 0
    assert "Nothing to send." in result.out
    assert "there is nothing to send" in result.err


def test_a_page_takes_nothing_from_the_steps_summary(backfill: Backfill, tmp_path: Path) -> None:
    plan, summary, page = write_plan(tmp_path, repos(3) + SYNC), tmp_path / "s.md", tmp_path / "p"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    assert backfill("plan", plan, "--html", page, env=env).status == 0
    assert "### Backfill plan `test`" in summary.read_text("utf-8")
    assert page.exists()


def test_a_preview_cannot_reach_the_network(backfill: Backfill, tmp_path: Path) -> None:
    """Even with keys in the environment: sockets are trapped, and the trap is never sprung."""
    trap = tmp_path / "sprung"
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, pathlib\n"
        "def refuse(*_, **__):\n"
        f"    pathlib.Path({str(trap)!r}).touch()\n"
        "    raise OSError('no network here')\n"
        "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n",
        encoding="utf-8",
    )
    plan = write_plan(tmp_path, repos(3) + SYNC)
    env = {"PYTHONPATH": str(tmp_path), "INNGEST_EVENT_KEY": "k", "INNGEST_SIGNING_KEY": "s"}
    for arguments in (("plan", plan, "--target", "cloud"), ("run", plan, "--dry-run")):
        assert backfill(*arguments, env=env).status == 0
        assert not trap.exists()
    call = "import socket; socket.create_connection(('127.0.0.1', 9))"
    subprocess.run([sys.executable, "-c", call], env={**os.environ, **env}, check=False)
    assert trap.exists(), "the trap itself works"


def test_a_dry_run_is_the_preview_and_leaves_no_state(backfill: Backfill, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, repos(3) + SYNC)
    assert backfill("run", plan, "--dry-run").out == backfill("plan", plan).out
    assert not Path(".backfill").exists()


def test_variables_are_typed_and_override_files_and_plan(
    backfill: Backfill, tmp_path: Path
) -> None:
    uses = '{use: sync, with: {days: "{{ vars.days }}", who: "{{ vars.who }}"}}'
    body = f"vars: {{days: 90, who: a}}\nrepos: [o/a]\noperations: [{uses}]\n"
    plan = write_plan(tmp_path, body)
    variables = tmp_path / "vars.yaml"
    variables.write_text("days: 30\nwho: file\n", encoding="utf-8")
    out = backfill(
        "plan", plan, "--format", "jsonl", "--var-file", variables, "--var", "days=7"
    ).out
    assert json.loads(out)["event"]["data"] == {"repo": "o/a", "days": 7, "who": "file"}


@pytest.mark.parametrize(
    ("assignment", "status", "words"),
    [
        ("days", 2, "NAME=VALUE"),
        ("days=3 --var days=3", 2, "--var names days twice"),
        ("dyas=3", 3, "the plan has no variable `dyas`"),
        ('days=[{"a": 1, "a": 2}]', 2, "the key `a` is written twice"),
        ("days=ghp_abcdefghijklmnopqrstuvwxyz0123456789", 2, "looks like a key"),
    ],
)
def test_a_bad_variable_is_refused(
    backfill: Backfill, tmp_path: Path, assignment: str, status: int, words: str
) -> None:
    plan = write_plan(tmp_path, "vars: {days: 90}\n" + repos(1) + SYNC)
    variables = [part for one in assignment.split(" --var ") for part in ("--var", one)]
    result = backfill("plan", plan, *variables)
    assert result.status == status
    assert words in result.err
    assert "ghp_" not in result.err


def test_operations_lists_what_a_plan_can_use(backfill: Backfill, tmp_path: Path) -> None:
    assert "repository-sync" in backfill("operations").out
    plan = write_plan(tmp_path, repos(1) + SYNC)
    listed = json.loads(backfill("operations", plan, "--format", "json").out)["operations"]
    assert [entry["name"] for entry in listed] == ["sync", "embed", "fire"]
    assert listed[1]["after"] == ["sync"]


def test_init_writes_a_plan_that_is_valid_and_overwrites_nothing(backfill: Backfill) -> None:
    _expect_named(backfill("init", "first.yaml"))
    text = Path("first.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=plan.v1.schema.json\n")
    assert json.loads(Path("plan.v1.schema.json").read_text("utf-8"))["title"] == "BackfillPlan"
    assert backfill("validate", "first.yaml", "--strict").status == 0
    assert (
        json.loads(Path("project.v1.schema.json").read_text("utf-8"))["title"] == "BackfillProject"
    )
    there = backfill("plan", "first.yaml", "--env", "production", "--format", "json").out
    assert json.loads(there)["target"].startswith("production: cloud")
    again = backfill("init", "first.yaml")
    assert again.status == 2
    assert "exists already" in again.err
    assert Path("first.yaml").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("folder", [".", "there", "new/", "new/below/"])
def test_init_takes_a_folder(backfill: Backfill, folder: str) -> None:
    Path("there").mkdir()
    plan = Path(folder, "plan.yaml")
    done = backfill("init", folder)
    assert (done.status, done.out.endswith(f"next: backfill plan {plan}\n")) == (0, True)
    assert backfill("validate", str(plan), "--strict").status == 0


def _expect_named(done: Result) -> None:
    """The command lists the files that it wrote, and no others."""
    assert done.status == 0
    files = done.out.partition("\n")[0].removeprefix("wrote ").split(", ")
    assert sorted(files) == sorted(str(path) for path in Path().iterdir() if path.is_file())


def test_init_for_items_writes_a_plan_that_runs_with_its_worker(backfill: Backfill) -> None:
    _expect_named(backfill("init", "first.yaml", "--for", "users"))
    assert backfill("validate", "first.yaml", "--strict").status == 0
    done = backfill("run", "first.yaml", "--yes", "--format", "json")
    assert json.loads(done.out)["totals"]["completed"] == 2
    assert backfill("init", "second.yaml", "--for", "users").status == 2
    assert not Path("second.yaml").exists()
    taken = backfill("init", "third.yaml", "--for", "repos")
    assert (taken.status, "`repos` has another meaning in plans" in taken.err) == (2, True)


@pytest.mark.parametrize("name", ["on", "yes", "y", "No", "true", "False", "null", "Null", "_x"])
def test_init_for_items_takes_a_name_that_yaml_would_read_as_something_else(
    backfill: Backfill, name: str
) -> None:
    assert backfill("init", "first.yaml", "--for", name).status == 0
    assert backfill("validate", ".", "--strict").status == 0
    planned = backfill("plan", "first.yaml", "--format", "jsonl").out
    assert [json.loads(line)["item"] for line in planned.splitlines()] == ["1001", "1002"]


@pytest.mark.parametrize(
    ("path", "items"),
    [
        ("backfill.yaml", ()),
        ("new/backfill.yaml", ()),
        ("first.test.yaml", ()),
        ("first.test.yml", ()),
        ("plan.v1.schema.json", ()),
        ("catalog.v1.schema.json", ("--for", "users")),
        ("users-catalog.yaml", ("--for", "users")),
        ("users.csv", ("--for", "users")),
    ],
)
def test_init_writes_no_plan_under_the_name_of_another_kind_of_file(
    backfill: Backfill, path: str, items: tuple[str, ...]
) -> None:
    done = backfill("init", path, *items)
    assert (done.status, list(Path().iterdir())) == (2, [])
    assert f"{path} cannot be a plan: its name is that of another kind of file" in done.err


@pytest.mark.parametrize("name", ["plan", "catalog", "execution-plan"])
def test_published_schemas_are_valid_and_explain_every_key(backfill: Backfill, name: str) -> None:
    schema = json.loads(backfill("schema", name).out)
    jsonschema.Draft7Validator.check_schema(schema)

    def undescribed(node: object, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        missing = []
        for key, member in node.get("properties", {}).items():
            if "description" not in member and "$ref" not in member:
                missing.append(f"{path}.{key}")
        for key, member in node.items():
            missing += undescribed(member, f"{path}.{key}")
        return missing

    assert undescribed(schema, name) == []
