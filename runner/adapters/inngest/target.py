"""Resolve targets: names and environment variables -> origins and keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote, urlsplit

from runner.errors import UsageError
from runner.model import frozen
from runner.spec.document import did_you_mean
from runner.spec.urls import is_http

Kind = Literal["embedded", "dev", "cloud", "server"]

NAMES = ("embedded", "dev", "cloud")
DEV_ORIGIN = "http://127.0.0.1:8288"
_SWITCHED = ("", "0", "1", "false", "true")
CLOUD_EVENTS, CLOUD_API = "https://inn.gs", "https://api.inngest.com"
EMBEDDED_ORIGIN = "http://embedded"
# A dev server takes any key; this is the one that the SDKs send if none is set.
NO_EVENT_KEY = "NO_EVENT_KEY_SET"
_KEYS = (
    "INNGEST_EVENT_KEY",
    "INNGEST_PRODUCTION_EVENT_KEY",
    "INNGEST_SIGNING_KEY",
    "INNGEST_SIGNING_KEY_FALLBACK",
    "INNGEST_API_KEY",
)
_PREFIXED = re.compile(r"signkey-\w+-(.{8,})")
_PORTS = {"http": 80, "https": 443}
_LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@frozen
class Target:
    """A resolved target. `name` is for people: it holds no key."""

    name: str
    kind: Kind
    events: str
    api: str
    event_key: str | None = field(repr=False)
    signing_keys: tuple[str, ...] = field(repr=False)
    environment: str | None = None
    api_key: str | None = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, compare=False)

    def variable(self, usual: str) -> str:
        """Return the variable that takes the place of `usual`: an environment of a project may name
        its own variables."""
        return self.variables.get(usual, usual)

    @property
    def local(self) -> bool:
        """Whether everything stays on this machine."""
        hosts = {urlsplit(origin).hostname for origin in (self.events, self.api)}
        return self.kind == "embedded" or hosts <= _LOCAL_HOSTS

    @property
    def grace(self) -> float:
        """Seconds without any sign of life after which an event without a job counts as `no_job`.
        The embedded server starts jobs as it accepts events; a real one starts them seconds later
        under load, and its job lists may be 15 s old (protocol page, 6)."""
        return 0.5 if self.kind == "embedded" else 20.0

    @property
    def called(self) -> frozenset[str]:
        """The names that an approval may use: its kind, its origin, its environment in the
        project."""
        environment, _, named = self.name.partition(": ")
        return frozenset({self.kind, self.events, *([environment] if named else [])})

    @property
    def address(self) -> str:
        """Where events really go; a run is resumed only if this is the same."""
        return " ".join(filter(None, (self.events, self.api, self.environment)))

    def clean(self, text: str) -> str:
        """Remove keys from a server's text, which may echo them."""
        keys = [self.event_key, *self.signing_keys, self.api_key] if self.kind != "embedded" else []
        # Without its prefix a signing key is the same key.
        keys += [found[1] for key in self.signing_keys if (found := _PREFIXED.fullmatch(key))]
        for key in filter(None, keys):
            if key != NO_EVENT_KEY:
                text = text.replace(quote(key, safe=""), "***").replace(key, "***")
        return text

    def job_url(self, job_id: str) -> str | None:
        """Return the dashboard's page of a job."""
        if self.kind == "cloud":
            return f"{self.jobs_url}/{job_id}"
        return None if self.kind == "embedded" else f"{self.api}/run?runID={job_id}"

    @property
    def jobs_url(self) -> str | None:
        """The dashboard's page of all jobs."""
        if self.kind == "cloud":
            return f"https://app.inngest.com/env/{self.environment or 'production'}/runs"
        return None if self.kind == "embedded" else f"{self.api}/runs"


def shown(address: str) -> str:
    """Format an address for people: identical origins are shown once."""
    return " ".join(dict.fromkeys(address.split(" ")))


def resolve(
    name: str,
    env: Mapping[str, str],
    variables: Mapping[str, str] = MappingProxyType({}),
    source: str = "--target",
) -> Target:
    """Resolve the target `name`: embedded, dev, cloud, or the base URL of a self-hosted server.

    Keys come from `env` only; `variables`: the names of those that differ from the usual ones.
    `source`: what gave the name. Raises `UsageError`.
    """
    found = _resolved(name, env, variables, source)
    return replace(found, variables=variables) if variables else found


