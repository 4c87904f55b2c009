"""Preview what runs of plans would send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runner.app.build import Built, build, warned
from runner.app.plan_files import plan_files
from runner.app.policy import judged, refuse_broken
from runner.app.saved import (
    load_saved,
    of_its_own,
    refuse_options,
    refuse_selectors,
    save,
)
from runner.app.session import HERE, Session
from runner.errors import BackfillError, UsageError
from runner.model import BackfillPlan, ExecutionPlan, Json, Selectors, frozen
from runner.model.value import as_argument

if TYPE_CHECKING:
    from runner.adapters.inngest.target import Target
    from runner.planning.estimate import Timeline

_NOTHING: Mapping[str, str | None] = {}


@frozen
class Preview:
    """`plan`: with the warnings on this target. `sent`: as a run takes it, without them.

    `built`: None for a saved plan, which is shown as it was reviewed.
    """

    sent: ExecutionPlan
    target: Target
    built: Built | None = None

    @property
    def plan(self) -> ExecutionPlan:
        return warned(self.sent, self.target)

    @property
    def timeline(self) -> Timeline:
        from runner.planning.estimate import simulate

        repositories = self.built.plan.repositories if self.built else ()
        return simulate(self.sent, [repository["repo"] for repository in repositories])


@frozen
class Previews:
    """Previews of several plans. `errors`: those of plans that cannot be planned, with paths."""

    target: Target
    plans: list[Preview] = field(default_factory=list)
    errors: list[tuple[str, BackfillError]] = field(default_factory=list)


def preview(
    session: Session,
    path: str,
    variables: Mapping[str, Json],
    *,
    target: str | None = None,
    strict: bool = False,
    selectors: Selectors | None = None,
    writes: Mapping[str, str | None] = _NOTHING,
) -> Preview:
    """Preview a plan file or a saved plan. `writes`: files that will be written, by option.

    Raises `InvalidPlan`, and `UsageError` for options without effect or a file to write that is an
    input.
    """
    session.refuse_to_write(writes, [path])
    if saved := load_saved(path):
        refuse_selectors(selectors)
        own = of_its_own(session, saved, variables, strict=strict)
        written = {name: bool(file) for name, file in writes.items()}
        environment = session.environment_name
        others = {
            "--target": target is not None and target != saved.target,
            "--env": environment is not None and environment != saved.environment,
            "--facts": session.facts is not None,
        }
        refuse_options({**written, **own, **others})
        kept = session.target(saved.target, saved.plan.path, saved.environment)
        plan = judged(session, saved.plan, saved.target, saved.environment, saved.variables)
        return Preview(plan, kept)

    built = build(
        session,
        path,
        variables,
        strict=strict,
        target=target,
        selectors=selectors,
        once_loaded=partial(_refuse_own, session, writes),
    )
    plan = built.execution_plan
    found = Preview(plan, session.target(target, path), built)
    warned(plan, found.target, strict=strict)
    if session.facts and not plan.answered_at:
        session.reporter.note("--facts has no effect: the plan asks no database")
    return found


def previews(
    session: Session,
    paths: Sequence[str],
    changed_since: str | None,
    variables: Mapping[str, Json],
    *,
    target: str | None = None,
    strict: bool = False,
    writes: Mapping[str, str | None] = _NOTHING,
) -> Previews:
    """Preview each plan of files and folders; see `plan_files` and `preview`. Raises `UsageError`
    if they have several targets."""
    plans = [file for file in plan_files(session, paths, changed_since) if not file.is_catalog]
    session.refuse_to_write(writes, [file.path for file in plans])
    found = Previews(_target(session, target, [file.path for file in plans]))
    refuse_own = partial(_refuse_own, session, writes)
    for file in plans:
        try:
            built = build(
                session, file, variables, strict=strict, target=target, once_loaded=refuse_own
            )
            plan = built.execution_plan
            warned(plan, found.target, strict=strict)
            found.plans.append(Preview(plan, found.target))
            refuse_broken(plan)
        except BackfillError as error:
            found.errors.append((file.path, error))
    return found


def _refuse_own(session: Session, writes: Mapping[str, str | None], loaded: BackfillPlan) -> None:
    session.refuse_to_write(writes, [read for read, _ in loaded.inputs])


def keep(
    session: Session,
    found: Preview,
    target: str | None,
    variables: dict[str, Json],
    path: str | None,
    seconds: float,
) -> None:
    """Save the plan as it was shown, if a file is named; it can be run for `seconds`.

    Raises `PreflightRefused` if the policy does not allow the plan.
    """
    refuse_broken(found.plan)
    if found.built is None or path is None:
        return
    saved = save(session, found.built, target, variables, path, seconds)
    until = datetime.fromtimestamp(saved.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    session.reporter.say(
        f"saved in {path} ({Path(path).stat().st_size / 1024:,.0f} KiB), as run {saved.run_id}, "
        f"until {until}: `backfill run {as_argument(path)}` sends exactly this, once"
    )


def _target(session: Session, named: str | None, paths: Sequence[str]) -> Target:
    """Return the one target of all plans."""
    found = {session.target(named, path) for path in paths or [HERE]}
    if len(found) > 1:
        names = ", ".join(sorted(target.name for target in found))
        hint = "show them one project at a time, or use --target"
        raise UsageError(f"these plans have several targets: {names}", hint=hint)
    return found.pop()
