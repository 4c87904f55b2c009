"""The tools: each has a command's name and does what it does, by one call into `app`."""

from __future__ import annotations

from runner.agents import operate, prove, review, run, watch, write

TOOLS = (
    *write.TOOLS,
    *review.TOOLS,
    *prove.TOOLS,
    *run.TOOLS,
    *watch.TOOLS,
    *operate.TOOLS,
)
