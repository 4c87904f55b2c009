"""Which texts are the URL of a server, wherever one is accepted."""

from __future__ import annotations

import pytest
from httpx import URL
from hypothesis import given
from hypothesis import strategies as st

from runner.adapters.inngest.target import resolve
from runner.errors import UsageError
from runner.spec.urls import is_http

URLS = [
    "http://127.0.0.1:8288", "https://inn.gs", "HTTP://HOST", "http://my_host.internal:1/base/",
    "http://[::1]:8288", "http://[2001:DB8::1]", "https://ä.example", "http://host.",
]  # fmt: skip
NONE = [
    "", "http://", "http:///x", "http:host", "ftp://host", "//host", "host:1", "http://:80",
    "http://a b", "http://a b:1", "http://a/b c", " http://a", "http://a\n", "http://a\tb",
    "http://a\u00a0b", "http://a%20b", "http://a:0", "http://a:99999", "http://a:x", "http://a:+1",
    "http://a:1_0", "http://a:", "http://[::1", "http://[zz]", "http://[::1]x", "http://a..b",
    "http://.a", "http://a,b", "http://*", "http://a<b>", 'http://a"b', "http://a'b", "http://a\\b",
]  # fmt: skip


@pytest.mark.parametrize("text", URLS)
def test_what_a_client_reaches_is_one(text: str) -> None:
    assert is_http(text)
    assert resolve(text, {}).events == text.lower().rstrip("/")


@pytest.mark.parametrize("text", NONE)
def test_what_no_server_can_have_is_none(text: str) -> None:
    """Requests used to go to most of these, which then counted as unreachable."""
    assert not is_http(text)
    with pytest.raises(UsageError, match=r"is not a (target|URL)"):
        resolve(text, {})


@pytest.mark.parametrize(
    "text", ["http://u:p@a", "http://@a", "http://a?", "http://a#", "http://a?x=1"]
)
def test_a_target_has_no_place_for_a_key(text: str) -> None:
    with pytest.raises(UsageError, match="must be a bare base URL"):
        resolve(text, {})


@given(st.text(st.sampled_from("aA1.-_:/@[]% \\\t?#é"), max_size=12))
def test_whatever_it_is_it_is_one_or_refused(rest: str) -> None:
    text = f"http://{rest}"
    if is_http(text):
        assert URL(text).host
    else:
        with pytest.raises(UsageError):
            resolve(text, {})


def test_what_names_it_is_said() -> None:
    with pytest.raises(UsageError, match="the `target` of environment e is not a URL"):
        resolve("http://a b", {}, {}, "the `target` of environment e")
