"""Opening a plan's guards: in the plan's order, with nothing that they do not need."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from runner.adapters.guards import Flag, open_guards
from runner.adapters.guards_http import Github, Http
from runner.errors import PreflightRefused
from runner.execution.ports import GuardUnanswered, Hold
from runner.model import CommandGuard, FileGuard, GithubGuard, GuardSpec, HttpGuard, SqlGuard

ENV = {"GITHUB_TOKEN": "t", "BACKFILL_DATABASE_URL": "sqlite://"}


def test_guards_keep_the_plans_order_and_have_names_for_people(tmp_path: Path) -> None:
    specs: list[GuardSpec] = [
        FileGuard("stop/hold.flag"),
        HttpGuard("https://me:pw@x.test:8443/ready?token=1"),
        SqlGuard("select 1"),
        CommandGuard(("./bin/may-send.sh", "--strict")),
        GithubGuard(1),
    ]

    async def main() -> list[str]:
        async with open_guards(specs, ENV, tmp_path) as guards:
            return [guard.name for guard in guards]

    assert asyncio.run(main()) == [
        "file hold.flag",
        "http x.test:8443/ready",
        "sql",
        "command may-send.sh",
        "github",
    ]


def test_one_client_serves_all_and_is_closed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    async def close(self: httpx.AsyncHTTPTransport) -> None:
        closed.append(self)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "aclose", close)

    async def main() -> None:
        specs: list[GuardSpec] = [GithubGuard(1), HttpGuard("https://x.test/")]
        async with open_guards(specs, ENV, tmp_path) as (github, http):
            assert isinstance(github, Github)
            assert isinstance(http, Http)
            assert github.client is http.client
            assert not closed
        assert closed

    asyncio.run(main())


@pytest.mark.parametrize(
    ("spec", "name"),
    [(GithubGuard(1), "GITHUB_TOKEN"), (SqlGuard("select 1"), "BACKFILL_DATABASE_URL")],
)
def test_a_missing_variable_is_refused_and_what_was_opened_is_closed(
    tmp_path: Path, spec: GuardSpec, name: str
) -> None:
    async def main() -> None:
        async with open_guards([HttpGuard("https://x.test/"), spec], {}, tmp_path):
            raise AssertionError("not to be reached")

    with pytest.raises(PreflightRefused) as error:
        asyncio.run(main())
    assert name in str(error.value.hint)


def test_files_and_programs_need_neither_http_nor_a_database(tmp_path: Path) -> None:
    code = (
        "import asyncio, json, sys\n"
        "from pathlib import Path\n"
        "from runner.adapters.guards import open_guards\n"
        "from runner.model import CommandGuard, FileGuard\n"
        "async def main():\n"
        "    specs = [FileGuard('a'), CommandGuard(('true',))]\n"
        "    async with open_guards(specs, {}, Path()) as guards:\n"
        "        assert [await guard.ask() for guard in guards] == [None, None]\n"
        "asyncio.run(main())\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert not {"httpx", "sqlalchemy", "psycopg"} & set(json.loads(done.stdout))


def test_a_flag_holds_while_it_is_there_whatever_it_is(tmp_path: Path) -> None:
    def ask(path: Path) -> Hold | None:
        return asyncio.run(Flag(path).ask())

    flag = tmp_path / "hold.flag"
    held = Hold("`hold.flag` exists", 1.0)
    assert ask(flag) is None
    flag.symlink_to(tmp_path / "nowhere")
    assert ask(flag) == held
    flag.unlink()
    flag.mkdir()
    assert ask(flag) == held
    flag.rmdir()
    assert ask(flag) is None
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "hold.flag", tmp_path / ("x" * 300), tmp_path / "\0"):
        with pytest.raises(GuardUnanswered):
            ask(path)


def test_a_flags_path_is_under_the_plans_folder_unless_it_is_absolute(tmp_path: Path) -> None:
    async def main() -> list[Hold | None]:
        specs = [FileGuard("hold.flag"), FileGuard(str(tmp_path / "other.flag"))]
        async with open_guards(specs, {}, tmp_path / "plans") as guards:
            return [await guard.ask() for guard in guards]

    (tmp_path / "plans").mkdir()
    assert asyncio.run(main()) == [None, None]
    (tmp_path / "plans" / "hold.flag").touch()
    (tmp_path / "other.flag").touch()
    assert asyncio.run(main()) == [
        Hold("`hold.flag` exists", 1.0),
        Hold("`other.flag` exists", 1.0),
    ]
