"""Derive an execution plan for a part of another: what selectors choose, or what is retried."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from types import MappingProxyType

from runner.errors import UsageError
from runner.model import (
    BUILT_IN,
    NOT_SELECTED,
    BackfillPlan,
    Check,
    Data,
    ExecutionPlan,
    Json,
    Partial,
    Problem,
    Selectors,
    Skipped,
    Stage,
)
from runner.planning.binding import Binder
from runner.planning.event_blocks import EventBlocks, pack, parted, without
from runner.planning.flow import of_members
from runner.planning.items import Source, Sources
from runner.planning.render import render
from runner.planning.rows import Kept, ordered
from runner.spec.document import did_you_mean
from runner.spec.globs import fits
from runner.spec.kinds import name_of_part
from runner.spec.warnings import accepted, refuse_any


def subset(
    plan: ExecutionPlan,
    positions: Collection[int],
    unproved: Mapping[str, bool] = MappingProxyType({}),
) -> ExecutionPlan:
    """Build a plan of the events at these positions (from 0, over the whole plan), in the same
    order and pace.

    The events are known, so no stage is deferred or has a goal. What was approved as a whole needs
    no approval in part, and no schedule starts a part. `unproved`: the checks that must still hold,
    by name, and whether each was asked. They cover all their items; those that were asked are asked
    again, even if their operation sends nothing.
    """
    wanted, made, first = frozenset(positions), list[Stage](), 0
    for stage in plan.stages:
        kept = [
            event for position, event in enumerate(stage.items.raw(), first) if position in wanted
        ]
        first += stage.total
        if kept:
            if stage.own:
                kept = [(item, without(cell, "id")) for item, cell in kept]
            made.append(replace(_of_events(stage, kept), deferred=False, until=None))
    stages = _in_line(made)
    ran = {None, *(name for stage in stages for name in stage.operations)}
    return replace(
        plan,
        stages=stages,
        digest=_digest(plan, str(sorted(wanted))),
        approval=None,
        schedule=None,
        skipped=(),
        warnings=(),
        checks=tuple(
            _as_before(check, ran) if check.name in unproved else _of_these(check, stages)
            for check in plan.checks
            if check.operation in ran or unproved.get(check.name)
        ),
    )


def select(
    plan: BackfillPlan,
    whole: ExecutionPlan,
    selectors: Selectors,
    *,
    sure: bool = True,
    strict: bool = False,
) -> ExecutionPlan:
    """Build the part of `whole` that the selectors choose; everything else is skipped.

    `plan`: what `whole` was built from. Raises `UsageError` for unknown names, and if nothing is
    left although there is `sure` to be something; with `strict`, `InvalidPlan` for a warning.
    """
    part = _selected(plan, whole, selectors, sure=sure)
    if strict:
        refuse_any(part.warnings)
    return part


def _selected(
    plan: BackfillPlan, whole: ExecutionPlan, selectors: Selectors, *, sure: bool
) -> ExecutionPlan:
    if sure:
        _check_names(plan, whole, selectors)
    stages = [kept for stage in whole.stages if (kept := _running(selectors, stage))]
    chosen = _chosen(plan, stages, selectors)
    choice = Choice(Partial(selectors, {**parts_of(plan, stages, chosen), **chosen}), plan)
    skipped = [
        Skipped(name, None, NOT_SELECTED)
        for stage in whole.stages
        for name in stage.operations
        if not _runs(selectors, name)
    ]
    made: list[Stage] = []
    for stage in stages:
        kept = choice.of(stage)
        skipped += choice.left_out(stage)
        if selectors.of_items:  # a part cannot tell whether the whole has reached its goal
            deferred = stage.deferred and stage.until is None
            kept = replace(kept, until=None, deferred=deferred)
        made += [kept] if kept.total or kept.deferred else []
    if not skipped and not any(stage.deferred for stage in whole.stages):
        return _warned(whole, [_selects_all(whole, selectors)])
    if sure and not made and whole.stages:
        hint = "`backfill plan` without them shows what can be selected"
        raise UsageError(f"{selectors.words} leaves nothing to send", hint=hint)
    return _rebound(plan, whole, choice, _in_line(made), skipped)


def _running(selectors: Selectors, stage: Stage) -> Stage | None:
    """Limit the stage to the selected operations; None if there are none."""
    names = [name for name in stage.operations if _runs(selectors, name)]
    if len(names) == len(stage.operations) or not names:
        return stage if names else None
    cells = ((item, cell) for item, cell in stage.items.raw() if parted(cell)["operation"] in names)
    return _of_events(stage, cells)


def _of_events(stage: Stage, events: Iterable[tuple[str, bytes]]) -> Stage:
    """Limit the stage to these events, and to the operations that have any."""
    items = pack(stage.event, events)
    having = {parted(cell)["operation"] for _, cell in items.raw()} if stage.members else ()
    members = [member for member in stage.members if member[0] in having]
    named = of_members(stage, members) if members else stage
    return replace(named, items=items, canary=min(stage.canary, len(items)))


class _NoContract:
    """Accepts the empty payload of `item_names`."""

    def accepts(self, _data: Json) -> bool:
        return True

    def explain(self, _data: Data, _item: str) -> tuple[Problem, ...]:
        return ()


def item_names(plan: BackfillPlan, stage: Stage) -> list[str]:
    """Return the items of a stage; for grouped events, each of their items."""
    if not stage.grouped:
        return list(dict.fromkeys(item for item, _ in stage.items.raw()))
    operation = next(one for one in plan.operations if one.name == stage.operation)
    nothing = operation.payload.reading("rows")[0].reading("rows")[1]  # an empty payload
    alone = replace(
        operation,
        group=1,
        payload=nothing,
        contract=_NoContract(),
        own_id=None,
        at=None,
        throttle=None,
    )
    (rendered,) = render(plan, [(alone, Sources(plan).of(alone))])
    return list(dict.fromkeys(item for item, _ in rendered.items.raw()))


class Choice:
    """Decides which items of the plan are selected."""

    def __init__(self, partial: Partial, plan: BackfillPlan) -> None:
        self.partial, self._selectors, self._plan = partial, partial.selectors, plan
        self._chosen = {kind: frozenset(names) for kind, names in partial.chosen.items()}

    def keeps(self, for_each: str, name: str) -> bool:
        chosen = self._chosen.get(for_each)
        return fits(self._selectors.items, name) if chosen is None else name in chosen

    def of(self, stage: Stage) -> Stage:
        """Limit the stage to the selected items, even if its items have changed since."""
        names, kept = self._parted(stage)
        if len(kept) == len(names):
            return stage
        if not stage.grouped:
            return _of_events(stage, (event for event in stage.items.raw() if event[0] in kept))
        items = self._grouped(stage, kept)
        return replace(stage, items=items, canary=min(stage.canary, len(items)))

    def left_out(self, stage: Stage) -> Iterator[Skipped]:
        names, kept = self._parted(stage)
        for name in names:
            if name not in kept:
                yield Skipped(stage.operation, name, NOT_SELECTED)

    def _parted(self, stage: Stage) -> tuple[Sequence[str], Collection[str]]:
        """Return its items, and those of them that are selected."""
        if not self._selectors.of_items:
            return (), ()
        names = item_names(self._plan, stage)
        fitting: Sequence[str] = [one for one in names if self.keeps(stage.for_each, one)]
        if stage.for_each not in self._chosen:
            fitting = _so_many(self._selectors, stage.for_each, fitting)
        return names, frozenset(fitting)

    def _grouped(self, stage: Stage, kept: Collection[str]) -> EventBlocks:
        """Group the selected items anew."""
        plan = self._plan
        operation = next(one for one in plan.operations if one.name == stage.operation)
        items = Sources(plan).of(operation).items
        name_of = items.kind.name_of
        places = [index for index, row in enumerate(items.rows) if name_of(row) in kept]
        some = replace(items, rows=Kept(items.rows, places))
        plan = plan.having(**{operation.collection: some})
        order, _ = ordered(some.rows, plan.order_by)
        (rendered,) = render(plan, [(operation, Source(some, order))])
        return rendered.items


def _chosen(
    plan: BackfillPlan, stages: Sequence[Stage], selectors: Selectors
) -> dict[str, tuple[str, ...]]:
    """Choose items once for all operations. If operations run for both, workspaces follow from the
    repositories."""
    if not selectors.of_items:
        return {}
    names: dict[str, dict[str, None]] = {}
    for stage in stages:
        found_here = dict.fromkeys(item_names(plan, stage))
        names.setdefault(stage.for_each, {}).update(found_here)
    home = {row["repo"]: row["workspace"] for row in plan.repositories if row.get("workspace")}
    if "repo" in names:  # add repositories that no event is for but whose workspace has one
        theirs = names.get("workspace", {})
        names["repo"].update((repo, None) for repo, there in home.items() if there in theirs)
    so_many = _counting(selectors)
    chosen = {
        for_each: tuple(
            _so_many(selectors, for_each, [n for n in found if fits(selectors.items, n)])
        )
        for for_each, found in names.items()
        if not any(stage.deferred and stage.for_each == for_each for stage in stages)
        or (so_many and for_each in BUILT_IN)
    }
    if "workspace" not in names or not home:
        return chosen
    if "repo" in names or not so_many:
        fitting = [repo for repo in home if fits(selectors.items, repo)]
        of_these = chosen["repo"] if so_many else fitting
        following = {home[repo] for repo in of_these if repo in home}
        chosen["workspace"] = _followed(selectors, names["workspace"], home, following)
    if "repo" not in names and "workspace" in chosen:
        those = frozenset(chosen["workspace"])
        chosen["repo"] = tuple(repo for repo, workspace in home.items() if workspace in those)
    return chosen


def parts_of(
    plan: BackfillPlan, stages: Sequence[Stage], chosen: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the parts of the chosen products, of collections that no stage runs for itself; not
    of those of which a product may have others when its stage starts."""
    found: dict[str, dict[str, None]] = {}
    later = set[str]()
    running = dict.fromkeys(stage.for_each for stage in stages)
    for for_each in (one for one in running if one in plan.collections):
        items = plan.collections[for_each]
        parts = {
            name: kind
            for name, kind in items.kind.parts.items()
            if kind.for_each not in (*BUILT_IN, *running)
        }
        if for_each not in chosen:
            later.update(kind.for_each for kind in parts.values())
            continue
        names = frozenset(chosen[for_each])
        for kind in parts.values():
            found.setdefault(kind.for_each, {})
        for row in items.rows if parts else ():
            if items.kind.name_of(row) in names:
                for name, kind in parts.items():
                    found[kind.for_each][name_of_part(kind, row[name])] = None
    return {kind: tuple(names) for kind, names in sorted(found.items()) if kind not in later}


