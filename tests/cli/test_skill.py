"""`backfill skill`; tests/docs runs the commands of the skill, as those of every page."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from runner.cli.main import COMMANDS
from runner.spec.schema import published
from tests.types import Backfill


def test_the_skill_is_installed_with_all_that_it_refers_to(
    backfill: Backfill, tmp_path: Path
) -> None:
    result = backfill("skill", "--install", tmp_path / "skills")
    assert result.status == 0, result.err
    place = tmp_path / "skills" / "backfill"
    text = (place / "SKILL.md").read_text("utf-8")
    assert text == backfill("skill").out
    _, head, body = text.split("---\n", 2)
    named = yaml.safe_load(head)
    assert named["name"] == place.name == "backfill"
    assert len(named["description"]) < 1024
    assert len(body.splitlines()) < 100, "what is longer stands in the references"
    links = re.findall(r"\]\((.+?)\)", body)
    files = {path.relative_to(place).as_posix() for path in place.rglob("*.md")}
    assert set(links) == files - {"SKILL.md"}


def test_its_references_are_what_the_program_says(backfill: Backfill, tmp_path: Path) -> None:
    backfill("skill", "--install", tmp_path)
    stale = tmp_path / "backfill" / "reference" / "commands.md"
    stale.write_text("of an earlier version\n", "utf-8")
    assert backfill("skill", "--install", tmp_path).status == 0
    commands = stale.read_text("utf-8")
    assert [name for name in COMMANDS if f"\n## backfill {name}\n" not in commands] == []
    assert "--max-in-flight" in commands
    for name in ("plan", "catalog", "project"):
        page = (stale.with_name(f"{name}.md")).read_text("utf-8")
        keys = published(f"{name}.v1")["properties"]
        assert [key for key in keys if f"`{key}`" not in page] == []


def test_a_folder_that_is_a_file_is_refused(backfill: Backfill, tmp_path: Path) -> None:
    (tmp_path / "backfill").write_text("mine\n", "utf-8")
    result = backfill("skill", "--install", tmp_path)
    assert result.status == 2
    assert (tmp_path / "backfill").read_text("utf-8") == "mine\n"
