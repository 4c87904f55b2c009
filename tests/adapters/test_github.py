"""What names the pull request to comment on."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.adapters.github import pull_request
from runner.errors import UsageError

ENV = {"GITHUB_TOKEN": "ghx", "GITHUB_REPOSITORY": "acme/plans", "GITHUB_SHA": "abc"}
NO_NUMBER = [
    *("", "[]", "5", "null", "[" * 100_000, '{"pull_request": "x"}', '{"pull_request": [1]}'),
    *('{"issue": 5}', '{"pull_request": {"number": true}}', '{"pull_request": {"number": -1}}'),
]


@pytest.mark.parametrize("text", NO_NUMBER, ids=range(len(NO_NUMBER)))
def test_an_event_without_a_number_is_none(tmp_path: Path, text: str) -> None:
    event = tmp_path / "event.json"
    event.write_text(text, encoding="utf-8")
    assert pull_request(ENV | {"GITHUB_EVENT_PATH": str(event)}).number is None
    event.write_text('{"pull_request": {"number": 7}}', encoding="utf-8")
    assert pull_request(ENV | {"GITHUB_EVENT_PATH": str(event)}).number == 7


@pytest.mark.parametrize("value", ["a\n", "a b", "é", "\udcff"])
@pytest.mark.parametrize("name", [*ENV, "GH_TOKEN"])
def test_what_no_such_variable_can_have_is_named_and_not_shown(name: str, value: str) -> None:
    env = {**ENV, "GITHUB_TOKEN": ""} if name == "GH_TOKEN" else ENV
    with pytest.raises(UsageError, match=f"^{name} has characters that it cannot have$"):
        pull_request({**env, name: value})
