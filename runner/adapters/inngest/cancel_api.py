"""Cancelling: ``DELETE {origin}/v1/runs/{id}`` (protocol page, section 3)."""

from __future__ import annotations

from urllib.parse import quote

from runner.adapters.http import Client, Unanswered
from runner.adapters.inngest.http import Retry, json_of, not_inngests, object_of, request, words
from runner.adapters.inngest.target import Target
from runner.errors import KeyRefused, TargetError
from runner.model import frozen

_MESSAGE_LENGTH = 300
_DONE = (200, 202, 204)
_REFUSED = (401, 403)


@frozen
class HttpCancelApi:
    client: Client
    target: Target
    retry: Retry

    async def cancel(self, job_id: str) -> str | None:
        """Cancel a job; return None, or the server's answer if it refuses: the job has ended or is
        unknown, which servers also say of running jobs."""

        async def attempt() -> str | None:
            status, says = await self._delete(f"/v1/runs/{quote(job_id, safe='')}")
            if status in (404, 409):
                return str(status)
            self._check(status, says)
            return None

        refusal: str | None = await self.retry(f"cancelling at {self.target.name}", attempt)
        return refusal

    async def _delete(self, path: str) -> tuple[int, str]:
        """Return the server's actual status and message. Keys are tried in turn, since after a
        rotation the fallback may be the valid one."""
        url, status, says = f"{self.target.api}{path}", 0, ""
        for key in self.target.signing_keys or (None,):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            if self.target.environment:
                headers["x-inngest-env"] = self.target.environment
            response, answer = await request(self.client, "DELETE", url, headers=headers)
            if response.status_code in _DONE and answer and not isinstance(json_of(answer), dict):
                raise not_inngests(self.target.name, response.status_code)
            status, says = _meant(response.status_code, answer)
            if status not in _REFUSED:
                break
        return status, self.target.clean(says)[:_MESSAGE_LENGTH]

    def _check(self, status: int, says: str) -> None:
        if status in _DONE and not says:
            return
        if status in _REFUSED:
            what = "refuses the signing key" if self.target.signing_keys else "requires a key"
            hint = f"set {self.target.variable('INNGEST_SIGNING_KEY')}"
            raise KeyRefused(f"{self.target.name} {what} ({status})", hint=hint)
        words = f": {says}" if says else ""
        if status == 429 or status >= 500:
            raise Unanswered(f"the server answers {status}{words}", maybe_taken=False)
        raise TargetError(f"cancelling at {self.target.name}: the server answers {status}{words}")


def _meant(status: int, body: bytes) -> tuple[int, str]:
    """Read the actual status: errors hide behind 200 (protocol page, section 6), and one without a
    status is still an error."""
    answer = object_of(body)
    if not answer.get("error"):
        return status, ""
    hidden = answer.get("status")
    if status < 300 and type(hidden) is int:
        status = hidden
    return status, words(answer["error"], 10 * _MESSAGE_LENGTH) or "an error without a message"
