"""Rules above the plan: judged by the execution plan, and never by what a pull request says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from tests.git import Git

Backfill = Callable[..., Result]

HEAD = "apiVersion: backfill/v1\nkind: BackfillProject\n"
SMALL = 'policy:\n  - {name: small, require: "totals.events <= 2", message: split it}\n'
PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: three}
workspace: w
repos: [o/a, o/b, o/c]
operations: [repository-sync]
handlers: {capture/repository.sync: "json:dumps"}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "backfill.yaml").write_text(HEAD + SMALL, encoding="utf-8")
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    return tmp_path / "plan.yaml"


BROKEN = "rule small does not hold: totals.events <= 2: split it"


def test_a_broken_mandatory_rule_ends_plan_run_and_apply_after_the_preview(
    backfill: Backfill, plan: Path
) -> None:
    for command in (["plan"], ["run", "--yes"], ["run", "--dry-run"], ["apply", "--yes"]):
        done = backfill(*command, plan)
        assert done.status == 4
        assert "o/c" in done.out + done.err
        assert BROKEN in done.out + done.err
        assert "error: the policy does not allow three: `small`: split it" in done.err
        assert str(plan.parent / "backfill.yaml") in done.err
    assert json.loads(backfill("runs", "--format", "json").out)["runs"] == []


def test_verdicts_are_in_json_markdown_sarif_and_validate(
    backfill: Backfill, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plan.parent)
    done = backfill("plan", plan, "--format", "json")
    assert json.loads(done.out)["policy"] == [
        {
            "name": "small",
            "level": "mandatory",
            "holds": False,
            "reason": "totals.events <= 2",
            "message": "split it",
        }
    ]
    assert "rule small does not hold" in backfill("plan", plan, "--format", "markdown").out
    checked = backfill("validate", plan)
    assert checked.status == 4
    assert "backfill.yaml:4:28: error: the rule `small` does not hold" in checked.out
    found = json.loads(backfill("validate", plan, "--format", "sarif").out)
    (result,) = found["runs"][0]["results"]
    (place,) = (one["physicalLocation"]["artifactLocation"]["uri"] for one in result["locations"])
    assert (result["ruleId"], place) == ("policy/small", "backfill.yaml"), "as seen from here"
    for command in ("validate", "plan"):
        told = backfill(command, plan, "--format", "github").out
        assert "::error file=backfill.yaml,line=4,col=28::the rule `small`" in told, command


def test_an_advisory_rule_warns_and_the_run_goes_on(backfill: Backfill, plan: Path) -> None:
    text = SMALL.replace("message", "level: advisory, message")
    (plan.parent / "backfill.yaml").write_text(HEAD + text, encoding="utf-8")
    done = backfill("run", plan, "--yes")
    assert done.status == 0
    assert "rule small does not hold, which is advice: totals.events <= 2" in done.out + done.err


def test_policy_of_a_file_goes_over_that_of_the_project(backfill: Backfill, plan: Path) -> None:
    other = plan.parent / "rules.yaml"
    other.write_text(HEAD + SMALL.replace("<= 2", "<= 3"), encoding="utf-8")
    assert backfill("plan", plan, "--policy", other).status == 0
    other.write_text(HEAD, encoding="utf-8")
    assert backfill("plan", plan, "--policy", other).status == 2


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("{name: small, require: 'totals.evnts < 1'}", "cannot be evaluated for three"),
        ("{name: small, require: 'plan.name'}", "neither true nor false"),
        ("{name: small, require: 'totals.events <'}", "backfill.yaml:4:"),
        ("{name: a, requires: {environment: nowhere}}", "there is no environment `nowhere`"),
        ("{name: a, require: 'true', requires: {environment: x}}", "backfill.yaml:4:"),
    ],
)
def test_a_rule_that_cannot_be_evaluated_is_an_error(
    backfill: Backfill, plan: Path, rule: str, words: str
) -> None:
    (plan.parent / "backfill.yaml").write_text(HEAD + f"policy:\n  - {rule}\n", encoding="utf-8")
    done = backfill("plan", plan)
    assert (done.status, words in done.err) == (3, True)
    assert "backfill.yaml:4:" in done.err


def test_a_pull_request_cannot_switch_off_what_it_is_judged_by(
    backfill: Backfill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = Git.init(tmp_path / "repo")
    monkeypatch.chdir(git.folder)
    project = git.write("backfill.yaml", HEAD + SMALL)
    file = git.write("plans/plan.yaml", PLAN.replace("o/b, o/c", "o/b"))
    before = git.commit()
    for text in (HEAD, None, HEAD + SMALL.replace("<= 2", "<= 9")):
        project.unlink() if text is None else project.write_text(text, encoding="utf-8")
        file.write_text(PLAN, encoding="utf-8")
        for command in ("plan", "validate"):
            done = backfill(command, "plans", "--changed-since", before)
            assert done.status == 4, (text, done)
        assert backfill("plan", "plans").status == 0


@pytest.mark.parametrize("revisions", ["{0}..HEAD", "{0}"])
def test_a_diff_of_revisions_is_judged_by_the_first_ones_rules(
    backfill: Backfill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revisions: str
) -> None:
    git = Git.init(tmp_path / "repo")
    monkeypatch.chdir(git.folder)
    project = git.write("backfill.yaml", HEAD + SMALL)
    file = git.write("plans/plan.yaml", PLAN.replace("o/b, o/c", "o/b"))
    before = git.commit()
    project.write_text(HEAD, encoding="utf-8")
    file.write_text(PLAN, encoding="utf-8")
    git.commit()
    done = backfill("diff", revisions.format(before), "plans", "--format", "json")
    (plan,) = json.loads(done.out)["plans"]
    (verdict,) = plan["policy"]
    assert (verdict["name"], verdict["holds"]) == ("small", False)


def test_a_saved_plan_is_shown_with_what_the_policy_says_now(
    backfill: Backfill, plan: Path
) -> None:
    """As a run of it is judged."""
    policy, saved = plan.with_name("policy.yaml"), plan.with_name("saved.json")
    policy.write_text(HEAD + SMALL.replace("<= 2", "<= 9"), encoding="utf-8")
    assert backfill("plan", plan, "--policy", policy, "--out", saved).status == 0
    lax = backfill("plan", saved, "--policy", policy)
    assert (lax.status, "rule small holds" in lax.out) == (0, True)
    for command in (["plan"], ["plan", "--format", "json"], ["run", "--yes"]):
        done = backfill(*command, saved)
        assert (done.status, "the policy does not allow three: `small`" in done.err) == (4, True)
    assert BROKEN in backfill("plan", saved).out


def test_what_must_be_proved_elsewhere_runs_there_first(backfill: Backfill, plan: Path) -> None:
    (plan.parent / "backfill.yaml").write_text(
        HEAD
        + "environments:\n  staging: {target: embedded}\n  production: {target: embedded}\n"
        + "policy:\n  - {name: first, requires: {environment: staging}}\n",
        encoding="utf-8",
    )
    run = ("run", plan, "--yes", "--env")
    early = backfill(*run, "production")
    assert early.status == 4
    assert "it was not completed in `staging` with the same files and variables" in early.err
    assert f"`backfill run {plan} --env staging`" in early.err
    assert backfill(*run, "staging").status == 0
    assert backfill(*run, "production").status == 0
    plan.write_text(PLAN.replace("o/c]", "o/d]"), encoding="utf-8")
    assert backfill(*run, "production").status == 4


def test_a_plan_may_require_that_itself(backfill: Backfill, plan: Path) -> None:
    (plan.parent / "backfill.yaml").write_text(
        HEAD + "environments: {staging: {}, production: {}}\n", encoding="utf-8"
    )
    plan.write_text(PLAN + "requires: {environment: staging}\n", encoding="utf-8")
    run = ("run", plan, "--yes", "--env")
    statuses = [backfill(*run, name).status for name in ("production", "staging", "production")]
    assert statuses == [4, 0, 0]
