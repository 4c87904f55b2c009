"""Tools that show what a plan sends."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from runner.adapters.inngest.target import Target
from runner.agents.tool import (
    FACTS,
    PLAN,
    SUBSET,
    TARGET,
    Answer,
    Given,
    Tool,
    arguments,
    inside,
    is_strict,
    known_target,
    seconds_of,
    selectors_of,
    text,
    to_write,
    variables_of,
)
from runner.app.approval import approved, how_to_approve
from runner.app.policy import refuse_broken
from runner.app.preview import Preview, preview
from runner.app.session import Session
from runner.errors import PreflightRefused, UsageError
from runner.model import ExecutionPlan


def previewed(plan: ExecutionPlan, target: Target, said: str = "") -> Answer:
    from runner.output.preview import write_json

    out = io.StringIO()
    write_json(plan, out, target=target.name)
    error = None
    try:
        refuse_broken(plan)
    except PreflightRefused as refused:
        error = refused
    return Answer(json.loads(out.getvalue()), said, error)


def _found(session: Session, given: Given, writes: Mapping[str, str | None]) -> Preview:
    return preview(
        session,
        inside(given["plan"]),
        variables_of(given),
        target=known_target(given.get("target")),
        strict=is_strict(given),
        selectors=selectors_of(given),
        writes=writes,
    )


def _plan(session: Session, given: Given) -> Answer:
    found = _found(session, given, {})
    return previewed(found.plan, found.target)


def _plan_out(session: Session, given: Given) -> Answer:
    from runner.app.saved import load_saved, refuse_expired, save

    seconds = seconds_of(given, "expires", "24h")
    refuse_expired(seconds)
    out = to_write(given["out"], inside(given["plan"]))
    if Path(out).exists() and load_saved(out) is None:
        raise UsageError(f"{out} exists and is not a saved plan", hint="name another file")
    found = _found(session, given, {"out": out})
    built, plan = found.built, found.plan
    assert built  # noqa: S101 - nothing can be written of a saved plan
    refuse_broken(plan)
    saved = save(
        session, built, known_target(given.get("target")), variables_of(given), out, seconds
    )
    until = datetime.fromtimestamp(saved.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    said = f"saved in {out}, as run {saved.run_id}, until {until}: `run` sends exactly this, once"
    if found.target.kind != "embedded" and not approved(plan.path, plan.digest, found.target):
        said += f", after an approval: {how_to_approve(plan.path, plan.name, plan.digest)}"
    return previewed(plan, found.target, said)


TOOLS = (
    Tool(
        "plan",
        "Show exactly what a run would send: stages, events, what is skipped and why, "
        "the digest. Nothing is sent. It shows saved plans too; `plan_out` saves one.",
        arguments(("plan",), {**PLAN, **SUBSET, **TARGET, **FACTS}),
        ("execution-plan.v1",),
        _plan,
    ),
    Tool(
        "plan_out",
        "Save a plan as it is now (`plan --out`), for a person to review and approve: `run` then "
        "sends exactly that, once.",
        arguments(
            ("plan", "out"),
            {
                **PLAN,
                "out": text("The file to write."),
                **SUBSET,
                **TARGET,
                "expires": text("How long the saved plan stays valid.", default="24h"),
            },
        ),
        ("execution-plan.v1",),
        _plan_out,
        reads=False,
    ),
)
