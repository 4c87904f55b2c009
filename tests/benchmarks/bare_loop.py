"""The yardstick for sending: one keep-alive httpx client that posts recorded requests in a loop."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx


def main(url: str, folder: Path) -> None:
    requests = [
        (path.read_bytes(), path.with_suffix(".seed").read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    ]
    with httpx.Client(timeout=30) as client:
        for body, seed in requests:
            headers = {"content-type": "application/json", "x-inngest-event-id-seed": seed}
            client.post(url, content=body, headers=headers).raise_for_status()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
