"""JSON values."""

from __future__ import annotations

from typing import Any, TypeAlias

Json: TypeAlias = Any  # what a payload or an attribute may hold
Data: TypeAlias = dict[str, Json]
