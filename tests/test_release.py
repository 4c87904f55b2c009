"""What a release is made of: its version, its notes, its locks, its image."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from runner.version import __version__

ROOT = Path(__file__).parents[1]
PROJECT: Any = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CHANGELOG = """\
# Changelog

## [Unreleased]

## [1.2.3] - 2026-11-28

### Added

- One thing.

## [1.2.2] - 2026-11-01

- Another.

[1.2.3]: https://example.com
"""


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci/release.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notes_are_the_changelogs_section(release: ModuleType) -> None:
    assert release.notes(CHANGELOG, "1.2.3") == "### Added\n\n- One thing.\n"
    assert release.notes(CHANGELOG, "1.2.2") == "- Another.\n"


@pytest.mark.parametrize(
    ("tag", "version", "word"),
    [("v1.2.3", "1.2.4", "version.py"), ("1.2.3", "1.2.3", "tag"), ("v1.2.1", "1.2.1", "section")],
)
def test_a_tag_that_is_not_the_version_or_has_no_notes_is_refused(
    release: ModuleType, tag: str, version: str, word: str
) -> None:
    assert word in release.fault(tag, version, CHANGELOG)
    assert release.fault("v1.2.3", "1.2.3", CHANGELOG) is None


def test_nothing_is_released_that_the_changelog_does_not_know() -> None:
    command = [sys.executable, str(ROOT / ".ci/release.py"), "check", "v0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert __version__ in done.stderr


def locked(name: str) -> dict[str, str]:
    text = (ROOT / ".ci/lock" / name).read_text("utf-8")
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==(\S+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("image.txt", ["mcp", "postgres"]),
        ("dev.txt", ["mcp", "postgres", "docs", "test", "dev", "inngest"]),
    ],
)
def test_a_lock_has_what_the_package_wants(name: str, extras: list[str]) -> None:
    """`.ci/lock/update` writes it."""
    versions = locked(name)
    wanted = [*PROJECT["dependencies"]]
    for extra in extras:
        wanted += PROJECT["optional-dependencies"][extra]
    missing = [
        str(one)
        for one in map(Requirement, wanted)
        if canonicalize_name(one.name) != "backfill"
        and not one.specifier.contains(versions.get(canonicalize_name(one.name), "0"))
        and (one.marker is None or one.marker.evaluate(default_environment()))  # type: ignore[arg-type]
    ]
    assert missing == []


def test_the_image_installs_what_is_locked_and_runs_as_nobody() -> None:
    lines = (ROOT / ".ci/image/Dockerfile").read_text("utf-8").splitlines()
    last = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM ")) :]
    (user,) = [line.split()[1] for line in last if line.startswith("USER ")]
    assert all(int(part) > 1000 for part in user.split(":"))
    assert any("--require-hashes" in line for line in lines)
    assert "# via" not in (ROOT / ".ci/lock/image.txt").read_text("utf-8")
    hashes = (ROOT / ".ci/lock/image.txt").read_text("utf-8").count("--hash=sha256:")
    assert hashes > len(locked("image.txt"))


def test_every_supported_python_is_tried_on_every_system() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    named = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if ":: 3." in one]
    assert named[0] == PROJECT["requires-python"].removeprefix(">=")
    listed = ", ".join(f'"{one}"' for one in named)
    assert f"python: [{listed}]" in text
    assert "os: [ubuntu-latest, macos-latest]" in text
