"""Saved plans and diffs: what was reviewed is sent, once, and a change is shown."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from runner.adapters.embedded.server import create_app
from runner.app.saved import load_saved
from runner.planning.saved import write_saved
from tests.cli.conftest import Jobs, Start, served
from tests.support import repos, write_plan
from tests.types import Backfill

SYNC = "operations: [sync]\nbatch_size: 2\ndelay: 100ms\n"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return write_plan(tmp_path, repos(5) + SYNC)


def test_a_saved_plan_is_sent_event_for_event_and_once(
    backfill: Backfill, plan: Path, tmp_path: Path
) -> None:
    saved, jobs = tmp_path / "saved.json", Jobs()
    with served(create_app({"app/sync": jobs})) as url:
        first = backfill("plan", plan, "--target", url, "--out", saved)
        assert first.status == 0
        assert "sends exactly this, once" in first.err
        run_id = json.loads(saved.read_text())["run_id"]
        done = backfill("run", saved, "--format", "json")
        assert done.status == 0, done.err
        assert json.loads(done.out)["run_id"] == run_id
        assert sorted(jobs.items) == [f"o/r{number}" for number in range(5)]
        again = backfill("run", saved)
        assert again.status == 5
        assert f"this plan was run already: run {run_id} is completed" in again.err
    assert len(jobs.items) == 5


def test_of_two_processes_that_run_a_saved_plan_at_once_one_sends_it(
    backfill: Backfill, start: Start, plan: Path, tmp_path: Path
) -> None:
    saved, jobs = tmp_path / "saved.json", Jobs()
    with served(create_app({"app/sync": jobs})) as url:
        backfill("plan", plan, "--target", url, "--out", saved)
        both = [start("run", saved, "--wait-lock", "20s") for _ in range(2)]
        assert sorted(process.wait(60) for process in both) == [0, 5]
    assert sorted(jobs.items) == [f"o/r{number}" for number in range(5)]


def test_a_run_of_a_saved_plan_that_was_killed_is_resumed_and_not_run_again(
    backfill: Backfill, start: Start, plan: Path, tmp_path: Path
) -> None:
    saved, jobs = tmp_path / "saved.json", Jobs()
    with served(create_app({"app/sync": jobs})) as url:
        backfill("plan", plan, "--target", url, "--out", saved)
        process = start("run", saved)
        jobs.wait_for(2)
        process.kill()
        process.wait()
        assert backfill("run", saved).status == 5
        assert backfill("resume", "latest").status == 0
    assert sorted(jobs.items) == [f"o/r{number}" for number in range(5)]


def test_the_preview_of_a_saved_plan_is_that_of_its_plan(
    backfill: Backfill, plan: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.json"
    shown = backfill("plan", plan, "--out", saved)
    assert backfill("plan", saved).out == shown.out
    lines = backfill("plan", plan, "--format", "jsonl").out
    assert backfill("plan", saved, "--format", "jsonl").out == lines


def test_a_plan_that_has_changed_since_is_refused_and_the_change_is_shown(
    backfill: Backfill, plan: Path, tmp_path: Path
) -> None:
    saved, jobs = tmp_path / "saved.json", Jobs()
    with served(create_app({"app/sync": jobs})) as url:
        backfill("plan", plan, "--target", url, "--out", saved)
        write_plan(tmp_path, repos(6) + SYNC)
        done = backfill("run", saved)
    assert done.status == 5
    assert "is stale: " in done.err
    assert "plan.yaml has changed; sync: 1 event added: o/r5" in done.err
    assert not jobs.items


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "dev"], "it was made for --target embedded, not dev"),
        (["--env", "x"], "it was made for no environment, not environment x"),
        (["--var", "x=1"], "--var does nothing for a saved plan"),
        (["--collection", "repos=-"], "--collection does nothing for a saved plan"),
        (["--strict"], "--strict does nothing for a saved plan"),
        (["--limit", "1"], "--limit 1 does nothing for a saved plan"),
    ],
)
def test_what_a_saved_plan_has_its_own_of_is_refused(
    backfill: Backfill, plan: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    saved = tmp_path / "saved.json"
    backfill("plan", plan, "--out", saved)
    done = backfill("run", saved, *arguments)
    assert done.status in (2, 5)
    assert said in done.err
    shown = backfill("plan", saved, *arguments)
    assert (shown.status, shown.out) == (2, "")
    assert f"{arguments[0]} " in shown.err
    if arguments[0] not in ("--target", "--env"):  # `diff` has no --target
        assert backfill("diff", saved, saved, *arguments).status == 2


def test_an_expired_or_edited_one_is_refused(
    backfill: Backfill, plan: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.json"
    backfill("plan", plan, "--out", saved)
    kept = load_saved(str(saved))
    assert kept
    saved.write_bytes(write_saved(replace(kept, expires_at=1.0)))
    expired = backfill("run", saved)
    assert expired.status == 5
    assert "it has expired" in expired.err
    text = saved.read_text()
    saved.write_text(text.replace('"target":"embedded"', '"target":"dev"'))
    for command in ("run", "plan"):
        edited = backfill(command, saved)
        assert edited.status == 5
        assert "has been changed since it was saved" in edited.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--out", "x.json", "--expires", "0s"), "expires after 0s can never be run"),
        (("--out", "x.json", "--expires", "999ms"), "expires after 999ms can never be run"),
        (("--out", "x.json", "--expires", "-1s"), "is not a duration"),
        (("--expires", "1h"), "--expires does nothing without --out"),
    ],
)
def test_one_that_could_never_be_run_is_not_made(
    backfill: Backfill, plan: Path, given: tuple[str, ...], said: str
) -> None:
    done = backfill("plan", plan, *given)
    assert (done.status, done.out, said in done.err) == (2, "", True)
    assert not plan.with_name("x.json").exists()


def test_one_with_a_checksum_made_by_hand_is_refused(
    backfill: Backfill, plan: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.json"
    backfill("plan", plan, "--out", saved)
    value = json.loads(saved.read_text())
    del value["checksum"], value["run_id"]
    raw = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    value["checksum"] = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    saved.write_bytes(orjson.dumps(value))
    for command in ("run", "plan"):
        done = backfill(command, saved)
        assert done.status == 5
        assert "has been changed since it was saved" in done.err


def test_a_plan_that_demands_it_is_run_only_with_its_very_digest_approved(
    backfill: Backfill, tmp_path: Path
) -> None:
    approval = "approval: {required: true, over_events: 4}\n"
    plan, jobs = write_plan(tmp_path, repos(5) + SYNC + approval), Jobs()
    saved = tmp_path / "saved.json"
    with served(create_app({"app/sync": jobs})) as url:
        shown = backfill("plan", plan, "--target", url, "--out", saved)
        digest = json.loads(saved.read_text())["digest"]
        assert f"needs an approval of {digest}" in " ".join(shown.out.split())
        refused = backfill("run", saved)
        assert refused.status == 4
        assert f"with: digest: {digest}" in refused.err
        approvals = tmp_path / "approvals"
        approvals.mkdir()
        (approvals / "test.yaml").write_text(f"digest: {digest}x\nby: somebody\n")
        assert backfill("run", saved).status == 4
        (approvals / "test.yaml").write_text(f"digest: {digest}\ntarget: cloud\n")
        assert backfill("run", saved).status == 4, "of another target"
        (approvals / "test.yaml").write_text(f"digest: {digest}\nby: somebody\ntarget: {url}\n")
        assert backfill("run", saved).status == 0
        assert len(jobs.items) == 5
        write_plan(tmp_path, repos(6) + SYNC + approval)
        assert backfill("run", plan, "--target", url).status == 4, "it is another plan now"
        write_plan(tmp_path, repos(4) + SYNC + approval)
        assert backfill("run", plan, "--target", url).status == 0, "so few need none"


def test_its_form_is_the_published_one(backfill: Backfill, plan: Path, tmp_path: Path) -> None:
    import jsonschema

    saved = tmp_path / "saved.json"
    backfill("plan", plan, "--out", saved)
    schema = json.loads(backfill("schema", "saved-plan").out)
    value = json.loads(saved.read_text())
    jsonschema.validate(value, schema)
    assert list(value) == sorted(value)


def test_a_diff_of_files_says_what_changes_and_exits_by_it(
    backfill: Backfill, plan: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(plan.read_text().replace("o/r4", "o/new").replace("100ms", "1s"))
    found = backfill("diff", plan, other, "--exit-code")
    assert found.status == 2
    assert "- sync: 1 event removed: o/r4\n+ sync: 1 event added: o/new\n" in found.out
    assert "~ sync: delay: 100ms → 1s" in found.out
    assert "5 events; 2s of pacing, was 200ms" in found.out
    assert backfill("diff", plan, other).status == 0
    same = backfill("diff", plan, plan, "--exit-code")
    assert (same.status, same.out) == (0, "The plans send the same.\n")
    value = json.loads(backfill("diff", plan, other, "--format", "json").out)
    assert value["same"] is False
    assert value["duration_s"] == {"old": 0.2, "new": 2.0}
    assert "- &#43;" not in backfill("diff", plan, other, "--format", "markdown").out


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True
    )


def test_only_plans_that_have_changed_are_checked(
    backfill: Backfill, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change in the plan file or in a file that it uses counts; in Actions, problems are
    annotations."""
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    (tmp_path / "repos.csv").write_text("repo\no/r0\n")
    other = tmp_path / "other.yaml"
    other.write_text(plan.read_text().replace("name: test", "name: other"))
    other.write_text(
        "apiVersion: backfill/v1\nkind: BackfillPlan\nmetadata: {name: other}\n"
        "catalog: catalog.yaml\nrepos: [{file: repos.csv}]\noperations: [sync]\n"
    )
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    since = ("--changed-since", "HEAD")
    assert backfill("validate", tmp_path, *since).out == "no plan has changed since HEAD\n"
    (tmp_path / "repos.csv").write_text("repo\no/r0\no/r1\n")
    assert backfill("validate", tmp_path, *since).out == f"{other} is valid\n"
    (tmp_path / "new.yaml").write_text("kind: BackfillPlan\n")
    found = backfill("validate", tmp_path, *since, env={"GITHUB_ACTIONS": "true"})
    assert found.status == 3
    assert f"::error file={tmp_path}/new.yaml,line=1" in found.out
    assert "other.yaml" not in found.out
    listed = json.loads(backfill("validate", tmp_path, "--format", "sarif").out)
    assert listed["runs"][0]["results"]
    unknown = backfill("validate", tmp_path, "--changed-since", "nosuch")
    assert (unknown.status, "no git revision `nosuch`" in unknown.err) == (2, True)


def test_a_diff_of_git_revisions_sees_the_files_as_they_were(
    backfill: Backfill, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the catalog of that revision, whatever is in the folder now."""
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "plan.yaml", "catalog.yaml")
    git(tmp_path, "commit", "-q", "-m", "one")
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(catalog.read_text().replace("app/sync", "app/sync.v2"))
    git(tmp_path, "commit", "-q", "-am", "two")
    found = backfill("diff", "HEAD~1..HEAD", plan)
    assert found.status == 0, found.err
    assert "~ sync: event: app/sync → app/sync.v2" in found.out
    assert "sync.v2 → app/sync.v3" not in found.out
    catalog.write_text(catalog.read_text().replace("app/sync.v2", "app/sync.v3"))
    assert "~ sync: event: app/sync.v2 → app/sync.v3" in backfill("diff", "HEAD", plan).out
    missing = backfill("diff", "nosuch..HEAD", plan)
    assert missing.status == 2
    assert "there is no file and no git revision `nosuch`" in missing.err
    (tmp_path / "new.yaml").write_text(plan.read_text())
    unknown = backfill("diff", "HEAD~1..HEAD", tmp_path / "new.yaml")
    assert unknown.status == 2
    assert "does not exist in HEAD~1" in unknown.err
