"""The prompts of the aggressive-backfill document, carried out with the tools: each gives the plan
before anything is sent, the ids of what was sent, and what to watch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.agents.conftest import Agent, serving
from tests.cli.conftest import backfill
from tests.contributor_info.conftest import Application, application

__all__ = ["application", "backfill"]
SYNC, EMBED, AGGREGATE = (
    "capture/repository.sync",
    "embeddings/process.workspace",
    "workspace/aggregate",
)
THREE = ["continuedev/continue", "vercel/ai", "bdougie/contributor.info"]


@dataclass(frozen=True)
class Prompt:
    """A prompt, the tools' arguments that it leads to, and the expected events, in order."""

    words: str
    plan: str
    events: list[tuple[str, dict[str, Any]]]
    arguments: dict[str, Any] = field(default_factory=dict)


def synced(names: list[str], **more: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (SYNC, dict(zip(("owner", "repo"), name.split("/"), strict=True)) | more) for name in names
    ]


PROMPTS = {
    "quick trigger": Prompt(
        "Trigger an aggressive backfill for these three repositories",
        "aggressive-backfill",
        [
            *synced(THREE),
            (EMBED, {"workspace_id": "contributor-info", "batch_size": 100, "delay_ms": 2000}),
            (AGGREGATE, {"workspace_id": "contributor-info"}),
        ],
    ),
    "one repository": Prompt(
        "Backfill only continuedev/continue",
        "aggressive-backfill",
        [
            *synced(THREE[:1]),
            (EMBED, {"workspace_id": "contributor-info", "batch_size": 100, "delay_ms": 2000}),
            (AGGREGATE, {"workspace_id": "contributor-info"}),
        ],
        {"item": "continuedev/continue"},
    ),
    "embeddings only": Prompt(
        "Only the embeddings, 100 at a time, 2 seconds apart",
        "aggressive-backfill",
        [(EMBED, {"workspace_id": "contributor-info", "batch_size": 100, "delay_ms": 2000})],
        {"only": "embeddings"},
    ),
    "aggregation only": Prompt(
        "Only aggregate the workspace again",
        "aggressive-backfill",
        [(AGGREGATE, {"workspace_id": "contributor-info"})],
        {"only": "workspace-aggregation"},
    ),
    "onboarding": Prompt(
        "Onboard the new workspace, ahead of other work",
        "onboard-workspace",
        [
            *synced(THREE[:2], priority="high"),
            (
                EMBED,
                {
                    "workspace_id": "3f1c9b1e",
                    "batch_size": 50,
                    "delay_ms": 5000,
                    "priority": "high",
                },
            ),
            (AGGREGATE, {"workspace_id": "3f1c9b1e", "priority": "high"}),
        ],
    ),
    "missing embeddings": Prompt(
        "Fill in the embeddings that are missing for the last 30 days",
        "missing-embeddings",
        [
            (
                EMBED,
                {
                    "workspace_id": "3f1c9b1e",
                    "batch_size": 100,
                    "delay_ms": 5000,
                    "days": 30,
                    "repositories": ["vercel/ai", "continuedev/continue", THREE[2]],
                },
            )
        ],
        {"vars": {"window_days": 30}},
    ),
    "schema change": Prompt(
        "Refresh after the schema change, without the embeddings",
        "refresh-after-schema-change",
        [
            *synced(["bdougie/contributor.info", "continuedev/continue", "vercel/ai"]),
            (AGGREGATE, {"workspace_id": "contributor-info"}),
        ],
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_gives_the_plan_the_ids_and_what_to_watch(shipped: Agent, name: str) -> None:
    prompt = PROMPTS[name]
    arguments = {"plan": f"plans/{prompt.plan}.yaml", **prompt.arguments}
    # The plan, before anything is sent.
    preview = shipped("plan", **arguments).document
    planned = [item for stage in preview["stages"] for item in stage["items"]]
    assert [(one["event"]["name"], one["event"]["data"]) for one in planned] == prompt.events
    assert preview["totals"]["events"] == len(prompt.events)
    assert preview["target"] == "embedded"
    # The run, which reports its progress.
    shipped.heard.clear()
    summary = shipped("run", **arguments).document
    run_id = summary["run_id"]
    assert summary["status"] == "completed"
    assert summary["totals"]["completed"] == len(prompt.events)
    assert [at for at, _, _ in shipped.heard] == sorted({at for at, _, _ in shipped.heard})
    assert any(run_id in message for _, _, message in shipped.heard)
    # The ids: an event's own, the server's, and those of the jobs.
    events = shipped("events", run=run_id).document["events"]
    assert [(one["event"], one["item"]) for one in events] == [
        (one["event"]["name"], one["item"]) for one in planned
    ]
    assert all(one["event_id"] and one["internal_id"] for one in events)
    assert all(job["id"] and job["status"] for one in events for job in one["jobs"])
    assert all(one["jobs"] and one["outcome"] == "completed" for one in events)
    # What to watch.
    status = shipped("status", run=run_id).document
    assert status["state"] == "completed"
    assert [stage["sent"] for stage in status["stages"]] == [
        stage["events"] for stage in status["stages"]
    ]
    log = shipped("logs", run=run_id).document
    assert log["entries"][-1]["message"] == "ended: completed"
    assert log["entries"][0]["who"].endswith(", by an agent)")
    assert run_id in [one["run_id"] for one in shipped("runs").document["runs"]]


def test_the_document_is_proved_from_the_applications_own_database(
    application: Application,
) -> None:
    """Coverage before and after, and the checks, as the document's own SQL would show them."""
    plan = "aggressive-backfill.yaml"
    with serving(application.folder, application.env("work")) as agent:
        before = agent("coverage", plan=plan).document["coverage"]["pull requests"]["total"]
        assert before["pending"] == 280
        preview = agent("plan", plan=plan).document
        assert preview["totals"]["events"]
        summary = agent("run", plan=plan).document
        assert summary["status"] == "completed"
        assert {check["name"]: check["ok"] for check in summary["checks"]} == {
            "synced": True,
            "pull requests covered": True,
        }
        gate = agent("check", plan=plan, applied=True).document
        assert gate["ok"], gate["unmet"]
        after = agent("coverage", plan=plan, run="latest").document["coverage"]
        assert after["pull requests"]["total"]["pending"] == 0
