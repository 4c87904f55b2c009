"""Which columns a query gives, as far as its text tells."""

from __future__ import annotations

import pytest

from runner.spec.questions import columns_of

COLUMNS = {
    "k::text as item, n": ["item", "n"],
    '"k k"::text as item, n': ["item", "n"],
    "a.k::uuid::text AS Item": ["item"],
    "key::text item, n": ["item", "n"],
    "k::text[] as item": ["item"],
    "item::numeric(10, 2)": ["item"],
    "item::text[]": ["item"],
    "item::public.citext, n": ["item", "n"],
    'item::"S x"."T", n': ["item", "n"],
    'item::text collate "C", n': ["item", "n"],
    "item::double precision, n": ["item", "n"],
    "k::double precision item, n": ["item", "n"],
    "item::timestamp(3) with time zone": ["item"],
    "k::timestamp with time zone as item": ["item"],
    "k::character varying(5) as item": ["item"],
    "k::text /* as other */ as item": ["item"],
    "count(*)::int as n, count(*)": ["n", ""],
    'k as "my key"': ["my key"],
    "`k` as `item`": ["item"],
    "k::text as item, *": None,
}


@pytest.mark.parametrize("written", COLUMNS)
def test_a_column_is_called_as_postgresql_would_call_it(written: str) -> None:
    assert columns_of(f"select {written} from t") == COLUMNS[written]


@pytest.mark.parametrize(
    "part", ["::a ", "::a.a ", "::numeric ( 1 )", '"a"', '""', "a", "collate a"]
)
def test_a_long_column_is_read_in_bounded_time(part: str) -> None:
    assert columns_of(f"select {part * 20_000}! from t") == [""]
