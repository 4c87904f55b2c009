"""``python -m tests.benchmarks``: see the package's docstring."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks import (
    applying,
    closed_loop,
    following,
    journal,
    lookups,
    planning,
    resume,
    seeing,
    send,
    start,
    submitting,
    validating,
)
from tests.benchmarks.compare import NotComparable, Stored
from tests.benchmarks.measure import BenchmarkFailed, Figure, Sizes, say
from tests.benchmarks.table import as_json, table

BENCHMARKS: dict[str, Callable[[Path, Sizes], list[Figure]]] = {
    "start": start.measure,
    "validate": validating.measure,
    "plan-inline": planning.measure_inline,
    "plan-csv": planning.measure_csv,
    "plan-jsonl": planning.measure_jsonl,
    "send": send.measure,
    "journal": journal.measure,
    "resume": resume.measure,
    "submit": submitting.measure,
    "follow": following.measure,
    "apply": applying.measure,
    "closed-loop": closed_loop.measure,
    "lookups": lookups.measure,
    "seeing": seeing.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="small sizes; no goal is judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="with a run stored by --json")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="by how much a ratio may be worse than the stored one (default 0.2)",
    )
    parser.add_argument("--growth", type=Path, metavar="PICTURE", help="draw that, an .svg or .png")
    options = parser.parse_args()
    sizes = Sizes(options.quick)
    for file in (options.json, options.growth):
        if file and not file.absolute().parent.is_dir():
            parser.error(f"there is no folder {file.parent}")
    if options.growth:
        if options.growth.suffix not in (".png", ".svg"):
            parser.error(f"{options.growth}: a picture is an .svg or a .png")
        from tests.benchmarks import growth  # which imports matplotlib

        growth.draw(options.growth, sizes)
        return 0
    try:
        stored = Stored.read(options.compare, quick=sizes.quick) if options.compare else None
    except NotComparable as error:
        parser.error(str(error))
    figures, failed = _measure(options.only or list(BENCHMARKS), sizes)
    print(table(figures, quick=sizes.quick))
    if options.json:
        options.json.write_text(as_json(figures, quick=sizes.quick), encoding="utf-8")
    if stored:
        text, worse = stored.beside(figures, options.tolerance)
        print(f"\nBeside {options.compare}:\n\n{text}")
        failed |= worse
    return int(failed)


def _measure(names: Sequence[str], sizes: Sizes) -> tuple[list[Figure], bool]:
    """Return the figures, and whether some could not be measured."""
    figures: list[Figure] = []
    failed = False
    for name in names:
        say(f"{name} ...")
        with tempfile.TemporaryDirectory(prefix="backfill-benchmark-") as folder:
            try:
                figures += BENCHMARKS[name](Path(folder), sizes)
            except BenchmarkFailed as error:
                failed = True
                say(f"{name} could not be measured: {error}")
    return figures, failed


if __name__ == "__main__":
    sys.exit(main())
