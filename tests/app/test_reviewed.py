"""Saved plans, in process: they are shown as they were reviewed, and run only as such."""

from __future__ import annotations

import hashlib
import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from runner.app.estimates import expected_of_preview, tell
from runner.app.preview import keep, preview, previews
from runner.app.reviewed import refuse_used, reviewed
from runner.app.saved import load_saved, save
from runner.app.session import Session
from runner.errors import BackfillError, StalePlan, UsageError
from runner.model import Selectors
from runner.output.preview import plan_markdown, write_json, write_jsonl, write_text
from runner.planning.saved import write_saved
from runner.version import __version__
from tests.depth import some
from tests.support import CATALOG, Recorder, make_plan, repos, start_journal, write_plan

EXPIRED = "it has expired (1970-01-01 00:00 UTC)"
BODY = repos(3) + "operations: [fire]\nvars: {days: 1}\n"


@pytest.fixture
def saved(session: Session, tmp_path: Path) -> str:
    path, file = str(write_plan(tmp_path, BODY)), str(tmp_path / "saved.json")
    keep(session, preview(session, path, {"days": 2}), None, {"days": 2}, file, 3600.0)
    return file


def changed(file: str, **changes: Any) -> None:
    kept = load_saved(file)
    assert kept
    Path(file).write_bytes(write_saved(replace(kept, **changes)))


def test_what_is_as_it_was_reviewed_may_be_run(session: Session, saved: str) -> None:
    for variables in ({}, {"days": 2}):
        found = reviewed(session, saved, "embedded", variables, None)
        assert found
        assert (found.plan.events, found.target.name, found.files) == (3, "embedded", None)
    assert reviewed(session, str(Path(saved).with_name("plan.yaml")), None, {}, None) is None
    with pytest.raises(UsageError, match="--var does nothing for a saved plan"):
        reviewed(session, saved, None, {"days": 3}, None)
    with pytest.raises(UsageError):
        reviewed(session, saved, None, {}, Selectors(limit=1))


@pytest.mark.parametrize(
    ("changes", "target", "faults"),
    [
        ({"expires_at": 0.0}, None, EXPIRED),
        ({"tool": "0.0"}, None, f"it was made by backfill 0.0, but this is {__version__}"),
        ({}, "dev", "it was made for --target embedded, not dev"),
        ({"address": "http://x http://x"}, None,
         "`embedded` was http://x and is now http://embedded"),
        ({"expires_at": 0.0, "tool": "0.0"}, "embedded",
         f"{EXPIRED}; it was made by backfill 0.0, but this is {__version__}"),
    ],
)  # fmt: skip
def test_all_that_makes_it_stale_is_told_at_once(
    session: Session, saved: str, changes: dict[str, Any], target: str | None, faults: str
) -> None:
    changed(saved, **changes)
    with pytest.raises(StalePlan) as stale:
        reviewed(session, saved, target, {}, None)
    assert (str(stale.value), stale.value.difference) == (f"{saved} is stale: {faults}", None)


def test_files_that_are_others_by_now_make_it_stale_with_what_that_does(
    session: Session, saved: str, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG.replace("app/fire", "app/fires"))
    with pytest.raises(StalePlan) as stale:
        reviewed(session, saved, None, {}, None)
    assert str(stale.value).endswith("catalog.yaml has changed")
    difference: Any = stale.value.difference
    assert [one.what for one in difference.changes] == ["event: app/fire → app/fires"]
    catalog.unlink()
    with pytest.raises(StalePlan) as gone:
        reviewed(session, saved, None, {}, None)
    assert "catalog.yaml no longer exists; it can no longer be planned (" in str(gone.value)


def test_it_is_run_once(session: Session, tmp_path: Path) -> None:
    refuse_used(session, "RUN1")
    journal = start_journal(session.store, make_plan(tmp_path, BODY))
    journal.end("failed")
    with pytest.raises(StalePlan, match="this plan was run already: run RUN1 is failed"):
        refuse_used(session, "RUN1")


