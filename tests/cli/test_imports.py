"""Commands start fast: each loads only the libraries that it needs, and its help none of them."""

from __future__ import annotations

import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest

HEAVY = [
    "anyio",
    "asyncio",
    "httpx",
    "importlib.metadata",
    "inngest",
    "jinja2",
    "jsonschema",
    "jsonschema_rs",
    "mcp",
    "orjson",
    "pydantic",
    "rich",
    "sqlalchemy",
    "starlette",
    "tenacity",
    "ulid",
    "uvicorn",
    "yaml",
]

_READING = "jsonschema_rs orjson yaml"
_STATE = "orjson"
_ULID = "importlib.metadata ulid"
_SENDING = f"{_READING} {_STATE} {_ULID} anyio asyncio httpx tenacity"
_EMBEDDED = "starlette"

# What each may load besides click, for a plan whose templates are plain references.
MAY_LOAD = {
    "init new.yaml": "",
    "schema": "",
    "completion bash": "",
    "operations plan.yaml": "jsonschema_rs yaml",
    "format plan.yaml --check": "jsonschema_rs yaml",
    "validate plan.yaml": _READING,
    "diff plan.yaml plan.yaml": _READING,
    "serve --list plan.yaml": _READING,
    "plan plan.yaml --format json": _READING,
    "run plan.yaml --dry-run": f"{_READING} {_ULID} asyncio rich",
    "doctor plan.yaml": f"{_READING} asyncio",
    "run plan.yaml --format json": f"{_SENDING} {_EMBEDDED}",
    "runs": f"{_STATE} rich",
    "status": _STATE,
    "events latest": f"{_STATE} {_ULID}",
    "logs latest": _STATE,
    "apply plan.yaml --dry-run": f"{_READING} {_STATE}",
    "report latest": f"{_STATE} asyncio jinja2 tenacity",
    "resume latest": f"{_SENDING} {_EMBEDDED}",
    "apply plan.yaml": _SENDING,
    "retry latest --dry-run": f"{_STATE} {_ULID} asyncio rich tenacity",
}


def run(code: str, *arguments: str, within: Path) -> str:
    """Return the last line of stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=within,
        stdin=subprocess.DEVNULL,
    )
    return done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan, and with a state that has a run of it."""
    folder = tmp_path_factory.mktemp("imports")
    for arguments in ("init plan.yaml", "run plan.yaml"):
        command = [sys.executable, "-m", "runner", *arguments.split()]
        subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=60)
    assert (folder / ".backfill" / "state.db").exists()
    return folder


def test_no_help_loads_any_of_them(tmp_path: Path) -> None:
    """One process prints all of them: a library that the first loads would be seen at the last."""
    code = (
        "import sys\nfrom runner.cli.main import COMMANDS, _guarded\n"
        "for name in ['', *COMMANDS]:\n"
        "    _guarded([*name.split(), '--help'])\n"
        f"    loaded = set(sys.modules) & set({HEAVY!r})\n"
        "    assert not loaded, (name, loaded)\n"
        "print('none', file=sys.stderr)"
    )
    assert run(code, within=tmp_path) == "none"


def test_who_asks_for_the_version_waits_for_no_type_of_ours(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom runner.cli.main import _guarded\n"
        "for option in ('--version', '--help'):\n"
        "    _guarded([option])\n"
        "print('runner.model' in sys.modules, file=sys.stderr)"
    )
    assert run(code, within=tmp_path) == "False"


def _chains() -> list[list[str]]:
    """Group commands that one process may run in turn: a library that one loads stays loaded for
    the next, which must be allowed to load as much or more."""
    chains: list[list[str]] = []
    for command in sorted(MAY_LOAD, key=lambda one: len(_allowed(one))):
        for chain in chains:
            if _allowed(chain[-1]) <= _allowed(command):
                chain.append(command)
                break
        else:
            chains.append([command])
    return chains


def _allowed(command: str) -> set[str]:
    return set(MAY_LOAD[command].split())


@pytest.mark.parametrize("commands", _chains(), ids=lambda chain: chain[-1])
def test_a_command_loads_no_more_than_its_work_takes(commands: list[str], folder: Path) -> None:
    code = (
        "import sys\nfrom runner.cli import main as cli\n"
        f"cli._leave, heavy, found = sys.exit, set({HEAVY!r}), []\n"
        "for command in sys.argv[1:]:\n"
        "    sys.argv[1:] = command.split()\n"
        "    try:\n"
        "        cli.main()\n"
        "    except SystemExit:\n"
        "        found.append(sorted(heavy & set(sys.modules)))\n"
        "print(found, file=sys.stderr)"
    )
    found = literal_eval(run(code, *commands, within=folder))
    for command, loaded in zip(commands, found, strict=True):
        assert set(loaded) <= _allowed(command), command
