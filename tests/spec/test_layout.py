"""The one layout of plans and catalogs: what formatting changes, and that it changes nothing
else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import InvalidPlan
from runner.model import Json
from runner.planning.build import build_execution_plan
from runner.planning.facts import asks
from runner.spec import layout
from runner.spec.layout import formatted
from runner.spec.load import check_catalog, load_plan
from runner.spec.reading import open_plan
from runner.spec.schema import schema_text
from runner.spec.strict_yaml import parse
from runner.spec.units import parse_duration
from tests.spec.written_plans import PLANS, STYLES, Writer

ROOT = Path(__file__).parents[2]
HEAD = "apiVersion: backfill/v1\nkind: BackfillPlan\n"
CATALOG_HEAD = "apiVersion: backfill/v1\nkind: OperationCatalog\noperations:\n"
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


def form(text: str) -> str:
    new = formatted(text.encode(), "plan.yaml")
    assert new is not None
    return new.decode()


def value_of(text: str) -> Json:
    document, problems, _ = parse(text.encode(), "plan.yaml")
    assert not problems
    return document.value


def in_seconds(value: Json) -> Json:
    """Return the value with every text that could be a duration turned into seconds."""
    if isinstance(value, dict):
        return {key: in_seconds(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [in_seconds(inner) for inner in value]
    try:
        return parse_duration(value)
    except (TypeError, ValueError):
        return value


def meaning(text: str) -> str:
    return json.dumps(in_seconds(value_of(text)), sort_keys=True)


BEFORE_AND_AFTER = {
    "the head comment stays on top, and a comment above a key moves with it": (
        """\
# yaml-language-server: $schema=../schemas/plan.v1.schema.json
# All that we have.

# Slowly.
delay: 90s                     # be kind
repos: [vercel/ai]
# Needed since March.
# By everyone.
metadata:
  # one of ours
  kind: refresh
  # who to ask
  owner: data-platform

  ticket: 4711
  name: nightly   # as the dashboard has it
operations: [repository-sync]
kind: BackfillPlan
apiVersion: backfill/v1
# the end
""",
        """\
# yaml-language-server: $schema=../schemas/plan.v1.schema.json
# All that we have.

apiVersion: backfill/v1
kind: BackfillPlan
# Needed since March.
# By everyone.
metadata:
  name: nightly   # as the dashboard has it
  # who to ask
  owner: data-platform
  # one of ours
  kind: refresh

  ticket: 4711
repos: [vercel/ai]
operations: [repository-sync]
# Slowly.
delay: 1m30s                     # be kind
# the end
""",
    ),
    "a comment above `kind` or `apiVersion`, where that is first, is about the file": (
        "# Nightly.\nkind: BackfillPlan\napiVersion: backfill/v1\n",
        "# Nightly.\napiVersion: backfill/v1\nkind: BackfillPlan\n",
    ),
    "the modeline stays where a comment right below it moves": (
        "# yaml-language-server: $schema=x\n# how fast\ndelay: 5s\n" + HEAD,
        "# yaml-language-server: $schema=x\n" + HEAD + "# how fast\ndelay: 5s\n",
    ),
    "lines that are set in further than a key, or right below it, are its own": (
        HEAD
        + """\
batch_size: 5
# that many

operations:
  - repository-sync
  # - embeddings

    # not yet

repos:
- vercel/ai
""",
        HEAD
        + """\

repos:
- vercel/ai

operations:
  - repository-sync
  # - embeddings

    # not yet
batch_size: 5
# that many
""",
    ),
    "blank lines move with the key that they set apart, and never to the front": (
        "repos: [a/b]\n\noperations: [x]\nkind: BackfillPlan\n\napiVersion: backfill/v1\n",
        HEAD + "\nrepos: [a/b]\n\noperations: [x]\n",
    ),
    "mappings in lists: behind the dash, or below it": (
        HEAD
        + """\
repos:
  - velocity: 40
    team: search
    repo: vercel/ai
  -
    # late
    priority: low
    repo: continuedev/continue
operations:
- with: {b: 1, a: 2}
  # there is no place for a comment above the dash, so this one stays as it is
  use: embeddings
- delay: 60s

  use: repository-sync
""",
        HEAD
        + """\
repos:
  - repo: vercel/ai
    velocity: 40
    team: search
  -
    repo: continuedev/continue
    # late
    priority: low