def test_it_is_shown_as_it_was_reviewed_and_nothing_else_is_made_of_it(
    session: Session, saved: str
) -> None:
    shown = preview(session, saved, {})
    assert (shown.plan.events, shown.built, shown.timeline.starved) == (3, None, None)
    with pytest.raises(UsageError, match="--html does nothing for a saved plan"):
        preview(session, saved, {}, writes={"--html": "x", "--out": None})
    with pytest.raises(UsageError, match="--html, --out do nothing for a saved plan"):
        preview(session, saved, {}, writes={"--html": "x", "--out": "y"})
    with pytest.raises(UsageError):
        preview(session, saved, {}, selectors=Selectors(limit=1))
    with pytest.raises(UsageError, match="--out"):
        preview(session, saved, {}, writes={"--out": saved})


def test_a_preview_writes_over_nothing_that_the_plan_is_made_of(
    session: Session, tmp_path: Path
) -> None:
    path = str(write_plan(tmp_path, BODY))
    session.files_given = ["policy.yaml"]
    for file in (str(tmp_path / "catalog.yaml"), "policy.yaml"):
        with pytest.raises(UsageError, match="--out"):
            preview(session, path, {}, writes={"--out": file})
    warned = preview(session, path, {})
    assert "no-handler" in [one.rule for one in warned.plan.warnings]
    assert "no-handler" not in [one.rule for one in warned.sent.warnings]


def test_facts_that_no_question_needs_are_noted(tmp_path: Path) -> None:
    heard = Recorder()
    with Session(environ={}, reporter=heard) as session:  # type: ignore[arg-type]
        session.facts = SimpleNamespace(recorded_at="2026-01-01T00:00:00Z")  # type: ignore[assignment]
        preview(session, str(write_plan(tmp_path, BODY)), {})
    assert heard.notes == ["--facts has no effect: the plan asks no database"]


def test_plans_that_are_shown_together_go_to_one_target(tmp_path: Path) -> None:
    project = "apiVersion: backfill/v1\nkind: BackfillProject\ndefault_environment: e\n"
    folders = [tmp_path / name for name in ("a", "b")]
    for folder, target in zip(folders, ("embedded", "dev"), strict=True):
        folder.mkdir()
        write_plan(folder, BODY)
        (folder / "backfill.yaml").write_text(
            f"{project}environments: {{e: {{target: {target}}}}}\n"
        )
    paths = [str(folder) for folder in folders]
    with Session(environ={}) as session:
        with pytest.raises(UsageError, match="these plans have several targets: e: dev"):
            previews(session, paths, None, {})
        (folders[1] / "bad.yaml").write_text("repos: 5\n")
        found = previews(session, paths, None, {}, target="embedded")
        assert [one.target.name for one in found.plans] == ["e: embedded"] * 2
        assert [path for path, _ in found.errors] == [str(folders[1] / "bad.yaml")]


@pytest.mark.parametrize(
    ("made_in", "run_in", "fault"),
    [
        ("a", None, None),
        ("a", "a", None),
        ("a", "b", "it was made for environment a, not environment b"),
        (None, "b", "it was made for no environment, not environment b"),
    ],
)
def test_it_is_run_in_the_environment_that_it_was_made_for(
    tmp_path: Path, made_in: str | None, run_in: str | None, fault: str | None
) -> None:
    path, file = str(write_plan(tmp_path, BODY)), str(tmp_path / "saved.json")
    project = "apiVersion: backfill/v1\nkind: BackfillProject\n"
    names = "environments: {a: {target: embedded}, b: {target: embedded}}\n"
    (tmp_path / "backfill.yaml").write_text(project + names)
    state = str(tmp_path / "state.db")
    with Session(state, environ={}, environment=made_in) as session:
        keep(session, preview(session, path, {}), None, {}, file, 3600.0)
    with Session(state, environ={}, environment=run_in) as session:
        if fault is None:
            found = reviewed(session, file, None, {}, None)
            assert found
            assert found.target.name == "a: embedded"
        else:
            with pytest.raises(StalePlan, match=fault):
                reviewed(session, file, None, {}, None)


