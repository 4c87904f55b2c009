"""Following a branch: real repositories, real processes, signals, force pushes, signatures."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Jobs, Start, until
from tests.git import Git
from tests.support import CATALOG
from tests.types import Backfill, Result


def plan(name: str, repos: str, more: str = "") -> str:
    return (
        f"apiVersion: backfill/v1\nkind: BackfillPlan\nmetadata: {{name: {name}}}\n"
        f"catalog: catalog.yaml\nrepos: [{repos}]\noperations: [sync]\n{more}"
    )


@pytest.fixture
def remote(tmp_path: Path) -> Git:
    """A repository elsewhere with one plan on main."""
    git = Git.init(tmp_path / "remote")
    git.write("plans/catalog.yaml", CATALOG)
    git.write("plans/1-one.yaml", plan("one", "o/a"))
    git.commit()
    return git


@pytest.fixture
def once(backfill: Backfill, remote: Git, url: str) -> Callable[..., Result]:
    def run(*options: str) -> Result:
        return backfill("sync", "--repo", remote.folder, "--target", url, "--once", *options)

    return run


Once = Callable[..., Result]


def status(backfill: Backfill) -> dict[str, Any]:
    done = backfill("status", "--format", "json")
    assert done.status == 0, done.err
    (found,) = json.loads(done.out)["syncs"]
    return dict(found)


def test_what_is_pushed_is_applied_once(
    once: Once, remote: Git, jobs: Jobs, backfill: Backfill
) -> None:
    first = once()
    assert first.status == 0, first.err
    assert jobs.items == ["o/a"]
    again = once()
    assert again.status == 0
    assert again.out.startswith("nothing is pending: ")
    remote.write("plans/2-two.yaml", plan("two", "o/b"))
    commit = remote.commit()
    assert once().status == 0
    assert jobs.items == ["o/a", "o/b"]
    found = status(backfill)
    assert (found["applied"], found["outcome"], found["health"]) == (commit, "applied", "ended")


@pytest.mark.parametrize("other", ["variables", "invalid", "address"])
def test_what_is_applied_with_other_variables_or_elsewhere_is_not_said_to_be_applied(
    backfill: Backfill, remote: Git, url: str, jobs: Jobs, other: str
) -> None:
    more = "vars: {n: 1}\naccept: {unused-variable: a test}\n"
    remote.write("plans/1-one.yaml", plan("one", "o/a", more))
    remote.write(
        "backfill.yaml",
        "apiVersion: backfill/v1\nkind: BackfillProject\nenvironments: {here: {target: dev}}\n",
    )
    commit = remote.commit()

    def once(address: str, *options: str) -> Result:
        sync = ("sync", "--repo", remote.folder, "--env", "here", "--once")
        return backfill(*sync, *options, env={"INNGEST_DEV": address})

    assert once(url).status == 0
    again = once(url)
    assert (again.status, again.out) == (0, f"nothing is pending: {commit[:12]} is applied\n")
    assert status(backfill)["applied"] == commit
    if other == "variables":
        done = once(url, "--var", "n=2")
        assert (done.status, "changed: one was applied by run" in done.err) == (5, True)
        assert (status(backfill)["applied"], status(backfill)["health"]) == (None, "failed")
    elif other == "invalid":
        assert once(url, "--var", "unknown=2").status == 3
        assert (status(backfill)["applied"], status(backfill)["health"]) == (None, "failed")
    else:
        done = once(url.replace("127.0.0.1", "localhost"))
        assert (done.status, jobs.items) == (0, ["o/a", "o/a"]), done.err


def test_an_environment_is_that_of_the_repositorys_own_project(
    backfill: Backfill, remote: Git, url: str
) -> None:
    """Even if this folder has no such environment, and read again with each commit."""
    head = "apiVersion: backfill/v1\nkind: BackfillProject\nenvironments:\n"
    remote.write("backfill.yaml", f"{head}  there: {{target: 'https://example.com'}}\n")
    remote.commit()
    sync = ("sync", "--repo", str(remote.folder), "--env", "there", "--once", "--format", "json")
    done = backfill(*sync)
    assert done.status == 4
    assert (
        "`sync` cannot ask for confirmation before it sends to there: https://example.com"
        in done.err
    )
    remote.write("backfill.yaml", f"{head}  there: {{target: '{url}'}}\n")
    remote.commit()
    done = backfill(*sync)
    assert (done.status, json.loads(done.out)["target"]) == (0, url)


@pytest.mark.parametrize(
    ("name", "status"), [("plans/2-two.yaml", 2), ("2-two.yaml", 0), ("plans/notes", 0)]
)
def test_a_plan_that_is_a_link_out_of_the_repository_is_refused_as_apply_refuses_it(
    once: Once, remote: Git, jobs: Jobs, tmp_path: Path, name: str, status: int
) -> None:
    """Other links out of the repository are ignored."""
    (tmp_path / "two.yaml").write_text(plan("two", "o/b"))
    (remote.folder / name).symlink_to(tmp_path / "two.yaml")
    remote.commit()
    done = once()
    assert (done.status, jobs.items) == (status, [] if status else ["o/a"])
    assert (f"error: the link {name} leads out of the repository\n" in done.err) == bool(status)


@pytest.mark.parametrize(("name", "status"), [("2-two.yaml", 2), ("two.txt", 0)])
def test_a_plan_in_the_folder_that_is_in_no_commit_is_refused(
    once: Once, remote: Git, jobs: Jobs, name: str, status: int
) -> None:
    """Handlers may write there, but what is applied is in git, and signed where that is needed."""
    assert once().status == 0
    (mirror,) = Path(".backfill/sync").iterdir()
    stray = (mirror / "plans" / name).resolve()
    stray.write_text(plan("two", "o/b"))
    done = once()
    assert (done.status, jobs.items) == (status, ["o/a"])
    commit = remote("rev-parse", "--short=12", "HEAD")
    assert (f"error: {stray} is not in {commit}\n" in done.err) == bool(status)
    assert stray.exists()


def test_a_merge_is_applied_and_a_branch_that_is_not_merged_is_not(
    once: Once, remote: Git, jobs: Jobs
) -> None:
    assert once().status == 0
    remote("switch", "--quiet", "--create", "topic")
    remote.write("plans/2-two.yaml", plan("two", "o/b"))
    remote.commit()
    assert once().out.startswith("nothing is pending: ")
    remote("switch", "--quiet", "main")
    remote("merge", "--quiet", "--no-ff", "--no-edit", "topic")
    assert once().status == 0
    assert jobs.items == ["o/a", "o/b"]


def test_a_branch_that_was_rewritten_is_refused_unless_allowed(
    once: Once, remote: Git, jobs: Jobs, backfill: Backfill
) -> None:
    assert once().status == 0
    remote.write("plans/2-two.yaml", plan("two", "o/b"))
    remote("add", "--all")
    remote.commit("another history", "--amend")
    refused = once()
    assert refused.status == 5
    assert "main was rewritten: it was at" in refused.err
    assert "--allow-force-push accepts it" in refused.err
    assert jobs.items == ["o/a"]
    found = status(backfill)
    assert (found["outcome"], found["health"]) == ("refused", "refused")
    assert "main was rewritten" in found["message"]
    assert once("--allow-force-push").status == 0
    assert jobs.items == ["o/a", "o/b"]
    assert once().out.startswith("nothing is pending: ")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed here")
def test_a_commit_is_applied_only_with_a_known_signature_where_one_is_demanded(
    once: Once, remote: Git, jobs: Jobs, tmp_path: Path
) -> None:
    for name in ("known", "stranger"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(command, check=True)
    signers = tmp_path / "signers"
    key = (tmp_path / "known.pub").read_text()
    signers.write_text(f"tester@example.com {key}")
    demand = ("--allowed-signers", str(signers))
    unsigned = once(*demand)
    assert unsigned.status == 4
    assert "has no valid signature\n" in unsigned.err, "git itself gives no reason"
    remote("config", "gpg.format", "ssh")
    for name in ("stranger", "known"):
        remote("config", "user.signingkey", str(tmp_path / f"{name}.pub"))
        remote.commit("signed", "--gpg-sign")
        assert jobs.items == []
        assert once(*demand).status == (0 if name == "known" else 4)
    assert jobs.items == ["o/a"]


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed here")
def test_a_key_of_another_kind_is_no_allowed_signer(
    once: Once, remote: Git, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git would accept any key of the keyring for that kind of signature."""
    home = tempfile.mkdtemp(dir="/tmp")  # gpg-agent's socket path must not exceed 107 characters
    monkeypatch.setenv("GNUPGHOME", home)
    made = ["--quick-gen-key", "tester@example.com", "ed25519", "sign", "never"]
    gpg = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run([*gpg, *made], check=True, capture_output=True)
    remote("config", "user.signingkey", "tester@example.com")
    remote.commit("signed", "--gpg-sign")
    assert remote("verify-commit", "HEAD") == ""
    signers = tmp_path / "signers"
    signers.write_text("")
    assert once("--allowed-signers", str(signers)).status == 4
    assert jobs.items == []
    assert once("--signed").status == 0
    subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=False)
    shutil.rmtree(home, ignore_errors=True)