def _followed(
    selectors: Selectors, names: Collection[str], home: Mapping[str, str], following: set[str]
) -> tuple[str, ...]:
    """Select the workspaces of the chosen repositories and those that are named; a workspace
    without repositories here is selected by its own name."""
    globs, homes = selectors.items, set(home.values())
    into = [glob for glob in globs if not glob.startswith("!")]
    out = [glob for glob in globs if glob.startswith("!")]

    def counts(name: str) -> bool:
        if not fits(out, name):
            return False
        if into and fits(into, name):
            return True
        return name in following if name in homes else fits(globs, name)

    every = dict.fromkeys([*names, *homes])
    return tuple(name for name in every if counts(name))


def _counting(selectors: Selectors) -> bool:
    return selectors.limit is not None or selectors.sample is not None


def _so_many(selectors: Selectors, for_each: str, names: Sequence[str]) -> Sequence[str]:
    """Apply `limit` or `sample`, in order. A name's rank in a sample depends on that name alone."""
    if selectors.limit is not None:
        return names[: selectors.limit]
    if selectors.sample is None:
        return names

    def rank(name: str) -> bytes:
        return hashlib.sha256(f"{selectors.seed} {for_each} {name}".encode()).digest()

    kept = set(sorted(names, key=rank)[: selectors.sample])
    return [name for name in names if name in kept]


