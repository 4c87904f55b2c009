"""Parse the URL of a database, as people paste it; for questions and for the state.

Errors name the variable or option that holds it, and never print a part that could belong to a
password: if a character is not encoded as it must be, nobody can tell where the password ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

from runner.errors import UsageError
from runner.model import frozen
from runner.spec.document import did_you_mean
from runner.spec.secrets import redact

FORM = "write it like postgresql://user@host/database, or sqlite:///path/to/file.db"
_ENCODE = "in a password, write @ as %40, / as %2F, # as %23, ? as %3F, % as %25 and a space as %20"
_SCHEME = re.compile(r"(?P<kind>[A-Za-z][A-Za-z0-9]*)(?:\+\w+)?://(?P<rest>.*)", re.DOTALL)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_HOST = re.compile(r"[\w.-]+|[/@][^\s]*")
_HOSTS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(?:%25[\w.-]+)?\]|[^\[\]:]*)(?::(?P<port>[0-9]*))?")
_NAME = re.compile(r"[A-Za-z_]\w*")

# libpq's parameters, except those that the URL gives elsewhere and internal ones.
_LIBPQ = frozenset(
    [
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "passfile",
        "require_auth",
        "channel_binding",
        "connect_timeout",
        "application_name",
        "fallback_application_name",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "sslmode",
        "sslnegotiation",
        "sslcert",
        "sslkey",
        "sslpassword",
        "sslcertmode",
        "sslrootcert",
        "sslcrl",
        "sslcrldir",
        "sslsni",
        "requirepeer",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "krbsrvname",
        "gsslib",
        "gssencmode",
        "gssdelegation",
        "service",
        "servicefile",
        "target_session_attrs",
        "load_balance_hosts",
        "client_encoding",
        "options",
    ]
)
# Parameters of pools and other drivers, such as not to prepare statements, and the number of
# connections. They are ignored: nothing is prepared here, and a question has one connection.
_POOLS = frozenset(
    [
        "pgbouncer",
        "supa",
        "connection_limit",
        "pool_timeout",
        "pool_size",
        "max_overflow",
        "prepare_threshold",
        "statement_cache_size",
        "prepared_statement_cache_size",
    ]
)
_WHOLE = frozenset(
    [
        "connect_timeout",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
    ]
)
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_OPTION = re.compile(r"(?:-c\s*|--)(?P<name>[\w.-]+)=(?P<value>(?:\\.|[^\\\s])*)\s*", re.DOTALL)


@frozen
class DatabaseUrl:
    """Where a database is. `name` is the variable or option with the URL.

    `path` is SQLite's file; empty for a database in memory. `options` are libpq's keywords.
    `settings` are for the session: a pooler refuses them at connection and keeps none between
    transactions, so each transaction sets them.
    """

    name: str
    kind: Literal["sqlite", "postgresql"]
    path: str = ""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def shown(self) -> str:
        """The location without user and password."""
        if self.kind == "sqlite":
            return self.path or "sqlite://"
        host = self.options.get("host") or "localhost"
        return f"postgresql://{host}/{self.options.get('dbname', '')}"

    def clean(self, words: str) -> str:
        """Remove secrets from a driver's message."""
        for secret in ("password", "sslpassword"):
            if value := self.options.get(secret):
                for written in (value, quote(value, safe="")):
                    words = words.replace(written, "***")
        return redact(words)


def parse_url(text: str, name: str, *, paths: bool = False) -> DatabaseUrl:
    """Parse the URL in the variable or option `name`; `paths`: a plain path is a SQLite file.

    Raises `UsageError`, which prints nothing of the URL except names of its parameters.
    """
    text = text.strip()
    found = _SCHEME.fullmatch(text)
    if found is None:
        if paths and text and "://" not in text:
            return DatabaseUrl(name, "sqlite", text)
        raise UsageError(f"{name} is not a database's URL", hint=FORM)
    kind, rest = found["kind"].lower(), found["rest"]
    if kind == "sqlite":
        return DatabaseUrl(name, "sqlite", _sqlite_path(rest, name))
    if kind not in ("postgres", "postgresql"):
        raise UsageError(f"{name} names a database that is not supported", hint=FORM)
    options = _postgresql(rest, name)
    settings = _settings(options, name)
    return DatabaseUrl(name, "postgresql", "", options, settings)


def sqlite_files(env: Mapping[str, str]) -> Iterator[str]:
    """Yield the SQLite files that any variable names."""
    for name, value in env.items():
        if value.lstrip()[:6].lower() == "sqlite":
            with suppress(UsageError):
                yield parse_url(value, name).path


def _sqlite_path(rest: str, name: str) -> str:
    host, slash, path = rest.partition("/")
    path, _, query = path.partition("?")
    if host or (slash and not path and query):
        hint = "write three slashes before a relative path, four before an absolute one"
        raise UsageError(f"{name}: a SQLite database has no host", hint=f"{hint}; {FORM}")
    if query:
        which = _shown_name(query.partition("=")[0])
        raise UsageError(f"{name}: {which} is not a parameter of a SQLite URL", hint="leave it out")
    return path


