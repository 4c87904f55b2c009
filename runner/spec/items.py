"""The items of a plan, wherever they come from: the plan itself, files, or queries."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from runner.model import Collection as Items
from runner.model import Data, Json, frozen
from runner.spec.collections import check_items, check_rows
from runner.spec.document import Path, did_you_mean, echo
from runner.spec.kinds import REPOSITORY, RepositoryKind
from runner.spec.own import NO_WORKSPACES, OwnCollections, parts_of
from runner.spec.plan_document import PlanDocument, in_order, keys_of
from runner.spec.questions import Asking
from runner.spec.reading import Reading
from runner.spec.rows import Concatenated, DocumentRows, Part, SelectedRows, Uses


@frozen
class PlanItems:
    """`whole`: False if repositories may be missing. `own`: the collections without problems."""

    repositories: Concatenated
    whole: bool
    own: Mapping[str, Items]

    @property
    def known(self) -> Mapping[str, Items]:
        return {"repo": Items(REPOSITORY, self.repositories), **self.own}


def read_items(
    reading: Reading,
    checked: PlanDocument,
    overrides: Mapping[str, Json],
    operations: Collection[str] | None,
) -> PlanItems:
    """Read all items; problems go to `reading`. `operations`: of the catalogs; None if unsure."""
    variables = {**checked.value.get("vars", {}), **overrides}
    repositories, whole = _repositories(reading, checked, variables)
    uses = Uses(checked.used(), checked.document.path)
    reading.problems += check_rows(repositories, REPOSITORY, operations, uses)
    own = _own(reading, checked, variables, repositories)
    for items in own.values():
        reading.problems += check_items(items, operations, uses)
    return PlanItems(repositories, whole, own)


def _repositories(
    reading: Reading, checked: PlanDocument, variables: Collection[str]
) -> tuple[Concatenated, bool]:
    """Return the sources of repositories in written order; adjacent inline ones share one.

    The second value is False if a problem may leave repositories out.
    """
    kind = RepositoryKind(checked.value.get("workspace"))
    if "repos" in reading.replaced:
        rows = reading.replacement("repos", kind)
        return Concatenated([rows] if rows else []), rows is not None
    parts: list[Part] = []
    inline: tuple[list[Data], list[Path]] = ([], [])
    written = checked.value.get("repos", [])
    before, whole = len(reading.problems), "repos" not in checked.pruned
    keys = keys_of("repositoryRow")
    for index, entry in enumerate(written):
        if isinstance(entry, dict) and ("file" in entry or "repo" not in entry):
            parts.append(DocumentRows(checked.document, *inline, kind, checked=True))
            inline = ([], [])
            own = RepositoryKind(entry.get("workspace", kind.workspace))
            path: Path = ("repos", index)
            if "file" in entry:
                rows = reading.data_file(checked.document, path, entry["file"], own)
            else:
                rows = _selected(reading, checked, path, entry, own, variables)
            parts += [] if rows is None else [rows]
        elif entry is not None:
            row = kind.named(entry) if isinstance(entry, str) else in_order(entry, keys)
            inline[0].append(kind.complete(row))
            inline[1].append(("repos", index))
    parts.append(DocumentRows(checked.document, *inline, kind, checked=True))
    return Concatenated(parts), whole and len(reading.problems) == before


def _selected(
    reading: Reading,
    checked: PlanDocument,
    path: Path,
    entry: Data,
    kind: RepositoryKind,
    variables: Collection[str],
) -> Part | None:
    if "query" in entry:
        asking = Asking(checked.document, variables)
        question = asking.question(entry, path)
        reading.problems += asking.problems
        return SelectedRows(checked.document, path, kind, question, "repositories")
    if "workspace" not in entry:
        return None
    name = f"repositories of {kind.workspace}"
    return SelectedRows(checked.document, path, kind, None, name, kind.workspace)


def _own(
    reading: Reading,
    checked: PlanDocument,
    variables: Mapping[str, Json],
    repositories: Concatenated,
) -> dict[str, Items]:
    """Return the plan's own collections that have no problems."""
    asking = Asking(checked.document, variables)
    own = OwnCollections(
        checked,
        asking,
        {"vars": variables, "plan": checked.value.get("metadata", {})},
        lambda path, name, kind: reading.data_file(checked.document, path, name, kind),
        reading.replacement,
        {"repo": Items(REPOSITORY, repositories), "workspace": NO_WORKSPACES},
    )
    found = own.read()
    reading.problems += [*own.problems, *asking.problems]
    written = checked.value.get("collections", {})
    known = ["repos", *written]
    for name in reading.replaced:
        if name not in known:
            message = f"--collection: the plan has no collection {echo(name)}"
            hint = did_you_mean(name, known) or f"it has: {', '.join(known)}"
            reading.problems.append(checked.error(message, ("collections",), key=True, hint=hint))
        elif parts := parts_of(written.get(name)):
            message = f"--collection: `{name}` is a product, and its items come from its parts"
            hint = f"replace {' or '.join(f'`{part}`' for part in parts.values())}"
            place = ("collections", name)
            reading.problems.append(checked.error(message, place, key=True, hint=hint))
    return found
