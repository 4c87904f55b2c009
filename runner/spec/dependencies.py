"""Dependencies: transitive closures, cycles, and a stable topological order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def find_cycle(needs: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return a path that leads back to its start, as ``[a, b, a]`` if a needs b and b needs a."""
    finished: set[str] = set()
    for root in needs:
        path: list[str] = []
        trail = [iter((root,))]
        while trail:
            name = next(trail[-1], None)
            if name is None:
                trail.pop()
                if path:
                    finished.add(path.pop())
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in finished and name in needs:
                path.append(name)
                trail.append(iter(needs[name]))
    return None


def closure(name: str, needs: Mapping[str, Sequence[str]]) -> set[str]:
    """Return all that `name` needs, directly or through others."""
    found: set[str] = set()
    open_names = list(needs.get(name, ()))
    while open_names:
        need = open_names.pop()
        if need not in found:
            found.add(need)
            open_names += needs.get(need, ())
    return found


def stable_order(names: Sequence[str], needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Sort `names` so that each comes after what it needs; ties keep their order.

    Needs outside `names` still count as links: if c needs b, and b needs a, then
    ``stable_order([c, a])`` is ``[a, c]``. The needs must have no cycle.
    """
    waiting = {name: closure(name, needs) & set(names) for name in names}
    ordered: list[str] = []
    while waiting:
        name = next(name for name, open_needs in waiting.items() if not open_needs)
        ordered.append(name)
        del waiting[name]
        for open_needs in waiting.values():
            open_needs.discard(name)
    return ordered