def _postgresql(rest: str, name: str) -> dict[str, str]:
    _refuse_unencoded(rest, name)
    before, _, query = rest.partition("?")
    authority, _, database = before.partition("/")
    user, at, hosts = authority.rpartition("@")
    options: dict[str, str] = {}
    if at:
        who, colon, password = user.partition(":")
        _add(options, name, user=_decoded(who, name))
        _add(options, name, password=_decoded(password, name) if colon else "")
    if options.get("password") == "[YOUR-PASSWORD]":
        raise UsageError(f"{name} still has [YOUR-PASSWORD] in it", hint="put the password there")
    host, port = _hosts(hosts, name)
    _add(options, name, host=host, port=port, dbname=_decoded(database, name))
    for key, value in _parameters(query, name):
        if key in options:
            raise UsageError(f"{name} has `{key}` twice", hint="leave one of them out")
        options[key] = value
    elsewhere = {"host", "hostaddr", "service"} & options.keys()
    if (at or "port" in options) and not elsewhere:
        hint = "is a variable in it empty? For a socket, write ?host=/path"
        raise UsageError(f"{name} names no host", hint=hint)
    return options


def _add(options: dict[str, str], name: str, /, **given: str) -> None:
    for key, value in given.items():
        if any(ord(character) < 32 for character in value):
            raise UsageError(f"{name} has a control character in it", hint=_ENCODE)
        if value:
            options[key] = value


def _refuse_unencoded(rest: str, name: str) -> None:
    """Refuse a URL in which nobody can tell where the password ends."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    after = rest[len(authority) :]
    path, _, query = after.partition("?")
    misplaced = (
        authority.count("@") > 1
        or "@" in path
        or ("@" in query and "@" not in authority and ":" in authority)
        or "#" in rest
        or re.search(r"\s", rest)
        or _BAD_ESCAPE.search(rest)
    )
    if misplaced:
        message = f"{name} has a character that must be encoded in a URL, perhaps in the password"
        raise UsageError(message, hint=_ENCODE)


def _decoded(text: str, name: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        message = f"{name} encodes something that is not UTF-8"
        raise UsageError(message, hint=_ENCODE) from None


def _hosts(written: str, name: str) -> tuple[str, str]:
    """Return libpq's `host` and `port`: lists if the URL has several, to be tried in turn."""
    hosts, ports = [], []
    for one in written.split(","):
        found = _HOSTS.fullmatch(one)
        if found is None:
            message = f"{name}: its host and port cannot be read"
            raise UsageError(message, hint=f"write an IPv6 address in brackets: [::1]; {_ENCODE}")
        host, port = _decoded(found["host"].strip("[]"), name), found["port"] or ""
        if host and "[" not in one and not _HOST.fullmatch(host):
            raise UsageError(f"{name}: its host is neither a name nor an address", hint=_ENCODE)
        if port and not 0 < int(port[:9]) < 1 << 16:
            raise UsageError(f"{name}: its port is not a number from 1 to 65535", hint=_ENCODE)
        hosts.append(host)
        ports.append(port)
    return ",".join(hosts).strip(","), ",".join(ports) if any(ports) else ""


def _parameters(query: str, name: str) -> Iterator[tuple[str, str]]:
    for pair in filter(None, query.split("&")):
        key, equals, value = (_decoded(part, name) for part in pair.partition("="))
        if not equals:
            raise UsageError(f"{name}: {_shown_name(key)} has no value", hint="write name=value")
        if key == "ssl":  # as asyncpg and Node's drivers write it
            key, value = "sslmode", {"true": "require", "false": "disable"}.get(value, value)
        if key == "sslmode" and value not in _SSLMODES:
            hint = f"use one of {', '.join(_SSLMODES)}"
            raise UsageError(f"{name}: its `sslmode` is unknown to libpq", hint=hint)
        if key in _WHOLE and not re.fullmatch(r"[0-9]{1,9}", value):
            raise UsageError(
                f"{name}: its `{key}` is not a whole number", hint=f"write it like {key}=10"
            )
        if key in _LIBPQ or key == "schema":
            yield key, value
        elif key not in _POOLS:
            hint = (
                did_you_mean(key, sorted(_LIBPQ))
                or "leave it out: PostgreSQL has no such parameter"
            )
            raise UsageError(f"{name}: {_shown_name(key)} is not a parameter of libpq", hint=hint)


def _shown_name(key: str) -> str:
    """Quote the name of a parameter; anything that is not a name may be part of a password."""
    return f"`{key}`" if _NAME.fullmatch(key) else "one of its parameters"


def _settings(options: dict[str, str], name: str) -> dict[str, str]:
    """Return the session settings in `options=-csearch_path=x` (libpq) and `schema=x` (Prisma)."""
    text, settings = options.pop("options", "").strip(), {}
    while text:
        found = _OPTION.match(text)
        if found is None:
            hint = "write it like ?options=-csearch_path%3Dapp"
            raise UsageError(f"{name}: its `options` cannot be read", hint=hint)
        settings[found["name"].replace("-", "_")] = re.sub(r"\\(.)", r"\1", found["value"])
        text = text[found.end() :]
    if schema := options.pop("schema", ""):
        settings["search_path"] = '"' + schema.replace('"', '""') + '"'
    return settings