ALL_SORTS = """\
repos: [o/r0, o/r1]
collections: {us: {query: select n from t, item: "{{ row.n }}"}}
operations:
  - {use: sync, batch_size: 1, delay: {between: [1s, 2s]}, max_in_flight: 9}
  - {use: fire}
  - use: drain
    until: {query: select count(*) as pending from t, expect: {column: pending, at_most: 0}}
canary: 1
give_up_after: 5m
max_failures: 3
accept: {no-handler: nobody is there}
approval: {required: true, over_events: 100}
guards:
  - window: {allow: "22:00-06:00", timezone: Europe/Berlin}
  - file: hold.flag
  - http: http://127.0.0.1:1/ready
  - github: {remaining: 500}
  - sql: {query: select 1, at_most: 1000}
  - command: ["true"]
checks:
  - name: moved
    query: select repo, at from t where repo in (:repos)
    expect: {column: at, newer_than: run.started_at}
    timeout: 1m
coverage: {rows: {query: "select repo as item, 2 as total, 1 as done from t"}}
"""
DRAIN = "  drain: {event: app/drain, for_each: us, resolve: stage, payload: {n: '{{ row.n }}'}}\n"
ODD: tuple[Any, ...] = (
    1e308, 1e15, 253402300800, -1.0, -1, 0, 2**63, True, None, "", "x", "25:00-99:99",
    "10000-01-01T00:00:00Z", [], [1], {}, {"a": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def all_sorts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a saved plan with everything that one can have, as parsed JSON."""
    folder = tmp_path_factory.mktemp("saved")
    with closing(sqlite3.connect(folder / "app.db")) as database, database:
        database.execute("CREATE TABLE t (repo, n, at)")
        database.execute("INSERT INTO t VALUES ('o/r0', 1, '2026-01-01T00:00:00Z')")
    file = folder / "saved.json"
    environ = {"BACKFILL_DATABASE_URL": f"sqlite:///{folder / 'app.db'}"}
    with Session(str(folder / "state.db"), environ=environ) as session:
        path = str(write_plan(folder, ALL_SORTS, catalog=CATALOG + DRAIN))
        found = preview(session, path, {}, selectors=Selectors(items=("*",), limit=1))
        assert found.built
        save(session, found.built, None, {}, str(file), 3600.0)
    value: dict[str, Any] = orjson.loads(file.read_bytes())
    return value


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else ()
    for name, one in enumerate(value) if isinstance(value, list) else inner:
        yield (*at, name)
        yield from places(one, (*at, name))


def forged(value: Any, place: tuple[str | int, ...], to: object) -> bytes:
    """Return the plan with `to` in that place, and a checksum that fits."""
    value = inner = orjson.loads(orjson.dumps(value))
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = to
    value.pop("checksum", None)
    raw = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return orjson.dumps({**value, "checksum": f"sha256:{hashlib.sha256(raw).hexdigest()}"})


def test_whatever_stands_in_a_forged_one_it_is_refused_or_shown(
    session: Session, all_sorts: dict[str, Any], tmp_path: Path
) -> None:
    """1e308 seconds between two batches once ended `plan` and `run` with an internal error."""
    every = [place for place in places(all_sorts) if place[0] not in ("kind", "checksum")]
    assert len(every) > 200
    file, refused = tmp_path / "saved.json", 0
    for place, odd in some(product(every, ODD), 800):
        file.write_bytes(forged(all_sorts, place, odd))
        try:
            shown, out = preview(session, str(file), {}), io.StringIO()
            tell(session, expected_of_preview(session, shown.plan))
            write_text(shown.plan, out, target="embedded", events=5, color=False)
            write_json(shown.plan, out, target="embedded")
            write_jsonl(shown.plan, out)
            plan_markdown(shown.plan, target="embedded", events=5)
        except BackfillError:
            refused += 1
        except Exception as error:
            error.add_note(f"{place}: {odd!r}")
            raise
    assert refused > 400
