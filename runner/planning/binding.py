"""Questions bound to their parameters: values are bound to a query, never pasted into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.model import (
    BackfillPlan,
    Check,
    CheckSpec,
    Coverage,
    Data,
    Draining,
    Expect,
    Json,
    Measure,
    Problem,
    Question,
    Until,
)
from runner.planning.items import find_workspaces
from runner.spec.questions import OF_RUNS, names_of


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


@dataclass(slots=True)
class Binder:
    """What a plan's questions may use; made once, when the first of them is bound."""

    plan: BackfillPlan
    problems: list[Problem] = field(default_factory=list)
    _implicit: Data | None = None

    def checks(self, specs: Sequence[CheckSpec]) -> tuple[Check, ...]:
        return tuple(self._check(spec) for spec in specs)

    def until(self, spec: Draining) -> Until:
        return Until(
            spec.question.query,
            self._bound(spec.question),
            self._expect(spec),
            spec.stalled_after,
            spec.max_rounds,
            spec.max_time,
        )

    def coverage(self, ones: Sequence[Coverage]) -> tuple[Measure, ...]:
        return tuple(
            Measure(one.name, one.question.query, self._bound(one.question)) for one in ones
        )

    def _check(self, spec: CheckSpec) -> Check:
        return Check(
            spec.name,
            spec.question.query,
            self._bound(spec.question),
            self._expect(spec),
            spec.moment,
            spec.operation,
            spec.timeout,
            spec.every,
            spec.unchanged,
            spec.migration,
        )

    def _expect(self, spec: CheckSpec | Draining) -> Expect:
        """With its templates rendered; bounds must come out as numbers."""
        context = {"vars": self.plan.variables, "plan": self.plan.metadata}
        try:
            found = spec.bounds(context)
        except ValueError:
            self.problems += spec.bounds.explain(context, "the check")
            return spec.expect
        for key in ("at_least", "at_most"):
            value = found.get(key, 0)
            if isinstance(value, bool) or not isinstance(value, int | float):
                message = f"`{key}` gives {value!r}, which is no number"
                self.problems.append(spec.bounds.problem(message))
        return replace(spec.expect, **found)

    def _bound(self, question: Question) -> Data:
        """``:run_started_at`` is left open: it is bound when the run has started."""
        if self._implicit is None:
            self._implicit = implicit(self.plan)
        try:
            found = bound(question, self.plan, {**self._implicit, **dict.fromkeys(OF_RUNS)})
        except ValueError:
            context = {"vars": self.plan.variables, "plan": self.plan.metadata, **self._implicit}
            self.problems += question.parameters.explain(context, "the query")
            return {}
        return {name: value for name, value in found.items() if name not in OF_RUNS}
