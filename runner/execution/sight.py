"""Whether a zero is nothing to do, or nothing that this role may see."""

from __future__ import annotations

from collections.abc import Sequence

from runner.model import RowSecurity

GRANT = "give the role a policy that shows it the rows, or BYPASSRLS"
UNTOLD = "whether this key sees the rows cannot be told"


def blinded(security: Sequence[RowSecurity] | None) -> str | None:
    """Tables of which policies show a role nothing, though there are rows."""
    tables = [one.table for one in security or () if one.blind]
    if not tables:
        return None
    names = ", ".join(f"`{table}`" for table in tables)
    return f"row-level security shows this role no row of {names}, though there are some"
