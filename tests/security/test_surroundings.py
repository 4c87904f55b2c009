"""Proxies, certificates and networks: what the environment sets, and how its faults are
reported."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import ssl
import warnings
from pathlib import Path

import httpx
import pytest

from runner.adapters.http import Unanswered, explained, open_client, read_proxies
from runner.errors import BackfillError, TargetError, UsageError
from tests.security.servers import serving, whole

PROXY = {"HTTP_PROXY": "http://u:s3cret@p.test:3128", "https_proxy": "p.test:3129"}


def way(env: dict[str, str], url: str) -> str | None:
    parts, proxies = httpx.URL(url), read_proxies(env)
    proxy = proxies.of(parts.scheme, parts.host, parts.port) if proxies else None
    return proxy.place if proxy else None


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("", "http://a.test", False),
        ("*", "http://a.test", True),
        ("a.test", "http://a.test:8288", True),
        ("a.test", "http://x.A.test", True),
        ("a.test", "http://ba.test", False),
        (".a.test", "http://x.a.test", True),
        ("*.a.test", "http://x.a.test", True),
        ("a.test:80", "http://a.test", True),
        ("a.test:81", "http://a.test", False),
        ("b.test, 127.0.0.1", "http://127.0.0.1:8288", True),
        ("10.0.0.0/8", "http://10.1.2.3", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("[::1]", "http://[::1]:8288", True),
        ("::1", "http://[::1]", True),
        ("[::1]:8288", "http://[::1]:8288", True),
        ("[::1]:8288", "http://[::1]:8289", False),
        ("fe80::/10", "http://[fe80::7]", True),
        ("fe80::/10", "http://[::7]", False),
        ("10.0.0.0/8", "http://ten.test", False),
    ],
)
def test_no_proxy_has_names_addresses_and_ranges(no_proxy: str, url: str, direct: bool) -> None:
    assert way({**PROXY, "NO_PROXY": no_proxy}, url) == (None if direct else "p.test:3128")


def test_each_scheme_has_its_own_proxy_and_small_letters_go_first() -> None:
    assert way(PROXY, "https://a.test") == "p.test:3129"
    assert way({**PROXY, "http_proxy": "[::1]:1"}, "http://a.test") == "[::1]:1"
    assert way({"ALL_PROXY": "p.test"}, "https://a.test") == "p.test"
    assert read_proxies({}) is None


async def _open(env: dict[str, str]) -> None:
    async with open_client(env=env):
        pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PROXY", "http://u:s3cret@p.test:x"),
        ("HTTPS_PROXY", "http://u:s3cret@p.test:99999"),
        ("https_proxy", "http://u:s3/cret@p.test:1"),
        ("ALL_PROXY", "foo://s3cret"),
        ("ALL_PROXY", "http://[s3cret"),
        ("ALL_PROXY", "http://s3cret test"),
        ("ALL_PROXY", "http://"),
        ("NO_PROXY", "10.0.0.0/99"),
        ("NO_PROXY", "[::1"),
        ("NO_PROXY", "a.test:99999"),
        ("no_proxy", "fe80::/200"),
        ("SSL_CERT_FILE", "/nowhere/cert.pem"),
        ("SSL_CERT_FILE", "/dev/zero"),
        ("SSL_CERT_FILE", __file__),
        ("SSL_CERT_DIR", "/nowhere"),
        ("SSL_CERT_DIR", __file__),
    ],
)
def test_a_variable_that_is_broken_is_named_and_its_secrets_are_not(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name) as error:
        asyncio.run(_open({name: value}))
    assert "s3cret" not in f"{error.value} {error.value.hint}"


def test_variables_that_are_whole_are_taken(tmp_path: Path) -> None:
    asyncio.run(
        _open({**PROXY, "NO_PROXY": "[::1],fe80::/10,.a.test", "SSL_CERT_DIR": str(tmp_path)})
    )


def exchange(url: str, env: dict[str, str]) -> bytes:
    async def main() -> bytes:
        async with open_client(env=env, seconds=5) as client:
            return (await client.exchange("GET", url))[1]

    return asyncio.run(main())


def test_a_proxy_is_asked_and_what_it_refuses_is_told() -> None:
    heads: list[bytes] = []

    def answer(connection: socket.socket, head: bytes) -> None:
        heads.append(head)
        whole(b"by proxy")(connection, head)

    with serving(answer) as proxy:
        assert exchange("http://a.test/x", {"HTTP_PROXY": proxy}) == b"by proxy"
    assert heads[0].startswith(b"GET http://a.test/x HTTP/1.1\r\n")
    for status, words in {
        "407 X": "requires a user and a password",
        "403 X": "refuses to connect",
    }.items():
        with serving(whole(b"", status=status)) as proxy, pytest.raises(TargetError, match=words):
            exchange("https://a.test/x", {"HTTPS_PROXY": proxy})
    with serving(whole(b"", status="502 X")) as proxy, pytest.raises(Unanswered, match="502"):
        exchange("https://a.test/x", {"HTTPS_PROXY": proxy})
    with serving(whole(b"", status="407 X")) as proxy, pytest.raises(TargetError, match="407"):
        exchange("http://a.test/x", {"HTTP_PROXY": proxy})


def test_certificates_are_read_only_where_tls_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them takes longer than all else that a client does before its first request."""
    read = []

    def certificates(*named: str | None) -> ssl.SSLContext:
        read.append(named)
        return ssl.create_default_context()

    monkeypatch.setattr("runner.adapters.http._certificates", certificates)
    with serving(whole(b"{}")) as origin:
        exchange(f"{origin}/x", {})
        assert not read
        with pytest.raises(TargetError):
            exchange(f"{origin.replace('http:', 'https:')}/x", {})
    assert read == [(None, None)]