def _runs(selectors: Selectors, operation: str) -> bool:
    return operation not in selectors.skip and (not selectors.only or operation in selectors.only)


def _check_names(plan: BackfillPlan, whole: ExecutionPlan, selectors: Selectors) -> None:
    used = [operation.name for operation in plan.operations]
    skipped = {entry.operation: entry.reason for entry in plan.skipped if entry.item is None}
    for option, names in (("--only", selectors.only), ("--skip", selectors.skip)):
        for name in names:
            if name in skipped:
                message = f"{option} {name}: {skipped[name]}"
                raise UsageError(message, hint="selectors choose from what the plan would send")
            if name not in used:
                hint = did_you_mean(name, used) or f"it runs: {', '.join(used)}"
                message = f"{option} {name}: {whole.name} has no such operation"
                raise UsageError(message, hint=hint)
    if both := sorted({*selectors.only} & {*selectors.skip}):
        raise UsageError(f"--only and --skip both name `{both[0]}`", hint="leave one of them out")
    items = (item for stage in whole.stages for item in item_names(plan, stage))
    repositories = (row["repo"] for row in plan.repositories)
    every = [*dict.fromkeys([*items, *repositories])] if selectors.items else []
    for glob in selectors.items:
        bare = glob.removeprefix("!")
        if not any(fnmatchcase(name, bare) for name in every):
            some = f"items are named like {', '.join(every[:3])}" if every else None
            raise UsageError(
                f"--item {glob} matches no item of the plan", hint=did_you_mean(bare, every) or some
            )


