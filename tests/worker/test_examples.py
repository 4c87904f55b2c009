"""The example files in `docs/examples/worker`: what they name exists and is served."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from configparser import RawConfigParser
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
import yaml
from packaging.requirements import Requirement
from psycopg.pq import Conninfo

from runner.cli.main import cli
from runner.cli.run import run_command
from runner.cli.serve import serve_command
from tests.worker.engine import PATH
from tests.worker.test_serve import Site

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "examples" / "worker"
SERVER = {"INNGEST_EVENT_KEY", "INNGEST_SIGNING_KEY"}  # variables that `inngest start` reads

COMMANDS = click.Context(cli, **cli.context_settings)


def parsed(arguments: list[str], folder: Path) -> dict[str, Any]:
    """Parse the arguments of `backfill serve`, whose plans are in `folder`."""
    assert [Path(arguments[0]).name, arguments[1]] == ["backfill", "serve"]
    said = [str(folder) if word.endswith("plans") else word for word in arguments[2:]]
    return serve_command.make_context("serve", said, parent=COMMANDS).params


def dockerfile(instruction: str) -> list[str]:
    lines = (FOLDER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{instruction} ")]


def unit() -> RawConfigParser:
    found = RawConfigParser()
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(FOLDER / "backfill-worker.service", encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def site(tmp_path: Path, warm: str) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack, warm)


def test_the_compose_file_is_one_by_its_specification() -> None:
    command = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]
    command[0] = str(Path(sys.executable).with_name(command[0]))
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_server_is_told_where_the_workers_are(compose: Any) -> None:
    services = compose["services"]
    command = shlex.split(services["inngest"]["command"])
    assert command[:2] == ["inngest", "start"]
    url = urlsplit(command[command.index("--sdk-url") + 1])
    assert url.hostname in services
    assert url.path == PATH
    (port,) = (option.default for option in serve_command.params if option.name == "port")
    assert [url.port] == [port] == list(map(int, dockerfile("EXPOSE")))


def test_every_variable_is_one_that_somebody_reads(compose: Any) -> None:
    services = compose["services"]
    assert set(services["inngest"]["environment"]) == SERVER
    libpq = {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "runner").rglob("*.py"))
    for name in services["worker"]["environment"]:
        assert name in libpq or f'"{name}"' in source, name
    told = {name for one in services.values() for name in one["environment"]}
    assert SERVER | {"INNGEST_BASE_URL", "BACKFILL_STATE"} <= told
    assert set(compose["volumes"]) == {
        volume.partition(":")[0] for one in services.values() for volume in one.get("volumes", ())
    }


def test_a_service_waits_for_a_database_that_takes_connections_and_comes_back(compose: Any) -> None:
    """During its image's setup PostgreSQL answers only on its socket, and then restarts."""
    services = compose["services"]
    _, command, *asked = services["postgres"]["healthcheck"]["test"]
    assert command == "pg_isready"
    assert asked[asked.index("--host") + 1] == "127.0.0.1"
    for name, service in services.items():
        assert service["restart"] == "unless-stopped", name
    assert services["worker"]["init"] is True


def test_a_run_is_handed_over_to_the_server_that_the_worker_serves(compose: Any) -> None:
    """On another server it would end as incomplete: the worker sends to its own."""
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    (said,) = [line for line in text.splitlines() if "backfill run" in line]
    service, *command = shlex.split(said.partition("docker compose exec ")[2])
    assert command[:2] == ["backfill", "run"]
    target = run_command.make_context("run", command[2:], parent=COMMANDS).params["target"]
    assert target == compose["services"][service]["environment"]["INNGEST_BASE_URL"]


def test_the_image_installs_this_project_with_what_a_worker_needs() -> None:
    (argument,) = dockerfile("ARG")
    name, _, default = argument.partition("=")
    assert f'"${name}"' in dockerfile("RUN")[0]
    wanted = Requirement(shlex.split(default)[0])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert wanted.name == project["name"]
    assert wanted.extras == {"inngest", "postgres"} <= set(project["optional-dependencies"])
    python = dockerfile("FROM")[0].removeprefix("python:").removesuffix("-slim")
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]


def test_the_image_starts_a_worker_that_others_reach_and_is_asked_how_it_is(
    tmp_path: Path, site: Site
) -> None:
    params = parsed(json.loads(dockerfile("CMD")[0]), tmp_path)
    assert (params["host"], params["plans"]) == ("0.0.0.0", (str(tmp_path),))  # noqa: S104
    (copied,) = dockerfile("COPY")
    assert copied.split()[1] == f"{dockerfile('WORKDIR')[0]}/plans"
    python, *arguments = json.loads(dockerfile("HEALTHCHECK")[0].partition(" ")[2])
    assert python == "python"

    def healthy(port: int) -> bool:
        command = [word.replace(":8322/", f":{port}/") for word in arguments]
        assert command != arguments
        done = subprocess.run([sys.executable, *command], capture_output=True, check=False)
        return done.returncode == 0

    worker = site.serve()
    port = int(site.engine.clients[0].base_url.port or 0)
    assert healthy(port)
    worker.kill()
    worker.wait()
    assert not healthy(port)


def test_the_unit_starts_a_worker_and_lets_it_end(tmp_path: Path) -> None:
    service = unit()["Service"]
    params = parsed(shlex.split(service["ExecStart"]), tmp_path)
    assert params["log_format"] == "json"
    from runner.app.serve import PATIENCE

    assert int(service["TimeoutStopSec"]) > PATIENCE


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze: the unit's syntax is not verified here")
    text = (FOLDER / "backfill-worker.service").read_text(encoding="utf-8")
    there = shlex.split(unit()["Service"]["ExecStart"])[0]
    copy = tmp_path / "backfill-worker.service"
    copy.write_text(text.replace(there, sys.executable), encoding="utf-8")
    done = subprocess.run([analyze, "verify", copy], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "backfill-worker" in line]
    assert (done.returncode, said) == (0, []), done.stderr