operations:
- with: {b: 1, a: 2}
  # there is no place for a comment above the dash, so this one stays as it is
  use: embeddings
- use: repository-sync

  delay: 1m
""",
    ),
    "flow mappings: what stands between their pairs stays, and where that is a comment, all": (
        HEAD
        + """\
metadata: { owner : you,name: "x, y: {z}" }
repos:
  - {velocity: 40,   repo: 'vercel/ai', x: [1, {b: 1, a: 2}],}   # busy
  - {velocity: 40,   # busy
     repo: vercel/ai}
operations:
  - {
      delay: "300s",
      with: {days: 1},
      use: embeddings
    }
""",
        HEAD
        + """\
metadata: { name: "x, y: {z}",owner : you }
repos:
  - {repo: 'vercel/ai',   velocity: 40, x: [1, {b: 1, a: 2}],}   # busy
  - {velocity: 40,   # busy
     repo: vercel/ai}
operations:
  - {
      use: embeddings,
      delay: "5m",
      with: {days: 1}
    }
""",
    ),
    "block texts end where they end, and comments behind them do not become part of them": (
        HEAD
        + """\
checks:
  - name: there
    expect: {rows: 1}
    query: |

      select 1
      # as it is

        from x

 # of the text no more
metadata:
    # set in too far
  # what for
  reason: >-
    long

    text
  # what it is called
  name: x
""",
        HEAD
        + """\
metadata:
    # set in too far
  # what it is called
  name: x
  # what for
  reason: >-
    long

    text
checks:
  - name: there
    query: |

      select 1
      # as it is

        from x
    expect: {rows: 1}

 # of the text no more
""",
    ),
    "operations of a catalog, while payload and contract are the user's": (
        CATALOG_HEAD
        + """\
  zeta:
    timeout: 3600s
    payload: {delay: 300s, b: 1, a: 2}
    contract:
      type: object
      properties: {b: {}, a: {}}
      $id: urn:x
    throttle: {per: 60s, limit: 1}
    for_each: repo
    event: app/zeta
  alpha: {for_each: {item: "{{ row.id }}", query: {columns: [id], table: t}}, event: app/alpha}
""",
        CATALOG_HEAD
        + """\
  zeta:
    event: app/zeta
    for_each: repo
    payload: {delay: 300s, b: 1, a: 2}
    contract:
      type: object
      properties: {b: {}, a: {}}
      $id: urn:x
    throttle: {limit: 1, per: 1m}
    timeout: 1h
  alpha: {event: app/alpha, for_each: {query: {table: t, columns: [id]}, item: "{{ row.id }}"}}
""",
    ),
    "where there are anchors only durations change, and of these no shared ones": (
        HEAD
        + """\
vars: {pause: &pause 300s}
operations:
  - {timeout: 300s, use: embeddings, delay: *pause}
  - {until: &until {max_time: 300s}, use: repository-sync, with: {until: *until}}
  - {delay: &delay 300s, use: workspace-aggregation, with: {delay: *delay}}
metadata: {name: x}
""",
        HEAD
        + """\
vars: {pause: &pause 300s}
operations:
  - {timeout: 5m, use: embeddings, delay: *pause}
  - {until: &until {max_time: 300s}, use: repository-sync, with: {until: *until}}
  - {delay: &delay 300s, use: workspace-aggregation, with: {delay: *delay}}
