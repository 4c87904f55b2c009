"""Whether the files that a plan was made of are still as they were read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from runner.model import Input
from runner.spec.files import MAX_DATA, Refused, read_given


def unchanged(inputs: Sequence[Input]) -> bool:
    return not changed_inputs(inputs)


def changed_inputs(inputs: Sequence[Input]) -> list[str]:
    """The files that are not as they were read, or are gone."""
    return [path for path, sha256 in inputs if digest_of(path) != sha256]


def digest_of(path: str) -> str | None:
    try:
        return hashlib.sha256(read_given(path, limit=MAX_DATA)).hexdigest()
    except Refused:
        return None
