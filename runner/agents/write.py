"""Tools that write, check and compare plan files."""

from __future__ import annotations

from pathlib import Path

from runner.agents.tool import (
    FACTS,
    PLAN,
    READING,
    SUBSET,
    Answer,
    Given,
    Tool,
    arguments,
    inside,
    is_strict,
    selectors_of,
    text,
    to_write,
    variables_of,
)
from runner.app.session import Session
from runner.errors import InvalidPlan


def _init(_session: Session, given: Given) -> Answer:
    from runner.app.init import init

    names = ", ".join(map(str, init(to_write(given["plan"], given["plan"]), given.get("for"))))
    return Answer(None, f"wrote {names}; next: `plan` shows what it would send")


def _validate(session: Session, given: Given) -> Answer:
    from runner.app.validate import validate
    from runner.output.problems import validation_json

    path = inside(given["plan"])
    _, problems = validate(session, [path], variables_of(given), strict=is_strict(given))
    return Answer(validation_json(problems))


def _operations(_session: Session, given: Given) -> Answer:
    from runner.output.operations import operations_json
    from runner.spec.load import read_catalog

    catalog, problems = read_catalog(inside(given["plan"]) if "plan" in given else None)
    if problems:
        raise InvalidPlan(tuple(problems))
    return Answer(operations_json(catalog.values()))


def _diff(session: Session, given: Given) -> Answer:
    from runner.app.review import difference
    from runner.output.review import difference_json

    old, new = given["old"], inside(given["plan"])
    if Path(old).is_file() or "/" in old or old.endswith((".yaml", ".json")):
        inside(old)
    found, _ = difference(
        session,
        old,
        new,
        variables_of(given),
        strict=is_strict(given),
        selectors=selectors_of(given),
    )
    return Answer(difference_json(found))


TOOLS = (
    Tool(
        "init",
        "Write a first plan file, with its schema, a worker and a project file beside it.",
        arguments(
            ("plan",),
            {
                "plan": text("The file to write."),
                "for": text("The name of your own kind of items, such as users."),
            },
        ),
        (),
        _init,
        reads=False,
        alone=True,
    ),
    Tool(
        "validate",
        "Check a plan file, or a folder of them: every problem with its file, line and column.",
        arguments(("plan",), {**PLAN, **READING, **FACTS}),
        ("validate.v1",),
        _validate,
        alone=True,
    ),
    Tool(
        "operations",
        "List the operations that a plan can use; without a plan, the built-in ones.",
        arguments((), PLAN),
        ("operations.v1",),
        _operations,
        alone=True,
    ),
    Tool(
        "diff",
        "Show how what a plan sends differs from an older plan.",
        arguments(
            ("plan", "old"),
            {
                **PLAN,
                "old": text(
                    "A plan file, a saved plan, or git revisions such as `main` or `main..HEAD`."
                ),
                **SUBSET,
                **FACTS,
            },
        ),
        ("diff.v1",),
        _diff,
    ),
)
