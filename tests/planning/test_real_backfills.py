"""Real backfills of public projects as plans: what each is, and the events that it must give."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runner.model import Data, Json, Query, Table
from runner.planning.build import build_execution_plan
from runner.planning.facts import gather
from runner.planning.lines import shown_event
from runner.planning.serialize import dump_head
from runner.planning.serialize import load_plan as load_journaled
from runner.spec.load import load_plan
from tests.support import write_plan

NOW = datetime(2026, 11, 24, tzinfo=UTC)


class Real(NamedTuple):
    """`rows`: the answer to the query that contains the word; `events`: operation, item and event
    of each."""

    name: str
    catalog: str
    plan: str
    events: list[tuple[str, str, Data]]
    rows: Mapping[str, list[Data]] = {}
    files: Mapping[str, str] = {}


def event(name: str, *, id: str | None = None, ts: int | None = None, **data: Json) -> Data:  # noqa: A002
    own: dict[str, Any] = {"id": id} if id else {}
    return {"name": name, "data": data, **own, **({"ts": ts} if ts else {})}


REAL = [
    Real(
        "rows of a query, with a nested payload",
        "bill: {event: bill/sync, for_each: {query: select id from invoices, item: '{{ row.id }}'},"
        " payload: {ref: {invoice: '{{ row.id }}', by: backfill}}}",
        "operations: [bill]",
        [
            ("bill", "7", event("bill/sync", ref={"invoice": 7, "by": "backfill"})),
            ("bill", "9", event("bill/sync", ref={"invoice": 9, "by": "backfill"})),
        ],
        {"invoices": [{"id": 7}, {"id": 9}]},
    ),
    Real(
        "tenants by query, the largest first",
        "index: {event: t/index, for_each: tenants, payload: {tenant: '{{ row.slug }}'}}",
        "collections: {tenants: {query: select slug from tenants, item: '{{ row.slug }}'}}\n"
        "order_by: [-seats]\noperations: [index]",
        [
            ("index", "b", event("t/index", tenant="b")),
            ("index", "a", event("t/index", tenant="a")),
        ],
        {"tenants": [{"slug": "a", "seats": 3}, {"slug": "b", "seats": 90}]},
    ),
    Real(
        "priority numbers, the lower first",
        "go: {event: j/go, for_each: jobs, payload: {id: '{{ row.id }}'}}",
        "collections: {jobs: [{id: 1, priority: 9}, {id: 2, priority: 1}]}\noperations: [go]",
        [("go", "2", event("j/go", id_=2)), ("go", "1", event("j/go", id_=1))],
    ),
    Real(
        "the same event several times, by what is pending",
        "embed: {event: e/run, for_each: repo, repeat: (repo.pending / 100) | ceil,"
        " payload: {repo: '{{ repo.repo }}', page: '{{ repeat.index }}'}}",
        "repos: [{repo: o/a, pending: 150}, {repo: o/b, pending: 0}]\noperations: [embed]",
        [
            ("embed", "o/a", event("e/run", repo="o/a", page=1)),
            ("embed", "o/a", event("e/run", repo="o/a", page=2)),
        ],
    ),
    Real(
        "nothing to do on every second night",
        "send: {event: m/send, for_each: mails, payload: {}}",
        "collections: {mails: {query: select id from mails}}\nif_empty: ok\noperations: [send]",
        [],
        {"mails": []},
    ),
    Real(
        "sync A, issues A, sync B, issues B",
        "sync: {event: r/sync, for_each: repo, payload: {}}\n"
        "  issues: {event: r/issues, for_each: repo, payload: {}}",
        "repos: [o/a, o/b]\nflow: items\noperations: [sync, issues]",
        [
            ("sync", "o/a", event("r/sync")),
            ("issues", "o/a", event("r/issues")),
            ("sync", "o/b", event("r/sync")),
            ("issues", "o/b", event("r/issues")),
        ],
    ),
    Real(
        "days from A to B",
        "recount: {event: d/recount, for_each: days, payload: {day: '{{ row.from }}'}}",
        "vars: {from: '2026-02-27'}\ncollections: {days: {dates: {from: '{{ vars.from }}',"
        " to: '2026-03-01', every: 1d}}}\noperations: [recount]",
        [
            ("recount", "2026-02-27", event("d/recount", day="2026-02-27")),
            ("recount", "2026-02-28", event("d/recount", day="2026-02-28")),
        ],
    ),
    Real(
        "windows of hours, the last one cut",
        "load: {event: w/load, for_each: hours,"
        " payload: {from: '{{ row.from }}', to: '{{ row.to }}'}}",
        "collections:\n"
        "  hours: {dates: {from: '2026-01-01', to: '2026-01-01T09:00:00Z', every: 6h}}\n"
        "operations: [load]",
        [
            (
                "load",
                "2026-01-01T00:00:00Z",
                event("w/load", from_="2026-01-01T00:00:00Z", to="2026-01-01T06:00:00Z"),
            ),
            (
                "load",
                "2026-01-01T06:00:00Z",
                event("w/load", from_="2026-01-01T06:00:00Z", to="2026-01-01T09:00:00Z"),
            ),
        ],
    ),
    Real(
        "business unit by week",
        "plan: {event: p/week, for_each: cells, payload: {unit: '{{ row.unit }}',"
        " week: \"{{ row.week.from | date('%G-W%V') }}\"}}",
        "collections:\n  units: [north, south]\n"
        "  weeks: {dates: {from: '2026-01-05', to: '2026-01-12', every: 7d}}\n"
        "  cells: {matrix: {unit: units, week: weeks}}\noperations: [plan]",
        [
            ("plan", "north/2026-01-05", event("p/week", unit="north", week="2026-W02")),
            ("plan", "south/2026-01-05", event("p/week", unit="south", week="2026-W02")),
        ],
    ),
    Real(
        "users from a file, keys left out where they are empty",
        "profile: {event: u/profile, for_each: users, payload: {id: '{{ row.id }}',"
        " team: '{{ row.team }}'}}",
        "collections: {users: {file: users.csv, item: '{{ row.id }}'}}\noperations: [profile]",
        [
            ("profile", "1", event("u/profile", id_=1, team="x")),
            ("profile", "2", event("u/profile", id_=2)),
        ],
        files={"users.csv": "id,team\n1,x\n2,\n"},
    ),
    Real(
        "documents by their keys, a line each",
        "index: {event: s/index, for_each: documents, payload: {key: '{{ row.key }}'}}",
        "collections: {documents: {file: keys.jsonl, item: '{{ row.key }}'}}\noperations: [index]",
        [("index", "a/b.md", event("s/index", key="a/b.md"))],
        files={"keys.jsonl": '{"key": "a/b.md"}\n'},
    ),
    Real(
        "a thousand ids in one event",
        "many: {event: i/many, for_each: things, group: 1000,"
        " payload: {ids: \"{{ rows | map(attribute='id') | list }}\"}}",
        "collections: {things: {query: select id from items}}\noperations: [many]",
        [
            ("many", "0 +999", event("i/many", ids=list(range(1000)))),
            ("many", "1000 +1", event("i/many", ids=[1000, 1001])),
        ],
        {"items": [{"id": n} for n in range(1002)]},
    ),
    Real(
        "a booking's own id and start",
        "remind: {event: b/remind, for_each: bookings, id: 'booking-{{ row.id }}',"
        " at: \"{{ row.starts | days(-1) }}\", payload: {id: '{{ row.id }}'}}",
        "collections: {bookings: [{id: 5, starts: '2026-12-02T08:00:00Z'}]}\noperations: [remind]",
        [("remind", "5", event("b/remind", id="booking-5", ts=1796112000000, id_=5))],
    ),
    Real(
        "split, replace and join",
        "tag: {event: t/tag, for_each: posts, payload: {tags: \"{{ row.tags | split(',') }}\","
        " slug: \"{{ row.name | replace(' ', '-') }}\","
        " all: \"{{ row.tags | split(',') | join('+') }}\"}}",
        "collections: {posts: [{name: a b, tags: 'x,y'}]}\noperations: [tag]",
        [("tag", "a b", event("t/tag", tags=["x", "y"], slug="a-b", all="x+y"))],
    ),
    Real(
        "only this operation for one repository",
        "sync: {event: r/sync, for_each: repo, payload: {}}\n"
        "  issues: {event: r/issues, for_each: repo, payload: {}}",
        "repos: [o/a, {repo: o/b, only: [sync]}]\noperations: [sync, issues]",
        [
            ("sync", "o/a", event("r/sync")),
            ("sync", "o/b", event("r/sync")),
            ("issues", "o/a", event("r/issues")),
        ],
    ),
    Real(
        "at most one event of a tenant a minute, others between",
        "crawl: {event: c/crawl, for_each: pages, throttle: {limit: 1, per: 1m, key: row.tenant},"
        " batch_size: 1, payload: {}}",
        "collections: {pages: [{id: 1, tenant: a}, {id: 2, tenant: a}, {id: 3, tenant: b},"
        " {id: 4, tenant: b}]}\noperations: [crawl]",
        [("crawl", item, event("c/crawl")) for item in "1324"],
    ),
    Real(
        "attributes of items from the database",
        "sync: {event: r/sync, for_each: repo, payload: {id: '{{ repo.id }}'}}",
        "repos: [o/a]\nlookups: {ids: {query: 'select repo, id from repos where repo in :keys',"
        " key: repo, required: true}}\noperations: [sync]",
        [("sync", "o/a", event("r/sync", id_="u-1"))],
        {"repos": [{"repo": "o/a", "id": "u-1"}]},
    ),
    Real(
        "a condition of an item, and of its group",
        "mail: {event: m/mail, for_each: users, when: row.opted, group: 2,"
        " payload: {team: '{{ row.team }}', ids: \"{{ rows | map(attribute='id') | list }}\"}}",
        "collections: {users: [{id: 1, team: a, opted: true}, {id: 2, team: a, opted: false},"
        " {id: 3, team: a, opted: true}, {id: 4, team: b, opted: true}]}\noperations: [mail]",
        [
            ("mail", "1 +1", event("m/mail", team="a", ids=[1, 3])),
            ("mail", "4", event("m/mail", team="b", ids=[4])),
        ],
    ),
    Real(
        "only those that were not touched for a month",
        "touch: {event: u/touch, for_each: users, payload: {}}",
        "collections: {users: [{id: 1, seen: '2026-11-20'}, {id: 2, seen: '2026-01-01'}]}\n"
        "filter: {users: {age: {of: seen, older_than: 30d}}}\noperations: [touch]",
        [("touch", "2", event("u/touch"))],
    ),
    Real(
        "some tenants but not one",
        "go: {event: t/go, for_each: tenants, payload: {}}",
        "collections: {tenants: [acme-eu, acme-us, other]}\n"
        "filter: {tenants: ['acme-*', '!*-us']}\noperations: [go]",
        [("go", "acme-eu", event("t/go"))],
    ),
    Real(
        "once for the plan",
        "reindex: {event: s/all, for_each: once, payload: {by: '{{ plan.name }}'}}",
        "operations: [reindex]",
        [("reindex", "test", event("s/all", by="test"))],
    ),
    Real(
        "each workspace of the repositories once",
        "sync: {event: r/sync, for_each: repo, payload: {}}\n"
        "  sum: {event: w/sum, for_each: workspace, after: [sync],"
        " payload: {id: '{{ workspace.id }}', repos: '{{ workspace.repos }}'}}",
        "workspace: w\nrepos: [o/a, {repo: o/b, workspace: v}, o/c]\noperations: [sync, sum]",
        [
            *(("sync", repo, event("r/sync")) for repo in ("o/a", "o/b", "o/c")),
            ("sum", "w", event("w/sum", id_="w", repos=["o/a", "o/c"])),
            ("sum", "v", event("w/sum", id_="v", repos=["o/b"])),
        ],
    ),
    Real(
        "a catalog's payload key taken back",
        "go: {event: j/go, for_each: repo, payload: {repo: '{{ repo.repo }}', force: true}}",
        "repos: [o/a]\noperations: [{use: go, without: [force]}]",
        [("go", "o/a", event("j/go", repo="o/a"))],
    ),
    Real(
        "every repository for every day",
        "load: {event: l/day, for_each: cells, payload: {repo: '{{ row.repo.repo }}',"
        " day: '{{ row.day.from }}'}}",
        "repos: [o/a, o/b]\ncollections:\n"
        "  days: {dates: {from: '2026-01-01', to: '2026-01-02', every: 1d}}\n"
        "  cells: {matrix: {repo: repos, day: days}}\noperations: [load]",
        [
            ("load", "o/a/2026-01-01", event("l/day", repo="o/a", day="2026-01-01")),
            ("load", "o/b/2026-01-01", event("l/day", repo="o/b", day="2026-01-01")),
        ],
    ),
    Real(
        "a start of each item where it has one",
        "match: {event: m/start, for_each: matches, at: '{{ row.at }}', payload: {}}",
        "collections: {matches: [{id: 1, at: '2026-12-02'}, {id: 2}]}\noperations: [match]",
        [("match", "1", event("m/start", ts=1796169600000)), ("match", "2", event("m/start"))],
    ),
]


class Answers:
    def __init__(self, rows: Mapping[str, list[Data]]) -> None:
        self._rows = rows

    def ask(self, query: Query, parameters: Mapping[str, Json]) -> Table:  # noqa: ARG002
        rows = next(rows for word, rows in self._rows.items() if word in query.text)
        columns = tuple(dict.fromkeys(name for row in rows for name in row)) or ("id",)
        return Table(columns, tuple(tuple(map(row.get, columns)) for row in rows))


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.name)
def test_a_real_backfill_gives_its_events_also_from_the_journal(real: Real, tmp_path: Path) -> None:
    catalog = f"apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n  {real.catalog}\n"
    for name, text in real.files.items():
        (tmp_path / name).write_text(text)
    loaded = load_plan(str(write_plan(tmp_path, real.plan, catalog=catalog)))
    plan = build_execution_plan(gather(loaded, Answers(real.rows), NOW))
    wanted = [(operation, item, _named(sent)) for operation, item, sent in real.events]
    assert [(one.operation, one.item, shown_event(one.event)) for one in plan.planned()] == wanted
    bodies = {stage.number: stage.items.blocks for stage in plan.stages}  # type: ignore[attr-defined]
    assert list(load_journaled(dump_head(plan), bodies).planned()) == list(plan.planned())


def test_there_are_twenty_five() -> None:
    assert len(REAL) == len({real.name for real in REAL}) == 25


def _named(sent: Data) -> Data:
    """Remove the underscore of `id_` and `from_`, which Python or `event` could not take as
    names."""
    return {**sent, "data": {key.rstrip("_"): value for key, value in sent["data"].items()}}
