"""Questions and their parameters: values are bound to them, never pasted into them."""

from __future__ import annotations

from collections.abc import Mapping

from runner.model import BackfillPlan, Data, Json, Question
from runner.planning.items import find_workspaces
from runner.spec.questions import names_of


def bound(question: Question, plan: BackfillPlan, given: Mapping[str, Json]) -> Data:
    """The parameters that the query uses: the plan's variables, `given`, and its own `params`.

    Raises ValueError where a template cannot be rendered.
    """
    own = question.parameters({"vars": plan.variables, "plan": plan.metadata, **given})
    known = {**plan.variables, **given, **own}
    return {name: known[name] for name in names_of(question.query) if name in known}


def implicit(plan: BackfillPlan) -> Data:
    """What every question may use of the plan's items."""
    rows = list(plan.repositories)
    return {
        "repos": [row["repo"] for row in rows],
        "ids": [row["id"] for row in rows if "id" in row],
        "workspaces": list(find_workspaces(plan, range(len(rows))).names),
    }
