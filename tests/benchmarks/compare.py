"""Compare with a stored run: the ratios then and now, and which have become worse.

Ratios are compared, never times: another machine, or a busy one, slows down both sides of a ratio.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measure import Figure
from tests.benchmarks.table import aligned, ratio

_HEAD = ("work", "against", "then", "now", "change", "")


class NotComparable(Exception):
    """The stored run cannot be compared with this one."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The ratios of a run, by work, unit and what they are measured against."""

    ratios: dict[tuple[str, str, str], float]

    @classmethod
    def read(cls, path: Path, *, quick: bool) -> Stored:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            ratios = {
                (one["work"], one["unit"], one["against"]): one["ratio"] for one in found["figures"]
            }
            stored_quick = found["quick"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotComparable(f"{path} holds no run of these benchmarks ({error})") from None
        if stored_quick != quick:
            sizes = {True: "quick sizes", False: "full sizes"}
            message = f"{path} was measured at {sizes[stored_quick]}, and this is at {sizes[quick]}"
            raise NotComparable(message)
        return cls(ratios)

    def beside(self, figures: Sequence[Figure], tolerance: float) -> tuple[str, bool]:
        """Return the table, and whether a ratio is worse by more than the tolerance."""
        rows, any_worse = [], False
        for figure in figures:
            then = self.ratios.get(_key(figure))
            if then is None:
                rows.append((figure.work, figure.against, "-", ratio(figure.ratio), "", "new"))
                continue
            worse = _worsening(figure, then) > tolerance
            any_worse |= worse
            numbers = (ratio(then), ratio(figure.ratio), f"{figure.ratio / then - 1:+.0%}")
            rows.append((figure.work, figure.against, *numbers, "WORSE" if worse else ""))
        left = len(self.ratios.keys() - {_key(figure) for figure in figures})
        note = ["", f"{left} stored figures were not measured this time."] if left else []
        return "\n".join([*aligned(_HEAD, rows), *note]), any_worse


def _key(figure: Figure) -> tuple[str, str, str]:
    return figure.work, figure.unit, figure.against


def _worsening(figure: Figure, then: float) -> float:
    """Return by what share the ratio has become worse; negative if it is better."""
    return (then / figure.ratio if figure.more_is_better else figure.ratio / then) - 1