metadata: {name: x}
""",
    ),
}


@pytest.mark.parametrize("claim", BEFORE_AND_AFTER)
def test_before_and_after(claim: str) -> None:
    before, after = BEFORE_AND_AFTER[claim]
    assert form(before) == after
    assert form(after) == after
    assert meaning(before) == meaning(after)


@pytest.mark.parametrize("claim", BEFORE_AND_AFTER)
def test_line_ends_and_a_byte_order_mark_stay(claim: str) -> None:
    before, after = BEFORE_AND_AFTER[claim]
    assert form(BOM + before.replace("\n", "\r\n")) == BOM + after.replace("\n", "\r\n")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_last_line_without_an_end_stays_so(end: str) -> None:
    lines = ["kind: BackfillPlan", "apiVersion: backfill/v1", "delay: 60s", "metadata: {name: x}"]
    after = [lines[1], lines[0], lines[3], "delay: 1m"]
    assert form(end.join(lines)) == end.join(after)


@pytest.mark.parametrize(
    "text",
    [
        "operations: [x]\nmetadata:\n  reason: |\n    its last line has no end",
        "operations: [x]\nmetadata:\n  reason: |+\n    its blank lines are part of it\n\n",
        "operations: [x]\n? metadata\n: {name: x}\n",
        "operations:\n  - {delay: -, use: x }\n  - {delay: , use: x}\n  - {? delay : 1s, use: x}\n",
        "metadata: {ticket: 4711, team: search}\n",
        "handlers: {b: w:b, a: w:a}\n",
        "lookups:\n  b: {query: q, key: b}\n  a: {query: q, key: a}\n",
        "delay: !!str 300s\n",
        "delay: 300\n",
        "delay: soon\n",
        "unknown: 300s\nother: 300s\n",
        "repos:\n  - {velocity: 4, repo: a/b  # busy\n    }\n",
        "operations: [x]\nmetadata: &unused {name: x}\n",
        "metadata: {name: &name owner, *name : me}\n",
    ],
)
def test_what_has_no_other_order_or_is_not_sure_to_read_the_same_stays(text: str) -> None:
    assert form(HEAD + text) == HEAD + text


@pytest.mark.parametrize(
    ("written", "shortest"),
    [
        ("300s", "5m"),
        ("90s", "1m30s"),
        ("0.5s", "500ms"),
        ("1h60m", "2h"),
        ("1.5h", "1h30m"),
        ("00s", "0s"),
        ("1d", "1d"),
        ("30d", "30d"),
        ("24h", "24h"),
        ("1d12h", "36h"),
        ("1d0.5s", "1d0.5s"),
        ("0.0004s", "0.0004s"),
        ("999999999h60m", "999999999h60m"),
    ],
)
def test_a_duration_takes_its_shortest_form_where_that_reads_the_same(
    written: str, shortest: str
) -> None:
    for quote in ("", "'", '"'):
        old = f"{HEAD}delay: {quote}{written}{quote}  # so\n"
        assert form(old) == f"{HEAD}delay: {quote}{shortest}{quote}  # so\n"
    assert parse_duration(written) == parse_duration(shortest)


@pytest.mark.parametrize(
    "text",
    [
        "- {repo: vercel/ai}\n",
        "approved_by: someone\nat: 2026-11-20\n",
        "apiVersion: backfill/v1\nkind: BackfillProject\n",
        "apiVersion: v1\nkind: Deployment\n---\nkind: Service\n",
        "kind: [BackfillPlan]\n",
        '{"kind": "SavedPlan", "delay": "300s"}',
        "",
    ],
)
def test_what_is_neither_a_plan_nor_a_catalog_is_passed_over(text: str) -> None:
    assert formatted(text.encode(), "other.yaml") is None


@pytest.mark.parametrize(
    ("text", "place", "words", "hint"),
    [
        ("a: [\n", (2, 1), "", ""),
        (HEAD + "delay: 5s\ndelay: 6s\n", (4, 1), "the key `delay` is written twice", "one of"),
        (HEAD + "vars: {<<: {a: 1}}\n", (3, 8), "merge keys (`<<`)", "write the keys out"),
        (HEAD + "---\n" + HEAD, (3, 1), "a second document starts here", "a file of its own"),
        (
            "apiVersion: backfill/v0\nkind: BackfillPlan\nrepos: []\n",
            (1, 13),
            "this backfill reads backfill/v1",
            "write `apiVersion: backfill/v1`",
        ),
        (
            "kind: OperationCatalog\napiVersion: backfill/v2\n",
            (2, 13),
            "this backfill reads backfill/v1",
            "install backfill 2 or newer",
        ),
    ],
)
def test_what_cannot_be_read_or_is_of_another_version_is_a_problem(
    text: str, place: tuple[int, int], words: str, hint: str
) -> None:
    with pytest.raises(InvalidPlan) as caught:
        formatted(text.encode(), "plan.yaml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == place
    assert words in problem.message
    assert hint in (problem.hint or "")


def test_a_key_in_a_plan_is_for_others_to_find() -> None:
    """Formatting reports no problem, so that no part of the key is shown; `validate` refuses the
    plan."""
    vars_with_a_key = f"vars: {{token: ghp_{'a1' * 18}}}\n"
    assert form(f"{HEAD}delay: 60s\n{vars_with_a_key}") == f"{HEAD}{vars_with_a_key}delay: 1m\n"


def test_a_mistake_of_ours_reaches_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit that would change the file's meaning raises AssertionError, whatever caused it."""
    for wrong in (f"{HEAD}delay: 6s\n", f"{HEAD}delay: [\n", HEAD):
        monkeypatch.setattr(layout, "applied", lambda _text, _edits, wrong=wrong: wrong)
        with pytest.raises(AssertionError, match="would change the meaning"):
            formatted(f"{HEAD}delay: 5s\n".encode(), "plan.yaml")


