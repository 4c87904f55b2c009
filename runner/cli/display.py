"""How a command shows what is going on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from runner.model import Observer
from runner.output.progress import LiveDisplay, PlainLines


@contextmanager
def display(form: str) -> Iterator[Observer]:
    """A live display where there is a terminal, plain lines where there is none."""
    if sys.stderr.isatty() and form == "text" and os.environ.get("TERM") != "dumb":
        with LiveDisplay(sys.stderr) as live:
            yield live
    else:
        yield PlainLines(sys.stderr)
