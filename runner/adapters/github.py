"""Update one comment on a pull request instead of adding more.

``GET`` and ``POST /repos/{repo}/issues/{number}/comments``, ``PATCH
/repos/{repo}/issues/comments/{id}``, ``GET /repos/{repo}/commits/{sha}/pulls``, ``GET /user``:
GitHub's REST API, version 2022-11-28. The comment is recognised by a mark that is not displayed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import field
from typing import Any, TypeGuard
from urllib.parse import quote, urlsplit

import orjson

from runner.adapters.http import BlockingClient, Unanswered, open_blocking_client, parsed
from runner.errors import KeyRefused, TargetError, UsageError
from runner.model import frozen
from runner.spec.files import FileRefused, read_given

_ORIGIN = "https://api.github.com"
_MOST_BODY = 16 * 1024 * 1024  # bytes: a page of comments has at most 6 MiB
_PAGE = 100
_MOST_PAGES = 50
_TRIES = 3  # for a connection
_AGAIN = 1.0  # seconds between them
_ADDRESS = 500  # characters


@frozen
class PullRequest:
    """Where to comment, as read by `pull_request` from GitHub Actions."""

    origin: str
    repository: str
    number: int | None  # None: look it up by the commit
    commit: str
    token: str = field(repr=False)


def pull_request(env: Mapping[str, str]) -> PullRequest:
    """Read the variables and the event file that Actions sets. Raises `UsageError`."""
    token = env.get("GITHUB_TOKEN") or env.get("GH_TOKEN")
    repository = env.get("GITHUB_REPOSITORY", "")
    if not token or not repository:
        missing = "GITHUB_REPOSITORY" if token else "GITHUB_TOKEN"
        hint = (
            "in Actions: env: {GITHUB_TOKEN: ${{ github.token }}} and permissions: "
            "{pull-requests: write}"
        )
        raise UsageError(f"--comment needs {missing}, which is not set", hint=hint)
    tokens = "GITHUB_TOKEN" if env.get("GITHUB_TOKEN") else "GH_TOKEN"
    for name in (tokens, "GITHUB_REPOSITORY", "GITHUB_SHA"):
        value = env.get(name, "")
        if not (value.isascii() and value.isprintable() and " " not in value):
            hint = "set it as GitHub Actions does"
            raise UsageError(f"{name} has characters that it cannot have", hint=hint)
    number = _number(env.get("GITHUB_EVENT_PATH"))
    if number is None and not env.get("GITHUB_SHA"):
        raise UsageError(
            "--comment finds no pull request",
            hint="set GITHUB_EVENT_PATH or GITHUB_SHA, which name the pull request",
        )
    return PullRequest(
        (env.get("GITHUB_API_URL") or _ORIGIN).rstrip("/"),
        repository,
        number,
        env.get("GITHUB_SHA", ""),
        token,
    )


def comment(request: PullRequest, kind: str, text: str, *, anew: bool = True) -> str | None:
    """Write `text` into the pull request's comment of this kind; return its address.

    If there is none, `anew` creates it. None if nothing was written: no pull request belongs to the
    commit, or there is no comment to update.

    Raises `KeyRefused` and `TargetError`.
    """
    mark = f"<!-- backfill {kind} -->"
    headers = {
        "authorization": f"Bearer {request.token}",
        "accept": "application/vnd.github+json",
        "x-github-api-version": "2022-11-28",
    }
    with open_blocking_client(headers=headers) as client:
        base = f"{request.origin}/repos/{quote(request.repository)}"
        number = request.number or _of_commit(client, base, request.commit)
        if number is None:
            return None
        body = {"body": f"{mark}\n{text}"}
        there = _find(client, request.origin, f"{base}/issues/{number}/comments", mark)
        if there is not None:
            return _address(_ask(client, "PATCH", f"{base}/issues/comments/{there}", body))
        if not anew:
            return None
        return _address(_ask(client, "POST", f"{base}/issues/{number}/comments", body))


def _of_commit(client: BlockingClient, base: str, commit: str) -> int | None:
    found = _list(client, f"{base}/commits/{quote(commit, safe='')}/pulls")
    return next((one["number"] for one in found if _is_number(one.get("number"))), None)


def _find(client: BlockingClient, origin: str, url: str, mark: str) -> int | None:
    """Find our own comment with the mark: others can write the mark, too, and edit their
    comments."""
    own: str | None = None
    for page in range(1, _MOST_PAGES + 1):
        found = _list(client, f"{url}?per_page={_PAGE}&page={page}")
        for one in found:
            if str(one.get("body") or "").startswith(mark) and _is_number(one.get("id")):
                own = _own_login(client, origin) if own is None else own
                user = one.get("user")
                user = user if isinstance(user, dict) else {}
                if user.get("login") == own if own else user.get("type") == "Bot":
                    return int(one["id"])
        if len(found) < _PAGE:
            return None
    return None


def _own_login(client: BlockingClient, origin: str) -> str:
    """Return the token's user; empty for the token of an Actions job, which may not ask and is a
    bot's."""
    try:
        answer = _ask(client, "GET", f"{origin}/user")
    except KeyRefused:
        return ""
    login = answer.get("login") if isinstance(answer, dict) else None
    return login if isinstance(login, str) else ""


def _is_number(value: object) -> TypeGuard[int]:
    """Whether it is an id that may be used in a path."""
    return type(value) is int and value > 0


def _address(answer: Any) -> str:
    found = (answer.get("html_url") or answer.get("url")) if isinstance(answer, dict) else None
    plain = isinstance(found, str) and found.isascii() and found.isprintable()
    return found[:_ADDRESS] if isinstance(found, str) and plain else ""


def _list(client: BlockingClient, url: str) -> list[dict[str, Any]]:
    found = _ask(client, "GET", url)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise TargetError(f"GitHub's answer to GET {_path(url)} is not a list")
    return found


def _ask(client: BlockingClient, method: str, url: str, body: object = None) -> Any:
    status, answer = _connected(client, method, url, body)
    what = f"{method} {_path(url)}"
    if status in (401, 403, 404):
        message = f"GitHub refuses {what} ({status})"
        hint = (
            "give the job permissions: {pull-requests: write}; the token of a pull "
            "request from a fork can only read"
        )
        raise KeyRefused(message, hint=hint)
    if status >= 300:
        raise TargetError(f"GitHub answers {status} to {what}")
    try:
        return parsed(answer)
    except ValueError:
        raise TargetError(f"GitHub's answer to {what} is not JSON") from None


def _connected(client: BlockingClient, method: str, url: str, body: object) -> tuple[int, bytes]:
    """Retry only if nothing was sent, so that no comment is doubled."""
    for left in reversed(range(_TRIES)):
        try:
            response, answer = client.exchange(
                method,
                url,
                most=_MOST_BODY,
                content=None if body is None else orjson.dumps(body),
                headers={} if body is None else {"content-type": "application/json"},
            )
        except Unanswered as error:
            if left and not error.maybe_taken:
                time.sleep(_AGAIN)
                continue
            raise TargetError(f"GitHub does not answer: {error}") from None
        return response.status_code, answer
    raise AssertionError  # the last try returns or raises


def _path(url: str) -> str:
    return urlsplit(url).path[:_ADDRESS]


def _number(path: str | None) -> int | None:
    """Return what the event's file says is the number of its pull request, if anything."""
    try:
        event = parsed(read_given(path)) if path else None
    except (FileRefused, ValueError):
        return None
    found = event if isinstance(event, dict) else {}
    about = found.get("pull_request") or found.get("issue")
    number = about.get("number") if isinstance(about, dict) else None
    return number if _is_number(number) else None
