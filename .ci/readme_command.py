"""Print the README's N-th set-up command: the N-th ```sh block under "Quickstart"."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def command(number: int) -> str:
    readme = Path(__file__).parents[1] / "README.md"
    blocks: list[str] = re.findall(
        r"^```sh\n(.*?)^```", readme.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return blocks[number - 1].strip()


if __name__ == "__main__":
    print(command(int(sys.argv[1])))  # noqa: T201
