"""Tools that query databases and targets."""

from __future__ import annotations

from runner.agents.tool import (
    PLAN,
    READING,
    RUN,
    SUBSET,
    TARGET,
    Answer,
    Given,
    Tool,
    arguments,
    flag,
    inside,
    is_strict,
    known_target,
    seconds_of,
    selectors_of,
    text,
    variables_of,
)
from runner.app.session import HERE, Session


def _doctor(session: Session, given: Given) -> Answer:
    from runner.app.doctor import examine
    from runner.output.problems import findings_json

    plan = inside(given["plan"]) if "plan" in given else None
    named, strict = known_target(given.get("target")), is_strict(given)
    target, variables = session.target(named, plan or HERE), variables_of(given)
    found = examine(session, plan, target, variables=variables, strict=strict, named=named)
    return Answer(findings_json(found))


def _check(session: Session, given: Given) -> Answer:
    from runner.app.check import check
    from runner.output.ledger import checked_json

    plan, named = inside(given["plan"]), known_target(given.get("target"))
    found = check(
        session,
        plan,
        variables=variables_of(given),
        strict=is_strict(given),
        applied=session.named_target(named, plan) if given.get("applied") else None,
        wait=seconds_of(given, "wait", "0s"),
        selectors=selectors_of(given),
    )
    return Answer(checked_json(found))


def _coverage(session: Session, given: Given) -> Answer:
    from runner.app.queries import coverage
    from runner.output.coverage import coverage_json

    found = coverage(
        session,
        inside(given["plan"]),
        variables=variables_of(given),
        strict=is_strict(given),
        run=given.get("run"),
        selectors=selectors_of(given),
    )
    return Answer(coverage_json(found))


TOOLS = (
    Tool(
        "doctor",
        "Find what would go wrong with a plan or a target, before anything is sent.",
        arguments((), {**PLAN, **READING, **TARGET}),
        ("doctor.v1",),
        _doctor,
    ),
    Tool(
        "check",
        "Ask a plan's checks and coverage of the database now.",
        arguments(
            ("plan",),
            {
                **PLAN,
                **SUBSET,
                **TARGET,
                "applied": flag(
                    "Also require that this plan, unchanged, is completed on the target."
                ),
                "wait": text(
                    "How long to keep asking until everything holds, such as `10m`.", default="0s"
                ),
            },
        ),
        ("check.v1",),
        _check,
    ),
    Tool(
        "coverage",
        "Show how much of the data is there, item by item; with `run`, before and after it.",
        arguments(("plan",), {**PLAN, **SUBSET, **RUN}),
        ("coverage.v1",),
        _coverage,
    ),
)
