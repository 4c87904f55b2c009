"""How a run ended, in the journal's figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.execution.context import Ending
from runner.execution.ports import Journal
from runner.model import UNDECIDED, CheckResult, Failure, RunStatus, Summary, Totals

_LINKS = 5


def summarise(
    journal: Journal, *, plan: str, target: str, followed: bool, ending: Ending
) -> Summary:
    totals, failures = journal.totals(), tuple(journal.failures())
    checks = tuple(journal.checks())
    unsent = totals.planned - totals.accepted - totals.rejected
    still_open = bool(journal.unsettled())
    notes = _notes(journal, ending, totals, failures, unsent, still_open and not followed)
    return Summary(
        run_id=journal.run_id,
        plan=plan,
        target=target,
        status=_status(ending, failures, checks, unsent, still_open, followed),
        totals=totals,
        failures=failures,
        duration=journal.driven().seconds,
        links=tuple(journal.links(_LINKS)),
        notes=tuple(notes),
        chain=journal.chain(),
        checks=checks,
        option=ending.option,
    )


def _status(
    ending: Ending,
    failures: Sequence[Failure],
    checks: Sequence[CheckResult],
    unsent: int,
    still_open: bool,
    followed: bool,
) -> RunStatus:
    lost = [failure for failure in failures if failure.outcome not in UNDECIDED]
    open_ = unsent or (followed and still_open)
    if ending.how == "cancelled" or ending.how == "failed":
        return ending.how
    if ending.how == "limit" or (ending.how == "stopped" and (open_ or not lost)):
        return "incomplete"
    if lost or any(not check.ok for check in checks):
        return "failed"
    if failures or unsent:
        return "incomplete"
    return "sent" if still_open and not followed else "completed"


def _notes(
    journal: Journal,
    ending: Ending,
    totals: Totals,
    failures: Sequence[Failure],
    unsent: int,
    unknown: bool,
) -> Iterator[str]:
    if ending.reason:
        yield f"{ending.reason}; nothing more was sent"
    if unsent and failures and ending.how == "complete":
        yield (
            f"{unsent:,} event{' was' if unsent == 1 else 's were'} not sent, since the plan stops "
            f"on a failure; `backfill resume {journal.run_id} --past-failures` sends them"
        )
    elif unsent:
        yield f"{unsent:,} event{' is' if unsent == 1 else 's are'} not sent yet"
    if unknown:
        yield (
            "sent without following: whether a job started, or how it ended, is not known; "
            f"`backfill resume {journal.run_id}` follows them"
        )
    if totals.deduplicated:
        yield (
            f"{totals.deduplicated:,} events were sent again with the same ids after an answer was "
            "lost; each takes effect once"
        )
    lost = sum(number for name, number in totals.outcomes.items() if name != "completed")
    if good := lost - len(failures):
        attempts = f"{good:,} attempt{'' if good == 1 else 's'}"
        yield f"{attempts} did not take effect, and later ones have done the work"
