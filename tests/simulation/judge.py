"""Judge a world: compare what the state says with the truth of the model."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from runner.adapters.journal.store import Store
from runner.model import OPEN_OUTCOMES, EventRecord, ExecutionPlan, RunRecord
from tests.execution.test_surfaces import by_events, surfaces
from tests.simulation import plans
from tests.simulation.clockwork import Broken
from tests.simulation.server import Truth

if TYPE_CHECKING:
    from tests.simulation.story import Sent, Story

_GRACE = 20.0  # seconds for a job to appear, by default


def compare(store: Store, record: RunRecord, now: float, *, page: bool) -> None:
    """Check that the figures of all surfaces are those of the events; `page`: also the HTML, which
    takes as long as all others."""
    expected = by_events(store, record)
    for surface, figures in surfaces(store, record, now, page=page):
        if surface == "list of runs" or (surface == "runs" and len(store.runs()) > 1):
            continue  # with several runs its lines are ambiguous
        wanted = {name: expected[name] for name in figures}
        if figures != wanted:
            raise Broken(f"{surface} says {dict(figures)}, the events say {wanted}")


@dataclass
class Judge:
    """Compares the state with the truth of the model, at the end."""

    story: Story
    store: Store
    record: RunRecord
    plan: ExecutionPlan = field(init=False)
    events: list[EventRecord] = field(init=False)
    written: plans.Written = field(init=False)

    def __post_init__(self) -> None:
        self.plan = self.store.plan_of(self.record)
        self.events = list(self.store.events(self.record))
        self.written = next(one for one in self.story.written if one.name == self.record.plan)

    def all(self) -> None:
        self.once()
        self.order()
        self.barriers()
        for event in self.events:
            self.outcome(event)
        self.status()
        compare(self.store, self.record, self.story.world.wall(), page=self.story.seed % 5 == 0)
        self.paced()
        self.told()

    def told(self) -> None:
        """Check that hooks got all recorded notices, and nothing else."""
        story, run = self.story, self.record.id
        rows = story.read(f"SELECT event, occasion, done FROM notices WHERE run_id = '{run}'")
        notices = {":".join(filter(None, (run, one[0], one[1]))): bool(one[2]) for one in rows}
        heard = {id_: count for id_, count in story.network.told.items() if id_.startswith(run)}
        if foreign := heard.keys() - notices.keys():
            raise Broken(f"a hook was told what was not written down: {sorted(foreign)}")
        if lost := [id_ for id_, done in notices.items() if done and id_ not in heard]:
            raise Broken(f"delivered, it is said, and no hook has heard it: {lost}")
        if not (story.written[-1].path.parent / "backfill.yaml").exists():
            return
        kinds = Counter(one[0] for one in rows)
        is_over = self.record.status not in ("running", "planned")
        failed = any(event.outcome == "failed" for event in self.events)
        if kinds["started"] != 1 or (is_over and not kinds["ended"]) or failed > kinds["failed"]:
            raise Broken(f"of a run that is {self.record.status} hooks are told {dict(kinds)}")
        # One whose answer was pending when the run ended may have come twice.
        if not story.faults and not story.network.faults and heard.keys() != notices.keys():
            raise Broken(f"nothing went wrong, and hooks were told {heard} of {notices}")

    def truth(self, event: EventRecord) -> Truth | None:
        return self.story.server.truths.get(event.event_id or "")

    def once(self) -> None:
        for event in self.events:
            truth = self.truth(event)
            if truth and truth.taken > 1 and not self.story.decided:
                raise Broken(f"{event.event_id} has taken effect {truth.taken} times")
            sent = event.outcome not in ("unsent", "sending", "rejected")
            if sent and truth is None and not self.story.decided:
                raise Broken(f"{event.event_id} is reported as sent, and is lost")
            if event.outcome == "rejected" and truth:
                raise Broken(f"{event.event_id} is reported as rejected, and was taken")
            if (
                event.outcome == "unsent"
                and truth
                and self.record.status in ("completed", "failed")
            ):
                raise Broken(f"{event.event_id} is reported as unsent, and was taken")

    def order(self) -> None:
        """Check that events arrive as previewed, in that order."""
        place = {event.event_id: event.position for event in self.events}
        came = [place[id_] for _, id_ in self.story.server.arrivals if id_ in place]
        came = list(dict.fromkeys(came))
        if came != sorted(came):
            raise Broken(f"the events came in another order than planned: {came}")
        foreign = [
            id_
            for _, id_ in self.story.server.arrivals
            if id_.startswith(f"{self.record.id}:") and id_ not in place
        ]
        if foreign:
            raise Broken(f"events came that no plan has: {foreign}")

    def barriers(self) -> None:
        """Check that a stage begins after those it needs have ended."""
        if not self.record.follow or self.story.decided or not self.story.follow:
            return
        by_stage: dict[int, list[Truth]] = {}
        for event in self.events:
            if truth := self.truth(event):
                by_stage.setdefault(event.stage, []).append(truth)
        for before, after in pairwise(self.plan.stages):
            if before.wait != "completed":
                continue
            ends = [end for one in by_stage.get(before.number, ()) for end in one.ends.values()]
            begun = [one.at for one in by_stage.get(after.number, ())]
            if begun and ends and max(ends) > min(begun):
                raise Broken(f"stage {after.number} has begun before stage {before.number} ended")

    def outcome(self, event: EventRecord) -> None:
        """Check that an event's reported outcome is true."""
        truth, told = self.truth(event), event.outcome
        if told in (*OPEN_OUTCOMES, "rejected") or truth is None:
            return
        if not self.record.follow and self.plan.stages[event.stage - 1].wait == "sent":
            return
        now = self.story.world.now
        fates = Counter(truth.fates.values())
        open_ = not truth.ended(now) or fates["waits"]
        match told:
            case "completed":
                right = not open_ and fates["completed"] and not fates["failed"]
            case "failed":
                right = bool(fates["failed"])
            case "dropped":
                right = bool(fates["dropped"])
            case "no_job":
                right = not fates or (fates["dropped"] and not fates["completed"])
            case "unknown":
                right = any(fn.batch for fn in self.story.server.functions)
            case _:
                right = False
        if not right:
            raise Broken(f"{event.event_id} is reported as {told}, and is {dict(fates)}")

    def status(self) -> None:
        """Check that a completed run has done its work, and that a failed one has a reason."""
        status, data = self.record.status, self.story.data
        if self.record.follow is False and status == "completed" and self.written.waits:
            raise Broken("a run that was not followed is reported as completed")
        wrong = [one for one in self.events if one.outcome != "completed"]
        drained = data.backlog == 0
        if (
            self.record.parent is None
            and self.written.drains
            and status == "completed"
            and not drained
        ):
            raise Broken(f"the drain is reported as completed, with {data.backlog} left")
        made_good = self.story.asked_again > 0  # by retries, after which the run was resumed
        if not self.written.drains and status == "completed" and wrong and not made_good:
            raise Broken(f"completed, with {wrong[0].event_id} {wrong[0].outcome}")
        proof = self.proof()
        if status == "completed" and proof is False:
            raise Broken(f"the check `{self.written.check}` is reported to hold, and nothing moved")
        # In the repeated hour, a time without a zone is ambiguous: that proves nothing.
        twice = self.story.kind == "schedule" and data.zone == "America/New_York"
        told = not self.story.operated and not data.shaken
        if status == "failed" and told and not (twice and self.written.check):
            # A retry may have worked off what was left when the drain ended.
            unmet = not drained or self.story.asked_again > 0
            stopped = bool(wrong) and not self.written.goes_on
            bad = unmet or stopped if self.written.drains else wrong
            proved = proof is not False and not (self.record.parent and self.written.check)
            if not bad and proved:
                raise Broken(f"failed without a reason: {self.record.reason}")

    def proof(self) -> bool | None:
        """Tell whether all items' data moved since the run began; None if not checked."""
        name, data = self.written.check, self.story.data
        if name is None or self.record.parent:
            return None
        if data.blind:
            return False
        if data.shaken:
            return None if self.story.steps else self._held_when_asked(name)
        still = set() if name == "full" or (name == "done" and self.written.allow) else data.lies
        items = {event.item for event in self.events}
        return all(item in data.rows and item not in still for item in items)

    def _held_when_asked(self, name: str) -> bool | None:
        """Tell whether the check held, by the rows of its last query."""
        ended, data = self.record.ended_at or 0.0, self.story.data
        asked = [rows for at, of, rows in data.asked if of == name and at <= ended + 0.01]
        if not asked:
            return None
        began = self.story.begun[self.record.id] + data.ahead
        held = {
            item
            for item, row in asked[-1].items()
            if (row.at > began - 1 if name == "moved" else row.done)
        }
        return held >= {event.item for event in self.events}

    def paced(self) -> None:
        """Check the time between two batches of a stage: at least its delay, and no more if nothing
        else was waited for."""
        story = self.story
        if story.tuned or story.steps:
            return
        # A request that was rolled back is written again with the same number.
        ours = {one.number: one for one in story.chunks if one.run == self.record.id}
        for stage in self.plan.stages:
            here = [one for one in ours.values() if one.stage == stage.number]
            delay = stage.pacing.delay
            ends = sorted(
                end
                for event in self.events
                if event.stage == stage.number and (truth := self.truth(event))
                for end in truth.ends.values()
            )
            dropped = any(
                event.stage == stage.number and event.outcome == "dropped" for event in self.events
            )
            if (within := _quickest(here, stage.pacing.batch_size)) < delay - 0.5:
                raise Broken(f"more than a batch within {within:.1f}s, and the delay is {delay:g}s")
            for first, second in pairwise(here):
                gap = second.at - first.at
                other = second.batch != first.batch
                slowed = story.faults or story.network.faults  # batches are cut again, and smaller
                if other and gap < delay - 0.5 and not slowed:
                    raise Broken(f"{gap:.1f}s between two batches, and the delay is {delay:g}s")
                if (
                    self.written.closed
                    or story.faults
                    or story.network.faults
                    or story.operated
                    or first.process != second.process
                ):
                    continue
                awaited = max((end for end in ends if end <= second.at), default=0.0) - first.at
                if dropped:  # a run waits so long for their jobs
                    awaited = max(awaited, _GRACE)
                if self.written.check is None and gap > max(delay, awaited) + 11.0:
                    raise Broken(
                        f"{gap:.1f}s between two batches, and the delay is {delay:g}s, the last "
                        f"job ended after {awaited:.1f}s"
                    )


