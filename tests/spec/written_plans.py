"""Plans as anybody may write them: keys in any order, in block and flow style, with comments and
blank lines anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

from hypothesis import strategies as st

from runner.model import Json

WORDS = st.text("abcxyz", min_size=1, max_size=5)
TEXTS = st.text("ab 7é:#'\"{}[],&*!|>-\n", max_size=12)
DURATIONS = st.sampled_from(["300s", "90s", "0.5s", "5m", "1d", "24h", "1h60m", "0s", "36h"]) | (
    st.integers(0, 10**8).map("{}ms".format)
)
QUERIES = TEXTS | st.fixed_dictionaries(
    {"table": WORDS, "columns": st.lists(WORDS, min_size=1, max_size=2)},
    optional={"where": st.dictionaries(WORDS, TEXTS, max_size=3)},
)
CHECKS = st.fixed_dictionaries(
    {"name": WORDS, "query": QUERIES, "expect": st.just({"column": "n", "at_least": 1})},
    optional={"timeout": DURATIONS, "every": DURATIONS, "migration": WORDS},
)
UNTIL = st.fixed_dictionaries(
    {"query": QUERIES, "expect": st.just({"rows": 0})},
    optional={"stalled_after": st.just(3), "max_time": DURATIONS},
)
OPERATIONS = WORDS | st.fixed_dictionaries(
    {"use": WORDS},
    optional={
        "batch_size": st.integers(1, 99),
        "delay": DURATIONS,
        "timeout": DURATIONS,
        "until": UNTIL,
        "with": st.dictionaries(WORDS, TEXTS | DURATIONS, max_size=3),
    },
)
REPOS = st.just("vercel/ai") | st.fixed_dictionaries(
    {"repo": st.just("vercel/ai")},
    optional={"priority": st.just("high"), "velocity": st.just(4), "skip": st.lists(WORDS)},
)
PLANS = st.fixed_dictionaries(
    {
        "apiVersion": st.just("backfill/v1"),
        "kind": st.just("BackfillPlan"),
        "metadata": st.fixed_dictionaries(
            {"name": WORDS}, optional={"owner": WORDS, "reason": TEXTS, "version": WORDS}
        ),
        "operations": st.lists(OPERATIONS, min_size=1, max_size=3),
    },
    optional={
        "vars": st.dictionaries(WORDS, TEXTS | DURATIONS, max_size=3),
        "repos": st.lists(REPOS, max_size=3),
        "filter": st.just({"repo": "a/*", "age": {"of": "at", "newer_than": "1440m"}}),
        "checks": st.lists(CHECKS, max_size=2),
        "delay": DURATIONS,
        "batch_size": st.integers(1, 99),
    },
)
OWN_KEYS = {"vars", "with", "where"}
STYLES = st.frozensets(
    st.sampled_from(
        ["metadata", "operations", "until", "repos", "filter", "age", "checks", "expect", "query"]
    )
)


class Writer:
    """Writes a plan with its keys in any order. `flow`: the keys whose values are in flow style."""

    def __init__(self, random: Random, flow: frozenset[str], *, comments: bool) -> None:
        self.random, self.flow_keys, self.comments = random, flow, comments
        self.count = 0

    def text(self, plan: Json) -> str:
        return "".join(f"{line}\n" for line in self._block(plan, "", 0))

    def _block(self, value: Json, key: str, indent: int) -> Iterator[str]:
        pad = " " * indent
        if isinstance(value, dict):
            for name, inner in self._items(value, key):
                yield from self._above(indent)
                yield from self._member(f"{pad}{name}:", inner, name, indent)
            return
        for inner in value:
            yield from self._above(indent)
            if not isinstance(inner, dict) or key in self.flow_keys:
                yield from self._member(f"{pad}-", inner, key, indent)
                continue
            first, *others = self._block(inner, key, indent + 2)
            if first.strip()[:1] in ("", "#"):
                yield f"{pad}-"
                yield first
            else:
                yield f"{pad}- {first.lstrip()}"
            yield from others

    def _member(self, head: str, value: Json, key: str, indent: int) -> Iterator[str]:
        if isinstance(value, str) and "\n" in value and all(value.split("\n")):
            yield f"{head} |2-"
            yield from (f"{' ' * (indent + 2)}{line}" for line in value.split("\n"))
        elif isinstance(value, dict | list) and value and key not in self.flow_keys:
            yield f"{head}{self._behind()}"
            yield from self._block(value, key, indent + 2)
        else:
            yield f"{head} {self._flow(value, key)}{self._behind()}"

    def _flow(self, value: Json, key: str) -> str:
        if isinstance(value, dict):
            pairs = (f"{name}: {self._flow(v, name)}" for name, v in self._items(value, key))
            return f"{{{', '.join(pairs)}}}"
        if isinstance(value, list):
            return f"[{', '.join(self._flow(inner, key) for inner in value)}]"
        plain = isinstance(value, str) and value.isalnum() and not value.isdecimal()
        return str(value) if plain else json.dumps(value, ensure_ascii=False)

    def _items(self, value: dict[str, Json], key: str) -> list[tuple[str, Json]]:
        items = list(value.items())
        if key not in OWN_KEYS:
            self.random.shuffle(items)
        return items

    def _above(self, indent: int) -> Iterator[str]:
        if not self.comments:
            return
        for _ in range(self.random.choice((0, 0, 0, 1, 2, 3))):
            deeper = " " * self.random.choice((0, indent, indent, indent + 3))
            yield self.random.choice(("", deeper, f"{deeper}{self._comment()}"))

    def _behind(self) -> str:
        return f"  {self._comment()}" if self.comments and self.random.random() < 0.2 else ""

    def _comment(self) -> str:
        self.count += 1
        return f"# <{self.count}>"