def test_https_asked_of_a_server_without_it_is_told_and_not_tried_again() -> None:
    with (
        serving(whole(b"")) as origin,
        pytest.raises(TargetError, match="no TLS connection") as error,
    ):
        exchange(origin.replace("http:", "https:"), {})
    assert "https or http" in str(error.value.hint)
    del error
    with warnings.catch_warnings():  # after a failed handshake httpcore leaves the transport open
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _caused(error: Exception, cause: BaseException) -> Exception:
    """Wrap the cause as the backend, httpcore and httpx do."""
    middle = OSError("All connection attempts failed")
    middle.__cause__ = cause
    error.__context__ = middle
    return error


def _untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = "self-signed certificate"
    return error


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "x")
FAULTS = [
    (_untrusted(), "the certificate of a.test is not trusted: self-signed certificate", False),
    (ssl.SSLEOFError(8, "x"), "no connection: it was closed while it was being made", True),
    (socket.gaierror(socket.EAI_NONAME, "x"), "no connection: DNS does not know a.test", True),
    (socket.gaierror(socket.EAI_AGAIN, "x"), "no connection: DNS does not answer for a.test", True),
    (REFUSED, "no connection: it was refused", True),
    (ExceptionGroup("x", [OSError(1, "y"), REFUSED]), "no connection: it was refused", True),
    (OSError(errno.EHOSTUNREACH, "x"), "no connection: no route to the host", True),
    (OSError("x"), "no connection", True),
]


@pytest.mark.parametrize(("cause", "words", "again"), FAULTS)
def test_a_fault_is_told_by_the_type_of_its_cause(
    cause: BaseException, words: str, again: bool
) -> None:
    fault = explained(_caused(httpx.ConnectError("s3cret"), cause), "a.test", answered=False)
    assert str(fault) == words
    assert isinstance(fault, Unanswered) is again
    if isinstance(fault, Unanswered):
        assert not fault.maybe_taken


def test_a_certificate_that_is_not_trusted_names_the_variable_that_would_trust_it() -> None:
    fault = explained(_caused(httpx.ConnectError(""), _untrusted()), "a.test", answered=False)
    assert isinstance(fault, BackfillError)
    assert "SSL_CERT_FILE" in str(fault.hint)
