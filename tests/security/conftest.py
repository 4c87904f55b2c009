from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

Measured: TypeAlias = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def measured() -> Iterator[Measured]:
    """Run `backfill ARGUMENTS` in a folder, in a child that is measured."""
    command = [sys.executable, "-m", "tests.security.measured"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin
        assert stdout

        def run(folder: Path, *arguments: str) -> dict[str, Any]:
            stdin.write(json.dumps({"folder": str(folder), "arguments": arguments}) + "\n")
            stdin.flush()
            answer: dict[str, Any] = json.loads(stdout.readline())
            return answer

        yield run
        stdin.close()
