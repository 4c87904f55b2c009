"""Names and environment variables -> origins and keys."""

from __future__ import annotations

import pytest

from runner.adapters.inngest.target import DEV_ORIGIN, resolve
from runner.errors import UsageError


def test_the_embedded_target_reads_no_environment() -> None:
    target = resolve("embedded", {"INNGEST_EVENT_KEY": "prod", "INNGEST_SIGNING_KEY": "prod"})
    assert target.event_key == "embedded"
    assert target.signing_keys == ()
    assert target.local


def test_cloud_prefers_the_production_event_key() -> None:
    env = {"INNGEST_EVENT_KEY": "branch", "INNGEST_PRODUCTION_EVENT_KEY": "production"}
    target = resolve("cloud", env)
    assert target.event_key == "production"
    assert (target.events, target.api) == ("https://inn.gs", "https://api.inngest.com")
    assert target.name == "cloud"
    assert not target.local


@pytest.mark.parametrize(
    "echoed",
    [
        "evt/0123",
        "evt%2F0123",
        "signkey-prod-0123456789abcdef",
        "0123456789abcdef",
        "api0123456789",
    ],
)
def test_what_a_server_echoes_has_no_key_in_any_form_that_works(echoed: str) -> None:
    env = {"INNGEST_EVENT_KEY": "evt/0123", "INNGEST_API_KEY": "api0123456789"}
    target = resolve("cloud", env | {"INNGEST_SIGNING_KEY": "signkey-prod-0123456789abcdef"})
    assert target.clean(f"no key {echoed}!") == "no key ***!"


def test_the_production_event_key_is_for_cloud_only() -> None:
    target = resolve("dev", {"INNGEST_PRODUCTION_EVENT_KEY": "production"})
    assert target.event_key != "production"


def test_cloud_without_a_key_has_none() -> None:
    assert resolve("cloud", {}).event_key is None


@pytest.mark.parametrize(
    ("env", "events", "api"),
    [
        ({}, "http://127.0.0.1:8288", "http://127.0.0.1:8288"),
        ({"INNGEST_DEV": "1"}, "http://127.0.0.1:8288", "http://127.0.0.1:8288"),
        ({"INNGEST_DEV": "http://dev:1"}, "http://dev:1", "http://dev:1"),
        ({"INNGEST_DEV": "http://dev:1", "INNGEST_BASE_URL": "http://b/"}, "http://b", "http://b"),
        (
            {"INNGEST_BASE_URL": "http://b", "INNGEST_EVENT_API_BASE_URL": "http://e"},
            "http://e",
            "http://b",
        ),
        (
            {"INNGEST_BASE_URL": "http://b", "INNGEST_API_BASE_URL": "http://a"},
            "http://b",
            "http://a",
        ),
    ],
)
def test_specific_origins_beat_the_general_one_which_beats_the_dev_url(
    env: dict[str, str], events: str, api: str
) -> None:
    target = resolve("dev", env)
    assert (target.events, target.api) == (events, api)


def test_a_base_url_names_itself_and_beats_the_environment() -> None:
    env = {"INNGEST_BASE_URL": "http://elsewhere", "INNGEST_EVENT_KEY": "k"}
    target = resolve("http://inngest.internal:8288/", env)
    assert target.events == target.api == target.name == "http://inngest.internal:8288"


@pytest.mark.parametrize(
    ("spelled", "address"),
    [
        ("HTTP://Inngest.Internal:80//", "http://inngest.internal"),
        ("https://inngest.internal:0443/Path/", "https://inngest.internal/Path"),
        ("http://inngest.internal:443", "http://inngest.internal:443"),
        ("https://inngest.internal:80", "https://inngest.internal:80"),
        ("http://[FE80::1]:8288", "http://[fe80::1]:8288"),
    ],
)
def test_an_address_has_one_spelling_by_which_locks_and_the_ledger_know_it(
    spelled: str, address: str
) -> None:
    for target in (
        resolve(spelled, {}),
        resolve("dev", {"INNGEST_DEV": spelled}),
        resolve("cloud", {"INNGEST_BASE_URL": spelled}),
    ):
        assert (target.events, target.api) == (address, address)


@pytest.mark.parametrize("name", ["http://127.0.0.1:1", "http://localhost:9", "http://[::1]:1"])
def test_loopback_is_local(name: str) -> None:
    assert resolve(name, {}).local


def test_a_server_elsewhere_is_not_local() -> None:
    assert not resolve("http://10.0.0.1:8288", {}).local


def test_the_fallback_signing_key_comes_second() -> None:
    env = {"INNGEST_SIGNING_KEY_FALLBACK": "old", "INNGEST_SIGNING_KEY": "new"}
    assert resolve("dev", env).signing_keys == ("new", "old")


def test_keys_are_not_in_the_representation() -> None:
    env = {"INNGEST_EVENT_KEY": "secret-event", "INNGEST_SIGNING_KEY": "secret-signing"}
    assert "secret" not in repr(resolve("http://a", env))


@pytest.mark.parametrize(
    "name", ["http://user:hunter22@host", "http://host/?key=hunter22", "http://host/#hunter22"]
)
def test_a_url_with_a_key_in_it_is_refused_and_not_echoed(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(name, {})
    assert "hunter22" not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize("name", ["", "ftp://x", "http://", "http://[", "8288", "http://h:0"])
def test_what_is_no_target_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match=r"--target.* is not a (target|URL)"):
        resolve(name, {})


def test_a_mistyped_name_gets_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        resolve("embeded", {})
    assert caught.value.hint == "did you mean `embedded`?"


@pytest.mark.parametrize(
    ("name", "env", "url"),
    [
        ("embedded", {}, None),
        ("dev", {}, "http://127.0.0.1:8288/run?runID=J"),
        ("cloud", {}, "https://app.inngest.com/env/production/runs/J"),
        ("cloud", {"INNGEST_ENV": "pr-7"}, "https://app.inngest.com/env/pr-7/runs/J"),
    ],
)
def test_the_dashboards_link_to_a_job(name: str, env: dict[str, str], url: str | None) -> None:
    assert resolve(name, env).job_url("J") == url


@pytest.mark.parametrize("value", ["a b", "k\n", "ké"])
def test_a_key_that_was_pasted_wrong_is_named_and_not_echoed(value: str) -> None:
    with pytest.raises(UsageError, match="INNGEST_SIGNING_KEY has characters") as caught:
        resolve("dev", {"INNGEST_SIGNING_KEY": value})
    assert value not in str(caught.value)


@pytest.mark.parametrize("value", ["", "0", "1", "true", "TRUE", "false"])
def test_a_switch_is_no_address(value: str) -> None:
    assert resolve("dev", {"INNGEST_DEV": value}).events == DEV_ORIGIN


@pytest.mark.parametrize("value", ["localhost:8299", "127.0.0.1:8299", "dev.test", " ", "http:/x"])
def test_an_address_that_is_no_url_is_refused_and_means_no_other_server(value: str) -> None:
    with pytest.raises(UsageError, match=r"INNGEST_DEV.* is not a URL") as refused:
        resolve("dev", {"INNGEST_DEV": value})
    assert refused.value.hint == "write http://host:port"
