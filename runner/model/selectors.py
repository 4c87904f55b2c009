"""Which part of an execution plan is meant, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from shlex import quote

from runner.model.value import frozen


@frozen
class Selectors:
    """`only`, `skip`: operations. `items`: globs on names, after `!` to leave out. `limit`: the
    first so many items of each collection; `sample`: so many of them, chosen by `seed`."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    limit: int | None = None
    sample: int | None = None
    seed: int = 0

    def __bool__(self) -> bool:
        return bool(self.only or self.skip or self.of_items)

    @property
    def of_items(self) -> bool:
        """Are they about items, beside operations?"""
        return bool(self.items) or self.limit is not None or self.sample is not None

    @property
    def words(self) -> str:
        """As options say it."""
        said = [f"--only {quote(name)}" for name in self.only]
        said += [f"--skip {quote(name)}" for name in self.skip]
        said += [f"--item {quote(glob)}" for glob in self.items]
        said += [] if self.limit is None else [f"--limit {self.limit}"]
        said += [] if self.sample is None else [f"--sample {self.sample} --seed {self.seed}"]
        return " ".join(said)


@frozen
class Partial:
    """A part of a plan. `chosen`: the names of the items that count, by what operations run for,
    where more than their names decides that."""

    selectors: Selectors
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
