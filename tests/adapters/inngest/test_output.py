"""What is kept of a failed job's own message."""

from __future__ import annotations

from runner.adapters.inngest.run_lists import MESSAGE_LENGTH, message_of
from runner.adapters.inngest.target import resolve


def test_a_long_message_keeps_its_first_line_and_its_end() -> None:
    lines = ["Traceback (most recent call last):", *(f"  at line {n}" for n in range(300))]
    said = "\n".join([*lines, "ValueError: the cause"])
    kept = message_of(said, resolve("http://127.0.0.1:1", {}))
    assert kept is not None
    assert len(kept) <= MESSAGE_LENGTH
    assert kept.startswith(f"{lines[0]} […] ")
    assert kept.endswith("ValueError: the cause")
