"""What an event has beyond its payload: ids, times, groups, omitted keys, pacing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import InvalidPlan
from runner.execution.pacing import Pacer
from runner.execution.send import Wire
from runner.model import ExecutionPlan, Json, Pacing, Throttle
from runner.planning.build import build_execution_plan
from runner.planning.compare import compare
from runner.planning.flow import needed_delay, throttled
from runner.planning.parts import subset
from runner.planning.saved import SavedPlan, read_saved, write_saved
from runner.spec.load import load_plan
from runner.spec.schema import has_form
from runner.spec.templates import compile_value
from tests.support import make_plan, write_plan

USERS = """\
collections:
  users:
    - {id: 1, team: a, starts: "2026-12-01"}
    - {id: 2, team: a, starts: "2026-12-01T10:00:00+01:00"}
    - {id: 3, team: b, starts: "2026-12-02"}
    - {id: 4, team: b}
"""


def made(folder: Path, operation: str, more: str = "") -> ExecutionPlan:
    catalog = (
        "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n"
        f"  greet: {{event: users/greet, for_each: users, {operation}}}\n"
    )
    body = f"{USERS}operations: [greet]\n{more}"
    return build_execution_plan(load_plan(str(write_plan(folder, body, catalog=catalog))))


def refused(folder: Path, operation: str, more: str = "") -> list[str]:
    with pytest.raises(InvalidPlan) as caught:
        made(folder, operation, more)
    return [problem.message for problem in caught.value.problems]


def data_of(plan: ExecutionPlan) -> list[Json]:
    return [one.event.data for one in plan.planned()]


def test_a_key_whose_template_gives_a_missing_value_is_left_out(tmp_path: Path) -> None:
    payload = (
        'payload: {id: "{{ row.id }}", starts: "{{ row.starts }}", in: {x: "{{ row.starts }}"}, '
        "odd: \"{{ 'odd' if row.id is odd }}\", none: null}"
    )
    data = data_of(made(tmp_path, payload))
    assert data[3] == {"id": 4, "in": {}, "none": None}
    assert data[2] == {
        "id": 3,
        "starts": "2026-12-02",
        "in": {"x": "2026-12-02"},
        "odd": "odd",
        "none": None,
    }


def test_an_attribute_that_no_item_has_is_an_error_still(tmp_path: Path) -> None:
    message = refused(tmp_path, 'payload: {id: "{{ row.strats }}"}')[0]
    assert "`row` has no `strats`" in message


def test_items_go_into_one_event_with_neighbours_that_are_alike(tmp_path: Path) -> None:
    ids = "ids: \"{{ rows | map(attribute='id') | list }}\""
    plan = made(tmp_path, f'group: 3, payload: {{{ids}, team: "{{{{ row.team }}}}"}}')
    assert [(one.item, one.event.data) for one in plan.planned()] == [
        ("1 +1", {"ids": [1, 2], "team": "a"}),
        ("3 +1", {"ids": [3, 4], "team": "b"}),
    ]
    assert [one["ids"] for one in data_of(made(tmp_path, f"group: 3, payload: {{{ids}}}"))] == [
        [1, 2, 3],
        [4],
    ]


def test_an_event_has_an_id_and_a_time_of_its_own(tmp_path: Path) -> None:
    plan = made(tmp_path, 'id: "u-{{ row.id }}", at: "{{ row.starts }}", payload: {}')
    assert [(one.event.id, one.event.ts) for one in plan.planned()] == [
        ("u-1", 1796083200000),
        ("u-2", 1796115600000),
        ("u-3", 1796169600000),
        ("u-4", None),
    ]
    wire = Wire("RUN", 0.0, plan.stages[0])
    (_, pieces, _) = next(wire.pages(0))
    sent = orjson.loads(wire.request(pieces))
    assert [(one["id"], one.get("ts")) for one in sent] == [
        (one.event.id, one.event.ts) for one in plan.planned()
    ]


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ('id: "x", payload: {}', "is also the id of another event"),
        ('id: "{{ row.starts }}", payload: {}', "the id of 4 is empty"),
        ('at: "{{ row.team }}", payload: {}', "is not a time in ISO 8601"),
        ('at: "{{ row.id }}", payload: {}', "the years from 1980 to 2100"),
        ("group: 2, repeat: 2, payload: {}", "`group` makes one event of several"),
        (
            'id: "x", payload: {}, until: {query: select 1, expect: {column: n, at_most: 0}}',
            "drops a second event with the same id",
        ),
    ],
)
def test_what_no_server_could_take_is_refused(tmp_path: Path, operation: str, words: str) -> None:
    assert any(words in message for message in refused(tmp_path, operation))


@pytest.mark.parametrize("flow", ["stages", "items"])
@pytest.mark.parametrize(("event", "fine"), [("a/other", True), ("a/one", False)])
def test_an_id_is_that_of_one_event_for_each_function(
    tmp_path: Path, event: str, *, fine: bool, flow: str
) -> None:
    """Whichever operation sends it: for one function, a second event with its id starts no job."""
    catalog = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  one: {{event: a/one, for_each: repo, id: "{{{{ repo.repo }}}}", payload: {{full: true}}}}
  two: {{event: {event}, for_each: repo, id: "{{{{ repo.repo }}}}", payload: {{full: false}}}}
"""
    body = f"repos: [o/a, o/b]\noperations: [one, two]\nflow: {flow}\n"
    if fine:
        assert make_plan(tmp_path, body, catalog=catalog).events == 4
        return
    with pytest.raises(InvalidPlan) as refused_:
        make_plan(tmp_path, body, catalog=catalog)
    (problem,) = refused_.value.problems
    assert problem.message.startswith("the id of o/a is also the id of another event: o/a")


