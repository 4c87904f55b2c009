from __future__ import annotations

from tests.cli.conftest import backfill

__all__ = ["backfill"]  # a fixture of the command line
