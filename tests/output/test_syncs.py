"""How `status` shows a `backfill sync`."""

from __future__ import annotations

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
