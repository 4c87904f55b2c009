"""``python -m tests.mutation`` changes one decision of the code at a time, and counts which changes
the tests notice: all changes of the deciding files, and a seeded sample of the rest.

It is one session of pytest, in one process. First each test runs under coverage, to learn which
lines it runs and how long it takes. Then, for each change, a fork of that process puts the changed
code into the existing functions, and runs the tests that reach it, the cheapest first, until one
fails. Nothing is imported, collected or written, so a change costs only its tests.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random
from types import CodeType, FunctionType
from typing import Any

import coverage
import pytest
from hypothesis import Phase, settings

from tests.mutation.mutants import DECIDING, FOLDERS, ROOT, Mutant, equivalents, holds, mutants

TESTS = (
    "execution",
    "planning",
    "app",
    "adapters/journal",
    "simulation/test_simulation.py",
    "faults/test_stateful.py",
    "faults/test_schedules.py",
    "spec",
    "output",
    "worker",
    "cli",
)
SAMPLE = 1_000
_PROCESSES = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system")
_MEMORY = 4 << 30


class Judge:
    """A pytest plugin that runs the collected tests against each mutant."""

    def __init__(self, asked: Sequence[Mutant], seconds: float, folder: Path) -> None:
        self.asked = asked
        self._most = seconds
        self.lived: list[Mutant] = []
        self._folder = folder
        self._failed = False
        self._learning = self._started = False
        self._seconds: dict[pytest.Item, float] = {}
        self._lines: dict[str, dict[int, list[str]]] = {}
        self._kills: dict[str, Counter[str]] = defaultdict(Counter)

    def pytest_collection(self) -> None:
        """Make Hypothesis try the same inputs each time, without shrinking."""
        phases = (Phase.explicit, Phase.generate)
        profile = {"derandomize": True, "database": None, "phases": phases, "deadline": None}
        settings.register_profile("mutation", settings.get_profile("depth"), **profile)
        settings.load_profile("mutation")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed = self._failed or report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        session.config.pluginmanager.unregister(name="terminalreporter")
        sys.addaudithook(self._refuse_processes)
        self._learn(session.items)
        gc.unfreeze()  # undo the freeze of tests/conftest.py: functions are looked up by gc here
        live = _functions()
        assert live
        gc.collect()
        gc.freeze()
        began = time.monotonic()
        for number, mutant in enumerate(self.asked, 1):
            by = self._noticed(mutant, live.get(mutant.file, ()))
            if by is None:
                self.lived.append(mutant)
                print(f"lives: {mutant}", flush=True)
            if number % 25 == 0 or number == len(self.asked):
                spent = (time.monotonic() - began) / number
                killed = number - len(self.lived)
                print(f"{killed:,} of {number:,} are noticed, {spent:.1f}s each", flush=True)
        return True

    def _refuse_processes(self, event: str, given: Any) -> None:
        """Exclude tests that start processes, which would run unchanged code; git is allowed, as it
        runs none of ours."""
        if self._learning and event in _PROCESSES and not _is_git(*given[:1]):
            self._started = True
            raise PermissionError("a test that starts a process is not asked")

    def _learn(self, items: Sequence[pytest.Item]) -> None:
        began = time.monotonic()
        included = [str(ROOT / folder / "*") for folder in FOLDERS]
        traced = coverage.Coverage(data_file=None, include=included, config_file=False)
        outside: list[pytest.Item] = []
        failing: list[pytest.Item] = []
        for item, following in pairwise([*items, None]):
            assert item
            self._learning, self._started = True, False
            traced.start()
            traced.switch_context(item.nodeid)
            spent = self._run(item, following)
            traced.stop()
            self._learning = False
            if self._started:
                outside.append(item)
            elif self._failed:
                failing.append(item)
            else:
                self._seconds[item] = spent
            self._clear()
        data = traced.get_data()
        self._lines = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
        again = self._in_fork(self._unchanged).split("\n")  # a name may have spaces
        for item in [item for item in self._seconds if item.nodeid in again]:
            failing.append(item)
            del self._seconds[item]
        for item in failing:
            print(f"fails as it is, and is not asked: {item.nodeid}")
        print(
            f"{len(self._seconds):,} tests are asked; {len(outside):,} start processes "
            f"({time.monotonic() - began:.0f}s)",
            flush=True,
        )

    def _run(self, item: pytest.Item, following: pytest.Item | None) -> float:
        self._failed = False
        began = time.perf_counter()
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        return time.perf_counter() - began

    def _clear(self) -> None:
        """Remove the folders of finished tests."""
        for made in self._folder.glob("*"):
            shutil.rmtree(made, ignore_errors=True)

    def _unchanged(self) -> Iterable[str]:
        for item, following in pairwise([*self._seconds, None]):
            assert item
            self._run(item, following)
            if self._failed:
                yield item.nodeid

    def _noticed(self, mutant: Mutant, live: Sequence[FunctionType]) -> str | None:
        """Return the test that notices the mutant, or how its process ended; None if none does."""
        tests = self._tests(mutant)

        def changed() -> Iterable[str]:
            _replace(live, mutant.code())
            for item, following in pairwise([*tests, None]):
                assert item
                limit = 5 + 10 * self._seconds[item]
                signal.setitimer(signal.ITIMER_PROF, limit)
                signal.setitimer(signal.ITIMER_REAL, 10 * limit)
                self._run(item, following)
                if self._failed:
                    yield item.nodeid
                    return

        by = self._in_fork(changed)
        if by:
            self._kills[mutant.file][by] += 1
        return by or None

    def _tests(self, mutant: Mutant) -> list[pytest.Item]:
        lines = self._lines.get(str(ROOT / mutant.file), {})
        named = {name for line in mutant.lines for name in lines.get(line, ())}
        named = named or {name for line in mutant.statement for name in lines.get(line, ())}
        kills, room = self._kills[mutant.file], Path(mutant.file).parent.name
        tests = [item for item in self._seconds if item.nodeid in named]

        def rank(item: pytest.Item) -> float:
            """Rank tests that noticed changes of the file, and those of its room, first."""
            near = 1 if room in item.path.parts else 0.1
            return self._seconds[item] / (1 + kills[item.nodeid]) / near

        tests.sort(key=rank)
        spent = accumulate((self._seconds[item] for item in tests), initial=0.0)
        return [item for item, before in zip(tests, spent, strict=False) if before < self._most]

    def _in_fork(self, work: Any) -> str:
        """Return what the work says, or how its process ended."""
        reading, writing = os.pipe()
        sys.stdout.flush()
        if (child := os.fork()) == 0:
            try:
                os.close(reading)
                silent = os.open(os.devnull, os.O_RDWR)
                for stream in (0, 1, 2):
                    os.dup2(silent, stream)
                resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
                for signalled in (signal.SIGPROF, signal.SIGALRM):
                    signal.signal(signalled, signal.SIG_DFL)
                for said in work():
                    os.write(writing, f"{said}\n".encode())
                os._exit(0)
            finally:
                os._exit(1)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read().strip()
        _, status = os.waitpid(child, 0)
        self._clear()
        return said or (f"ended with {status}" if status else "")


def _is_git(program: object = "") -> bool:
    return Path(str(program)).name == "git"


def _functions() -> Mapping[str, Sequence[FunctionType]]:
    """Return all live functions of the package, by their file."""
    found: dict[str, list[FunctionType]] = defaultdict(list)
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename.startswith(f"{ROOT}/runner/"):
            found[str(Path(one.__code__.co_filename).relative_to(ROOT))].append(one)
    return found


def _replace(live: Sequence[FunctionType], module: CodeType) -> None:
    made: dict[object, CodeType] = {}
    left = [module]
    while left:
        code = left.pop()
        made[_name(code)] = code
        left.extend(inner for inner in code.co_consts if isinstance(inner, CodeType))
    for function in live:
        if _name(function.__code__) in made:  # generated methods are not in the source
            function.__code__ = made[_name(function.__code__)]


def _name(code: CodeType) -> object:
    """Identify code; two lambdas on a line differ by where they end."""
    return code.co_qualname, code.co_firstlineno, [*code.co_positions()][-1][1:]


def _chosen(of: Sequence[str], count: int, seed: int) -> tuple[Sequence[Mutant], Sequence[Mutant]]:
    """Return a sample of all mutants, and all deciding ones; or those asked for, as the sample."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))]
    found = [one for path in paths for one in mutants(str(path.relative_to(ROOT)))]
    known = equivalents()
    if gone := known.keys() - {one.key for one in found}:
        raise SystemExit(f"said to be equivalent, but there is no such change: {min(gone)}")
    made = [one for one in found if one.key not in known]
    if of:
        return [one for one in made if any(part in one.file for part in of)], ()
    deciding = [one for one in made if one.file in DECIDING]
    sample = Random(seed).sample(made, min(count, len(made)))  # noqa: S311
    return sample, deciding


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--count", type=int, default=SAMPLE, help="how large the sample is")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--of", action="append", default=[], help="files whose path has this")
    parser.add_argument("--seconds", type=float, default=120.0, help="of tests, for each change")
    parser.add_argument("tests", nargs="*", default=TESTS, help="below tests/")
    given = parser.parse_args()
    sample, deciding = _chosen(given.of, given.count, given.seed)
    with tempfile.TemporaryDirectory() as made:
        judge = Judge([*dict.fromkeys([*sample, *deciding])], given.seconds, Path(made, "tests"))
        tests = [str(ROOT / "tests" / test) for test in given.tests]
        how = ["-n", "0", "-qq", "-p", "no:cacheprovider", f"--basetemp={made}/tests", "--tb=no"]
        how += ["-W", "ignore:Module already imported"]
        if pytest.main([*how, *tests], plugins=[judge]):
            return 1
    for file in sorted({mutant.file for mutant in judge.lived}):
        print(f"{file}: {sum(one.file == file for one in judge.lived)} live")
    return int(not holds(sample, judge.lived))


if __name__ == "__main__":
    sys.exit(main())
