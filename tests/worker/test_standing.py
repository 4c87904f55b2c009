"""What an operator reads about a submitted run in each of its phases is true at that moment."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runner.adapters.journal.leases import LATE, SECONDS, WORKERS
from runner.adapters.journal.store import Store
from runner.model import Waiting
from tests.cli.conftest import Result, Start, until
from tests.support import change_leases, repos, write_plan
from tests.worker.engine import Ran
from tests.worker.test_serve import Site, at, submit

Backfill = Callable[..., Result]


@pytest.fixture
def site(tmp_path: Path, warm: str) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack, warm)


class Told:
    """What each form says about the latest run."""

    def __init__(self, backfill: Backfill, site: Site) -> None:
        def say(*arguments: str) -> str:
            said = backfill(*arguments, env=site.env)
            assert said.status == 0, said.err
            return said.out

        self.text = say("status")
        self.json = json.loads(say("status", "--format", "json"))
        self.list = say("runs")
        self.markdown = say("report", "--format", "markdown")
        say("report", "--html", str(site.folder / "run.html"))  # the page that `ui` shows
        page = (site.folder / "run.html").read_text(encoding="utf-8")
        self.page = re.sub("</?code>", "`", page)  # with the other forms' marks


def silent(site: Site, seconds: float) -> None:
    """Set the lease as if nobody had come for so long after the run was due."""
    with Store(site.state) as store:
        change_leases(store, "expires_at = :at", at=time.time() - seconds)


def test_waiting_for_a_first_worker(tmp_path: Path, site: Site, backfill: Backfill) -> None:
    run_id = submit(backfill, site, write_plan(tmp_path, repos(2) + "operations: [sync]\n"))
    told = Told(backfill, site)
    assert told.text.startswith("RUNNING")
    assert told.json["driven_by"] == "nobody yet: it waits for a worker"
    assert "--detach" not in told.text + told.page

    silent(site, 60)
    told = Told(backfill, site)
    assert told.text.startswith("RUNNING")
    assert "it waits for a worker; none has come yet" in told.text
    assert "\n\nNo worker drives it just now; if none comes: is " in told.markdown
    for form in (told.text, told.markdown, told.page):
        assert "if none comes: is `backfill serve` running" in form
        assert f"`backfill resume {run_id} --detach` submits the run again" in form

    silent(site, LATE + 1)
    told = Told(backfill, site)
    assert told.text.startswith("DEAD")
    assert told.json["state"] == "dead"
    assert "no worker has come: is `backfill serve` running" in told.text
    assert backfill("status", "--watch", env=site.env).status == 7


def between_two_steps(site: Site, run_id: str, due: float) -> None:
    """Leave the run as a worker does, with its next step due in so many seconds."""
    with Store(site.state) as store:
        lease = store.lock("test", store.find(run_id).address, run_id, worker=True)
        store.park(lease, time.time() + due, WORKERS)


def moment(seconds: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(time.time() + seconds))


def test_from_the_moment_it_is_due_on_a_run_is_said_to_be_due(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    run_id = submit(backfill, site, write_plan(tmp_path, repos(2) + "operations: [sync]\n"))
    for due, words in ((3600, "next at"), (-1, "due since"), (-59, "due since")):
        times = {moment(due)}
        between_two_steps(site, run_id, due)
        times.add(moment(due))
        said = backfill("status", "--format", "json", env=site.env).out
        assert json.loads(said)["driven_by"] in {f"the workers, {words} {at}" for at in times}


def test_sentences_about_a_run_that_no_worker_is_at_do_not_speak_of_a_process(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    plan = write_plan(tmp_path, repos(2) + "operations: [sync]\n")
    run_id = submit(backfill, site, plan)
    another = ("run", plan, "--target", site.url)
    says = [backfill(*another, env=site.env)]
    assert f"run {run_id} of this plan is left to the workers (nobody yet: it" in says[0].err
    between_two_steps(site, run_id, 3600)
    left = "left to the workers (next at "
    says.append(backfill(*another, env=site.env))
    assert f"run {run_id} of this plan is {left}" in says[1].err
    assert "sign of life" not in says[0].err + says[1].err
    assert [one.status for one in says] == [5, 5]
    assert f"is under way: it is {left}" in backfill("resume", run_id, env=site.env).err
    paused = backfill("pause", run_id, env=site.env)
    assert f"run {run_id} is paused: it is {left}" in paused.out
    assert f"continues: it is {left}" in backfill("resume", run_id, env=site.env).err


def test_a_pause_that_is_taken_back_is_not_what_the_run_waits_for(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    run_id = submit(backfill, site, write_plan(tmp_path, repos(2) + "operations: [sync]\n"))
    assert backfill("pause", run_id, env=site.env).status == 0
    with Store(site.state) as store:  # as the step leaves it that reads the request
        record = store.find(run_id)
        lease = store.lock(record.plan, record.address, run_id, worker=True)
        store.journal(record, lease).waiting(1, Waiting("paused by an operator"))
        store.park(lease, time.time(), WORKERS)
    assert "; waiting: paused by an operator" in Told(backfill, site).text
    assert backfill("resume", run_id, env=site.env).status == 0
    told = Told(backfill, site)
    assert "waiting: " not in told.text + told.page
    assert told.json["stages"][0]["waiting"] is None


def test_who_watches_is_told_that_no_worker_has_come(
    tmp_path: Path,
    site: Site,
    backfill: Backfill,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = submit(backfill, site, write_plan(tmp_path, repos(2) + "operations: [sync]\n"))
    silent(site, 60)
    monkeypatch.setenv("BACKFILL_STATE", site.state)
    watching = start("status", run_id, "--watch")
    assert watching.stderr
    begin = watching.stderr.readline()  # the line for the first phase seen comes before the others
    assert backfill("cancel", run_id, env=site.env).status == 0
    rest = watching.stderr.read()  # `communicate` would lose what came with the first line
    assert watching.wait(30) == 7
    assert "note: nobody yet: it waits for a worker; none has come yet\n" in begin + rest
    assert rest.count("if none comes: is `backfill serve` running") == 1


@pytest.mark.parametrize("seconds", [1, LATE + 1])
def test_a_run_that_nobody_comes_for_is_asked_for_once_more(
    seconds: float, tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    run_id = submit(backfill, site, write_plan(tmp_path, repos(2) + "operations: [sync]\n"))
    assert backfill("resume", run_id, "--detach", env=site.env).status == 5, "it is not due yet"
    lost = site.engine.events.pop()
    silent(site, seconds)

    again = backfill("resume", run_id, "--detach", env=site.env)
    assert again.status == 0, again.err
    assert Told(backfill, site).json["driven_by"] == "nobody yet: it waits for a worker"
    until(lambda: bool(site.engine.events))
    site.engine.events.append(lost)  # late, but not lost
    site.serve()
    ran = site.engine.run_all()
    assert [one.output["status"] for one in ran] == ["completed", "completed"]
    assert site.order == ["o/r0", "o/r1"]
    assert set(site.effects.values()) == {1}


def test_under_way_it_is_the_workers_process_and_between_two_steps_the_workers(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    plan = write_plan(tmp_path, repos(9) + "operations: [sync]\nbatch_size: 1\ndelay: 250ms\n")
    between: list[Told] = []
    wait = site.engine.clock.wait_until

    def look_and_wait(at: float) -> None:
        between.append(Told(backfill, site))
        wait(at)

    site.engine.clock.wait_until = look_and_wait
    worker = site.serve()
    submit(backfill, site, plan)
    ran: list[Ran] = []
    engine = threading.Thread(target=lambda: ran.extend(site.engine.run_all()))
    engine.start()
    until(lambda: len(site.order) >= 1)
    under_way = backfill("status", "--format", "json", env=site.env)
    engine.join()
    assert ran[0].output["status"] == "completed", ran[0].error
    assert f"(process {worker.pid})" in json.loads(under_way.out)["driven_by"]
    assert between
    for told in between:
        assert re.match(r"the workers, (next at|due since) ", told.json["driven_by"])
        assert "--detach" not in told.text


def test_killed_the_worker_has_gone_and_another_one_is_asked(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    plan = write_plan(tmp_path, repos(6) + "operations: [sync]\nbatch_size: 1\ndelay: 250ms\n")
    victim = site.serve()
    run_id = submit(backfill, site, plan)
    seen: list[Any] = []

    def gone(ran: Ran) -> None:
        if not ran.failed_requests or seen:
            return
        assert victim.wait()
        seen.append(Told(backfill, site))
        seen.append(backfill("run", plan, "--target", site.url, env=site.env))
        site.serve()

    site.engine.between = gone
    killing = at(lambda: len(site.order) >= 2, victim.kill)
    (ran,) = site.engine.run_all()
    killing.join()
    told, another = seen
    assert ran.output == {"run": run_id, "status": "completed"}, ran.error
    assert told.text.startswith("RUNNING")
    assert " running " in told.list
    assert "nobody just now, since its worker, " in told.text
    assert "nobody just now, since its worker, " in told.page
    assert f"(process {victim.pid}), has gone: the engine asks another" in told.text
    assert "if none comes: is `backfill serve` running" in told.text
    assert another.status == 5, "its lock is still the run's"
    assert (
        f"run {run_id} of this plan is left to the workers (nobody just now, since" in another.err
    )
    assert site.order == [f"o/r{number}" for number in range(6)]
    assert set(site.effects.values()) == {1}


def test_a_worker_that_has_gone_keeps_no_run_from_being_ended(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    run_id = submit(backfill, site, write_plan(tmp_path, repos(2) + "operations: [sync]\n"))
    with Store(site.state) as store:
        store.lock("test", store.find(run_id).address, run_id, worker=True)
    silent(site, SECONDS)
    assert "has gone" in Told(backfill, site).text
    assert backfill("cancel", run_id, env=site.env).status == 0
    assert Told(backfill, site).text.startswith("CANCELLED")


def test_a_run_that_waits_for_a_worker_is_cancelled_with_its_jobs(
    tmp_path: Path, site: Site, backfill: Backfill
) -> None:
    run_id = submit(backfill, site, write_plan(tmp_path, repos(2) + "operations: [sync]\n"))
    done = backfill("cancel", run_id, "--jobs", env=site.env)
    assert done.status == 0, done.err
    assert "0 jobs cancelled" in done.out
