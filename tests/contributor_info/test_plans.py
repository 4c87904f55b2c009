"""The application's plans, run by the real command against its real tables."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from tests.contributor_info.conftest import PLANS, Application
from tests.types import Backfill

SCHEMA = PLANS.parents[1] / "schemas" / "execution-plan.v1.schema.json"
NAMES = sorted(
    path.stem
    for path in set(PLANS.glob("*.yaml")) - set(PLANS.glob("*.test.yaml"))
    if path.stem != "catalog"
)


@pytest.mark.parametrize("name", NAMES)
def test_every_plan_is_valid_without_a_warning(backfill: Backfill, name: str) -> None:
    result = backfill("validate", PLANS / f"{name}.yaml", "--strict")
    assert result.status == 0, result.out


def test_the_document_as_one_plan_syncs_embeds_until_nothing_is_pending_and_proves_it(
    application: Application,
) -> None:
    result = application("run", "--format", "json", plan="aggressive-backfill")
    assert result.status == 0, result.err
    summary = json.loads(result.out)
    assert summary["status"] == "completed"
    assert summary["failures"] == []
    assert {check["name"]: check["ok"] for check in summary["checks"]} == {
        "synced": True,
        "pull requests covered": True,
    }
    ((pending,),) = application.sql("SELECT count(*) FROM pull_requests WHERE embedding IS NULL")
    assert pending == 0
    assert re.search(r"embeddings: round \d+, .*5/5 sent", result.err), "3 rounds for the one"
    slugs = "SELECT slug FROM aggregated JOIN workspaces ON id = workspace_id ORDER BY slug"
    assert application.sql(slugs) == [("ai-tools",), ("mine",)], "not the closed one"


def test_discussions_are_asked_for_only_where_they_are_on(application: Application) -> None:
    """Off is one thing and unknown (NULL) another; neither is asked for."""
    preview = json.loads(application("plan", "--format", "json", plan="aggressive-backfill").out)
    jsonschema.validate(preview, json.loads(SCHEMA.read_text("utf-8")))
    lines = application("plan", "--format", "jsonl", plan="aggressive-backfill").out.splitlines()
    events = [json.loads(line) for line in lines]
    asked = [event["item"] for event in events if event["operation"] == "discussions"]
    assert asked == ["continuedev/continue"]
    skipped = {entry["item"] for entry in preview["skipped"] if entry["operation"] == "discussions"}
    assert skipped == {"vercel/ai", "bdougie/contributor.info"}


def test_a_count_over_a_view_with_a_limit_is_not_what_the_plan_shows(
    application: Application,
) -> None:
    """280 rows lack an embedding; the view knows of 200."""
    assert application.sql("SELECT count(*) FROM items_needing_embeddings") == [(200,)]
    covered = json.loads(
        application("coverage", "--format", "json", plan="aggressive-backfill").out
    )["coverage"]
    assert covered["pull requests"]["total"]["pending"] == 280
    of = {item["item"]: item["percent"] for item in covered["pull requests"]["items"]}
    assert of["bdougie/contributor.info"] is None, "no data is neither 0 nor 100 %"


def test_a_sync_that_completes_and_changes_nothing_fails_the_run(application: Application) -> None:
    """Completed with 0 rows changed, for 13 hours."""
    result = application("run", plan="onboard-repositories", handlers="nothing")
    assert result.status == 1
    assert "synced" in result.out
    assert "`last_synced_at` is NULL" in result.out
    assert "a check after `repository-sync` does not hold" in result.err


def test_embeddings_that_never_come_are_a_stall(application: Application) -> None:
    plan = application.folder / "drain-embeddings.yaml"
    plan.write_text(
        plan.read_text(encoding="utf-8").replace(
            "operations: [embeddings]",
            "operations: [{use: embeddings, until: {query: 'SELECT COUNT(*) AS pending FROM "
            "pull_requests WHERE embedding IS NULL', expect: {column: pending, at_most: 0}, "
            "stalled_after: 2}}]",
        ),
        encoding="utf-8",
    )
    result = application("run", plan="drain-embeddings", handlers="nothing")
    assert result.status == 1
    assert (
        "`embeddings` is stalled: `pending` is 280, without progress after its last 2 rounds"
        in (result.out + result.err)
    )


def test_half_of_the_work_takes_twice_the_rounds(application: Application) -> None:
    result = application("run", plan="drain-embeddings", handlers="half")
    assert result.status == 0, result.err
    assert "embeddings: round 5, at 50 before it, 6/6 sent" in result.err, (
        "250 by 50 are 5 rounds, 30 are one"
    )


def test_every_row_of_a_query_is_an_item_and_its_repair_is_proved(application: Application) -> None:
    result = application("run", plan="repair-pull-requests")
    assert result.status == 0, result.err
    assert "280 of 280 events accepted" in result.out
    again = application("run", plan="repair-pull-requests")
    assert again.status == 4
    assert "nothing to send" in again.err


def test_half_a_repair_does_not_pass_for_one(application: Application) -> None:
    text = (application.folder / "repair-pull-requests.yaml").read_text(encoding="utf-8")
    (application.folder / "repair-pull-requests.yaml").write_text(
        text.replace("timeout: 10m", "timeout: 0s"), encoding="utf-8"
    )
    result = application("run", plan="repair-pull-requests", handlers="half")
    assert result.status == 1
    assert "`missing` is 125, above 0 (continuedev/continue)" in result.out
    assert "`missing` is 15, above 0 (vercel/ai)" in result.out


def test_a_database_that_goes_away_in_mid_run_ends_it_with_6_and_a_resume_ends_it_well(
    application: Application,
) -> None:
    result = application("run", plan="onboard-repositories", handlers="away")
    assert result.status == 6
    assert "cannot be reached" in result.err or "refuses access" in result.err
    application.sql(f"ALTER ROLE {application.role} LOGIN")
    resumed = application.run("resume", "latest", env=application.env("work"))
    assert resumed.status == 0, resumed.err
    ((pending,),) = application.sql("SELECT count(*) FROM pull_requests WHERE embedding IS NULL")
    assert pending == 0


def test_a_role_that_reads_zero_rows_is_told_from_a_missing_repository(
    application: Application,
) -> None:
    application.sql("ALTER TABLE repositories ENABLE ROW LEVEL SECURITY")
    result = application("plan", plan="aggressive-backfill")
    assert result.status == 3
    named = "bdougie/contributor.info, continuedev/continue, vercel/ai"
    assert f"the lookup `repository` finds nothing for {named}" in result.err
    assert "Row-level security hides rows without an error" in result.err


def test_a_repository_that_is_not_tracked_is_named_and_nothing_is_sent(
    application: Application,
) -> None:
    path = application.folder / "aggressive-backfill.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("vercel/ai", "Vercel/AI\n  - acme/x"), encoding="utf-8")
    result = application("run", plan="aggressive-backfill")
    assert result.status == 3
    assert re.search(r"`repository` finds nothing for .*Vercel/AI, acme/x", result.err)
    assert "names are compared exactly" in result.err
    assert not Path(".backfill").exists()


def test_a_migration_that_is_not_applied_refuses_the_run(application: Application) -> None:
    (application.folder / "backfill.yaml").write_text(
        "apiVersion: backfill/v1\nkind: BackfillProject\nmigrations: {table: schema_migrations}\n",
        encoding="utf-8",
    )
    application.sql("UPDATE repositories SET last_synced_at = now() - interval '1 day'")
    result = application("run", plan="refresh-after-schema-change")
    assert result.status == 4
    assert "20261120 is not applied" in result.err
    application.sql("INSERT INTO schema_migrations VALUES ('20261120')")
    result = application("run", plan="refresh-after-schema-change")
    assert result.status == 0, result.err + result.out
    assert "3 of 3 events accepted" in result.out, "two synced (bdougie is left out), one workspace"


def test_doctor_asks_every_question_of_the_plan(application: Application) -> None:
    result = application("doctor", plan="aggressive-backfill")
    assert result.status == 0, result.out
    for line in ("lookup repository: 3 rows", "check synced: 3 rows", "until of embeddings: 1 row"):
        assert line in result.out
    assert "GitHub points" in result.out
    application.sql("ALTER TABLE issues RENAME COLUMN embedding TO embeddings")
    result = application("doctor", plan="aggressive-backfill")
    assert result.status == 4
    assert "column t.embedding does not exist" in result.out


def test_doctor_smells_permissions_where_every_question_gives_nothing(
    application: Application,
) -> None:
    """Row-level security without a policy: no error, no rows, anywhere."""
    for table in ("repositories", "pull_requests", "workspaces", "workspace_repositories"):
        application.sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    result = application("doctor", plan="refresh-after-schema-change")
    assert result.status == 4
    assert "may this role not read it?" in result.out


def test_coverage_shows_what_a_run_has_gained(application: Application) -> None:
    assert application("run", plan="drain-embeddings").status == 0
    result = application("coverage", "--run", "latest", "--format", "json", plan="drain-embeddings")
    covered = json.loads(result.out)["coverage"]
    assert covered["pull requests"]["total"]["gained"] == 280
    page = application.folder / "run.html"
    assert application.run("report", "latest", "--html", page).status == 0
    assert '<h2 id="coverage-1">Coverage: ' in page.read_text(encoding="utf-8")
    text = application("coverage", "--run", "latest", plan="drain-embeddings").out
    assert re.search(r"continuedev/continue +250 +250 +0 +0 +█{20} 100.0 % +\+250", text)
    lines = application("coverage", "--format", "csv", plan="drain-embeddings").out.splitlines()
    assert lines[0] == "of,item,total,done,missing,percent,pending,last_sync,gained"
    assert "pull requests,vercel/ai,30,30,0,100.0,0,," in lines


def test_a_saved_plan_with_a_drain_is_resolved_by_the_files_it_was_made_of(
    application: Application,
) -> None:
    saved = application.folder / "saved.json"
    made = application("plan", "--out", str(saved), plan="drain-embeddings")
    assert made.status == 0, made.err
    ran = application.run("run", saved, "--format", "json", env=application.env("work"))
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["run_id"] == json.loads(saved.read_text())["run_id"]
    again = application.run("run", saved, env=application.env("work"))
    assert again.status == 5


@pytest.mark.parametrize("name", NAMES)
def test_every_plan_is_the_same_as_itself_and_other_than_another(
    application: Application, name: str
) -> None:
    """Whatever a plan can hold, coverage, checks and needs among it, can be compared."""
    path = application.folder / f"{name}.yaml"
    env = application.env("work")
    if name.startswith("refresh"):  # it is for repositories that were synced before
        application.sql("UPDATE repositories SET last_synced_at = now()")
    same = application.run("diff", path, path, "--exit-code", env=env)
    assert (same.status, same.out) == (0, "The plans send the same.\n"), same.err
    other = application.folder / "other.yaml"
    other.write_text(path.read_text() + "approval: {required: true}\n")
    found = application.run("diff", path, other, "--exit-code", env=env)
    assert (found.status, found.out.splitlines()[0]) == (2, "~ approval: nothing → required"), (
        found.err
    )


HIDDEN = ("pull_requests", "issues", "discussions")


def _hide(application: Application, policy: str = "") -> None:
    for table in HIDDEN:
        application.sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        if policy:
            application.sql(f"CREATE POLICY p ON {table} TO {application.role} USING ({policy})")


def test_a_role_that_sees_no_rows_has_no_backlog_of_zero(application: Application) -> None:
    """Refused before anything is sent, and a failure where that is skipped."""
    _hide(application)
    doctor = application("doctor", plan="drain-embeddings")
    assert doctor.status == 4
    words = "row-level security hides all rows of `pull_requests`"
    assert words in doctor.out
    refused = application("run", plan="drain-embeddings")
    assert refused.status == 4
    assert words in refused.err
    run = application("run", "--skip-preflight", plan="drain-embeddings")
    assert run.status == 1, run.err
    assert f"`pending` is 0, but {words}" in run.err + run.out
    assert "has nothing to do" not in run.err


def test_a_policy_that_shows_all_rows_is_a_warning_and_no_hindrance(
    application: Application,
) -> None:
    _hide(application, "true")
    doctor = application("doctor", plan="drain-embeddings")
    assert doctor.status == 0, doctor.out
    assert "row-level security filters `discussions`, `issues`, `pull_requests`" in doctor.out
    assert application("run", plan="drain-embeddings").status == 0


def test_one_repository_that_was_not_synced_is_named_beside_two_that_were(
    application: Application,
) -> None:
    application.sql(
        "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    )
    application.sql(
        "CREATE TRIGGER skip BEFORE UPDATE ON repositories FOR EACH ROW"
        " WHEN (OLD.owner = 'vercel') EXECUTE FUNCTION skip()"
    )
    application.sql("UPDATE repositories SET last_synced_at = now() - interval '1 second'")
    result = application("run", "--format", "json", plan="aggressive-backfill")
    assert result.status == 1
    checks = {check["name"]: check for check in json.loads(result.out)["checks"]}
    assert checks["synced"]["message"].endswith("(vercel/ai)")
    assert "last_synced_at" in checks["synced"]["message"]


def test_times_without_a_zone_are_read_in_the_roles_session_which_is_noted(
    application: Application,
) -> None:
    """Kiritimati's clocks show 14 hours more: as UTC, any time of the last 14 hours were newer."""
    application.sql(f"ALTER ROLE {application.role} SET timezone = 'Pacific/Kiritimati'")
    application.sql("ALTER TABLE repositories ALTER last_synced_at TYPE timestamp")
    for zone, status in (("UTC", 1), ("Pacific/Kiritimati", 0)):
        application.sql(
            "ALTER TABLE repositories ALTER last_synced_at DROP DEFAULT,"
            " ALTER last_synced_at TYPE timestamp USING NULL"
        )
        owner = application.owner
        application.owner = f"{owner}%20-ctimezone%3D{zone.replace('/', '%2F')}"
        result = application("run", "--format", "json", plan="onboard-repositories")
        application.owner = owner
        assert result.status == status, result.err
        (check,) = (c for c in json.loads(result.out)["checks"] if c["name"] == "synced")
        assert check["ok"] == (status == 0)
        if check["ok"]:
            assert (
                "has no zone and was read in Pacific/Kiritimati, the zone of the session"
                in check["note"]
            )
