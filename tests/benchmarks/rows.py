"""A limit: ``rows.py FILE`` reads a data file by the standard library, writes three events of each
row as JSON, and computes one digest over all of their bytes."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path


def main(path: Path) -> None:
    digest = hashlib.sha256()
    for repo in _repositories(path):
        owner, _, name = repo.partition("/")
        for event in (
            {"name": "capture/repository.sync", "data": {"owner": owner, "repo": name}},
            {
                "name": "embeddings/process.repository",
                "data": {"repository": repo, "batch_size": 100, "days": 90},
            },
            {"name": "repository/aggregate", "data": {"repository": repo}},
        ):
            digest.update(json.dumps(event).encode())
    print(digest.hexdigest())


def _repositories(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            rows = csv.reader(file)
            next(rows)
            for row in rows:
                yield row[0]
        else:
            for line in file:
                yield json.loads(line)["repo"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
