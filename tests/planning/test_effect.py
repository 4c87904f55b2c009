"""Nothing accepted is without effect: whatever is removed from a plan, or misspelt, changes what is
sent and how, or is reported."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runner.errors import InvalidPlan
from runner.model import Json, Query, Table
from runner.planning.build import build_execution_plan
from runner.planning.facts import gather
from runner.spec.load import load_plan
from tests.depth import depth

CATALOG = """\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync:
    event: app/sync
    for_each: repo
    payload: {repo: "{{ repo.repo }}", days: 7, force: true}
    warn: {slow: {if: "repo.velocity | default(0) > 30", message: it is slow}}
  label: {event: app/label, for_each: repo, payload: {n: "{{ repo.name }}"}, when: false or true}
  embed:
    event: app/embed
    for_each: workspace
    after: [sync]
    payload: {id: "{{ workspace.id }}", repos: "{{ workspace.repos }}"}
"""
Step = str | int

REPOS = st.lists(
    st.fixed_dictionaries(
        {"velocity": st.integers(0, 60)},
        optional={
            "priority": st.sampled_from(["critical", "high", "low"]),
            "tier": st.integers(1, 3),
            "workspace": st.sampled_from(["w1", "w2"]),
            "skip": st.sampled_from([["label"], ["embed"]]),
        },
    ),
    min_size=2,
    max_size=4,
)
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "batch_size": st.integers(2, 40),
    "delay": st.sampled_from(["6s", "9s"]),
    "order_by": st.sampled_from([["-velocity"], ["velocity", "priority"]]),
    "on_failure": st.just("continue"),
    "canary": st.just(1),
    "approval": st.just({"required": True, "over_events": 1}),
    "guards": st.just([{"file": "hold.flag"}]),
    "handlers": st.just({"app/sync": "m:f"}),
    "if_empty": st.just("ok"),
    "accept": st.just({"slow": "known"}),
    "vars": st.just({"days": 30}),
    "filter": st.sampled_from([{"repo": ["o/*", "!*/r0"]}, {"repo": "*/r1"}]),
    "flow": st.just("items"),
}


@st.composite
def plans(draw: Any) -> dict[str, Any]:
    """Plans of which each part has an effect, or is reported."""
    repos = [{"repo": f"o/r{n}", **row} for n, row in enumerate(draw(REPOS))]
    use = draw(
        st.fixed_dictionaries(
            {"use": st.just("sync")},
            optional={
                "batch_size": st.integers(41, 49),
                "delay": st.just("7s"),
                "timeout": st.just("20m"),
                "wait": st.just("sent"),
                "when": st.just("repo.velocity < 30"),
                "without": st.just(["force"]),
                "with": st.just({"days": "{{ vars.days | default(1) }}"}),
            },
        )
    )
    more = draw(st.fixed_dictionaries({}, optional=OPTIONAL))
    return {
        "apiVersion": "backfill/v1",
        "kind": "BackfillPlan",
        "metadata": {"name": "random", "owner": "us"},
        "catalog": "catalog.yaml",
        "workspace": "w0",
        "repos": repos,
        "operations": [use, "label", "embed"],
        **more,
    }


class _Nothing:
    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:
        raise AssertionError((query, parameters))


_NOTHING = _Nothing()


def outcome(folder: Path, plan: dict[str, Any]) -> tuple[object, frozenset[tuple[str, str]]]:
    """Return what a run of the plan would do, and what is reported about it."""
    path = folder / "plan.yaml"
    path.write_text(json.dumps(plan), encoding="utf-8")
    try:
        loaded = load_plan(str(path))
        built = build_execution_plan(gather(loaded, _NOTHING, datetime.now(UTC)))
    except InvalidPlan as invalid:
        return None, frozenset((p.severity, p.message) for p in invalid.problems)
    does = (
        [(p.stage, p.operation, p.batch, p.item, p.event) for p in built.planned()],
        [(s.pacing, s.wait, s.timeout, s.canary) for s in built.stages],
        built.skipped,
        [getattr(built, name) for name in
         ("name", "on_failure", "metadata", "handlers", "approval", "guards", "if_empty")],
    )  # fmt: skip
    return does, frozenset((p.severity, f"{p.message} {p.accepted}") for p in built.warnings)


def parts(value: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    """Generate the paths of all mapping keys except the user's own names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            if key != "with":
                yield from parts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from parts(inner, (*path, index))


def changed(plan: dict[str, Any], path: tuple[Step, ...], *, misspelt: bool) -> dict[str, Any]:
    found = copy.deepcopy(plan)
    inner: Any = found
    for step in path[:-1]:
        inner = inner[step]
    value = inner.pop(path[-1])
    if misspelt:
        key = str(path[-1])
        inner[key[:2] + key[3:] if len(key) > 4 else key + "s"] = value
    return found


@settings(
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=depth(6, 40),
    deadline=None,
    phases=[Phase.generate],  # shrinking takes minutes
)
@given(plans(), st.randoms(use_true_random=False))
def test_each_key_and_attribute_has_an_effect_or_is_reported(
    plan: dict[str, Any], random: Random
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "catalog.yaml").write_text(CATALOG, encoding="utf-8")
        does, reported = outcome(folder, plan)
        idle = {words.split("`")[1] for _, words in reported if "nothing reads" in words}
        every = list(parts(plan))
        for path in random.sample(every, min(8, len(every))):
            for misspelt in (False, True):
                now, told = outcome(folder, changed(plan, path, misspelt=misspelt))
                if now != does or told != reported:
                    continue
                if path[-1] in idle or _strictest_counts(plan, path):
                    continue
                assert _matters_to_others(folder, plan, path, random, misspelt=misspelt), (
                    path,
                    misspelt,
                )


def _strictest_counts(plan: dict[str, Any], path: tuple[Step, ...]) -> bool:
    """The preview shows the strictest of the operations that share a stage."""
    return plan.get("flow") == "items" and path[-1] in ("batch_size", "delay", "wait")


def _matters_to_others(
    folder: Path, plan: dict[str, Any], path: tuple[Step, ...], random: Random, *, misspelt: bool
) -> bool:
    """Whether the key has an effect on items with other values, if these items make no use of it:
    an order they already have, a condition they all meet, an attribute of a skipped item."""
    for _ in range(20):
        other = copy.deepcopy(plan)
        if path[0] != "filter":
            other.pop("filter", None)
        for row in other["repos"]:
            row["velocity"] = random.choice([20, 40])  # two items may have the same value
            row["priority"] = random.choice(["critical", "high", "low"])
        if outcome(folder, other) != outcome(folder, changed(other, path, misspelt=misspelt)):
            return True
    return False