FOLDERS = ("plans", "tests/examples/valid")
FILES = sorted(
    str(path.relative_to(ROOT))
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.yaml")
    if not path.name.endswith(".test.yaml")  # tests of plans are not plans
)


@pytest.mark.parametrize("name", FILES)
def test_our_own_files_say_the_same_and_send_the_same(name: str, tmp_path: Path) -> None:
    """Their digests stay the same: an approved plan is still approved after formatting."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder)
    path = tmp_path / name
    before, old = path.read_bytes(), _sent(path)
    new = formatted(before, name)
    if new is None:
        assert isinstance(value_of(before.decode()), list)
        return
    path.write_bytes(new)
    assert meaning(new.decode()) == meaning(before.decode())
    assert formatted(new, name) == new
    assert _sent(path) == old


@pytest.mark.parametrize("metadata", ["{reason: r, by: x, name: p}", "{name: p, by: x, owner: o}"])
@pytest.mark.parametrize("row", ["{velocity: 3, x: 1, repo: a/b}", "{repo: a/b, only: [whole]}"])
def test_a_plan_whose_templates_read_a_mapping_whole_sends_the_same(
    tmp_path: Path, metadata: str, row: str
) -> None:
    whole = '{event: e, for_each: repo, payload: {plan: "{{ plan }}", repo: "{{ repo }}"}}'
    catalog = f"apiVersion: backfill/v1\nkind: OperationCatalog\noperations: {{whole: {whole}}}\n"
    (tmp_path / "catalog.yaml").write_text(catalog)
    path = tmp_path / "plan.yaml"
    path.write_text(
        f"apiVersion: backfill/v1\nkind: BackfillPlan\nmetadata: {metadata}\n"
        f"catalog: catalog.yaml\nrepos: [{row}]\noperations: [whole]\n"
    )
    before, old = path.read_bytes(), _sent(path)
    path.write_bytes(formatted(before, "plan.yaml") or b"")
    assert path.read_bytes() != before
    assert _sent(path) == old


def _sent(path: Path) -> object:
    """Return the digest of the plan at `path`, or the problems of a catalog; None if it depends on
    a database or the file is no plan."""
    if (opened := open_plan(str(path))).is_catalog:
        return [problem.message for problem in check_catalog(opened)]
    head = path.read_bytes().split(b"\n")[0]
    given = json.loads(head[8:])["vars"] if head.startswith(b"# with: ") else {}
    if isinstance(value_of(path.read_text("utf-8")), list):
        return None
    plan = load_plan(str(path), overrides=given)
    return None if asks(plan) else build_execution_plan(plan).digest


def comments_of(text: str) -> list[str]:
    return sorted(line[line.index("# <") :] for line in text.splitlines() if "# <" in line)


@given(PLANS, STYLES, st.randoms(use_true_random=False))
def test_formatting_keeps_what_a_plan_says_and_its_comments_and_is_done_once(
    plan: Json, flow: frozenset[str], random: Random
) -> None:
    """Whatever the style and the order of keys, with comments and blank lines anywhere."""
    text = Writer(random, flow, comments=True).text(plan)
    new = form(text)
    assert meaning(new) == meaning(text)
    assert comments_of(new) == comments_of(text)
    assert form(new) == new
    known = list(json.loads(schema_text("plan.v1"))["properties"])
    assert list(value_of(new)) == sorted(plan, key=known.index)


@given(PLANS, STYLES, st.randoms(use_true_random=False))
def test_one_plan_in_two_orders_has_one_form(
    plan: Json, flow: frozenset[str], random: Random
) -> None:
    writer = Writer(random, flow, comments=False)
    text, other = writer.text(plan), writer.text(plan)
    assert form(text) == form(other)
    assert meaning(text) == json.dumps(in_seconds(plan), sort_keys=True)
