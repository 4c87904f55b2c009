"""The tools: each is named after a command and does what that does, by one call into `app`."""

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
