"""Where the commands of a page run: it looks like a reader's machine to them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from runner.cli.main import ERROR_STATUS
from runner.errors import Incomplete
from tests.docs.pages import ROOT, Fence
from tests.ports import free_port
from tests.warm import CLIENT

# Commands that cannot run here, by their first word, and why. They succeed, and do nothing.
CANNOT_RUN = {
    "pip": "reaches a package index; the package is installed here already",
    "uv": "reaches a package index; the package is installed here already",
    "uvx": "reaches a package index; the package is installed here already",
    "pipx": "reaches a package index; the package is installed here already",
    "npx": "reaches a package index, for Inngest's own server",
    "gh": "reaches GitHub",
    "pytest": "would run this test in itself",
    "inngest-worker": "registers with Inngest's own server, which is not there",
}
# Plans that pages name and that a reader is assumed to have.
ASSUMED = dict.fromkeys(
    ("plan.yaml", "old.yaml", "new.yaml", "plans/refresh.yaml"),
    "plans/refresh-after-schema-change.yaml",
)
PATIENCE = 180  # seconds for a whole page
# Servers end as by SIGTERM; commands that apply end well, or stopped in the middle of a run.
ENDED = {0, ERROR_STATUS[Incomplete], 128 + signal.SIGTERM}

_COMMAND = """\
#!/bin/bash
# Our command; one that serves or watches until it is ended goes on behind the page's back.
case " $* " in
  *" --help "* | *" --once "* | *" --list "*) ;;
  " ui "* | " dev "* | " serve "*) set -- "$@" --port "$SANDBOX_PORT"; behind=1 ;;
  " sync "* | " status "*" --watch "*) behind=1 ;;
esac
if [ -z "${behind:-}" ]; then exec "$SANDBOX_PYTHON" -I -S "$SANDBOX/client.py" "$@"; fi
place=$(mktemp -d "$SANDBOX/behind.XXXXXX")
(
  "$SANDBOX_PYTHON" -I -S "$SANDBOX/client.py" "$@" >"$place/output" 2>&1 &
  echo $! >"$place/pid"
  wait $!
  echo $? >"$place/ended"
  mv "$place/ended" "$place/status"
) >/dev/null 2>&1 &
until [ -s "$place/output" ] || [ -e "$place/status" ]; do sleep 0.02; done
case "$1" in
  ui | dev | serve)
    until (: <"/dev/tcp/127.0.0.1/$SANDBOX_PORT") 2>/dev/null || [ -e "$place/status" ]; do
      sleep 0.02
    done ;;