def _resolved(
    name: str, env: Mapping[str, str], variables: Mapping[str, str], source: str
) -> Target:
    if name == "embedded":
        return Target(name, "embedded", EMBEDDED_ORIGIN, EMBEDDED_ORIGIN, "embedded", ())
    _check_headers(env, variables)
    key, signing = env.get("INNGEST_EVENT_KEY"), _signing_keys(env)
    api_key = env.get("INNGEST_API_KEY") or None
    if name == "cloud":
        key = env.get("INNGEST_PRODUCTION_EVENT_KEY") or key
        events, api = _origins(env, CLOUD_EVENTS, CLOUD_API)
        return Target(
            _label(name, events, CLOUD_EVENTS),
            "cloud",
            events,
            api,
            key,
            signing,
            env.get("INNGEST_ENV"),
            api_key,
        )
    if name == "dev":
        events, api = _origins(env, *(_dev_url(env),) * 2)
        label = f"dev ({events})"
        return Target(label, "dev", events, api, key or NO_EVENT_KEY, signing, api_key=api_key)
    origin = read_origin(name, source, NAMES)
    environment = env.get("INNGEST_ENV")
    key = key or NO_EVENT_KEY
    return Target(origin, "server", origin, origin, key, signing, environment, api_key)


def _signing_keys(env: Mapping[str, str]) -> tuple[str, ...]:
    names = ("INNGEST_SIGNING_KEY", "INNGEST_SIGNING_KEY_FALLBACK")
    return tuple(env[name] for name in names if env.get(name))


def _check_headers(env: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Refuse a key with a blank or a line end, which was pasted wrong; the message has its name,
    not its value."""
    for name in (*_KEYS, "INNGEST_ENV"):
        value = env.get(name, "")
        if not (value.isascii() and value.isprintable() and " " not in value):
            message = f"{variables.get(name, name)} has characters that cannot be part of a key"
            raise UsageError(message, hint="copy the key again")


def _origins(env: Mapping[str, str], events: str, api: str) -> tuple[str, str]:
    """Return the origins; the two specific variables override the general one (protocol page,
    section 4)."""
    base = env.get("INNGEST_BASE_URL")
    found = []
    for name, default in (
        ("INNGEST_EVENT_API_BASE_URL", events),
        ("INNGEST_API_BASE_URL", api),
    ):
        value = env.get(name)
        if value:
            found.append(read_origin(value, name))
        else:
            found.append(read_origin(base, "INNGEST_BASE_URL") if base else default)
    return found[0], found[1]


def _dev_url(env: Mapping[str, str]) -> str:
    """Read INNGEST_DEV, which is also a switch for the SDKs. An invalid address must not select
    another server."""
    value = env.get("INNGEST_DEV", "")
    return DEV_ORIGIN if value.lower() in _SWITCHED else read_origin(value, "INNGEST_DEV")


def _label(name: str, origin: str, usual: str) -> str:
    return name if origin == usual else f"{name} ({origin})"


def read_origin(text: str, source: str, names: Sequence[str] = ()) -> str:
    """Parse a base URL; errors never echo keys. `names`: what may be given instead."""
    if not is_http(text):
        named = f" `{text}`" if text.replace("-", "").isalnum() and len(text) <= 20 else ""
        what, hint = "is not a URL", "write http://host:port"
        if names and "://" not in text:
            what = "is not a target"
            hint = did_you_mean(text, names) or f"write {', '.join(names)}, or http://host:port"
        raise UsageError(f"{source}{named} {what}", hint=hint)
    if "@" in urlsplit(text).netloc or not {"?", "#"}.isdisjoint(text):
        hint = "keys come from INNGEST_EVENT_KEY and INNGEST_SIGNING_KEY"
        raise UsageError(f"{source} must be a bare base URL, without user, key or query", hint=hint)
    return one_spelling(text)


def one_spelling(url: str) -> str:
    """Spell an address as locks, approvals and the ledger know it: in small letters up to its path,
    without the scheme's own port and the slash at its end. Other texts stay as they are."""
    if not is_http(url):
        return url
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    place = f"[{host}]" if ":" in host else host
    place += f":{port}" if port not in (None, _PORTS[parts.scheme]) else ""
    return f"{parts.scheme}://{place}{parts.path}".rstrip("/")