def test_what_a_killed_process_has_left_in_the_mirror_is_cleared_away(
    once: Once, remote: Git, jobs: Jobs
) -> None:
    assert once().status == 0
    (mirror,) = Path(".backfill/sync").iterdir()
    for name in ("index.lock", "config.lock", "refs/remotes/origin/main.lock"):
        (mirror / ".git" / name).write_text("")
    remote.write("plans/2-two.yaml", plan("two", "o/b"))
    remote.commit()
    assert once().status == 0
    assert jobs.items == ["o/a", "o/b"]


def test_one_process_of_a_machine_follows_a_branch(
    start: Start, remote: Git, url: str, jobs: Jobs, once: Once, backfill: Backfill
) -> None:
    process = start("sync", "--repo", remote.folder, "--target", url, "--every", "1s")
    jobs.wait_for(1)
    refused = once()
    assert refused.status == 5
    assert "another `backfill sync` on this machine follows main" in refused.err
    until(lambda: status(backfill)["outcome"] == "applied")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (0, -signal.SIGTERM), "the second may come when Python has ended"
    assert process.stderr
    assert "Traceback" not in process.stderr.read()


def test_an_invalid_plan_is_named_until_it_is_mended(
    once: Once, remote: Git, jobs: Jobs, backfill: Backfill
) -> None:
    remote.write("plans/2-two.yaml", plan("two", "nonsense"))
    remote.commit()
    assert once().status == 3
    assert "2-two.yaml:5:9: error: `nonsense` is not" in status(backfill)["message"]
    remote.write("plans/2-two.yaml", plan("two", "o/b"))
    remote.commit()
    assert once().status == 0
    assert jobs.items == ["o/a", "o/b"]


