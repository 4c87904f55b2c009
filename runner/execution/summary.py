"""How a run ended, in the journal's figures."""

from __future__ import annotations

from runner.execution.context import Ending
from runner.execution.ports import Journal
from runner.model import UNDECIDED, RunStatus, Summary

_LINKS = 5


def summarise(
    journal: Journal, *, plan: str, target: str, followed: bool, ending: Ending, duration: float
) -> Summary:
    """`duration` in seconds."""
    complete = ending.how == "complete"
    totals, failures = journal.totals(), tuple(journal.failures())
    checks = tuple(journal.checks())
    unsent = totals.planned - totals.accepted - totals.rejected
    notes = [f"{ending.reason}; nothing more was sent"] if ending.reason else []
    if unsent and failures and complete:
        notes.append(
            f"{unsent:,} event{' was' if unsent == 1 else 's were'} not sent, since the plan stops "
            f"on a failure; `backfill resume {journal.run_id} --past-failures` sends them"
        )
    elif unsent:
        notes.append(f"{unsent:,} event{' is' if unsent == 1 else 's are'} not sent yet")
    if not followed:
        notes.append("sent without following: whether a job started, or how it ended, is not known")
    if totals.deduplicated:
        notes.append(
            f"{totals.deduplicated:,} events were sent again with the same ids after an answer was "
            "lost; each takes effect once"
        )
    lost = [failure for failure in failures if failure.outcome not in UNDECIDED]
    status: RunStatus = "completed"
    still_open = followed and bool(journal.unsettled())
    if ending.how == "cancelled":
        status = "cancelled"
    elif ending.how == "failed":
        status = "failed"
    elif ending.how == "limit" or (not complete and (unsent or still_open or not lost)):
        status = "incomplete"
    elif lost or any(not check.ok for check in checks):
        status = "failed"
    elif failures or unsent:
        status = "incomplete"
    return Summary(
        run_id=journal.run_id,
        plan=plan,
        target=target,
        status=status,
        totals=totals,
        failures=failures,
        duration=duration,
        links=tuple(journal.links(_LINKS)),
        notes=tuple(notes),
        chain=journal.chain(),
        checks=checks,
    )
