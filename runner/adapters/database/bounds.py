"""What an answer may take: neither a plan nor the data may fill our memory."""

from __future__ import annotations

PATIENCE = 30  # seconds that a question may take
MAX_BYTES = 32 << 20  # of an answer, its rows' own weight included; it takes 10 to 20 times that
ROW, VALUE = 64, 8  # bytes, at least, that a row and each of its values weigh


def too_large() -> str:
    return f"its answer is larger than {MAX_BYTES >> 20} MiB"


NARROW = "narrow it, or leave large columns out"
