"""A peer: the script that somebody would write instead, with common libraries.

``straight.py PLAN SCHEMA``: the plan by PyYAML's C loader, checked by `jsonschema`, a Jinja
template for each payload, compiled once and rendered for each event, and the events as JSON Lines.
It knows nothing of positions, contracts, order, batches, or what is skipped.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Template
from jsonschema import Draft202012Validator


def main(path: Path, schema: Path) -> None:
    plan = _load(path)
    Draft202012Validator(json.loads(schema.read_bytes())).validate(plan)
    operations = _load(path.parent / plan["catalog"])["operations"]
    for use in plan["operations"]:
        operation = operations[use]
        template = Template(json.dumps(operation["payload"]))
        for given in plan["repos"]:
            name = given if isinstance(given, str) else given["repo"]
            owner, _, short = name.partition("/")
            rendered = template.render(
                repo={"repo": name, "owner": owner, "name": short},
                operation={"batch_size": plan["batch_size"]},
                vars=plan["vars"],
            )
            event = {"name": operation["event"], "data": json.loads(rendered)}
            sys.stdout.write(json.dumps(event) + "\n")


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        return yaml.load(file, Loader=yaml.CSafeLoader)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