def test_what_cannot_be_fetched_is_6_and_named(
    backfill: Backfill, remote: Git, url: str, once: Once
) -> None:
    done = backfill("sync", "--repo", "/nowhere/at/all", "--target", url, "--once")
    assert done.status == 6
    assert "'/nowhere/at/all' does not appear to be a git repository" in done.err
    gone = once("--branch", "gone")
    assert gone.status == 6
    assert "couldn't find remote ref" in gone.err


@pytest.mark.parametrize("before", [True, False])
def test_a_shallow_clone_from_which_git_fetches_nothing_is_6(
    once: Once, remote: Git, jobs: Jobs, before: bool
) -> None:
    if before:
        assert once().status == 0
    remote.write("plans/2-two.yaml", plan("two", "o/b"))
    remote.write(".git/shallow", remote.commit() + "\n")
    found = once()
    assert found.status == 6, found.out
    assert f"{remote.folder} is a shallow clone" in found.err
    assert jobs.items == ["o/a"] * before
    (remote.folder / ".git/shallow").unlink()
    assert once().status == 0
    assert jobs.items == ["o/a", "o/b"]


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--path", "elsewhere/"], 2, "there is no elsewhere/ in"),
        (["--path", "../"], 2, "there is no ../ in"),
        (["--branch", "--upload-pack=x"], 2, "is not the name of a branch"),
        (["--every", "0s"], 2, "--every must be at least 1s"),
        (
            ["--repo", "https://user:s3cret-word@example.com/x"],
            2,
            "--repo has a user or a key in it",
        ),
        (["--repo", "https://example.com/x?t=s3cret-word"], 2, "--repo has a user or a key in it"),
        (["--repo", "ssh://git:s3cret-word@127.0.0.1/x"], 2, "--repo has a user or a key in it"),
        (["--target", "https://example.com"], 4, "`sync` cannot ask for confirmation"),
    ],
)
def test_mistakes_are_told_in_words(
    once: Once, jobs: Jobs, options: list[str], status: int, said: str
) -> None:
    done = once(*options)
    assert (done.status, jobs.items) == (status, [])
    assert said in done.err
    assert "s3cret-word" not in done.err


def test_a_plan_that_fails_is_a_sync_that_fails_until_it_is_retried(
    once: Once, jobs: Jobs, backfill: Backfill
) -> None:
    jobs.failing.add("o/a")
    assert once().status == 1
    found = status(backfill)
    assert (found["health"], found["applied"]) == ("failed", None)
    assert once().status == 1
    assert "is failed" in status(backfill)["message"], "as `apply` has said"
    jobs.failing.clear()
    assert backfill("retry", "latest").status == 0
    assert once().status == 0
    assert jobs.items == ["o/a", "o/a"]


