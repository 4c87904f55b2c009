"""A run as JUnit XML: a suite for each stage, a case for each event, as CI systems show them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape, quoteattr

from runner.model import FAILURES, EventRecord, RunView
from runner.output.text import xml_safe
from runner.spec.secrets import redact

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(view: RunView, events: Iterable[EventRecord]) -> Iterator[str]:
    """Yield the report piece by piece.

    Unfinished events count as skipped, and so do failures that a later attempt made good. A run
    that has not completed, for another reason than its failures, is a failure of its own: skipped
    tests alone leave a CI system green. A baseline, which sends nothing, is skipped."""
    state = view.state
    failed = view.outstanding + sum(not c.ok for c in view.checks)
    stalled = state == "failed" and view.record.reason is not None and not failed
    baseline = state == "baseline"
    cut_short = state not in ("completed", "failed", "baseline") or stalled
    total = sum(stage.total for stage in view.stages) + len(view.checks)
    total, failed = total + cut_short + baseline, failed + cut_short
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield f'<testsuites name={attribute(view.record.plan)} tests="{total}" failures="{failed}">\n'
    stage = 0
    for event in events:
        if event.stage != stage:
            yield "</testsuite>\n" if stage else ""
            stage = event.stage
            yield f"<testsuite {_suite(view, stage)}>\n"
        took = view.took(event) or 0.0
        yield _case(event, took, made_good=event.position in view.made_good)
    yield "</testsuite>\n" if stage else ""
    if view.checks:
        bad = sum(not check.ok for check in view.checks)
        yield f'<testsuite name="checks" tests="{len(view.checks)}" failures="{bad}">\n'
        for check in view.checks:
            case = f'<testcase classname="checks" name={attribute(check.name)}'
            why = attribute(check.words)
            yield f"{case}/>\n" if check.ok else f"{case}><failure message={why}/></testcase>\n"
        yield "</testsuite>\n"
    if cut_short or baseline:
        because = f": {view.record.reason}" if view.record.reason else ""
        why = attribute(f"the run is {state}{because}")
        how, skipped = ("skipped", ' skipped="1"') if baseline else ("failure", "")
        yield f'<testsuite name="run" tests="1" failures="{cut_short:d}"{skipped}>\n'
        yield f'<testcase classname="run" name={attribute(view.record.id)}>'
        yield f"<{how} message={why}/></testcase>\n</testsuite>\n"
    yield "</testsuites>\n"


def _suite(view: RunView, number: int) -> str:
    """Return the attributes of a stage's suite; a stage may have several operations."""
    stage = next(stage for stage in view.stages if stage.number == number)
    first = sum(other.total for other in view.stages if other.number < number)
    good = sum(first <= position < first + stage.total for position in view.made_good)
    waiting = stage.total - stage.settled + good
    counts = f'tests="{stage.total}" failures="{stage.lost - good}" skipped="{waiting}"'
    return f"name={attribute(stage.operation)} {counts}"


def _case(event: EventRecord, took: float, *, made_good: bool) -> str:
    case = (
        f"<testcase classname={attribute(event.operation)} name={attribute(event.item)} "
        f'time="{took:.3f}"'
    )
    if event.outcome == "completed":
        return f"{case}/>\n"
    message = attribute(event.message or event.outcome or "")
    if made_good:
        inner = f"<skipped message={attribute(f'{event.outcome}; a later attempt did the work')}/>"
    elif event.outcome in FAILURES:
        links = xml_safe(escape(" ".join(_clean(job.url or job.id) for job in event.jobs)))
        kind = attribute(event.outcome)
        inner = f"<failure type={kind} message={message}>{links}</failure>"
    else:
        inner = f"<skipped message={attribute(event.outcome or '')}/>"
    return f"{case}>{inner}</testcase>\n"


def attribute(text: str) -> str:
    return xml_safe(quoteattr(_clean(text)))


def _clean(text: str) -> str:
    """Replace control characters that XML cannot contain."""
    return _NO_XML.sub("\ufffd", redact(text))
