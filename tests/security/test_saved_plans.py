"""A saved plan that was edited and given a new checksum is refused with a message, within bounds.

A checksum shows that a file was damaged, not who made it: a pull request can bring its own.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.depth import some
from tests.security.commands import CATALOG, HEAD, run


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, warm: str) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    folder.joinpath("catalog.yaml").write_text(CATALOG, "utf-8")
    plan = HEAD + "catalog: catalog.yaml\nrepos: [acme/x, acme/y]\noperations: [sync]\n"
    folder.joinpath("plan.yaml").write_text(plan, "utf-8")
    done = run(warm, folder, "plan", "plan.yaml", "--out", "saved.json")
    assert done.status == 0, done.err
    return folder / "saved.json"


def checked(value: dict[str, Any]) -> bytes:
    value.pop("checksum")
    raw = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    value["checksum"] = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def put(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def edit(value: dict[str, Any]) -> None:
        *way, last = path
        inner: Any = value
        for name in way:
            inner = inner[name]
        inner[last] = to

    return edit


def block(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def packed(text: bytes) -> list[str]:
    return [block(zlib.compress(text))]


def bomb(piece: bytes) -> list[str]:
    """3 GiB in a file of 3 MiB: the data between two full flushes can be repeated."""
    packing = zlib.compressobj()
    first, again = (packing.compress(piece) + packing.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return [block(first + again * (3 << 10))]


MIB = 1 << 20
STAGE = ("plan", "stages", 0)
EVENT = b'"acme/x"\t{}'
EDITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a bomb of one event": lambda value: put("events", "1", to=bomb(b"0" * MIB))(value),
    "a bomb of tabs": lambda value: put("events", "1", to=bomb(b"\t" * MIB))(value),
    "a bomb of lines": lambda value: put("events", "1", to=bomb(b"\n" * MIB))(value),
    "what is not deflated": put("events", "1", to=[block(b"no")]),
    "what is not base64": put("events", "1", to=["%"]),
    "a block that is cut": put("events", "1", to=[block(zlib.compress(EVENT)[:-3])]),
    "a block too many": lambda value: value["events"]["1"].append(*packed(EVENT)),
    "an event too few": put("events", "1", to=packed(EVENT)),
    "a cell too many": put("events", "1", to=packed(EVENT + b"\n" + EVENT + b"\t1")),
    "a cell too few": put("events", "1", to=packed(EVENT + b"\n{}")),
    "no JSON": put("events", "1", to=packed(EVENT + b"\nacme\t{}")),
    "an item that is a number": put("events", "1", to=packed(EVENT + b"\n1\t{}")),
    "a payload that is a list": put("events", "1", to=packed(EVENT + b'\n"x"\t[]')),
    "a payload that is too large": put(
        "events", "1", to=packed(EVENT + b'\n"x"\t{"x":"' + b"0" * (3 * MIB) + b'"}')
    ),
    "no blocks": put("events", "1", to=[]),
    "no stage": put("events", to={}),
    "another stage": lambda value: value["events"].update({"9": value["events"].pop("1")}),
    "a stage of another number": put(*STAGE, "number", to=2),
    "a stage twice": lambda value: value["plan"]["stages"].append(value["plan"]["stages"][0]),
    "a huge count": put(*STAGE, "count", to=10**12),
    "a count below zero": put(*STAGE, "count", to=-1),
    "a fraction of an event": put(*STAGE, "count", to=1.5),
    "a batch of none": put(*STAGE, "pacing", "batch_size", to=0),
    "a delay below zero": put(*STAGE, "pacing", "delay", to=-1),
    "a canary below zero": put(*STAGE, "canary", to=-1),
    "an unknown wait": put(*STAGE, "wait", to="for ever"),
    "a time that is text": put("expires_at", to="tomorrow"),
    "a time after all years": put("expires_at", to=10**15),
    "a run's id that is a number": put("run_id", to=7),
    "a run's id that is a path": put("run_id", to="../../x"),
    "a target that is a list": put("target", to=["dev"]),
    "no address": put("address", to=None),
    "variables that are a list": put("variables", to=[1]),
    "a path with a zero byte": put("plan", "path", to="\0"),
    "an input with a zero byte": put("plan", "inputs", to=[["\0", "x"]]),
    "a reason that is a number": put("skipped", to=[["sync", "acme/x", 3]]),
    "a guard that nobody knows": put("plan", "guards", to=[["Guard", {}]]),
    "handlers that are a list": put("plan", "handlers", to=["x"]),
    "no plan": put("plan", to=None),
}


@pytest.mark.parametrize("name", some(EDITS, 20))
def test_an_edited_one_is_refused_in_words(
    name: str, saved: Path, tmp_path: Path, warm: str
) -> None:
    value = orjson.loads(saved.read_bytes())
    EDITS[name](value)
    edited = tmp_path / "edited.json"
    edited.write_bytes(checked(value))
    done = run(warm, saved.parent, "diff", str(edited), "plan.yaml")
    assert done.status == 5, done.err
    assert "has been changed since it was saved" in done.err


def test_an_edited_one_is_not_run(saved: Path, tmp_path: Path, warm: str) -> None:
    value = orjson.loads(saved.read_bytes())
    EDITS["an event too few"](value)
    tmp_path.joinpath("edited.json").write_bytes(checked(value))
    done = run(warm, saved.parent, "run", str(tmp_path / "edited.json"), "--yes")
    assert done.status == 5, done.err


def test_one_that_is_as_it_was_made_is_taken(saved: Path, warm: str) -> None:
    value = orjson.loads(saved.read_bytes())
    assert checked(dict(value)) == saved.read_bytes().strip()
    assert run(warm, saved.parent, "diff", "saved.json", "plan.yaml").status == 0
