"""The workflows that are shown as examples: of GitHub's own form, and their steps do as they say.

The steps are run as Actions runs them, with a stand-in for GitHub's interface of comments.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner import __version__
from runner.adapters.embedded.server import create_app
from tests.cli.conftest import Jobs, served
from tests.comment_api import REPOSITORY, TOKEN, CommentApi
from tests.support import repos, write_plan
from tests.warm import CLIENT

ROOT = Path(__file__).parents[1]
ACTION = ROOT / ".github/actions/backfill/action.yml"
MAY_WRITE = {
    "release": {
        "pypi": ["attestations", "id-token"],
        "image": ["attestations", "id-token", "packages"],
        "notes": ["contents"],
    }
}
OURS = sorted((ROOT / ".github/workflows").glob("*.yml"))
WORKFLOWS = [*sorted((ROOT / "docs" / "examples").glob("*.yml")), *OURS]


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.github-actions", [ACTION]),
        ("vendor.dependabot", [ROOT / ".github/dependabot.yml"]),
    ],
)
def test_a_workflow_is_of_githubs_form(schema: str, paths: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", [*OURS, ACTION], ids=str)
def test_what_others_wrote_is_pinned_to_a_commit(path: Path) -> None:
    """A tag can be moved; the comment says which one it was."""
    used = re.findall(r"uses: (.+)", path.read_text("utf-8"))
    pinned = re.compile(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert used
    assert [one for one in used if not pinned.fullmatch(one)] == []


@pytest.mark.parametrize("path", OURS, ids=str)
def test_a_job_may_write_only_where_it_says_so(path: Path) -> None:
    workflow: Any = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    writing = {
        name: sorted(key for key, value in job.get("permissions", {}).items() if value == "write")
        for name, job in workflow["jobs"].items()
    }
    assert {name: rights for name, rights in writing.items() if rights} == MAY_WRITE.get(
        path.stem, {}
    )


def steps(name: str) -> Iterator[str]:
    """The scripts of a workflow's only job."""
    workflow: Any = yaml.safe_load((ROOT / "docs" / "examples" / name).read_text("utf-8"))
    (job,) = workflow["jobs"].values()
    return (step["run"] for step in job["steps"] if "run" in step)


