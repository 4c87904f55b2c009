"""Which operations a plan runs: every name resolved, what `skip` and `only` leave out said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runner.model import Data, Problem, Skipped
from runner.spec.catalog import Catalog
from runner.spec.checked import Checked
from runner.spec.document import Path, did_you_mean, echo


@dataclass(frozen=True, slots=True)
class Selection:
    """The operations that stay, with what the plan says of each and where; the others, and why."""

    kept: Mapping[str, tuple[Path, Data]]
    left_out: tuple[Skipped, ...]


def check_names(checked: Checked, catalog: Catalog) -> Iterator[Problem]:
    """Operations that no catalog has, or that are listed twice; `skip` and `only` at odds."""
    yield from _check_uses(checked, catalog)
    used = [use["use"] for _, use in checked.uses()]
    only = {name for _, name in checked.names("only")}
    for key in ("skip", "only"):
        for path, name in checked.names(key):
            if name not in catalog:
                yield _unknown(checked, catalog, name, path)
            elif name not in used:
                message = f"`{key}` names `{name}`, which this plan never uses"
                known = [use for use in used if use in catalog]
                hint = did_you_mean(name, known) or "take it out, or add it to `operations`"
                yield checked.error(message, path, hint=hint)
            elif key == "skip" and name in only:
                message = f"`{name}` is in `skip` and in `only`, which contradict each other"
                yield checked.error(message, path, hint="take it out of one of them")


def select(checked: Checked, catalog: Catalog) -> Selection:
    skip = {name for _, name in checked.names("skip")}
    only = {name for _, name in checked.names("only")}
    kept: dict[str, tuple[Path, Data]] = {}
    left_out: dict[str, Skipped] = {}
    for path, use in checked.uses():
        name = use["use"]
        if name not in catalog or name in kept:
            continue
        if name in skip:
            left_out[name] = Skipped(name, None, "skipped by the plan")
        elif only and name not in only:
            left_out[name] = Skipped(name, None, "not in the plan's `only`")
        else:
            kept[name] = (path, use)
    return Selection(kept, tuple(left_out.values()))


def needs_left_out(checked: Checked, catalog: Catalog, selection: Selection) -> Iterator[Problem]:
    """Fine, but said: an operation that runs without the one it comes after."""
    out = {skipped.operation for skipped in selection.left_out}
    for name, (path, _) in selection.kept.items():
        for need in catalog[name].after:
            if need in out:
                message = f"`{name}` comes after `{need}`, which this plan skips"
                hint = f"it works on what the last `{need}` left"
                yield checked.warning(message, path, hint=hint, rule="needs-skipped")


def _check_uses(checked: Checked, catalog: Catalog) -> Iterator[Problem]:
    seen: dict[str, Path] = {}
    for path, use in checked.uses():
        name, place = use["use"], (*path, "use")
        if name not in catalog:
            yield _unknown(checked, catalog, name, place)
        elif name in seen:
            line = checked.document.position(seen[name])[0]
            message = f"the operation `{name}` is listed twice (first on line {line})"
            yield checked.error(message, place, hint="keep one of them")
        seen.setdefault(name, path)


def _unknown(checked: Checked, catalog: Catalog, name: str, path: Path) -> Problem:
    hint = did_you_mean(name, catalog) or f"the catalog has: {', '.join(catalog)}"
    message = f"unknown operation {echo(name)}"
    return checked.error(message, path, hint=hint, rule="unknown-operation")
