"""GitHub's comments as its REST interface has them, asserting every request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

TOKEN = "ghs_a-token-of-the-test"  # noqa: S105
REPOSITORY = "acme/plans"
LIMIT = 65_536


@dataclass
class CommentApi:
    """The comments of one pull request. `status`: what it answers to all, where not 0."""

    number: int = 12
    comments: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    merged: bool = True
    status: int = 0
    login: str | None = None  # whose the token is; None: an Actions job's, which may not ask

    @property
    def app(self) -> Starlette:
        issues = f"/repos/{REPOSITORY}/issues"
        return Starlette(
            routes=[
                Route(f"{issues}/{self.number}/comments", self._list, methods=["GET"]),
                Route(f"{issues}/{self.number}/comments", self._post, methods=["POST"]),
                Route(f"{issues}/comments/{{id:int}}", self._patch, methods=["PATCH"]),
                Route("/user", self._user, methods=["GET"]),
                Route(f"/repos/{REPOSITORY}/commits/{{sha}}/pulls", self._pulls, methods=["GET"]),
            ]
        )

    def bodies(self) -> list[str]:
        return [comment["body"] for comment in self.comments]

    def add(self, body: str, author: str | None = None) -> None:
        """By the token's owner, or by somebody else."""
        number = 1_000 + len(self.comments)
        url = f"https://github.test/{REPOSITORY}/pull/{self.number}#issuecomment-{number}"
        own = {
            "login": self.login or "github-actions[bot]",
            "type": "User" if self.login else "Bot",
        }
        user = {"login": author, "type": "User"} if author else own
        self.comments.append({"id": number, "body": body, "html_url": url, "user": user})

    def _refused(self, request: Request) -> JSONResponse | None:
        self.calls.append(f"{request.method} {request.url.path}")
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.headers["accept"] == "application/vnd.github+json"
        assert request.headers["x-github-api-version"] == "2022-11-28"
        assert TOKEN not in str(request.url)
        return JSONResponse({"message": "no"}, self.status) if self.status else None

    async def _list(self, request: Request) -> JSONResponse:
        page = int(request.query_params["page"])
        assert request.query_params["per_page"] == "100"
        found = self.comments[(page - 1) * 100 : page * 100]
        return self._refused(request) or JSONResponse(found)

    async def _post(self, request: Request) -> JSONResponse:
        body = await self._body(request)
        if refused := self._refused(request):
            return refused
        self.add(body)
        return JSONResponse(self.comments[-1], 201)

    async def _patch(self, request: Request) -> JSONResponse:
        body = await self._body(request)
        if refused := self._refused(request):
            return refused
        (comment,) = (one for one in self.comments if one["id"] == request.path_params["id"])
        comment["body"] = body
        return JSONResponse(comment)

    async def _user(self, request: Request) -> JSONResponse:
        self._refused(request)
        if self.login is None:
            return JSONResponse({"message": "Resource not accessible by integration"}, 403)
        return JSONResponse({"login": self.login})

    async def _pulls(self, request: Request) -> JSONResponse:
        found = [{"number": self.number}] if self.merged else []
        return self._refused(request) or JSONResponse(found)

    @staticmethod
    async def _body(request: Request) -> str:
        assert request.headers["content-type"] == "application/json"
        sent = await request.json()
        assert set(sent) == {"body"}
        assert 0 < len(sent["body"]) <= LIMIT
        return str(sent["body"])
