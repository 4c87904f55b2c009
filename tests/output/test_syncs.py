"""How `status` shows a `backfill sync`."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest

from runner.model import SyncRecord
from runner.output.state import write_syncs


@pytest.mark.parametrize(
    ("target", "shown"),
    [("dev", "sync repo main plans/ → dev: "), ("", "sync repo main plans/: ")],
)
def test_a_target_is_shown_once_it_is_known(target: str, shown: str) -> None:
    out = StringIO()
    write_syncs(
        [SyncRecord("s", "repo", "main", "plans/", target, 60.0, "me", 1.0)], 2.0, out, color=False
    )
    assert out.getvalue().startswith(shown)


def test_one_that_has_ended_does_not_look_again() -> None:
    """As `sync --once`, which looks only once."""
    live = SyncRecord("s", "repo", "main", "plans/", "dev", 60.0, "me", 1.0)
    shown = {}
    for sync in (live, replace(live, ended_at=1.5)):
        out = StringIO()
        write_syncs([sync], 2.0, out, color=False)
        shown[sync] = "looked 1s ago, every 1m" in out.getvalue()
    assert [*shown.values()] == [True, False]