def test_what_events_have_of_their_own_survives_the_way_and_changes_are_seen(
    tmp_path: Path,
) -> None:
    plan = made(tmp_path, 'id: "u-{{ row.id }}", at: "{{ row.starts }}", payload: {}')
    saved = SavedPlan("t", "01J" + "0" * 23, 0.0, 1.0, "dev", "", "a", {}, None, plan)
    again = read_saved(write_saved(saved), lambda value: has_form(value, "saved-plan.v1"))
    assert again
    assert list(again.plan.planned()) == list(plan.planned())
    other = made(tmp_path, 'id: "v-{{ row.id }}", at: "{{ row.starts }}", payload: {}')
    assert "`event.id`" in compare(plan, other).changes[0].what
    assert plan.digest != other.digest


def test_an_event_that_is_sent_once_more_has_the_runs_id(tmp_path: Path) -> None:
    """The server would drop a second event with the first one's own id."""
    plan = made(tmp_path, 'id: "u-{{ row.id }}", at: "{{ row.starts }}", payload: {}')
    (event,) = subset(plan, {1}).planned()
    assert (event.item, event.event.id, event.event.ts) == ("2", None, 1796115600000)


def test_jitter_is_known_to_the_estimate_and_the_same_for_a_run(tmp_path: Path) -> None:
    plan = made(tmp_path, "payload: {}, batch_size: 1", "delay: {between: [80ms, 220ms]}\n")
    (stage,) = plan.stages
    assert (stage.pacing.delay, round(stage.pacing.jitter, 3)) == (0.08, 0.14)
    assert round(plan.duration, 3) == 0.45

    def pauses(run: str) -> list[float]:
        return [Pacer.chosen(run, stage, position) for position in range(1, 200)]

    assert pauses("A") == pauses("A") != pauses("B")
    assert all(0 <= one <= stage.pacing.jitter for one in pauses("A"))
    assert max(pauses("A")) - min(pauses("A")) > stage.pacing.jitter / 2


@given(
    st.lists(st.sampled_from("abcd"), max_size=60),
    st.integers(1, 4),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_a_throttle_with_a_key_is_kept_by_order_and_pace(
    keys: list[str], limit: int, size: int, delay: float
) -> None:
    throttle, pacing = Throttle(limit, 10.0, None), Pacing(size, delay)
    order, pace = throttled(keys, throttle, pacing)
    assert sorted(order) == list(range(len(keys)))
    times = [index // pace.batch_size * pace.delay for index in range(len(keys))]
    for key in set(keys):
        mine = [at for at, index in zip(times, order, strict=True) if keys[index] == key]
        gaps = [later - first for first, later in zip(mine, mine[limit:], strict=False)]
        assert all(gap >= throttle.per - 1e-6 for gap in gaps)
    for key in Counter(keys):
        positions = [index for index in order if keys[index] == key]
        assert positions == sorted(positions)
    if needed_delay(keys, throttle, pacing) <= delay:
        assert (list(order), pace) == (list(range(len(keys))), pacing)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ 'a-b-c' | split('-') }}", ["a", "b", "c"]),
        ("{{ ' a  b ' | split }}", ["a", "b"]),
        ("{{ ('o/r' | split('/'))[1] }}", "r"),
        ("{{ 'a b' | replace(' ', '_') }}", "a_b"),
        ("{{ [1, 2] | join('+') }}", "1+2"),
        ("{{ '2026-01-31T23:30:00Z' | date }}", "2026-01-31"),
        ("{{ '2026-01-31' | date('%d.%m.%Y') }}", "31.01.2026"),
        ("{{ '2026-12-31' | date('%G-W%V') }}", "2026-W53"),
        ("{{ '2026-01-31' | days(1) }}", "2026-02-01"),
        ("{{ '2026-03-01' | days(-1) | date('%j') }}", "059"),
        ("{{ '2026-01-31T10:00:00+02:00' | days(30) }}", "2026-03-02T10:00:00+02:00"),
    ],
)
def test_filters_for_text_and_dates(template: str, value: Json) -> None:
    render = compile_value(template)
    assert render
    assert render({}) == value
