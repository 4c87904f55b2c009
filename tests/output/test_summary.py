from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from runner.model import Chain, Failure, JobLink, RunStatus, Summary, Totals
from runner.output.summary import summary_json, write_summary_text
from tests.output.fakes import DANGEROUS, HOSTILE

KEY = "signkey-prod-" + "0123456789abcdef" * 2
FAILURE = Failure(
    "sync", "o/a", "app/sync", "failed", "no such repo", "job-1", "http://x/job-1", "RUN1:sync:o/a"
)
SUMMARY = Summary(
    run_id="RUN1",
    plan="test",
    target="embedded",
    status="failed",
    totals=Totals(planned=1_005, accepted=1_004, rejected=1, jobs=1_003, completed=1_001, failed=2),
    failures=(FAILURE, replace(FAILURE, item="o/b", job="job-2")),
    duration=61.25,
    links=(JobLink("http://x/1", "sync", "o/r"), JobLink("http://x/2")),
    notes=("a note",),
)


def test_a_failed_run_reads_as_written_here() -> None:
    assert _text(SUMMARY) == (
        "\n"
        "FAILED  test → embedded, in 1m1.2s\n"
        "1,004 of 1,005 events accepted, 1,003 jobs, 1,001 completed, 2 failed, "
        "1 rejected, 1 not followed to the end\n"
        "failures:\n"
        "  sync: no such repo\n"
        "    2 events: o/a, o/b\n"
        "    http://x/job-1\n"
        "note: a note\n"
        "jobs:\n"
        "  sync o/r  http://x/1\n"
        "            http://x/2\n"
        "  +1,001 more\n"
        "run RUN1\n"
        "to send what failed again: backfill retry RUN1\n"
        "to see more: backfill status, backfill ui, or backfill report --html run.html\n"
    )


def test_failures_are_grouped_by_message_with_five_items_named() -> None:
    many = tuple(replace(FAILURE, item=f"o/{number}") for number in range(1_000))
    other = replace(FAILURE, item="o/x", message="out of quota")
    lines = _text(replace(SUMMARY, failures=(*many, other))).splitlines()
    assert "    1,000 events: o/0, o/1, o/2, o/3, o/4, +995 more" in lines
    assert lines[lines.index("  sync: out of quota") + 1] == "    1 event: o/x"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "incomplete"])
def test_only_an_incomplete_run_says_how_to_go_on(status: RunStatus) -> None:
    text = _text(replace(SUMMARY, status=status))
    assert text.splitlines()[1].startswith(status.upper())
    assert ("to go on: backfill resume RUN1\n" in text) == (status == "incomplete")


def test_what_later_attempts_have_made_good_is_not_there_to_retry() -> None:
    totals = Totals(planned=2, accepted=2, completed=1, failed=1)
    good = replace(SUMMARY, status="completed", totals=totals, failures=())
    assert "retry" not in _text(good)


@pytest.mark.parametrize(
    ("run", "accepted", "said"),
    [
        ("RUN2", 3, "7 events were not sent by run RUN1"),
        ("RUN2", 9, "1 event was not sent by run RUN1"),
        ("RUN2", 10, None),
        ("RUN1", 3, None),
    ],
)
def test_a_retry_says_what_its_first_run_has_not_sent(
    run: str, accepted: int, said: str | None
) -> None:
    """It is `latest`, and its checks of all items cannot hold until then. If the first run was
    cancelled, there is no way to go on."""
    totals = Totals(planned=10, accepted=accepted, completed=accepted)
    chain = Chain(("RUN1", "RUN2"), totals, 10 - accepted)
    lines = _text(replace(SUMMARY, run_id=run, chain=chain)).splitlines()
    hint = "`backfill status RUN1` says what is left of that run"
    assert [line for line in lines if "RUN1:" in line] == ([f"{said}: {hint}"] if said else [])


def test_events_without_a_job_are_named_as_such() -> None:
    totals = Totals(planned=3, accepted=3, no_job=3)
    assert "3 of 3 events accepted, 3 started no job" in _text(replace(SUMMARY, totals=totals))


def test_a_run_without_failures_or_links_has_no_such_sections() -> None:
    text = _text(replace(SUMMARY, failures=(), links=()))
    assert "failures:" not in text
    assert "jobs:" not in text


def test_nothing_that_others_wrote_reaches_the_terminal_raw() -> None:
    failure = Failure(HOSTILE, HOSTILE, HOSTILE, "failed", HOSTILE, HOSTILE, HOSTILE)
    text = _text(
        Summary(
            HOSTILE,
            HOSTILE,
            HOSTILE,
            "incomplete",
            Totals(),
            (failure,),
            0,
            (JobLink(HOSTILE, HOSTILE, HOSTILE),),
            (HOSTILE,),
        )
    )
    assert text.count("[red]\\x1b[2J") == 12
    assert not DANGEROUS.search(text)


def test_a_key_in_a_jobs_message_or_a_note_is_not_printed() -> None:
    """A job's message is whatever the worker raised, including keys."""
    message = "x" * 380 + f" refused {KEY}"
    summary = replace(
        SUMMARY, failures=(replace(FAILURE, message=message),), notes=(f"used {KEY}",)
    )
    for form in (_text(summary), json.dumps(summary_json(summary))):
        assert "used ***" in form
        assert "refused ***" in form
        assert KEY[:20] not in form


def test_color_marks_the_status_and_nothing_else() -> None:
    plain, colored = _text(SUMMARY), _text(SUMMARY, color=True)
    assert colored.replace("\x1b[31m\x1b[1mFAILED\x1b[0m", "FAILED") == plain
    assert colored != plain


def test_machines_get_exactly_the_promised_keys() -> None:
    summary = replace(SUMMARY, failures=(FAILURE,))
    assert json.loads(json.dumps(summary_json(summary))) == {
        "apiVersion": "backfill/v1",
        "kind": "RunSummary",
        "run_id": "RUN1",
        "plan": "test",
        "target": "embedded",
        "status": "failed",
        "duration_s": 61.25,
        "totals": {
            "planned": 1_005,
            "accepted": 1_004,
            "deduplicated": 0,
            "rejected": 1,
            "jobs": 1_003,
            "completed": 1_001,
            "failed": 2,
            "cancelled": 0,
            "timed_out": 0,
            "dropped": 0,
            "no_job": 0,
            "unknown": 0,
        },
        "failures": [
            {
                "operation": "sync",
                "item": "o/a",
                "event": "app/sync",
                "outcome": "failed",
                "message": "no such repo",
                "job": "job-1",
                "url": "http://x/job-1",
                "event_id": "RUN1:sync:o/a",
            }
        ],
        "checks": [],
        "links": ["http://x/1", "http://x/2"],
        "notes": ["a note"],
    }


def _text(summary: Summary, *, color: bool = False) -> str:
    out = io.StringIO()
    write_summary_text(summary, out, color=color)
    return out.getvalue()
