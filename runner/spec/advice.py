"""What experience says about pacing: warnings, which `--strict` makes errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runner.model import Load, Operation, Problem
from runner.spec.document import Document, Path
from runner.spec.units import format_duration

# Batch sizes and delays in seconds that go well, by what the work leans on.
_BATCHES: dict[Load, tuple[int, str]] = {
    "internal": (100, "over 100 risks timeouts"),
    "external": (50, "APIs with rate limits take 10-50"),
    "heavy": (100, "over 100 risks timeouts"),
}
_DELAYS: dict[Load, tuple[float, str]] = {
    "internal": (1, "internal work wants 1-5s"),
    "external": (5, "external APIs with rate limits want 5-15s"),
    "heavy": (15, "heavy work wants 15-30s"),
}


def advise(
    operation: Operation, document: Document, places: Mapping[str, Path]
) -> Iterator[Problem]:
    size, delay = operation.pacing.batch_size, operation.pacing.delay
    most, why = _BATCHES[operation.load]
    if size > most:
        message = f"`{operation.name}`: a batch of {size:,} is large; {why}"
        yield _advice(
            document, message, places["batch_size"], f"write `batch_size: {most}` or less"
        )
    least, why = _DELAYS[operation.load]
    if delay < least:
        message = f"`{operation.name}`: a delay of {format_duration(delay)} is short; {why}"
        hint = f"write `delay: {format_duration(least)}` or more"
        yield _advice(document, message, places["delay"], hint)


def _advice(document: Document, message: str, path: Path, hint: str) -> Problem:
    return document.problem(message, path, hint=hint, severity="warning", rule="advice")
