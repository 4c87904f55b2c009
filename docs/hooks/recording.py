"""Makes what README opens with, from real runs: `python docs/hooks/recording.py`.

`docs/images/terminal.svg` is what a terminal shows of the quickstart, with the run's ids and times
put in place. `docs/images/run.png` is the page of a run of which some events failed, in this
machine's Chromium; what it is labelled with is in `docs/images/run.txt`.
tests/docs/test_recording.py makes both anew and compares the words: each machine's browser draws
the same page otherwise.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs/images"
COMMAND = "backfill run plans/quickstart/plan.yaml"
COLUMNS = 84
_ID = re.compile("01[0-9A-Z]{24}")
_TOOK = re.compile(r"(?<=, in )[\d.]+m?s")
_THEME = TerminalTheme(
    (22, 25, 29), (232, 235, 239),
    [(59, 66, 74), (255, 145, 137), (111, 214, 152), (240, 192, 96), (138, 184, 255),
     (210, 160, 250), (110, 210, 220), (232, 235, 239)],
)  # fmt: skip
# Rich's own asks the network for its font.
_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
  aria-label="A terminal: backfill run plans/quickstart/plan.yaml">
<style>
.{unique_id}-matrix {{
  font: {char_height}px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  white-space: pre;
}}
{styles}
</style>
<rect fill="#16191d" width="{width}" height="{height}" rx="10"/>
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def terminal() -> str:
    """A picture of the quickstart's run, with the same ids and times whenever it is made."""
    with tempfile.TemporaryDirectory() as folder:
        ignored = shutil.ignore_patterns("*.db*", "__pycache__")
        shutil.copytree(ROOT / "plans/quickstart", f"{folder}/plans/quickstart", ignore=ignored)
        shown = _run_at_a_terminal(COMMAND.split()[1:], folder)
    shown = _TOOK.sub("400ms", shown)
    ids = iter(f"01M88T89{number:018}" for number in range(100))
    known: dict[str, str] = {}
    shown = _ID.sub(lambda found: known.setdefault(found[0], next(ids)), shown)
    console = Console(
        file=io.StringIO(),
        record=True,
        width=COLUMNS,
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(Text.assemble(("$ ", "bold green"), COMMAND))
    console.print(Text.from_ansi(shown))
    svg = console.export_svg(theme=_THEME, code_format=_SVG, unique_id="terminal")
    svg = re.sub(r' clip-path="[^"]*"', "", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def _run_at_a_terminal(arguments: list[str], folder: str) -> str:
    """What the command prints as its result; how far it is goes to stderr, and is not of it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "runner", *arguments],
        cwd=folder,
        env={**_clean(), "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            read = os.read(ours, 65_536)
        except OSError:  # Linux says so that nobody writes any more
            read = b""
        if not read:
            break
        printed += read
    os.close(ours)
    if status := process.wait():
        raise SystemExit(f"{COMMAND} ended with {status}")
    return printed.decode().replace("\r\n", "\n").strip()


def _clean() -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "PYTHONPATH", "SYSTEMROOT")
    return {name: os.environ[name] for name in kept if name in os.environ}


_PLAN = """\
apiVersion: backfill/v1
kind: BackfillPlan
metadata: {{name: onboard-acme, owner: data-platform, reason: "a new workspace"}}
workspace: acme
repos: [{repos}]
operations: [repository-sync, workspace-aggregation]
batch_size: 10
delay: {delay}
on_failure: continue
handlers: {{capture/repository.sync: "jobs:sync", workspace/aggregate: "jobs:aggregate"}}
"""
_JOBS = """\
import time


def sync(event):
    number = int(event["data"]["repo"].rpartition("-")[2])
    time.sleep((0.1 + number % 7 / 10) * {pace})
    if number % 13 == 4:
        raise ValueError(f"GitHub answers 502 for acme/{{event['data']['repo']}}: Bad gateway")


def aggregate(event):
    time.sleep(0.5 * {pace})
"""
_STARTED_BY = re.compile(r"(?<=started by )[^<]+")
_LABEL = re.compile(r'<(h\d|dt|th|a class="chip|span class="key)[^>]*>(.*?)</', re.DOTALL)


def report(folder: Path, *, repos: int, pace: float) -> str:
    """The page of a run of which some events failed; `pace`: seconds between its batches."""
    names = ", ".join(f"acme/service-{number}" for number in range(repos))
    plan = _PLAN.format(repos=names, delay=f"{pace * 1000:.0f}ms")
    (folder / "plan.yaml").write_text(plan, encoding="utf-8")
    (folder / "jobs.py").write_text(_JOBS.format(pace=pace), encoding="utf-8")
    for command in (["run", "plan.yaml"], ["report", "--html", "run.html"]):
        subprocess.run(  # noqa: S603 - our own commands
            [sys.executable, "-m", "runner", *command],
            cwd=folder, env=_clean(), check=False, capture_output=True,
        )  # fmt: skip
    html = (folder / "run.html").read_text(encoding="utf-8")
    return _STARTED_BY.sub("anna@laptop (process 4711)", html)


def labels(html: str) -> str:
    """What a page's headings, figures, columns and filters are called, a line each."""
    found = (re.sub(r"<[^>]*>?|[\d,]+|\s+", " ", text).strip() for _, text in _LABEL.findall(html))
    return "\n".join(dict.fromkeys(filter(None, found))) + "\n"


def picture(html: str, file: Path) -> None:
    """The page at its top."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder, "run.html")
        page.write_text(html, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 860})
        opened.goto(page.as_uri())
        opened.screenshot(path=file)
        browser.close()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "terminal.svg").write_text(terminal(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        html = report(Path(folder), repos=60, pace=1)
    (IMAGES / "run.txt").write_text(labels(html), encoding="utf-8")
    picture(html, IMAGES / "run.png")


if __name__ == "__main__":
    main()
