"""Older forms of the plan file, rewritten as the present one; comments stay where they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runner.errors import InvalidPlan
from runner.model import Problem
from runner.spec.document import did_you_mean
from runner.spec.schema import newer_form
from runner.spec.units import format_duration

CURRENT, ALPHA = "backfill/v1", "backfill/v1alpha1"
_METADATA = ("name", "owner", "reason")
_AS_IT_IS = ("catalog", "workspace", "repos", "operations", "batch_size", "vars", "on_failure")


def migrated(text: str, path: str, name: str) -> str | None:
    """The file in the form of today; None where it is that already. `name`: for one without any.

    The flat form, v1alpha1, is ``repos``, ``operations``, ``skip_embeddings: true``,
    ``batch_size`` and ``delay_seconds``, with ``name``, ``owner`` and ``reason`` beside them.
    Raises `InvalidPlan` for what is of no known form, or of a newer one.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    offset = _list_indent(text)
    yaml.indent(mapping=2, sequence=offset + 2, offset=offset)
    try:
        plan = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise InvalidPlan((Problem(str(error.problem or error), path, *place),)) from None
    if not isinstance(plan, dict):
        raise InvalidPlan((Problem("a plan file is a mapping", path),))
    form = plan.get("apiVersion", ALPHA)
    if form == CURRENT:
        return None
    if form != ALPHA:
        hint = newer_form(form) or f"write `apiVersion: {ALPHA}` if it is of the flat form"
        message = f"`apiVersion` is `{form}`; this backfill rewrites {ALPHA} as {CURRENT}"
        raise InvalidPlan((_at(plan, "apiVersion", message, path, hint),))
    if problems := _unknown(plan, path):
        raise InvalidPlan(tuple(problems))
    _rewrite(plan, name)
    return _dumped(yaml, plan)


def _rewrite(plan: Any, name: str) -> None:
    metadata = {key: plan[key] for key in _METADATA if key in plan} or {}
    metadata = {"name": name, **metadata}
    left_out = [_operation(key) for key, value in plan.items() if _is_skip(key) and value]
    if "apiVersion" in plan:
        plan["apiVersion"] = CURRENT
    else:
        plan.insert(0, "apiVersion", CURRENT)
    first = next((key for key in _METADATA if key in plan), None)
    plan.insert(1, "kind", "BackfillPlan")
    if first is None:
        plan.insert(2, "metadata", metadata)
    else:
        _rename(plan, first, "metadata", metadata)
    if "delay_seconds" in plan:
        _rename(plan, "delay_seconds", "delay", format_duration(float(plan["delay_seconds"])))
    skips = [key for key in plan if _is_skip(key)]
    if left_out and skips:
        _rename(plan, skips[0], "skip", left_out)
    for key in [key for key in plan if _is_skip(key) or key in _METADATA]:
        del plan[key]


def _rename(plan: Any, old: str, new: str, value: Any) -> None:
    """In its place, with the comments that stand beside it."""
    place, comment = list(plan).index(old), plan.ca.items.pop(old, None)
    del plan[old]
    plan.insert(place, new, value)
    if comment is not None:
        plan.ca.items[new] = comment


def _unknown(plan: Mapping[str, Any], path: str) -> list[Problem]:
    known = ("apiVersion", "delay_seconds", *_METADATA, *_AS_IT_IS)
    return [
        _at(plan, key, f"`{key}` is no key of {ALPHA}", path, did_you_mean(str(key), known))
        for key in plan
        if key not in known and not _is_skip(key)
    ]


def _at(plan: Any, key: str, message: str, path: str, hint: str | None) -> Problem:
    line, column = plan.lc.key(key)
    return Problem(message, path, line + 1, column + 1, hint=hint)


def _is_skip(key: object) -> bool:
    return isinstance(key, str) and key.startswith("skip_")


def _operation(key: str) -> str:
    return key.removeprefix("skip_").replace("_", "-")


def _list_indent(text: str) -> int:
    """How far the lists of the file are set in, so that they stay so."""
    found = re.search(r"^[A-Za-z_]+:[^\n]*\n( *)- ", text, re.MULTILINE)
    return len(found[1]) if found else 2


def _dumped(yaml: Any, plan: Any) -> str:
    from ruamel.yaml.compat import StringIO

    out = StringIO()
    yaml.dump(plan, out)
    return str(out.getvalue())
