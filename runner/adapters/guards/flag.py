"""A file that holds the run back while it exists."""

from __future__ import annotations

from pathlib import Path

from runner.execution.ports import GuardUnanswered, Hold
from runner.model import frozen

_AGAIN = 1.0  # seconds


@frozen
class Flag:
    path: Path

    @property
    def name(self) -> str:
        return f"file {self.path.name}"

    async def ask(self) -> Hold | None:
        try:
            self.path.lstat()  # a link to nowhere is a flag too
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GuardUnanswered(error.strerror or "it cannot be looked at") from None
        except ValueError:  # a zero byte in the path
            raise GuardUnanswered("it cannot be looked at") from None
        return Hold(f"`{self.path.name}` exists", _AGAIN)
