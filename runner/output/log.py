"""What a worker writes down as it goes: a line an event, for people or as JSON."""

from __future__ import annotations

import json
import logging
import time

from runner.model import ExecutionPlan, RunHead, StageRecord
from runner.output.escape import visible
from runner.spec.secrets import redact


class TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{_moment(record)} {record.levelname.lower()} {_run(record)}{_message(record)}"


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _moment(record), "level": record.levelname.lower()}
        if run := getattr(record, "run", None):
            line["run"] = run
        return json.dumps({**line, "message": _message(record)})


class LogObserver:
    """Meets `runner.model.Observer`: it logs what a run notes."""

    def __init__(self, log: logging.Logger, run: str) -> None:
        self._log, self._run = log, {"run": run}

    def started(self, run_id: str, plan: ExecutionPlan | RunHead) -> None: ...

    def progress(self, progress: StageRecord) -> None:
        if progress.done:
            self._log.info("%s is done", progress.operation, extra=self._run)

    def note(self, message: str) -> None:
        self._log.info(message, extra=self._run)


def _moment(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{record.msecs:03.0f}Z"


def _run(record: logging.LogRecord) -> str:
    run = getattr(record, "run", None)
    return f"run {run}: " if run else ""


def _message(record: logging.LogRecord) -> str:
    return visible(redact(record.getMessage()))
