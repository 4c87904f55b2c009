"""Keys and tokens are found, and nothing that belongs in a plan is mistaken for one."""

from __future__ import annotations

import random
import string
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import InvalidPlan
from runner.spec.load import load_plan
from runner.spec.secrets import Scrubber, find, mask, redact, suspect
from runner.spec.strict_yaml import parse
from tests.depth import crossed, some

_ALNUM = string.ascii_letters + string.digits
_RANDOM = "".join(random.Random(1).choices(_ALNUM + "-_", k=86))  # noqa: S311 - a made-up key

KEYS = [
    "signkey-prod-b2ed992186a5cb19f6668aade821f502c1d00970dfd0e35128d51bac4649916c",
    "signkey-test-12345678",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "gho_16C7e42F292c6912E7710c838347Ae178B4a",
    "github_pat_11ABCDEFG0123456789_abcdefghijklmnopqrstuvwxyz",
    "glpat-Ab1Cd2Ef3Gh4Ij5Kl6Mn",
    "sk-proj-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8",
    "sk_live_Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8",
    "xoxb-123456789012-abcdefghij",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2lnbmF0dXJl",
    "sb_secret_abcdefghijklmnop",
    _RANDOM,
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("frame", ["{}", "value: {}", "'{}'", "a={}", "[x,{},y]", "# {}", "x/{}"])
def test_a_key_is_found_wherever_it_stands(key: str, frame: str) -> None:
    if frame == "x/{}" and key is _RANDOM:
        return  # a path is a path, however long
    text = frame.format(key)
    assert key not in redact(text)
    assert [text[start:end] for start, end in find(text)] == [key]


@pytest.mark.parametrize(
    "line",
    [
        "password: correct-horse-battery",
        'event_key: "abcdefghijklmnop"',
        "INNGEST_EVENT_KEY=abcdefghijklmnop",
        '{"api-key": "abcdefghijklmnop"}',
        "secret: |\n  abcdefghijklmnop",
        "service_role_key : 'abcdefghijklmnop'",
        "url: postgresql://user:pass@host/db",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIE",
    ],
)
def test_a_key_without_a_shape_is_known_by_its_name(line: str) -> None:
    assert len(find(line)) == 1
    assert "abcdefghijklmnop" not in redact(line)
    assert "MIIE" not in redact(line)


@pytest.mark.parametrize(
    "text",
    [
        "3f1c9b1e-7f2b-4a37-9a43-2f9c3a9d1b11",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "a" * 128,
        "0123456789abcdef" * 8,
        "# " + "-" * 100,
        "# " + "=" * 100,
        "a-long-organisation/" + "a-very-long-repository-name-" * 3 + "1234567890",
        "a-long-organisation/" + "A-very-Long-Repository-Name-1-" * 4,
        "risk-assessment-and-management-2024-Edition",
        "org/desk-booking-And-Task-scheduling-2024",
        "https://api.example.com/v1/items?q=token&cursor=abcdefghijklmnopqrstuvwxyz",
        "git@github.com:vercel/ai.git",
        "postgresql://localhost/db",
        "https://user@host/",
        'token: "{{ vars.github_installation_token }}"',
        "password: ${DATABASE_PASSWORD}",
        "required: [token, secret, password]",
        "token:\n  additionalProperties: false",
        "tokens: 1234567890123456789",
        "max_tokens: 1234567890123456",
        "TOKEN: 10000000000000.0",
        "idempotency_key: repository-owner-and-name",
        "monkey: abcdefghijklmnopqrstuvwxyz",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "event_key: STAGING_INNGEST_EVENT_KEY",
    ],
)
def test_what_belongs_in_a_plan_is_no_key(text: str) -> None:
    assert find(text) == []
    assert redact(text) == text


def test_a_mask_keeps_every_line_and_column() -> None:
    text = f"a: {KEYS[2]} # b\n-----BEGIN PRIVATE KEY-----\nMIIE\nMIIF"
    masked = mask(text, find(text))
    assert [len(line) for line in masked.split("\n")] == [len(line) for line in text.split("\n")]
    assert masked.startswith("a: ***")
    assert "# b" in masked
    assert "MIIF" not in masked


@pytest.mark.parametrize(("key", "of_it_in_the_first_part"), crossed(KEYS, [0, 1, 2, 7, 40, 85]))
def test_a_file_is_suspect_wherever_its_parts_meet_in_a_key(
    key: str, of_it_in_the_first_part: int
) -> None:
    """The file is searched one mebibyte at a time."""
    before = b" " * ((1 << 20) - min(of_it_in_the_first_part, len(key)))
    assert suspect(before + key.encode() + b" some words")
    assert not suspect(before + b" some words")


@pytest.mark.parametrize("key", some(KEYS, 4))
def test_a_key_is_found_in_a_large_file(key: str, tmp_path: Path) -> None:
    row = b'{"repo": "acme/%07d", "note": "' + b"some words " * 900 + b'"}\n'
    begin = b'{"repo": "acme/mobile", "x": "'
    room = (1 << 20) - 7 - len(begin)
    rows = b"".join(row % number for number in range(room // len(row % 0)))
    rows += b" " * (room - len(rows)) + begin + key.encode() + b'"}\n' + row % 0
    (tmp_path / "rows.jsonl").write_bytes(rows)
    (tmp_path / "plan.yaml").write_text(
        "apiVersion: backfill/v1\nkind: BackfillPlan\nmetadata: {name: large}\n"
        "repos: [{file: rows.jsonl}]\noperations: []\n",
        encoding="utf-8",
    )
    with pytest.raises(InvalidPlan) as refused:
        load_plan(str(tmp_path / "plan.yaml"))
    assert "secret" in {problem.rule for problem in refused.value.problems}


def test_even_the_beginning_of_a_key_is_scrubbed() -> None:
    key = "correct-horse-battery-staple"
    scrub = Scrubber([key, "correct-horse-race", "abc"])
    assert scrub(f"`{key}` and `{key[:12]}…`") == "`***` and `***…`"
    assert scrub("correct answer, abc") == "correct answer, abc"
    assert scrub("correct-horse-racing") == "***ing"


def test_excerpts_of_a_document_never_hold_a_key() -> None:
    """Not even if another problem is on the key's own line."""
    for key in KEYS:
        document, problems, keys = parse(
            f"a: no\nb: [{key}, no]\nc: {{d: {key}, d: 1}}".encode(), "f"
        )
        assert keys == [key, key]
        assert key not in repr(problems)
        assert key not in document.text


@given(st.text(max_size=300))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "part",
    [
        *(
            "token: ",
            "sk-",
            "sk-A1a",
            "://",
            "://a:",
            "eyJ",
            "ghp_",
            "signkey-",
            "A1a-",
            "-----BEGIN ",
        ),
        *("eyJ-", "sk-a-", "sk-A1", f"token:{' ' * 98}"),
    ],
)
def test_no_text_takes_long_to_search(part: str) -> None:
    """Hundreds of thousands of characters, whatever is repeated, take a second or two."""
    started = time.process_time()
    find(part * (300_000 // len(part)))
    assert time.process_time() - started < 1.5