def judged(story: Story) -> None:
    with Store(story.state) as store:
        records = [line.record for line in store.runs()]
        for record in records:
            Judge(story, store, record).all()
        for written in story.written:
            mine = [one for one in records if one.plan == written.name and one.parent is None]
            if len(mine) > 1 and story.kind in ("apply", "schedule"):
                raise Broken(f"{written.name} has {len(mine)} runs where one was due")
            _family(story, store, written, mine)


def _family(story: Story, store: Store, written: plans.Written, runs: list[RunRecord]) -> None:
    """Check that after all retries each unit of work is done, once."""
    if (
        not story.retried
        or not story.follow
        or not runs
        or story.cancelled
        or written.drains
        or story.decided
    ):
        return
    plain = all(not (fn.debounce or fn.rate_limit or fn.singleton) for fn in story.server.functions)
    heard = {fn.event for fn in story.server.functions}
    if not plain or len(runs) > 1 or story.server.refused or written.limited:
        return
    events = list(store.events(runs[0]))
    if any(event.event not in heard for event in events):
        return
    if any(event.outcome in (*OPEN_OUTCOMES, "unknown") for event in events):
        return
    firsts = (event.item.partition(" +")[0] for event in events)  # the first item of a group
    planned = Counter(zip((event.operation for event in events), firsts, strict=True))
    members = [line.record.id for line in store.runs() if line.record.plan == written.name]
    good: Counter[tuple[str, str]] = Counter()
    for id_, truth in story.server.truths.items():
        run_id, operation, *_ = id_.split(":")
        if run_id in members and set(truth.fates.values()) == {"completed"}:
            good[operation, truth.item] += 1
    if good != planned:
        raise Broken(
            f"after {len(members) - 1} retries is done {dict(good)}, was planned {dict(planned)}"
        )
    chain = store.reading(runs[0]).chain()
    if chain and (chain.outstanding or chain.totals.completed != sum(planned.values())):
        raise Broken(f"all is done, and the sum of the retries says {chain.totals.completed} are")


def _quickest(sent: Sequence[Sent], size: int) -> float:
    """Return the least seconds between sends of more than a batch of events."""
    starts = [one.first for one in sent]
    return min(
        (
            last.at - sent[bisect_right(starts, last.first - size) - 1].at
            for last in sent
            if last.first - size >= starts[0]
        ),
        default=inf,
    )
