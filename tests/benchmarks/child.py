"""Run one command and print what it took as JSON; SIGTERM kills the command.

This is a small process of its own: on Linux the peak memory of a child is at least what its parent
held when it started it, and the harness may hold a journal of a million events.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

_NOWHERE = [
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
]


def main(command: list[str]) -> None:
    began = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ, file_actions=_NOWHERE)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - began
    unit = 1e6 if sys.platform == "darwin" else 1e3  # ru_maxrss is in bytes there, else in KiB
    found = {
        "status": os.waitstatus_to_exitcode(status),
        "began": began,
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1.024) / unit,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
