"""Real repositories, made by the tests."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A Tester"), ("EMAIL", "tester@example.com"))
}


@dataclass(frozen=True)
class Git:
    folder: Path

    @classmethod
    def init(cls, folder: Path) -> Git:
        folder.mkdir(parents=True, exist_ok=True)
        found = cls(folder)
        found("init", "--quiet", "--initial-branch", "main")
        return found

    def __call__(self, *arguments: str) -> str:
        env = {**os.environ, **_IDENTITY, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": ""}
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=env
        ).stdout.strip()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def commit(self, message: str = "a commit", *options: str) -> str:
        self("add", "--all")
        self("commit", "--quiet", "--allow-empty", "--message", message, *options)
        return self("rev-parse", "HEAD")
