"""Notify hooks of runs: JSON for any webhook, and Slack's own format.

A hook's URL is a key: no message contains it, nor the name of its host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.errors import TargetError
from runner.model import IN_WORDS, Hook
from runner.spec.urls import is_http

if TYPE_CHECKING:
    from runner.adapters.http import Client

_SECONDS = 3.0  # for one try
_LONGEST = 500  # characters of a message in Slack; a block takes 3,000
_LATEST = 3_600.0  # seconds: the longest wait that a server may ask for


class Undelivered(Exception):
    """The reason, without the URL. `passing`: another try may succeed, after `wait` seconds if the
    server asks for that."""

    def __init__(self, why: str, *, passing: bool = False, wait: float = 0.0) -> None:
        super().__init__(why)
        self.passing, self.wait = passing, wait


def url_problem(hook: Hook, environ: Mapping[str, str]) -> str | None:
    """Return what is wrong with the URL in its variable."""
    url = environ.get(hook.variable, "").strip()
    if not url:
        return f"{hook.variable} is not set"
    return None if is_http(url) else f"{hook.variable} is not a URL"


async def post(
    client: Client, hook: Hook, body: Mapping[str, Any], environ: Mapping[str, str]
) -> None:
    """Try once; the variable must hold a URL. Raises `Undelivered`."""
    import orjson

    from runner.adapters.http import Unanswered, retry_after

    url = environ[hook.variable].strip()
    content = orjson.dumps(slack(body) if hook.kind == "slack" else body)
    headers = {"content-type": "application/json"}
    try:
        response, _ = await client.exchange(
            "POST", url, seconds=_SECONDS, unread=True, content=content, headers=headers
        )
    except (Unanswered, TargetError) as error:  # its message contains the host
        passing = isinstance(error, Unanswered)
        raise Undelivered("it does not answer", passing=passing) from None
    if not response.is_success:
        status, wait = response.status_code, retry_after(response.headers) or 0.0
        passing = status in (408, 429) or status >= 500
        raise Undelivered(f"it answers {status}", passing=passing, wait=min(wait, _LATEST))


def slack(body: Mapping[str, Any]) -> dict[str, Any]:
    """Format a notification for Slack; `text` is what a phone shows of it."""
    place = ": ".join(filter(None, (body["environment"], body["target"])))
    head = f"Backfill {body['plan']} → {place}: {_what(body)}"
    lines = [f"*{_plain(head)}*", _plain(_figures(body["totals"]))]
    if failure := body["failure"]:
        told = f"{failure['operation']}, {failure['item']}: {failure['message']}"
        lines.append(_plain(f"first failure: {told}"))
    if reason := body["reason"]:
        lines.append(_plain(f"why: {reason}"))
    about = f"run {body['run_id']}"
    if link := body["link"]:
        about += f"  ·  <{_plain(link)}|look at it>"
    return {
        "text": _plain(head),
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": about}]},
        ],
    }


def _what(body: Mapping[str, Any]) -> str:
    match body["event"]:
        case "held":
            return f"held since {body['since'][11:16]} UTC"
        case "failed":
            return "the first failure"
        case "ended":
            return str(body["status"])
        case _:
            return "started"


def _figures(totals: Mapping[str, int]) -> str:
    accepted = [("accepted", "accepted")]
    told = (
        f"{totals[name]:,} {word}" for name, word in [*accepted, *IN_WORDS.items()] if totals[name]
    )
    return ", ".join([f"{totals['planned']:,} planned", *told])


def _plain(text: str) -> str:
    """Escape Slack's three special characters, on one line of limited length."""
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
