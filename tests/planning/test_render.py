"""What an item gives: no event, one or several, a skip, or a problem that is reported once."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import InvalidPlan
from runner.model import ExecutionPlan
from tests.planning.test_events import made, refused

IDS = "ids: \"{{ rows | map(attribute='id') | list }}\""


def events(plan: ExecutionPlan) -> list[tuple[str, object]]:
    return [(one.item, next(iter(one.event.data.values()))) for one in plan.planned()]


def skips(plan: ExecutionPlan) -> list[tuple[str | None, str]]:
    return [(one.item, one.reason) for one in plan.skipped]


@pytest.mark.parametrize(
    ("operation", "numbered", "repeated", "grouped"),
    [
        ("payload: {id: 1}", False, False, False),
        ("repeat: 2, payload: {id: 1}", True, True, False),
        (f"group: 2, payload: {{{IDS}}}", False, True, True),
    ],
)
def test_a_stage_says_how_its_events_stand_to_its_items(
    tmp_path: Path, operation: str, numbered: bool, repeated: bool, grouped: bool
) -> None:
    (stage,) = made(tmp_path, operation).stages
    assert (stage.numbered, stage.repeated, stage.grouped) == (numbered, repeated, grouped)


def test_an_event_is_repeated_as_often_as_its_item_says_and_knows_which_it_is(
    tmp_path: Path,
) -> None:
    payload = '{n: "{{ repeat.index }} of {{ repeat.count }}"}'
    plan = made(tmp_path, f"repeat: row.id - 1, payload: {payload}")
    assert events(plan) == [
        ("2", "1 of 1"),
        ("3", "1 of 2"),
        ("3", "2 of 2"),
        ("4", "1 of 3"),
        ("4", "2 of 3"),
        ("4", "3 of 3"),
    ]
    assert skips(plan) == [("1", "`repeat` gives 0")]


@pytest.mark.parametrize(
    ("repeat", "hint"),
    [("row.id / 3", "round it: | ceil"), ("'3'", "make it a number: | int"), ("row.id == 1", None)],
)
def test_a_number_of_repeats_that_is_none_says_how_it_becomes_one(
    tmp_path: Path, repeat: str, hint: str | None
) -> None:
    with pytest.raises(InvalidPlan) as caught:
        made(tmp_path, f'repeat: "{repeat}", payload: {{}}')
    assert caught.value.problems[0].hint == hint
    if hint:
        more = hint.partition(": ")[2]
        assert made(tmp_path, f'repeat: "({repeat}) {more}", payload: {{}}').events


@pytest.mark.parametrize("most", [2, 5])
def test_repeats_that_come_to_too_many_events_are_refused_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    repeat = "repeat: row.id - 1, payload: {}"
    monkeypatch.setattr("runner.planning.render._MOST_REPEATED", 6)
    assert len(events(made(tmp_path, repeat.replace("{}", "{id: 1}")))) == 6
    monkeypatch.setattr("runner.planning.render._MOST_REPEATED", most)
    (message, *_) = refused(tmp_path, repeat)
    assert message.endswith(f": the operation has more than {most} events")


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ("when: row.starts != 'x', payload: {}", "`when` cannot be evaluated for 4: there is no"),
        ("repeat: row.starts | length, payload: {}",
         "`repeat` cannot be evaluated for 4: there is no"),
        ("warn: {odd: {if: row.starts != 'x', message: m}}, payload: {}",
         "`if` cannot be evaluated for 4: there is no"),
        ("throttle: {limit: 1, per: 1s, key: row.starts}, payload: {}",
         "`key` cannot be rendered for 4: `row` has no"),
        ("group: 2, payload: {x: \"{{ row.starts | default('no') | date }}\"}",
         "`x` cannot be rendered for 4: `no` is not a time"),
        ("group: 4, payload: {x: \"{{ rows | map(attribute='id') | join | date }}\"}",
         "`x` cannot be rendered for 1 +3: `1234` is not a time"),
        ('group: 2, id: "{{ row.none }}", payload: {}',
         "`id` cannot be rendered for 1: `row` has no"),
        ('group: 2, at: "{{ row.none }}", payload: {}',
         "`at` cannot be rendered for 1: `row` has no"),
        ("group: 2, throttle: {limit: 1, per: 1s, key: row.none}, payload: {}",
         "`key` cannot be rendered for 1: `row` has no"),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_of_an_item_is_a_problem(
    tmp_path: Path, operation: str, message: str
) -> None:
    assert any(one.startswith(message) for one in refused(tmp_path, operation))


@pytest.mark.parametrize(
    "operation",
    [
        "payload: {x: \"{{ vars.none | default('no') | date }}\"}",
        "id: \"{{ vars.none | default('no') | date }}\", payload: {}",
        "throttle: {limit: 1, per: 1s, key: \"vars.none | default('no') | date\"}, payload: {}",
        "payload: {}, contract: {required: [x]}",
    ],
)
def test_of_an_item_whose_event_is_sent_again_and_again_a_problem_counts_once(
    tmp_path: Path, operation: str
) -> None:
    once = refused(tmp_path, operation)
    assert once[0].endswith("(and for 3 other items too)")
    assert refused(tmp_path, f"repeat: 3, {operation}")[0] == once[0]


@pytest.mark.parametrize(
    ("ordinary", "largest", "together", "message"),
    [
        (8, 1, 1, None),
        (7, 8, 32, None),
        (7, 8, 31, "the events up to 4 have more than 31 bytes"),
        (7, 8, 15, "the events up to 2 have more than 15 bytes"),
        (7, 7, 32, "the event for 1 has 8 bytes, more than 7 (and for 3 other items too)"),
        (7, 7, 8, "the event for 1 has 8 bytes, more than 7 (and for 1 other item too)"),
    ],
)
def test_events_that_are_too_large_alone_or_together_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ordinary: int,
    largest: int,
    together: int,
    message: str | None,
) -> None:
    """The four events have eight bytes each; any number of ordinary ones is allowed."""
    limits = {"ORDINARY": ordinary, "MAX_EVENT": largest, "LARGE": together}
    for name, limit in limits.items():
        monkeypatch.setattr(f"runner.planning.render.{name}", limit)
    operation = 'payload: {id: "{{ row.id }}"}'
    if message is None:
        assert len(events(made(tmp_path, operation))) == 4
    else:
        assert refused(tmp_path, operation)[0].partition(": send")[0] == message


@pytest.mark.parametrize(
    ("group", "sent"),
    [
        ("group: 2", [("1 +1", [1, 2]), ("3 +1", [3, 4])]),
        ("group: 3", [("1 +2", [1, 2, 3]), ("4", [4])]),
        ("group: 2, when: row.id != 2", [("1 +1", [1, 3]), ("4", [4])]),
    ],
)
def test_neighbours_go_into_one_event(
    tmp_path: Path, group: str, sent: list[tuple[str, list[int]]]
) -> None:
    assert events(made(tmp_path, f"{group}, payload: {{{IDS}}}")) == sent


@pytest.mark.parametrize(
    ("key", "sent"),
    [
        ("row.team", [("1 +1", [1, 2]), ("3 +1", [3, 4])]),
        ('"{{ row.team }} {{ rows | length }}"', [("1 +1", [1, 2]), ("3 +1", [3, 4])]),
        ("item", [("1 +2", [1, 2, 3]), ("4", [4])]),
        ("rows | length", [("1 +2", [1, 2, 3]), ("4", [4])]),
    ],
)
def test_no_event_of_a_group_is_of_two_keys_of_its_throttle(
    tmp_path: Path, key: str, sent: list[tuple[str, list[int]]]
) -> None:
    operation = f"group: 3, throttle: {{limit: 9, per: 1s, key: {key}}}, payload: {{{IDS}}}"
    assert events(made(tmp_path, operation)) == sent


@pytest.mark.parametrize(
    ("key", "order"), [("row.team", ["1", "3", "2", "4"]), ("item", ["1", "2", "3", "4"])]
)
def test_events_of_one_key_go_between_those_of_others(
    tmp_path: Path, key: str, order: list[str]
) -> None:
    throttle = f"throttle: {{limit: 1, per: 10s, key: {key}}}, batch_size: 1, delay: 5s"
    plan = made(tmp_path, f'{throttle}, payload: {{id: "{{{{ row.id }}}}"}}')
    assert events(plan) == [(item, int(item)) for item in order]
    unread = [one.message for one in plan.warnings if "`team`" in one.message]
    assert bool(unread) is (key == "item"), "a throttle reads its key"


@pytest.mark.parametrize(
    ("throttle", "message"),
    [
        ("throttle: {limit: 1, per: 10s, key: row.team}, batch_size: 1, delay: 5s", None),
        ("throttle: {limit: 1, per: 10s, key: row.team}, batch_size: 1, delay: 1s",
         "`greet`: at most 1 event of one key in 10s: batches of 1, 5s apart"),
        ("throttle: {limit: 1, per: 1s, key: row.team}, batch_size: 8, delay: 1s",
         "`greet`: at most 1 event of one key in 1s: batches of 2, 1s apart"),
        ("batch_size: 1, delay: 1s", None),
    ],
)  # fmt: skip
def test_a_throttle_that_changes_the_pace_is_told(
    tmp_path: Path, throttle: str, message: str | None
) -> None:
    told = [
        one.message
        for one in made(tmp_path, f"{throttle}, payload: {{id: 1}}").warnings
        if one.rule == "min-delay"
    ]
    assert told == ([message] if message else [])


def test_a_payload_may_have_the_pace_of_its_operation(tmp_path: Path) -> None:
    payload = '{ms: "{{ operation.delay_ms }}"}'
    plan = made(tmp_path, f"batch_size: 1, delay: 1.5s, payload: {payload}")
    assert events(plan)[0] == ("1", 1500)


@pytest.mark.parametrize(
    ("more", "items"),
    [
        ("", "3 items"),
        ("group: 2, ", "3 items"),
        ("repeat: 2, ", "3 items"),
        ("repeat: row.id - 2 if row.id > 2 else 0, ", "2 items"),
        ("when: row.id > 3, ", "1 item"),
    ],
)
def test_a_warning_counts_the_items_that_get_an_event_it_is_about(
    tmp_path: Path, more: str, items: str
) -> None:
    odd = "warn: {odd: {if: row.id > 1, message: m}}, payload: {}"
    warned = made(tmp_path, more + odd).warnings
    assert [one.message for one in warned if one.rule == "odd"] == [f"`greet`: m ({items})"]
    not_one = made(tmp_path, more + odd.replace("> 1", "> 9")).warnings
    assert not [one for one in not_one if one.rule == "odd"]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ('id: "{{ vars.none | default(7) }}"', "the id of 2 is also the id of another event: 7"),
        ('id: "{{ row.id == 9 }}"', "the id of 1 is `false`"),
        ('at: "{{ none }}"', "`at` cannot be evaluated for 1: `null` is not a time"),
        ('at: "{{ row.id > 0 }}"', "`at` cannot be evaluated for 1: `true` is not a time"),
        ('at: "{{ row.id }}"', "`at` cannot be evaluated for 1: `1` is not a time in the years"),
    ],
)
def test_an_id_or_time_that_is_none_is_named_as_json_has_it_where_its_template_is(
    tmp_path: Path, template: str, words: str
) -> None:
    with pytest.raises(InvalidPlan) as caught:
        made(tmp_path, f"{template}, payload: {{}}")
    problem = caught.value.problems[0]
    assert problem.message.startswith(words)
    assert (problem.source or "")[(problem.column or 0) - 1 :].startswith('"{{')
