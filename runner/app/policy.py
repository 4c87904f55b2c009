"""Judge a plan by the policy rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from runner.app.session import Session
from runner.errors import InvalidPlan, PreflightRefused, UsageError
from runner.model import ExecutionPlan, Json, Problem
from runner.spec.files import PROJECT

if TYPE_CHECKING:
    from runner.adapters.git_files import Side
    from runner.spec.project import Project, Rule


def judged(
    session: Session,
    plan: ExecutionPlan,
    target: str | None,
    environment: str | None,
    variables: Mapping[str, Json],
    *,
    strict: bool = False,
) -> ExecutionPlan:
    """Return the plan with its verdicts.

    `target`: as the user named it. `environment`: see `Session.environment`. `strict`: make every
    rule mandatory. Raises `InvalidPlan` for a rule that cannot be evaluated."""
    rules = [*_rules(session, plan.path), *_own(plan)]
    if not rules:
        return plan
    from runner.planning.ledger import inputs_digest
    from runner.planning.policy import judge

    known = session.project(plan.path).environments
    unknown = [rule for rule in rules if rule.requires and rule.requires not in known]
    if unknown:
        raise InvalidPlan(tuple(map(_no_environment, unknown)))
    found = session.environment(plan.path, environment)
    digest = inputs_digest(plan.inputs, variables)

    def proved(wanted: str) -> bool:
        if not session.has_state:
            return False
        runs = session.reader.ledger(plan.name, environment=wanted)
        return any(run.done and not run.baseline and run.digest == digest for run in runs)

    verdicts = judge(
        plan,
        rules,
        target=session.named_target(target, plan.path, environment),
        environment=found.name if found else "",
        proved=proved,
    )
    if strict:
        verdicts = tuple(one._replace(level="mandatory") for one in verdicts)
    return replace(plan, verdicts=verdicts)


def _rules(session: Session, plan: str) -> Sequence[Rule]:
    """Return the rules that apply: those of --policy; else, in a review, those of the revision that
    the branch left, so that no branch can switch them off; else those of the working tree."""
    if session.policy is not None:
        return session.policy
    since, folder = session.reviewed_since, str(Path(plan).resolve().parent)
    if since is not None and folder not in session.projects_then:
        session.projects_then[folder] = _project_then(session, plan, since)
    return (session.projects_then.get(folder) or session.project(plan)).policy


def _own(plan: ExecutionPlan) -> list[Rule]:
    """Return the rule of the plan's own `requires`."""
    if plan.requires is None:
        return []
    from runner.spec.project import Rule

    return [Rule("requires", "mandatory", Problem("", plan.path), requires=plan.requires)]


def _project_then(session: Session, plan: str, revision: str) -> Project | None:
    """Return the nearest project file as it was in a revision."""
    from runner.adapters.git import repository_here
    from runner.adapters.git_files import Commit, objects_of

    repository = repository_here(session.environ)
    try:
        folder = PurePosixPath(repository.below(plan)).parent
    except UsageError:  # a snapshot of an earlier commit: its own project file counts
        return None
    commit = repository.commit_of(revision)
    with objects_of(repository) as objects:
        return project_in(Commit(objects, commit, repository.top), folder.parts, revision)


def project_in(side: Side, folder: Sequence[str], revision: str) -> Project | None:
    """Return the nearest project file at or above a folder, as it is in a commit."""
    from runner.adapters.git_files import trail
    from runner.spec.files import MAX_YAML
    from runner.spec.project import project_of

    for end in range(len(folder), -1, -1):
        names = tuple(name for name in (*folder[:end], PROJECT) if name not in ("", "."))
        steps = trail(side, names)
        raw = side.read(steps[-1][0], MAX_YAML) if steps and steps[-1][1] else None
        if raw is not None:
            return project_of(f"{revision}:{'/'.join(names)}", raw)
    return None


def refuse_broken(plan: ExecutionPlan) -> None:
    """Raise `PreflightRefused` if a mandatory rule does not hold."""
    broken = [verdict for verdict in plan.broken if verdict.level == "mandatory"]
    if not broken:
        return
    reasons = "; ".join(f"`{one.name}`: {one.message or one.reason}" for one in broken)
    message = f"the policy does not allow {plan.name}: {reasons}"
    where = broken[0].place
    raise PreflightRefused(message, hint=where.hint or f"the rules are in {where.path}")


def read_policy(path: str) -> tuple[Rule, ...]:
    """Read the rules of --policy FILE. Raises `InvalidPlan`, or `UsageError` if unreadable."""
    from runner.spec.files import FileRefused, read_given
    from runner.spec.project import project_of

    try:
        raw = read_given(path)
    except FileRefused as error:
        raise UsageError(f"{path} cannot be read: {error}", hint=error.hint) from None
    rules = project_of(path, raw).policy
    if not rules:
        hint = "policy: [{name: small, require: totals.events <= 5000}]"
        raise UsageError(f"{path} has no rule", hint=hint)
    return rules


def _no_environment(rule: Rule) -> Problem:
    hint = f"`environments:` in {PROJECT} names them"
    return replace(rule.place, message=f"there is no environment `{rule.requires}`", hint=hint)
