"""The house's order (DESIGN.md, section 3), read from the source itself."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from runner.cli.main import COMMANDS
from runner.spec.schema import SCHEMAS, schema_text

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "runner").rglob("*.py"))

# What each room may import of ours: the rooms below it, and nothing beside or above it.
MAY_IMPORT = {
    "errors": {"model"},  # for its types only
    "model": set[str](),
    "spec": {"model", "errors"},
    "planning": {"spec", "model", "errors"},
    "execution": {"planning", "spec", "model", "errors"},
    "adapters": {"planning", "spec", "model", "errors"},
    "output": {"planning", "spec", "model", "errors"},
    "version": set[str](),
    "api": {"app", "execution", "model", "errors"},
    "__main__": {"cli"},
    "app": {"execution", "adapters", "planning", "spec", "model", "errors"},
    "agents": {"app", "output", "execution", "adapters", "planning", "spec", "model", "errors"},
    "cli": {
        "agents",
        "app",
        "output",
        "execution",
        "adapters",
        "planning",
        "spec",
        "model",
        "errors",
    },
}
# Adapters meet the Protocols of execution, and agree with it on how ids follow from a seed.
ADAPTERS_MEET = {"runner.execution.ports", "runner.execution.seeds"}
MOST_IMPORTS = 12  # of ours, by one module; those in functions count too
COMPOSE = {"runner.app.session"}  # what opens everything that others need


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(module: str) -> str | None:
    """`runner.spec.load` lies in `spec`; `runner` itself, with the version, in none."""
    parts = module.split(".")
    return parts[1] if parts[0] == "runner" and len(parts) > 1 else None


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Every module that the file imports, at whichever place in it."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)} has a relative import"
            assert node.module
            # `from runner.output import words` names a module, `from runner import Session` none.
            for alias in node.names:
                named = f"{node.module}.{alias.name}"
                yield named if named in MODULES else node.module


def test_imports_run_downward_only() -> None:
    found = []
    for path in FILES:
        room = room_of(module_of(path))
        for module in sorted(imports_of(path)):
            other = room_of(module)
            if room is None or other in (None, "version", room):
                continue
            if room == "adapters" and module in ADAPTERS_MEET:
                continue
            if other not in MAY_IMPORT[room]:
                found.append(f"{name_of(path)} imports {module}")
    assert found == []


def test_imports_go_round_in_no_circle() -> None:
    """Also those within functions: what needs a late import to load is one thing in two files."""
    graph = {name: imports_of(path) & MODULES.keys() for name, path in MODULES.items()}
    while leaves := {name for name, others in graph.items() if not others & set(graph)}:
        graph = {name: others for name, others in graph.items() if name not in leaves}
    assert sorted(graph) == []


def test_no_module_imports_many_others() -> None:
    """A module has one subject: a command calls a use case and prints what came of it."""
    many = {
        name: len(others)
        for name, path in MODULES.items()
        if len(others := imports_of(path) & MODULES.keys() - {name}) > MOST_IMPORTS
    }
    assert sorted(many) == sorted(COMPOSE), many


def test_values_are_frozen_in_one_way() -> None:
    """`@frozen`, which takes a quarter of the time: commands make hundreds of such classes."""
    home = ROOT / "runner" / "model" / "value.py"
    assert [name_of(path) for path in FILES if "(frozen=True" in text(path) and path != home] == []


def test_no_public_name_means_two_things_in_the_pure_rooms() -> None:
    """One word a thing: a class of model, spec, planning or output has its name to itself."""
    homes: dict[str, list[str]] = {}
    for path in FILES:
        if room_of(module_of(path)) in ("model", "spec", "planning", "output"):
            for node in ast.parse(text(path)).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes.setdefault(node.name, []).append(name_of(path))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_the_command_line_is_commands_and_what_they_share() -> None:
    shared = {"main", "options", "printing", "completion", "__init__"}
    names = {path.stem for path in (ROOT / "runner" / "cli").glob("*.py")}
    assert sorted(names - shared - set(COMMANDS)) == []


def test_nothing_below_the_command_line_knows_click() -> None:
    below = [path for path in FILES if room_of(module_of(path)) != "cli"]
    assert [name_of(path) for path in below if "click" in imports_of(path)] == []


def test_the_environment_is_read_where_it_comes_in() -> None:
    """Everywhere else it is handed on."""
    allowed = {"runner/app/session.py", "runner/cli/printing.py", "runner/adapters/http.py"}
    found = {
        name_of(path) for path in FILES if re.search(r"os\.(environ|getenv)\b[^`]", text(path))
    }
    assert sorted(found - allowed) == []


@pytest.mark.parametrize("what", ["beside(watch(", "HttpJobsApi(", "RunContext("])
def test_a_run_is_driven_and_wired_in_one_place(what: str) -> None:
    assert len([name_of(path) for path in FILES if what in text(path)]) == 1


def test_every_room_of_the_design_is_there() -> None:
    assert {room_of(module_of(path)) for path in FILES} - {None} == set(MAY_IMPORT)


@pytest.mark.parametrize("page", ["AGENTS.md", "CONTRIBUTING.md"])
def test_the_pages_for_contributors_name_every_room(page: str) -> None:
    rooms = set(MAY_IMPORT) - {"__main__", "version", "api", "errors"}
    told = (ROOT / page).read_text(encoding="utf-8")
    assert [room for room in rooms if f"{room}/" not in told] == []


@pytest.mark.parametrize("room", ["spec", "planning"])
def test_the_pure_rooms_neither_read_nor_ask_nor_print(room: str) -> None:
    """`files.py` alone reads files; the schemas and the built-in catalog are part of the package;
    what compares times is handed the present one; each thread has a budget."""
    allowed = {
        "files.py": {"os", "pathlib"},
        "reading.py": {"pathlib"},
        "project.py": {"pathlib"},
        "units.py": {"datetime"},
        "rows.py": {"datetime"},
        "facts.py": {"datetime"},
        "expectations.py": {"datetime"},
        "own.py": {"datetime"},
        "opening.py": {"datetime"},
        "sandbox.py": {"datetime"},
        "recurring.py": {"datetime"},
        "schema.py": {"pathlib"},
        "catalog.py": {"pathlib"},
        "rendering.py": {"threading"},
        "urls.py": {"urllib"},  # its `parse`, which asks nobody
    }
    forbidden = {"os", "io", "socket", "pathlib", "importlib", "subprocess", "logging", "time"}
    forbidden |= {
        "datetime",
        "random",
        "asyncio",
        "threading",
        "sys",
        "shutil",
        "tempfile",
        "urllib",
    }
    for path in (ROOT / "runner" / room).glob("*.py"):
        roots = {module.split(".")[0] for module in imports_of(path)}
        assert not (roots & forbidden) - allowed.get(path.name, set()), name_of(path)
        names = {
            n.id for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Name)
        }
        assert not names & {"open", "print", "input", "exec", "eval", "__import__"}, name_of(path)


def test_planning_reads_no_file_of_its_own() -> None:
    for path in (ROOT / "runner" / "planning").glob("*.py"):
        assert not {"runner.spec.reading", "runner.spec.schema"} & imports_of(path), name_of(path)


def test_the_command_line_starts_without_what_it_may_not_need() -> None:
    """Jinja, JSON Schema, HTTP and the database are imported where they are used."""
    code = "import runner.cli.main, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    heavy = {
        "jinja2",
        "jsonschema",
        "jsonschema_rs",
        "httpx",
        "sqlalchemy",
        "rich",
        "yaml",
        "starlette",
    }
    assert not heavy & set(json.loads(done.stdout))


def test_every_schema_is_published_described_and_shipped() -> None:
    """In the wheel they lie in `runner/schemas`, in a checkout at the top level."""
    names = {path.name.removesuffix(".schema.json") for path in (ROOT / "schemas").glob("*.json")}
    assert names == set(SCHEMAS)
    for name in SCHEMAS:
        schema = json.loads(schema_text(name))
        assert schema["$id"].endswith(f"/{name}.schema.json")
        assert [where for where in _undescribed(schema) if where] == []
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    wheel = build["build"]["targets"]["wheel"]
    assert wheel["force-include"]["schemas"] == "runner/schemas"
    assert wheel["packages"] == ["runner"]


def _undescribed(schema: object, path: str = "") -> Iterator[str]:
    """Properties that an editor could not explain."""
    if isinstance(schema, list):
        for member in schema:
            yield from _undescribed(member, path)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "properties":
            for name, member in value.items():
                if isinstance(member, dict) and not {"description", "$ref"} & set(member):
                    yield f"{path}.{name}"
                yield from _undescribed(member, f"{path}.{name}")
        elif key not in ("examples", "enum", "const", "default"):
            yield from _undescribed(value, path)