esac
cat "$place/output"
if [ -e "$place/status" ]; then exit "$(cat "$place/status")"; fi
"""
_PYTHON = """\
#!/bin/bash
case "${1:-}" in *inngest_worker.py) exec inngest-worker ;; esac
exec "$SANDBOX_PYTHON" "$@"
"""
_DATABASE = """\
#!/bin/sh
# What others do to the application's database, by its owner.
exec "$SANDBOX_PYTHON" -c 'import os, psycopg, sys
with psycopg.connect(os.environ["WORKER_DATABASE_URL"]) as db: db.execute(sys.argv[1])' "$1"
"""
_PAUSE = re.compile(r"\bdelay: \d+s")  # nobody waits for the workers of these plans
_EXITS = re.compile(r"^(?P<command>.*\S)\s+#.*\bexits with (?P<status>\d+)", re.MULTILINE)
_CHECKED = """\
set +e
{command}
status=$?
set -e
if [ $status != {status} ]; then echo "$status is not {status}" >&2; exit 1; fi\
"""


class Sandbox:
    """A checkout with a remote, a home, and a PATH with this tree's `backfill`."""

    def __init__(
        self, folder: Path, page: Sequence[Fence], url: str, env: Mapping[str, str]
    ) -> None:
        self.folder, self.work, self.page = folder, folder / "work", page
        self.work.mkdir()
        (folder / "home").mkdir()
        self._tools()
        self.port = free_port()
        if any("backfill dev" in fence.text for fence in page if fence.language == "sh"):
            url = f"http://127.0.0.1:{self.port}"  # the page starts its own server
        self.env = {
            **os.environ,
            **_identity(folder / "home"),
            "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SANDBOX": str(folder),
            "SANDBOX_PYTHON": sys.executable,
            "SANDBOX_PORT": str(self.port),
            "INNGEST_DEV": url,
            "INNGEST_EVENT_API_BASE_URL": url,
            "INNGEST_API_BASE_URL": url,
            "INNGEST_EVENT_KEY": "an-event-key",
            "INNGEST_SIGNING_KEY": "7e57" * 8,
            "BACKFILL_UI_TOKEN": "a-token-of-more-than-16-characters",
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            **env,
        }

    def copy(self, names: Sequence[str]) -> None:
        """Copy the plans that a page names; of a folder below `plans`, all files."""
        plans = ROOT / "plans"
        for name in names:
            source, target = ROOT / ASSUMED.get(name, name), self.work / name
            if plans in source.parent.parents and source.parent.is_dir():
                ignored = shutil.ignore_patterns("*.db*", "__pycache__")
                shutil.copytree(source.parent, target.parent, ignore=ignored, dirs_exist_ok=True)
            elif source.is_file():
                target.parent.mkdir(exist_ok=True)
                shutil.copy(source, target)

    def commit(self) -> None:
        subprocess.run(
            ["bash", "-euc", _COMMIT], cwd=self.work, env=self.env, check=True, capture_output=True
        )

    def follow(self) -> None:
        """Run the page's commands in one shell session, with the files that it says to write;
        assert that each ends as the page says, and that background commands end as by SIGTERM."""
        try:
            done = subprocess.run(
                ["bash", "-eu", "-c", self._script()],
                cwd=self.work,
                env=self.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        finally:
            ended = self._end()
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        assert set(ended.values()) <= ENDED, ended

    def _end(self) -> dict[str, int]:
        """Return the output and exit status of each background command."""
        found = {}
        for place in sorted(self.folder.glob("behind.*")):
            if not (place / "status").exists():
                with suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(int((place / "pid").read_text()), signal.SIGTERM)
            latest = time.monotonic() + 20
            while not (place / "status").exists():
                assert time.monotonic() < latest, (place / "output").read_text()
                time.sleep(0.02)
            found[(place / "output").read_text()] = int((place / "status").read_text())
        return found

    def _script(self) -> str:
        parts = [
            "trap 'echo \"at line $at\" >&2' ERR",
            "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
        ]
        for number, fence in enumerate(self.page):
            parts.append(f"at={fence.line}")
            if fence.title:
                source = self.folder / f"written.{number}"
                source.write_text(_PAUSE.sub("delay: 0s", fence.text), "utf-8")
                parts.append(f'mkdir -p "$(dirname "{fence.title}")"')
                parts.append(f'cp "{source}" "{fence.title}"')
            elif fence.language in ("sh", "meanwhile"):
                parts.append(
                    _EXITS.sub(lambda found: _CHECKED.format(**found.groupdict()), fence.text)
                )
        return "\n".join(parts)

    def _tools(self) -> None:
        shutil.copy(CLIENT, self.folder / "client.py")
        tools = self.folder / "bin"
        tools.mkdir()
        scripts = {name: f"#!/bin/sh\n# {reason}\n" for name, reason in CANNOT_RUN.items()}
        ours = {"backfill": _COMMAND, "python": _PYTHON, "database": _DATABASE}
        for name, script in {**scripts, **ours}.items():
            (tools / name).write_text(script, "utf-8")
            (tools / name).chmod(0o755)


# A repository of plans that a page has on GitHub is in the sandbox instead.
_COMMIT = """\
git config --global url."$SANDBOX/origin.git".insteadOf https://github.com/acme/plans
git init -q -b main
git init -q --bare ../origin.git
git remote add origin ../origin.git
touch README.md
git add .
git commit -q -m 'The plans'
git push -q -u origin main
"""


def _identity(home: Path) -> dict[str, str]:
    person = {"NAME": "A Reader", "EMAIL": "reader@example.com"}
    who = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in person.items()
    }
    return {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", **who}
