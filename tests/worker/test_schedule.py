"""Plans with a schedule: what a firing starts, and what it does not."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.journal.store import Store
from runner.app import schedules
from runner.app.prepare import prepare
from runner.model import Schedule
from runner.spec.recurring import due_after
from tests.cli.conftest import Result, until
from tests.hooks import Hook, listening
from tests.support import Recorder, repos, write_plan
from tests.worker.test_notify import PROJECT
from tests.worker.test_serve import Site

FIRST, SECOND = "01K0000000000000000000F1RS", "01K000000000000000000SEC0N"
BODY = repos(3) + 'operations: [sync]\nschedule: {cron: "0 3 * * *", timezone: Europe/Berlin}\n'
Backfill = Callable[..., Result]


@pytest.fixture
def site(tmp_path: Path, warm: str) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack, warm)


def fire(site: Site, run_id: str) -> Any:
    """Fire the schedule, and drive what it started to its end."""
    fired = site.engine.fire("scheduled-test", run_id)
    if fired.error is None:
        until(lambda: bool(site.engine.events))
        (ran,) = site.engine.run_all()
        assert ran.output == {"run": run_id, "status": "completed"}, ran.error
    return fired


def test_each_firing_is_a_run_of_its_own_with_what_is_there_by_then(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    """The plan's files are read at each firing, and event ids are the firing's."""
    plan = write_plan(tmp_path, BODY)
    site.serve(str(plan), "--target", site.url)

    assert fire(site, FIRST).error is None
    write_plan(tmp_path, BODY.replace("o/r2", "o/new"))
    assert fire(site, SECOND).error is None

    assert site.order == ["o/r0", "o/r1", "o/r2", "o/r0", "o/r1", "o/new"]
    assert set(site.effects.values()) == {1}
    assert Counter(id_.split(":")[0] for id_ in site.effects) == {FIRST: 3, SECOND: 3}
    shown = backfill("runs", "--format", "json", env=site.env)
    assert [run["run_id"] for run in json.loads(shown.out)["runs"]] == [SECOND, FIRST]


def test_a_firing_of_a_plan_that_is_invalid_by_then_says_what_is_wrong_and_where(
    tmp_path: Path, site: Site
) -> None:
    plan = write_plan(tmp_path, BODY)
    site.serve(str(plan), "--target", site.url)
    write_plan(tmp_path, BODY.replace("o/r1", "nonsense").replace("[sync]", "[sink]"))
    error = fire(site, FIRST).error["message"]
    assert error.startswith(f"{plan}:5:"), error
    assert error.endswith(" (and 1 more)"), error


def test_a_firing_that_is_tried_again_starts_no_second_run_and_its_run_is_told_of_once(
    tmp_path: Path, site: Site
) -> None:
    (tmp_path / "backfill.yaml").write_text(PROJECT, encoding="utf-8")
    with listening(Hook()) as hook:
        site.env["HOOK"] = hook.url
        site.serve(str(write_plan(tmp_path, BODY)), "--target", site.url)

        assert site.engine.fire("scheduled-test", FIRST).error is None
        assert site.engine.fire("scheduled-test", FIRST).error is None
        until(lambda: bool(site.engine.events))
        ran = site.engine.run_all()

    assert [(body["event"], body["run_id"]) for body in hook.told] == [
        ("started", FIRST),
        ("ended", FIRST),
    ]
    assert {one.output["status"] for one in ran} == {"completed"}
    assert site.order == ["o/r0", "o/r1", "o/r2"]
    assert set(site.effects.values()) == {1}


def test_while_the_run_before_goes_on_a_firing_fails_by_name(tmp_path: Path, site: Site) -> None:
    """The same work twice at once is never intended, and a skipped firing is reported."""
    site.serve(str(write_plan(tmp_path, BODY)), "--target", site.url)

    assert site.engine.fire("scheduled-test", FIRST).error is None
    fired = site.engine.fire("scheduled-test", SECOND)
    until(lambda: bool(site.engine.events))
    (event,) = site.engine.events
    assert event["data"]["app"] == f"{site.engine.app}-plans", "those that have its plan take it"

    assert f"run {FIRST} of this plan is left to the workers" in json.dumps(fired.error)
    site.engine.run_all()
    assert site.order == ["o/r0", "o/r1", "o/r2"]


def test_the_second_firing_of_an_hour_that_the_clock_repeats_sends_nothing(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    body = BODY.replace("0 3 * * *", "30 1 * * *").replace("Europe/Berlin", "America/New_York")
    site.serve(str(write_plan(tmp_path, body)), "--target", site.url)
    first = datetime(2026, 11, 1, 5, 30, tzinfo=UTC).timestamp()

    def at(seconds: float, engines: str) -> Any:
        fired = site.engine.fire("scheduled-test", engines, first + seconds)
        assert fired.error is None
        return fired.output["run"]

    run = at(0.4, FIRST)
    until(lambda: bool(site.engine.events))
    (ran,) = site.engine.run_all()
    assert ran.output == {"run": run, "status": "completed"}
    assert at(3600.2, SECOND) == run
    assert at(0.4, FIRST) == run, "tried again"
    assert site.engine.events == []
    assert site.order == ["o/r0", "o/r1", "o/r2"]
    next_day = at(25 * 3600 + 0.1, "01K0000000000000000000TH1RD")
    assert next_day not in (run, FIRST, SECOND)
    until(lambda: bool(site.engine.events))
    site.engine.run_all()
    assert len(site.order) == 6
    log = "".join(path.read_text() for path in tmp_path.glob("serve-*.log"))
    assert "test was started at this time already" in log


def test_the_workers_of_two_servers_each_start_a_plan_though_they_share_a_state(
    tmp_path: Path, warm: str
) -> None:
    """Their targets have one name, as `cloud` and `dev` have everywhere."""
    plan, at = write_plan(tmp_path, BODY), datetime(2026, 11, 2, 2, tzinfo=UTC).timestamp()
    with ExitStack() as stack:
        sites = [Site(tmp_path, stack, warm) for _ in range(2)]
        for number, site in enumerate(sites):
            site.serve(str(plan))
            assert site.engine.fire("scheduled-test", f"01K000000000000000000000R{number}", at)
            until(lambda: bool(site.engine.events))  # noqa: B023
            (ran,) = site.engine.run_all()
            assert ran.output["status"] == "completed"
        assert [site.order for site in sites] == [["o/r0", "o/r1", "o/r2"]] * 2


@pytest.mark.parametrize("under_way", [False, True])
def test_a_firing_whose_run_another_worker_starts_at_that_moment_has_not_failed(
    tmp_path: Path,
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    under_way: bool,
) -> None:
    """A plan that is served at two URLs is due at both at once. `under_way`: a worker holds the
    run's lock by then."""
    plan, zone = write_plan(tmp_path, BODY), Schedule("0 3 * * *", "Europe/Berlin")
    at = datetime(2026, 11, 2, 2, tzinfo=UTC).timestamp()
    one, other = (
        schedules.Firing(
            "test", str(plan), zone, site.state, app, "cloud", None, site.env, lambda _: Recorder()
        )
        for app in ("one", "other")
    )
    started = []

    def meanwhile(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(schedules, "prepare", prepare)
        started.append(other.start(SECOND, at))
        if under_way:
            record = store.find(str(started[0]["run"]))
            store.lock(record.plan, record.address, record.id, worker=True)
        return prepare(*given, **more)

    monkeypatch.setattr(schedules, "prepare", meanwhile)
    with Store(site.state) as store, caplog.at_level("INFO", "backfill.worker"):
        assert one.start(FIRST, at) == {"run": started[0]["run"], "event": None}
    assert started[0]["event"]
    assert "test was started at this time already" in caplog.text
    assert "is not started" not in caplog.text


@pytest.mark.parametrize(
    ("cron", "zone", "words"),
    [
        ("30 2 * * *", "America/New_York", "is not due on 2026-03-08: the clock changes"),
        ("30 1 * * *", "America/New_York", "is due twice on 2026-11-01: the clock changes"),
        ("0,30 1-2 * * *", "America/New_York", "not due on 2026-03-08, and due twice on 2026-11"),
        ("0 0 * * *", "Africa/Cairo", "is not due on 2026-04-24: the clock changes"),
        ("0 3 * * *", "America/New_York", ""),
        ("30 2 * * mon-fri", "America/New_York", ""),  # clocks change on Sundays
        ("30 * * * *", "America/New_York", ""),
        ("30 2 * * *", "UTC", ""),
        ("30 2 * * *", "Asia/Kolkata", ""),
    ],
)
def test_validate_warns_of_times_within_a_change_of_the_clock(
    tmp_path: Path, backfill: Backfill, cron: str, zone: str, words: str
) -> None:
    body = BODY.replace("0 3 * * *", cron).replace("Europe/Berlin", zone)
    shown = backfill("validate", write_plan(tmp_path, body))
    assert shown.status == 0
    assert ("the clock changes" in shown.err + shown.out) == bool(words)
    assert words in (shown.err + shown.out).replace("\n", " ")


@pytest.mark.parametrize(
    ("schedule", "options", "status", "words"),
    [
        (True, ("--target", "embedded"), 4, "no worker can send to it"),
        (True, ("--target", "nowhere"), 2, "`nowhere` is not a target"),
        (True, ("--env", "here"), 4, "no worker can send to it"),
        (False, ("--target", "dev"), 2, "--target does nothing"),
    ],
)
def test_a_target_that_no_scheduled_run_can_go_to_is_refused_before_anything_is_served(
    tmp_path: Path,
    backfill: Backfill,
    schedule: bool,
    options: tuple[str, ...],
    status: int,
    words: str,
) -> None:
    """Each firing would fail, and nobody would know before the first."""
    project = "apiVersion: backfill/v1\nkind: BackfillProject\n"
    project += "environments: {here: {target: embedded}}\n"
    (tmp_path / "backfill.yaml").write_text(project, encoding="utf-8")
    plan = write_plan(tmp_path, BODY if schedule else BODY.split("schedule:")[0])
    refused = backfill("serve", plan, *options, env={"INNGEST_DEV": "1"})
    assert (refused.status, words in refused.err) == (status, True), refused.err


def test_the_engine_is_told_the_time_with_its_zone() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import inngest

        from runner.adapters.worker.function import create_firing
        from runner.app.schedules import Firing
    firing = Firing(
        "test",
        "p.yaml",
        Schedule("0 3 * * *", "Europe/Berlin"),
        "",
        "backfill",
        "dev",
        None,
        {},
        lambda _: Recorder(),
    )
    client = inngest.Inngest(app_id="backfill", is_production=False)
    config = create_firing(client, firing).get_config("http://worker/api/inngest").main
    assert config.id == "backfill-scheduled-test"
    assert config.triggers == [inngest.TriggerCron(cron="TZ=Europe/Berlin 0 3 * * *")]


def test_it_is_due_by_the_clocks_of_its_zone_also_when_they_change() -> None:
    due = due_after(Schedule("0 3 * * *", "Europe/Berlin"), datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert due.astimezone(UTC) == datetime(2026, 10, 25, 2, tzinfo=UTC)
    before = due_after(
        Schedule("0 3 * * *", "Europe/Berlin"), datetime(2026, 10, 23, 12, tzinfo=UTC)
    )
    assert before.astimezone(UTC) == datetime(2026, 10, 24, 1, tzinfo=UTC)


def test_schedules_lists_what_is_due_next_first(tmp_path: Path, backfill: Backfill) -> None:
    write_plan(tmp_path, BODY)
    daily = (tmp_path / "plan.yaml").read_text(encoding="utf-8")
    minutely = daily.replace("name: test", "name: often").replace("0 3 * * *", "* * * * *")
    (tmp_path / "often.yaml").write_text(minutely, encoding="utf-8")
    (tmp_path / "once.yaml").write_text(
        daily.split("schedule:")[0].replace("name: test", "name: once"), encoding="utf-8"
    )

    shown = backfill("serve", "--list", tmp_path)
    assert shown.status == 0, shown.err
    assert [line.split()[-2] for line in shown.out.splitlines()] == ["plan", "often", "test"]
    before = datetime.now(UTC)  # the minute may change while the command runs
    found = json.loads(backfill("serve", "--list", tmp_path, "--format", "json").out)["schedules"]
    assert [(one["name"], one["cron"], one["timezone"]) for one in found] == [
        ("often", "* * * * *", "Europe/Berlin"),
        ("test", "0 3 * * *", "Europe/Berlin"),
    ]
    assert datetime.fromisoformat(found[0]["next"]) > before


def test_apply_leaves_plans_with_a_schedule_to_the_workers(
    tmp_path: Path, backfill: Backfill
) -> None:
    write_plan(tmp_path, BODY)
    shown = backfill("apply", "--dry-run", tmp_path, "--format", "json")
    assert json.loads(shown.out)["plans"] == []
    assert "has a schedule: `backfill serve` starts it" in shown.err