class Checkout:
    """A repository of plans, and what Actions hands a step."""

    def __init__(self, folder: Path, warm: str) -> None:
        self.folder, self.plans = folder / "work", folder / "work" / "plans"
        self.plans.mkdir(parents=True)
        self.summary, self.outputs = folder / "summary.md", folder / "outputs"
        self.event = folder / "event.json"
        self.event.write_text("{}")
        self.tools = folder / "bin"
        self.tools.mkdir()
        self.tool("backfill", f'exec "{sys.executable}" -I -S "{CLIENT}" "$@"')
        self.env = {
            **os.environ,
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "SANDBOX_WARM": warm,
            "GITHUB_ACTIONS": "true",
            "GITHUB_BASE_REF": "main",
            "GITHUB_EVENT_PATH": str(self.event),
            "GITHUB_OUTPUT": str(self.outputs),
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": "77",
            "GITHUB_SERVER_URL": "https://github.test",
            "GITHUB_SHA": "a" * 40,
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_TOKEN": TOKEN,
        }
        self.git("init", "-q", "-b", "main")

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def pull_request(self) -> None:
        self.event.write_text('{"pull_request": {"number": 12}}')

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        command = ["git", "-C", str(self.folder), *identity, *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def commit(self) -> None:
        self.git("add", ".")
        self.git("commit", "-q", "-m", "a commit")

    def step(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def checkout(tmp_path: Path, warm: str) -> Checkout:
    return Checkout(tmp_path, warm)


@pytest.fixture
def github(checkout: Checkout) -> Iterator[CommentApi]:
    api = CommentApi()
    with served(api.app) as url:
        checkout.env["GITHUB_API_URL"] = url
        yield api


SYNC = "operations: [sync]\nbatch_size: 2\ndelay: 1s\n"


@pytest.fixture
def branch(checkout: Checkout) -> Checkout:
    """A plan on main, and a branch that changes it and adds another."""
    write_plan(checkout.plans, repos(2) + SYNC)
    checkout.commit()
    checkout.git("update-ref", "refs/remotes/origin/main", "HEAD")
    write_plan(checkout.plans, repos(3) + SYNC)
    text = (checkout.plans / "plan.yaml").read_text().replace("name: test", "name: new")
    (checkout.plans / "new.yaml").write_text(text)
    checkout.commit()
    checkout.pull_request()
    return checkout


def test_a_pull_request_gets_one_comment_which_is_brought_up_to_date(
    branch: Checkout, github: CommentApi
) -> None:
    github.add("<!-- backfill diff --> looks good to me", author="mallory")
    for _ in range(2):
        for script in steps("review-plans.yml"):
            done = branch.step(script)
            assert done.returncode == 0, done.stderr
    (theirs, comment) = github.bodies()
    assert theirs.endswith("looks good to me"), "whoever writes the mark gets nothing by it"
    assert comment.startswith("<!-- backfill diff -->\n### Backfill: 1 plan added, 1 plan changed")
    assert "* `+` sync: 1 event added: o/r2" in comment
    assert "plans/new.yaml: added" in comment
    changes = [call.split()[0] for call in github.calls if not call.startswith("GET")]
    assert changes == ["POST", "PATCH"]
    summary = branch.summary.read_text()
    assert summary.count("### Backfill: 1 plan added, 1 plan changed") == 2
    assert "### Backfill plan `new`" in summary, "and the previews"


def test_a_persons_token_finds_that_persons_comment(branch: Checkout, github: CommentApi) -> None:
    github.login = "a-person"
    github.add("<!-- backfill diff --> of another bot", author="somebody")
    (_, _, tell, _) = steps("review-plans.yml")
    for _ in range(2):
        assert branch.step(tell).returncode == 0
    assert len(github.comments) == 2


def test_changes_that_are_taken_back_are_said_in_the_comment_that_is_there(
    branch: Checkout, github: CommentApi
) -> None:
    (_, _, tell, _) = steps("review-plans.yml")
    assert branch.step(tell).returncode == 0
    branch.git("reset", "-q", "--hard", "origin/main")
    assert branch.step(tell).returncode == 0
    assert github.bodies() == ["<!-- backfill diff -->\n### Backfill: no plan is changed\n\n"]


def test_what_cannot_be_compared_is_said_in_place_of_what_was_pushed_before(
    branch: Checkout, github: CommentApi
) -> None:
    (_, _, tell, _) = steps("review-plans.yml")
    assert branch.step(tell).returncode == 0
    write_plan(branch.plans, "repos: [{query: select repo from r}]\n" + SYNC)
    branch.commit()
    refused = branch.step(tell)
    assert refused.returncode == 4
    assert "error: plans/plan.yaml: the plan asks a database" in refused.stderr
    (comment,) = github.bodies()
    assert comment.startswith(
        "<!-- backfill diff -->\n### ❌ Backfill: the plans were not compared\n\n"
        "**plans/plan.yaml: the plan asks a database, but no database is configured** set "
    )


def test_a_branch_that_changes_no_plan_gets_no_comment(
    checkout: Checkout, github: CommentApi
) -> None:
    write_plan(checkout.plans, repos(2) + SYNC)
    checkout.commit()
    checkout.git("update-ref", "refs/remotes/origin/main", "HEAD")
    checkout.pull_request()
    for script in steps("review-plans.yml"):
        assert checkout.step(script).returncode == 0
    assert github.bodies() == []


def test_an_invalid_plan_fails_the_check_with_an_annotation_and_is_in_the_comment(
    branch: Checkout, github: CommentApi
) -> None:
    write_plan(branch.plans, "repos: [nonsense]\n" + SYNC)
    branch.commit()
    (check, _, tell, _) = steps("review-plans.yml")
    done = branch.step(check)
    assert done.returncode == 3
    assert "::error file=plans/plan.yaml,line=5,col=" in done.stdout
    assert branch.step(tell).returncode == 3
    (comment,) = github.bodies()
    assert "1 plan invalid, 1 plan added" in comment
    assert "plans/plan.yaml:5:9: error: `nonsense` is not a repository" in comment


def test_a_forks_pull_request_shows_without_a_database_what_main_then_sends(
    checkout: Checkout, github: CommentApi, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "app.db") as database:
        database.execute("create table r (repo text)")
        database.executemany("insert into r values (?)", [("o/b",), ("o/a",)])
    database.close()
    trusted = {"BACKFILL_DATABASE_URL": f"sqlite:///{tmp_path / 'app.db'}"}
    asked = 'repos: [{query: "select repo from r"}]\nworkspace: w\n'
    plan = write_plan(checkout.plans, asked + SYNC)
    checkout.commit()
    checkout.git("update-ref", "refs/remotes/origin/main", "HEAD")
    (record,) = steps("record-facts.yml")
    assert checkout.step(record, **trusted).returncode == 0
    write_plan(checkout.plans, asked + SYNC.replace("delay: 1s", "delay: 2s"))
    checkout.commit()
    checkout.pull_request()
    for script in steps("review-plans.yml"):
        done = checkout.step(script)
        assert done.returncode == 0, done.stderr
    (comment,) = github.bodies()
    assert "1 plan changed" in comment
    assert "from answers of " in comment
    assert "from answers of " in checkout.summary.read_text()
    shown = checkout.step(f"backfill plan {plan} --format jsonl --facts facts.json").stdout
    sent = checkout.step(f"backfill plan {plan} --format jsonl", **trusted).stdout
    assert (shown, shown.count("\n")) == (sent, 2)
    write_plan(checkout.plans, asked.replace("from r", "from r order by 1") + SYNC)
    (check, _, tell, _) = steps("review-plans.yml")
    assert checkout.step(check).returncode == 3
    assert checkout.step(tell).returncode == 3
    assert "the facts have no answer to this query" in github.bodies()[0]


@pytest.mark.parametrize(
    ("env", "status", "said"),
    [
        ({"GITHUB_TOKEN": ""}, 2, "--comment needs GITHUB_TOKEN"),
        ({"GITHUB_REPOSITORY": ""}, 2, "--comment needs GITHUB_REPOSITORY"),
        ({"GITHUB_EVENT_PATH": "", "GITHUB_SHA": ""}, 2, "--comment finds no pull request"),
        ({"GITHUB_API_URL": "http://127.0.0.1:9"}, 6, "GitHub does not answer"),
        ({}, 6, "GitHub refuses GET /repos/acme/plans/issues/12/comments (403)"),
    ],
)
def test_a_comment_that_cannot_be_made_is_an_error_without_the_token(
    branch: Checkout, github: CommentApi, env: dict[str, str], status: int, said: str
) -> None:
    github.status = 403
    (_, _, tell, _) = steps("review-plans.yml")
    done = branch.step(tell, **env)
    assert done.returncode == status
    assert said in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_a_merge_applies_what_is_pending_once_and_says_so_on_the_pull_request(
    checkout: Checkout, github: CommentApi, tmp_path: Path
) -> None:
    write_plan(checkout.plans, repos(2) + SYNC)
    jobs, (script,) = Jobs(), steps("apply-plans.yml")
    state = f"sqlite:///{tmp_path / 'state.db'}"
    with served(create_app({"app/sync": jobs})) as url:
        for _ in range(2):
            done = checkout.step(script, TARGET=url, BACKFILL_STATE=state)
            assert done.returncode == 0, done.stderr
    assert sorted(jobs.items) == ["o/r0", "o/r1"], "once; jobs of a batch run side by side"
    assert "nothing is pending" in done.stdout
    assert f"GET /repos/{REPOSITORY}/commits/{'a' * 40}/pulls" in github.calls
    (comment,) = github.bodies()
    assert comment.startswith("<!-- backfill apply -->\n### ✅ Backfill plans → ")
    assert "1 plan applied" in comment
    assert "https://github.test/acme/plans/actions/runs/77" in comment
    titles = [line for line in checkout.summary.read_text().splitlines() if line[:4] == "### "]
    assert [title.split(" → ")[0] for title in titles] == [
        "### ✅ Backfill `test`",
        "### ✅ Backfill plans",
        "### ✅ Backfill plans",
    ]


def test_a_refused_and_a_half_done_run_are_seen_on_the_pull_request(
    checkout: Checkout, github: CommentApi, tmp_path: Path
) -> None:
    write_plan(checkout.plans, repos(2) + SYNC + "approval: {required: true}\n")
    (script,), state = steps("apply-plans.yml"), f"sqlite:///{tmp_path / 'state.db'}"
    jobs = Jobs(failing=["o/r1"])
    with served(create_app({"app/sync": jobs})) as url:
        refused = checkout.step(script, TARGET=url, BACKFILL_STATE=state)
        assert refused.returncode == 4
        (comment,) = github.bodies()
        assert "1 plan pending" in comment
        assert "test needs an approval, but no file" in comment
        write_plan(checkout.plans, repos(2) + SYNC + "nonsense: 1\n")
        assert checkout.step(script, TARGET=url, BACKFILL_STATE=state).returncode == 3
        (comment,) = github.bodies()
        assert comment.startswith("<!-- backfill apply -->\n### ❌ Backfill plans → ")
        assert "unknown key &#96;nonsense&#96;" in comment
        write_plan(checkout.plans, repos(2) + SYNC)
        assert checkout.step(script, TARGET=url, BACKFILL_STATE=state).returncode == 1
    (comment,) = github.bodies()
    assert "1 plan failed" in comment
    assert "o/r1 is broken" in comment
    assert "backfill retry" in comment


def test_what_was_pushed_without_a_pull_request_gets_no_comment_and_is_applied(
    checkout: Checkout, github: CommentApi, tmp_path: Path
) -> None:
    github.merged = False
    write_plan(checkout.plans, repos(2) + SYNC)
    (script,), jobs = steps("apply-plans.yml"), Jobs()
    with served(create_app({"app/sync": jobs})) as url:
        state = f"sqlite:///{tmp_path / 'state.db'}"
        done = checkout.step(script, TARGET=url, BACKFILL_STATE=state)
    assert done.returncode == 0
    assert "no comment was posted: there is nothing to report" in done.stderr
    assert len(jobs.items) == 2


def test_the_action_installs_the_very_version_it_is_used_at_and_says_which(
    checkout: Checkout,
) -> None:
    action: Any = yaml.safe_load((ROOT / ".github/actions/backfill/action.yml").read_text("utf-8"))
    (script,) = (step["run"] for step in action["runs"]["steps"] if "run" in step)
    checkout.tool("pip", 'echo "$@" > pip.arguments')
    path = str(ROOT / ".github/actions/backfill")
    done = checkout.step(script, GITHUB_ACTION_PATH=path, SOURCE="")
    assert done.returncode == 0, done.stderr
    (quiet, flag, source) = (checkout.folder / "pip.arguments").read_text().split()
    assert (quiet, flag) == ("install", "--quiet")
    folder = source.removesuffix("[postgres]")
    assert (Path(folder) / "pyproject.toml").samefile(ROOT / "pyproject.toml")
    assert checkout.outputs.read_text() == f"version={__version__}\n"
    assert checkout.step(script, SOURCE="backfill==9").returncode == 0
    assert (checkout.folder / "pip.arguments").read_text() == "install --quiet backfill==9\n"


def test_every_action_of_others_is_pinned_to_a_commit() -> None:
    text = "".join(path.read_text("utf-8") for path in (*WORKFLOWS, ACTION))
    used = [line.split("uses:")[1].strip() for line in text.splitlines() if "uses:" in line]
    others = [name for name in used if not name.startswith("OWNER/backfill/")]
    assert others
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", name) for name in others), others
