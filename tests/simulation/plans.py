"""Write a seed's plans, over the keys of the plan language that decide what a run does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.engine import Fn
from tests.simulation.clockwork import START

_PAYLOAD = 'payload: {repo: "{{ repo.repo }}"}'
CATALOG = f"""\
apiVersion: backfill/v1
kind: OperationCatalog
operations:
  sync: {{event: app/sync, for_each: repo, {_PAYLOAD}, repeat: REPEAT}}
  embed: {{event: app/embed, for_each: repo, after: [sync], {_PAYLOAD}}}
  also: {{event: app/also, for_each: repo, {_PAYLOAD}}}
  count: {{event: app/count, for_each: users, payload: {{repo: "{{{{ row.id }}}}"}}}}
  bulk: {{event: app/bulk, for_each: users, group: 2, payload: {{repo: "{{{{ rows[0].id }}}}"}}}}
  fire: {{event: app/fire, for_each: repo, {_PAYLOAD}, done: sent}}
  drain:
    event: app/drain
    for_each: repo
    {_PAYLOAD}
    until:
      query: select count(*) as pending from backlog
      expect: {{column: pending, at_most: 0}}
      stalled_after: 4
      max_rounds: 40
      max_time: MAX_TIME
"""
CHECKS = {
    "moved": "{column: at, newer_than: run.started_at}",
    "done": "{column: done, at_least: 1}",
    "full": "{column: done_pct, at_least: 95}",
}


@dataclass(frozen=True)
class Written:
    """A plan file, and what the model needs to know of it."""

    path: Path
    name: str
    operations: tuple[str, ...]
    items: tuple[str, ...]
    repeat: int
    delay: float
    cap: int | None
    goes_on: bool  # on_failure
    check: str | None
    waits: frozenset[str]  # operations that wait for their jobs
    allow: bool  # `unchanged: allow`: a figure need not move
    limited: bool = False  # `max_failures` or a canary may end it early
    closed: tuple[float, float] | None = None  # when the window is closed, in the world's seconds

    @property
    def drains(self) -> bool:
        return "drain" in self.operations


def write(
    folder: Path,
    name: str,
    random: Random,
    *,
    more: str = "",
    kind: tuple[str, ...] | None = None,
    allow: str = "fail",
    wide: Random | None = None,
) -> Written:
    """Write a plan and its catalog; `wide`: also with the keys of `_wider`."""
    folder.mkdir(parents=True, exist_ok=True)
    operations = kind or random.choice(
        [
            ("sync",),
            ("sync",),
            ("sync", "embed"),
            ("sync", "embed"),
            ("fire",),
            ("drain",),
            ("drain",),
        ]
    )
    items = tuple(f"o/r{number}" for number in range(random.randint(1, 6)))
    repeat = random.choice([1, 1, 2]) if "sync" in operations else 1
    delay = random.choice([0.0, 0.0, 2.0, 15.0, 40.0])
    cap = random.choice([None, None, 1, 3])
    lines = [
        "apiVersion: backfill/v1",
        "kind: BackfillPlan",
        f"metadata: {{name: {name}{more}}}",
        "catalog: catalog.yaml",
        "repos:",
    ]
    for item in items:
        priority = random.choice(["", ", priority: high", f", velocity: {random.randint(1, 9)}"])
        lines.append(f"  - {{repo: {item}{priority}}}")
    goes_on = random.random() < 0.6
    lines += [
        f"operations: [{', '.join(operations)}]",
        f"batch_size: {random.randint(1, 5)}",
        f"delay: {delay:g}s",
        f"on_failure: {'continue' if goes_on else 'stop'}",
        *random.choice([[], ["order_by: [priority, -velocity]"]]),
    ]
    waits = frozenset(operations) - {"fire"}
    if cap and waits and operations != ("fire",):
        lines.append(f"max_in_flight: {cap}")
    limited = random.random() < 0.15
    if limited:
        limit = random.choice(["canary: 1", "max_failures: 2"])
        lines.append(limit if goes_on else "canary: 1")  # max_failures needs on_failure: continue
    check = None
    if waits and "drain" not in operations and random.random() < 0.5:
        check = random.choice(["moved", "done", "full"])
        after = random.choice(["", f", after: {operations[0]}"])
        asked = f"{{name: {check}, query: select repo from {check} where repo = any(:repos)"
        how = f"timeout: 2m, every: 15s{after}"
        how += "" if check == "moved" else f", unchanged: {allow}"
        lines += ["checks:", f"  - {asked}, expect: {CHECKS[check]}, {how}}}"]
    closed = None
    if wide:
        operations, check, closed = _wider(wide, folder, lines, operations, items, check)
        waits = frozenset(operations) - {"fire"}
    catalog = CATALOG.replace("REPEAT", str(repeat))
    catalog = catalog.replace("MAX_TIME", random.choice(["10m", "1h"]))
    (folder / "catalog.yaml").write_text(catalog, encoding="utf-8")
    path = folder / f"{name}.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Written(
        path,
        name,
        operations,
        items,
        repeat,
        delay,
        cap,
        goes_on,
        check,
        waits,
        allow == "allow",
        limited,
        closed,
    )


def _wider(
    random: Random,
    folder: Path,
    lines: list[str],
    operations: tuple[str, ...],
    items: tuple[str, ...],
    check: str | None,
) -> tuple[tuple[str, ...], str | None, tuple[float, float] | None]:
    """Add items of a collection, groups, stages of several operations, a window, hooks."""
    if operations == ("sync",) and check is None:
        operations = random.choice([("count",), ("bulk",), ("sync", "also"), ("sync",)])
        at = lines.index("operations: [sync]")
        lines[at] = f"operations: [{', '.join(operations)}]"
        if operations == ("sync", "also"):
            lines.append("flow: items")
        elif operations != ("sync",):
            start = lines.index("repos:")
            del lines[start : start + 1 + len(items)]
            if random.random() < 0.5:
                (folder / "users.csv").write_text("\n".join(["id", *items, ""]), "utf-8")
                lines.append('collections: {users: {file: users.csv, item: "{{ row.id }}"}}')
            else:
                rows = ", ".join(f"{{id: {item}}}" for item in items)
                lines.append(f"collections: {{users: [{rows}]}}")
    if random.random() < 0.5:
        project = "apiVersion: backfill/v1\nkind: BackfillProject\n"
        hook = "notify: [{kind: webhook, url: HOOK_URL, held_after: 1m}]\n"
        (folder / "backfill.yaml").write_text(project + hook, "utf-8")
    if random.random() > 0.3:
        return operations, check, None
    first = int(START // 60) + random.choice([-5, 0, 1, 3])  # minutes of the world's first day
    last = first + random.choice([4, 9])
    allow = f"{last // 60 % 24:02}:{last % 60:02}-{first // 60 % 24:02}:{first % 60:02}"
    lines.append(f'guards: [{{window: {{allow: "{allow}"}}}}]')
    return operations, check, (first * 60.0, last * 60.0)


def functions(random: Random, operations: tuple[str, ...]) -> tuple[Fn, ...]:
    """Choose the functions that hear the events: mostly one function each, as teams have them."""
    found = []
    for operation in operations:
        takes = random.choice([0.2, 1.0, 4.0, 12.0])
        kind = random.choice(["plain"] * 6 + ["debounce", "batch", "rate", "singleton", "deaf"])
        event, name = f"app/{operation}", f"fn-{operation}"
        if operation == "drain":
            kind = "batch" if kind == "batch" else "plain"
        match kind:
            case "debounce":
                found.append(Fn(name, event, takes, debounce=random.choice([5.0, 60.0])))
            case "batch":
                found.append(Fn(name, event, takes, batch=random.choice([5.0, 45.0])))
            case "rate":
                found.append(Fn(name, event, takes, rate_limit=random.randint(1, 4)))
            case "singleton":
                found.append(Fn(name, event, takes, singleton=True))
            case "deaf":
                found.append(Fn(name, f"other/{operation}", takes))
            case _:
                found.append(Fn(name, event, takes))
        if kind == "plain" and random.random() < 0.15:
            found.append(Fn(f"{name}-too", event, 0.5))
    return tuple(found)
