"""The project file, `backfill.yaml`, which the plans beside and below it share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from runner.errors import InvalidPlan, UsageError
from runner.model import OCCASIONS, Hook, Json, Problem, frozen
from runner.spec.document import Document, did_you_mean, ranked
from runner.spec.files import PROJECT, FileRefused, read_plan
from runner.spec.payload import ConditionTemplate, Origin, compile_when
from runner.spec.schema import check
from runner.spec.strict_yaml import parse
from runner.spec.units import parse_duration

_HELD_AFTER = "10m"
_KEYS_OF_YAML_11 = frozenset({"on"})


class NoEnvironment(UsageError):
    """A project has no environment of that name."""


@frozen
class Migrations:
    """The table and column with the versions of applied migrations."""

    table: str = "supabase_migrations.schema_migrations"
    column: str = "version"


@frozen
class Environment:
    """A target and what belongs to it. `database`, `databases` and `keys` name environment
    variables; `keys` is by the usual name of each, as without an environment. `foreign`: the
    variables of other environments, which this one must not use."""

    name: str
    target: str | None = None
    inngest_env: str | None = None
    database: str | None = None
    databases: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Json] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()


@frozen
class Rule:
    """A condition on plans: `require`, or a completed run in the environment `requires`. `place`:
    where the rule is written, as a problem without a message."""

    name: str
    level: Literal["mandatory", "advisory"]
    place: Problem
    require: ConditionTemplate | None = None
    requires: str | None = None
    message: str | None = None


@frozen
class Project:
    """`databases`: environment variables that hold the URLs, by database name."""

    path: str | None = None
    databases: Mapping[str, str] = field(default_factory=dict)
    migrations: Migrations = field(default_factory=Migrations)
    environments: Mapping[str, Environment] = field(default_factory=dict)
    default_environment: str | None = None
    policy: tuple[Rule, ...] = ()
    notify: tuple[Hook, ...] = ()

    def environment(self, name: str) -> Environment:
        """Return the environment. Raises `NoEnvironment` if there is none of that name."""
        if found := self.environments.get(name):
            return found
        hint = did_you_mean(name, self.environments)
        if not hint:
            known = ", ".join(self.environments)
            hint = f"there are {known}" if known else f"`environments:` in {PROJECT} names them"
        where = f"in {self.path}" if self.path else f"here: no {PROJECT} was found"
        raise NoEnvironment(f"there is no environment `{name}` {where}", hint=hint)


def project_of(path: str | Path, raw: bytes | None = None) -> Project:
    """Load a project file; `raw`: its bytes, if read already. Raises `InvalidPlan`."""
    try:
        raw = read_plan(path) if raw is None else raw
    except FileRefused as error:
        problem = Problem(f"{Path(path).name} cannot be read: {error}", str(path), hint=error.hint)
        raise InvalidPlan((problem,)) from None
    document, problems, _ = parse(raw, str(path), _KEYS_OF_YAML_11)
    if not problems:
        problems, _ = check(document, "project.v1")
    if problems:
        raise InvalidPlan(ranked(problems))
    written = document.value
    policy, problems = _policy(document)
    environments = _environments(written.get("environments", {}), written.get("databases", {}))
    default = written.get("default_environment")
    if default is not None and default not in environments:
        hint = did_you_mean(default, environments) or "`environments:` names them"
        message = f"there is no environment `{default}`"
        problems.append(document.problem(message, ("default_environment",), hint=hint))
    for index, hook in enumerate(written.get("notify", [])):
        if "held_after" in hook and "held" not in hook.get("on", OCCASIONS):
            message = "`held_after` changes nothing without `held` in `on`"
            problems.append(document.problem(message, ("notify", index, "held_after"), key=True))
    if problems:
        raise InvalidPlan(ranked(problems))
    return Project(
        str(path),
        written.get("databases", {}),
        Migrations(**written.get("migrations", {})),
        environments,
        default,
        policy,
        tuple(map(_hook, written.get("notify", []))),
    )


def _hook(written: Mapping[str, Any]) -> Hook:
    after = parse_duration(written.get("held_after", _HELD_AFTER))
    return Hook(written["kind"], written["url"], tuple(written.get("on", OCCASIONS)), after)


_KEYS = {
    "event_key": ("INNGEST_EVENT_KEY", "INNGEST_PRODUCTION_EVENT_KEY"),
    "signing_key": ("INNGEST_SIGNING_KEY",),
    "api_key": ("INNGEST_API_KEY",),
}


def _environments(
    written: Mapping[str, dict[str, Json]], shared: Mapping[str, str]
) -> dict[str, Environment]:
    variables = {name: _variables_of(value) for name, value in written.items()}
    found = {}
    for name, value in written.items():
        others = frozenset[str]().union(*(variables[other] for other in written if other != name))
        found[name] = Environment(
            name,
            value.get("target"),
            value.get("inngest_env"),
            value.get("database"),
            {**shared, **value.get("databases", {})},
            {usual: value[key] for key, names in _KEYS.items() if key in value for usual in names},
            value.get("vars", {}),
            others - variables[name],
        )
    return found


def _variables_of(environment: Mapping[str, Json]) -> frozenset[str]:
    """Return the environment variables that hold its databases and keys."""
    own = [environment.get(key) for key in ("database", *_KEYS)]
    databases = environment.get("databases", {})
    return frozenset(filter(None, [*own, *databases.values()]))


def _policy(document: Document) -> tuple[tuple[Rule, ...], list[Problem]]:
    rules: list[Rule] = []
    problems: list[Problem] = []
    known = document.value.get("environments", {})
    for index, written in enumerate(document.value.get("policy", [])):
        key = "require" if "require" in written else "requires"
        path = ("policy", index, key)
        require, wrong = None, list[Problem]()
        if key == "require":
            require, wrong = compile_when(written["require"], Origin(document, path))
        elif (name := written["requires"]["environment"]) not in known:
            hint = did_you_mean(name, known) or "`environments:` names them"
            message = f"there is no environment `{name}`"
            wrong = [document.problem(message, (*path, "environment"), hint=hint)]
        if any(rule.name == written["name"] for rule in rules):
            message = f"there is a rule `{written['name']}` already"
            wrong.append(document.problem(message, ("policy", index, "name")))
        problems += wrong
        rules.append(
            Rule(
                written["name"],
                written.get("level", "mandatory"),
                document.problem("", path),
                require,
                written["requires"]["environment"] if key == "requires" else None,
                written.get("message"),
            )
        )
    return tuple(rules), problems
