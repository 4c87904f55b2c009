"""Print the README's N-th set-up command: the N-th ```sh block under "Quickstart"."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def command(number: int) -> str:
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return blocks[number - 1].strip()


if __name__ == "__main__":
    print(command(int(sys.argv[1])))  # noqa: T201