def _rebound(
    plan: BackfillPlan,
    whole: ExecutionPlan,
    choice: Choice,
    stages: Sequence[Stage],
    skipped: Sequence[Skipped],
) -> ExecutionPlan:
    """Bind all questions to the selected items."""
    selectors = choice.partial.selectors
    operations = tuple(one for one in plan.operations if _runs(selectors, one.name))
    today: dict[str, set[str]] = {}  # of what is chosen when its stage starts
    for stage in stages:
        if stage.for_each in choice.partial.chosen or not selectors.of_items:
            continue
        names = item_names(plan, stage)
        fitting = [name for name in names if choice.keeps(stage.for_each, name)]
        here = parts_of(plan, [stage], {stage.for_each: fitting})
        for of, known in (here | ({stage.for_each: names} if _counting(selectors) else {})).items():
            today.setdefault(of, set()).update(known)

    def keeps(of: str, name: str) -> bool:
        return name in today[of] if of in today else choice.keeps(of, name)

    idle = {one.for_each for one in plan.operations} - {one.for_each for one in operations}
    binder = Binder(replace(plan, operations=operations), keeps, idle)
    reasons: dict[str, list[Skipped]] = {}
    for entry in (*whole.skipped, *skipped):
        reasons.setdefault(entry.operation, []).append(entry)
    for operation in operations:
        binder.runs(operation, reasons.get(operation.name, ()))
    ran = {None, *(name for stage in stages for name in stage.operations)}
    running = {operation.name for operation in operations}
    part = replace(
        whole,
        stages=tuple(stages),
        digest=_digest(whole, repr(choice.partial)),
        skipped=(
            *(one for one in whole.skipped if one.item is None or one.operation in running),
            *skipped,
        ),
        checks=binder.checks([check for check in plan.checks if check.operation in ran]),
        coverage=binder.coverage(plan.coverage),
        partial=choice.partial,
    )
    return _warned(part, list(_needs_left_out(plan, selectors)))


def _needs_left_out(plan: BackfillPlan, selectors: Selectors) -> Iterator[Problem]:
    out = {one.name for one in plan.operations if not _runs(selectors, one.name)}
    for operation in plan.operations:
        for need in operation.after:
            if need in out and operation.name not in out:
                message = f"`{operation.name}` comes after `{need}`, which is not selected"
                hint = f"it works on the results of the last `{need}`"
                yield Problem(
                    message, plan.path, hint=hint, severity="warning", rule="needs-skipped"
                )


def _selects_all(plan: ExecutionPlan, selectors: Selectors) -> Problem:
    message = f"{selectors.words} excludes nothing: this is the whole plan"
    return Problem(message, plan.path, severity="warning", rule="selects-all")


def _warned(plan: ExecutionPlan, warnings: Sequence[Problem]) -> ExecutionPlan:
    return replace(plan, warnings=(*plan.warnings, *accepted(warnings, plan.accept)))


def _in_line(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Renumber the stages, and schedule them one after another."""
    made: list[Stage] = []
    begins = 0.0
    for stage in stages:
        timed = None if stage.begins is None else begins
        canary = min(stage.canary, stage.total)
        made.append(replace(stage, number=len(made) + 1, begins=timed, canary=canary))
        begins += made[-1].batches * stage.pacing.delay
    return tuple(made)


def _digest(plan: ExecutionPlan, part: str) -> str:
    return f"sha256:{hashlib.sha256(f'{plan.digest} {part}'.encode()).hexdigest()}"


def _as_before(check: Check, ran: Collection[str | None]) -> Check:
    """Keep a check that must still hold; without a stage of its operation, ask it at the end."""
    return check if check.operation in ran else replace(check, moment="end")


def _of_these(check: Check, stages: Sequence[Stage]) -> Check:
    """Limit a check to the items that are sent: others need no second proof."""
    of, names = check.question.of, items_sent(check, stages)
    return replace(check, question=check.question.only(names, of)) if of and names else check


def items_sent(check: Check, stages: Sequence[Stage]) -> Collection[str]:
    """Return the check's items that the stages send; empty if it is not about items, or if events
    are grouped, since a group's name has only its first item."""
    names = dict[str, None]()
    for stage in stages:
        if stage.for_each != check.question.of or check.operation not in (None, *stage.operations):
            continue
        if stage.grouped:
            return ()
        names.update(
            (item, None)
            for item, cell in stage.items.raw()
            if check.operation is None
            or not stage.members
            or parted(cell)["operation"] == check.operation
        )
    return names