def test_what_a_handler_prints_is_no_cause_of_a_failure(backfill: Backfill, remote: Git) -> None:
    remote.write(
        "plans/jobs.py",
        "import sys\n\ndef sync(event):\n"
        "    print('error: 401 with signkey-test-1234', file=sys.stderr)\n"
        "    raise ValueError('no such repository')\n",
    )
    remote.write("plans/1-one.yaml", plan("one", "o/a", "handlers: {app/sync: 'jobs:sync'}\n"))
    remote.commit()
    done = backfill("sync", "--repo", remote.folder, "--once")
    assert done.status == 1
    assert "signkey-test-1234" in done.err, "as the handler prints it"
    message = status(backfill)["message"]
    assert message.startswith("run ")
    assert message.endswith(" is failed")


def test_it_follows_until_sigterm_and_status_tells_how_it_is(
    start: Start, remote: Git, url: str, jobs: Jobs, backfill: Backfill
) -> None:
    process = start("sync", "--repo", remote.folder, "--target", url, "--every", "1s")
    jobs.wait_for(1)
    until(lambda: status(backfill)["outcome"] == "applied")
    assert status(backfill)["health"] == "healthy"
    text = backfill("status").out
    assert f"sync {remote.folder} main plans/ → {url}: healthy" in text
    assert "is applied; looked " in text
    remote.write("plans/2-two.yaml", plan("two", "o/b"))
    remote.commit()
    jobs.wait_for(2)
    until(lambda: status(backfill)["outcome"] == "applied")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert status(backfill)["health"] == "ended"
    assert jobs.items == ["o/a", "o/b"]


def test_a_process_that_is_stopped_or_killed_in_mid_run_is_carried_on_by_the_next(
    start: Start, remote: Git, url: str, jobs: Jobs, once: Once, backfill: Backfill
) -> None:
    """SIGTERM ends the run in order (7); after SIGKILL the process that applies goes on alone."""
    names = [f"o/r{number}" for number in range(6)]
    pacing = "batch_size: 1\ndelay: 300ms\n"
    remote.write("plans/2-two.yaml", plan("two", ", ".join(names), pacing))
    remote.commit()
    arguments = ("sync", "--repo", remote.folder, "--target", url, "--every", "1s")
    process = start(*arguments)
    jobs.wait_for(3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 7
    assert len(jobs.items) < 7
    process = start(*arguments)
    jobs.wait_for(len(jobs.items) + 1)
    process.kill()
    process.wait()
    until(lambda: once().status == 0)
    assert jobs.items == ["o/a", *names], "each of them once"
    assert status(backfill)["outcome"] == "applied"


def test_what_is_away_for_a_while_is_said_once_and_tried_again(
    start: Start, remote: Git, url: str, jobs: Jobs, backfill: Backfill, tmp_path: Path
) -> None:
    process = start("sync", "--repo", remote.folder, "--target", url, "--every", "1s")
    jobs.wait_for(1)
    until(lambda: status(backfill)["outcome"] == "applied")
    remote.folder.rename(tmp_path / "away")
    until(lambda: status(backfill)["health"] == "unreachable")
    looked = status(backfill)["checked_at"]
    until(lambda: status(backfill)["checked_at"] > looked)
    (tmp_path / "away").rename(remote.folder)
    remote.write("plans/2-two.yaml", plan("two", "o/b"))
    remote.commit()
    jobs.wait_for(2)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr
    assert process.stderr.read().count("hint: check the address") == 1


def test_the_state_may_be_a_database_that_is_shared(
    backfill: Backfill, remote: Git, url: str, jobs: Jobs, new_schema: Callable[[str], str]
) -> None:
    state = new_schema("sync")
    arguments = ("sync", "--repo", remote.folder, "--target", url, "--once")
    for _ in range(2):
        assert backfill(*arguments, env={"BACKFILL_STATE": state}).status == 0
    assert jobs.items == ["o/a"]
    shown = backfill("status", "--state", state)
    assert f"main plans/ → {url}: ended" in shown.out


def test_a_sync_without_a_run_is_shown_by_itself(backfill: Backfill, remote: Git, url: str) -> None:
    backfill("sync", "--repo", "/nowhere", "--target", url, "--once")
    done = backfill("status")
    assert done.status == 0
    assert done.out.startswith(f"sync /nowhere main plans/ → {url}: unreachable\n")
    assert "nothing is applied yet" in done.out
