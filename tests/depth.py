"""How deep the suite looks: enough for every push by default, everything with `pytest --full`."""

from __future__ import annotations

import os

FULL = "BACKFILL_TEST_FULL"


def depth(default: int, full: int) -> int:
    """A number of examples, schedules or events. CONTRIBUTING lists which claim has which."""
    return full if os.environ.get(FULL) else default
