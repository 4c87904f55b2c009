"""CSV and JSON Lines: rows of typed values, made on demand, or a problem with its line."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import Data
from runner.spec.collections import check_rows
from runner.spec.data_files import CsvRows, JsonlRows, is_json_lines, read_csv, read_jsonl
from runner.spec.kinds import REPOSITORY, ByKey, OwnKind, RepositoryKind
from runner.spec.rows import Concatenated, Part, RowError, RowKind
from tests.depth import depth

# Cells that read as text: neither numbers nor booleans.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=12).map(
    "x{}".format
)


OWN = OwnKind(ByKey(), for_each="users")


def csv_rows(text: str | bytes, workspace: str | None = None) -> CsvRows:
    raw = text if isinstance(text, bytes) else text.encode()
    rows, problems = read_csv("f.csv", raw, RepositoryKind(workspace))
    assert not problems
    assert rows is not None
    return rows


def jsonl_rows(text: str, workspace: str | None = None) -> JsonlRows:
    rows, problems = read_jsonl("f.jsonl", text.encode(), RepositoryKind(workspace))
    assert not problems
    assert rows is not None
    return rows


def listed(rows: Part) -> list[Data]:
    return [{k: v for k, v in row.items() if k not in ("owner", "name")} for row in _all(rows)]


def _all(rows: Part) -> list[Data]:
    return [rows[index] for index in range(len(rows))]


def faults(rows: Part) -> list[tuple[int | None, str]]:
    return [(p.line, p.message) for p in check_rows(Concatenated([rows]), REPOSITORY, {"sync"})]


def test_cells_are_typed_and_empty_ones_are_missing() -> None:
    rows = csv_rows(
        "repo,priority,velocity,skip,a,b,c,workspace\n"
        "o/a,high,40,sync;other sync,true,007,1.50,12\n"
        "o/b,,,,,,,\n"
        "o/c,low,-0.5,sync,false,1e5,0,9999999999999999\n"
        "o/d,,,,TRUE,False,tRUE,True\n"
    )
    assert listed(rows) == [
        {"repo": "o/a", "priority": "high", "velocity": 40, "skip": ["sync", "other", "sync"]}
        | {"a": True, "b": "007", "c": 1.5, "workspace": "12"},
        {"repo": "o/b"},
        {"repo": "o/c", "priority": "low", "velocity": -0.5, "skip": ["sync"]}
        | {"a": False, "b": "1e5", "c": 0, "workspace": "9999999999999999"},
        {"repo": "o/d", "a": True, "b": False, "c": "tRUE", "workspace": "True"},
    ]


def test_owner_and_name_come_from_the_repository_and_the_workspace_by_default() -> None:
    rows = csv_rows("repo,workspace\no/a,\no/b,w2\n", workspace="w1")
    assert _all(rows) == [
        {"repo": "o/a", "owner": "o", "name": "a", "workspace": "w1"},
        {"repo": "o/b", "owner": "o", "name": "b", "workspace": "w2"},
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_blank_lines_and_byte_order_marks_are_no_matter(
    end: str, bom: bytes, last: bool
) -> None:
    lines = ["", "repo,label", "", 'o/a,"x', "", 'y"', "", "o/b,z", *([""] * last)]
    rows = csv_rows(bom + end.join(lines).encode())
    label = f"x{end}{end}y"
    assert listed(rows) == [{"repo": "o/a", "label": label}, {"repo": "o/b", "label": "z"}]
    assert [rows.place(index).line for index in (0, 1)] == [4, 8]


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1), st.sampled_from(["\n", "\r\n"]))
def test_what_a_csv_writer_writes_is_read(cells: list[tuple[str, str]], end: str) -> None:
    """Quotes, commas and line ends in cells, and every line separator that Unicode has."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator=end)
    writer.writerow(["repo", "one", "two"])
    for index, (one, two) in enumerate(cells):
        writer.writerow([f"o/r{index}", one, two])
    expected = [{"repo": f"o/r{n}", "one": a, "two": b} for n, (a, b) in enumerate(cells)]
    assert listed(csv_rows(buffer.getvalue())) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column `repo`"),
        ("\n\n", "no column `repo`"),
        ("name,priority\n", "no column `repo`"),
        ("repo;priority\no/a;high\n", "no column `repo`"),
        ("Repo\no/a\n", "no column `repo`"),
        ("repo,repo\n", "`repo` twice"),
        ("repo,Skip\no/a,sync\n", "has a column `Skip`"),
        ("repo,\no/a,\n", "column 2 has no name"),
        ('repo,"never closed\n', "a quote is never closed"),
        ("repo,a\ro/a,b\r", "carriage return"),
        ("repo\n\xff".encode("latin-1"), "not UTF-8"),
        ("repo\no/a\n".encode("utf-16"), "not UTF-8 (UTF-16)"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_problem(text: str | bytes, words: str) -> None:
    rows, (problem,) = read_csv(
        "f.csv", text if isinstance(text, bytes) else text.encode(), REPOSITORY
    )
    assert rows is None
    assert words in problem.message
    assert problem.hint
    assert problem.path == "f.csv"


@given(
    st.lists(
        st.sampled_from(["item", "name", "id", "team", "a b", "x\ny"]), min_size=1, unique=True
    ),
    st.lists(CELLS, min_size=1),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_a_table_whose_cells_are_all_quoted_is_a_table(
    columns: list[str], cells: list[str], bom: bytes
) -> None:
    """Whatever its name; but on stdin a lone column that names no item reads as a text of JSON
    Lines."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerows([columns, *([cell] * len(columns) for cell in cells)])
    raw = bom + buffer.getvalue().encode()
    assert not is_json_lines("users.csv", raw, OWN)
    if columns not in (["team"], ["a b"]):
        assert not is_json_lines("stdin", raw, OWN)
    rows, problems = read_csv("users.csv", raw, OWN)
    assert not problems
    assert rows is not None
    assert _all(rows) == [dict.fromkeys(columns, cell) for cell in cells]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("kind", [OWN, REPOSITORY], ids=["own", "repository"])
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('{"id": 1}\n', True),
        ('"acme/x"\n"acme/y"\n', True),
        ('\n "acme/x"', True),
        ('"repo"\n"acme/x"\n', None),
        ('"repo","priority"\r\n"acme/x","high"\r\n', False),
        ("repo\nacme/x\n", False),
        ("", False),
        ('[{"id": 1}]', True),
        ('[\n  {"id": 1}\n]', True),
        ("[id],[name]\n1,x\n", False),
    ],
)
def test_what_has_no_ending_is_told_by_its_first_line(
    text: str, lines: bool | None, kind: RowKind, bom: bytes
) -> None:
    """An item of a collection may be called `repo`; a repository may not."""
    expected = kind is OWN if lines is None else lines
    assert is_json_lines("stdin", bom + text.encode(), kind) == expected
    assert is_json_lines("x.jsonl", bom + text.encode(), kind)


@pytest.mark.parametrize("line", ["id;name", "id\tname", "id;"])
def test_a_table_with_other_separators_is_told_what_they_are(line: str) -> None:
    rows, (problem,) = read_csv("f.csv", f"{line}\n1{line[2]}x\n".encode(), OWN)
    assert rows is None
    assert problem.hint == "separate the columns with commas"


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "\r\n"])
def test_a_table_of_any_columns_needs_a_header_line(text: str) -> None:
    rows, (problem,) = read_csv("f.csv", text.encode(), OWN)
    assert rows is None
    assert (problem.message, problem.line) == ("there is no header line", 1)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("o/a", "1 cell in a table of 2 columns"),
        ("o/a,b,c", "3 cells in a table of 2 columns"),
        ('o/a,"b" c', "not CSV"),
        ('o/a,"b', "a quote is never closed"),
        ('o/a,"' + "x" * 200_000 + '"', "not CSV"),
        ('o/a,"x"\ry', "carriage return"),
        ('o/a,5" pipe\no/b,6" pipe\n', "a quote in a cell that is not quoted"),
        ('o/a,5" pipe\r\no/b,"x"\r\n', "a quote in a cell that is not quoted"),
        ("not-a-name,b", "`not-a-name` is not a repository"),
        (",b", "`repo` is empty"),
        ("o/a/b,b", "`o/a/b` is not a repository"),
        ("é/a,b", "`é/a` is not a repository"),
    ],
)
def test_a_row_that_is_wrong_is_a_problem_at_its_line(line: str, words: str) -> None:
    rows = csv_rows(f"repo,label\nok/ok,fine\n{line}")
    ((number, message),) = faults(rows)
    assert words in message
    assert number == 3
    assert len(message) < 200


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"repo": "o/a",}', "not JSON"),
        ('{"repo": "o/a"} {"repo": "o/b"}', "not JSON: Extra data at column"),
        ('{"repo": "o/a\t"}', "not JSON: Invalid control character at column"),
        ("[1]", "expected an object"),
        ("5", "expected an object"),
        ("null", "expected an object"),
        ('{"repo": null}', "`repo` is empty; expected a string"),
        ('{"repo": ["o/a"]}', "`repo` is a list"),
        ("{}", "`repo` is missing"),
        ('{"repo": "o/a", "x": NaN}', "`NaN` is not a JSON number"),
        ('{"repo": "o/a", "x": -Infinity}', "is not a JSON number"),
        ('{"repo": "o/a", "x": 1e999}', "too large for a JSON number"),
        ('{"repo": "o/a", "x": ' + "9" * 5000 + "}", "64 bits"),
        ('{"repo": "o/a", "x": 18446744073709551616}', "64 bits"),
        ('{"repo": "o/a", "repo": "o/b"}', "the key `repo` is written twice"),
        ('{"repo": "o/a", "x": "\\ud800"}', "surrogate"),
        ('{"repo": "o/\\ud800"}', "surrogate"),
        ('"\\udfff/x"', "surrogate"),
        ('{"repo": "o/a", "\\ud800": 1}', "surrogate"),
        ('{"repo": "o/a", "x": ' + "[" * 100 + "]" * 100 + "}", "nested"),
        ('{"repo": "o/a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested"),
        ('{"repo": "o/a", "x": ' + '{"y":' * 100_000, "nested"),
        ('{"repo": "o/a", "skip": "sync"}', "expected a list"),
        ('{"repo": "o/a", "skip": [1]}', "expected a string"),
        ('{"repo": "o/a", "skip": ["snyc"]}', "unknown operation `snyc`"),
        ('{"repo": "o/a", "workspace": 5}', "expected a string"),
        ('{"repo": "o/a", "workspace": []}', "expected a string"),
        ('{"repo": "o/a", "workspace": ""}', "`workspace` is empty"),
        ('{"repo": "o/a", "priority": ["high"]}', "expected one of"),
        ('{"repo": "o/a", "velocity": "fast"}', "expected a number"),
        ('{"repo": "o/a", "a b": 1}', "`a b` is not a name for an attribute"),
        ('{"file": "other.csv"}', "`repo` is missing"),
    ],
)
def test_a_line_that_is_wrong_is_a_problem_at_its_line(line: str, words: str) -> None:
    rows = jsonl_rows(f'"ok/ok"\n\n{line}\n')
    found = faults(rows)
    assert any(words in message for _, message in found), found
    assert {number for number, _ in found} == {3}
    assert all(len(message) < 200 for _, message in found)
    assert all(message.isprintable() for _, message in found)


def test_json_lines_may_be_names_or_objects_with_any_attribute() -> None:
    rows = jsonl_rows('\ufeff"o/a"\n\n \n{"repo": "o/b", "x": {"y": [1, null, "é\\u00e9"]}}', "w")
    assert listed(rows) == [
        {"repo": "o/a", "workspace": "w"},
        {"repo": "o/b", "x": {"y": [1, None, "éé"]}, "workspace": "w"},
    ]
    assert rows.place(1).line == 4


@given(
    st.lists(
        st.dictionaries(
            st.from_regex(r"[a-np-z_][a-z0-9_]{0,6}", fullmatch=True),
            st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=9),
        )
    )
)
def test_what_json_writes_is_read(values: list[Data]) -> None:
    rows = [{"repo": f"o/r{n}", **value} for n, value in enumerate(values)]
    text = "\n".join(json.dumps(row) for row in rows)
    try:
        text = "\n".join(json.dumps(row, ensure_ascii=False).encode().decode() for row in rows)
    except UnicodeEncodeError:
        with pytest.raises(RowError, match="surrogate"):
            _all(jsonl_rows(text))
        return
    kept = [{k: v for k, v in row.items() if k not in ("owner", "name")} for row in rows]
    assert listed(jsonl_rows(text)) == kept


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["repo", "a", "b", "é", 'quo"te', "back\\slash", ""]),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers(-(2**63) - 2, 2**64 + 2)
                | st.floats(allow_nan=False)
                | st.sampled_from(["", "x", '"', "a:b", ": ", "\\"]),
                lambda inner: (
                    st.lists(inner, max_size=2)
                    | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
                ),
                max_leaves=4,
            ),
        ),
        max_size=4,
    ),
    st.sampled_from([":", ": ", " : "]),
)
def test_a_line_is_what_it_says_or_is_refused_and_never_half_of_it(
    members: list[tuple[str, Any]], between: str
) -> None:
    """This holds for both ways of reading a line, for a repeated key and for a number that JSON
    readers disagree about."""
    line = ",".join(f"{json.dumps(key)}{between}{json.dumps(value)}" for key, value in members)
    rows = jsonl_rows(f"{{{line}}}")
    numbers = map(int, re.findall(r"(?<![\d.])-?\d{18,}(?![\d.e])", line))
    huge = "Infinity" in line or any(not -(2**63) <= number < 2**64 for number in numbers)
    kept = {key: value for key, value in members if key not in ("owner", "name")}
    if huge or len(kept) < len(members):
        with pytest.raises(RowError):
            _all(rows)
    else:
        assert [repr(row) for row in listed(rows)] == [repr(kept)]


def test_a_repository_is_listed_once_in_whichever_file() -> None:
    one = csv_rows("repo\no/a\no/b\n")
    two = jsonl_rows('"o/c"\n"o/b"\n"o/b"\n')
    problems = check_rows(Concatenated([one, two]), REPOSITORY, set())
    assert [(p.path, p.line, p.message) for p in problems] == [
        ("f.jsonl", 2, "`o/b` is listed twice (first in f.csv:3)"),
        ("f.jsonl", 3, "`o/b` is listed twice (first in f.csv:3)"),
    ]


def test_a_file_of_nothing_but_faults_is_not_told_in_full() -> None:
    rows = csv_rows("repo\n" + "x\n" * 100_000)
    found = faults(rows)
    assert len(found) == 51
    assert "the remaining rows were not checked" in found[-1][1]


def test_many_rows_take_little_more_than_their_bytes() -> None:
    count = depth(20_000, 100_000)
    text = "repo,velocity\n" + "".join(f"owner/name-{n},{n}\n" for n in range(count))
    raw = text.encode()
    tracemalloc.start()
    rows, _ = read_csv("f.csv", raw, REPOSITORY)
    assert rows is not None
    check_rows(Concatenated([rows]), REPOSITORY, set())
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20 * count
    assert peak < 3 * len(raw) + 80 * count


WRITTEN = ("", "a", "01", "-1.50", "true", "é", '"a, b"', '"say ""it"""', '"two\nlines"', "x;y")


@given(st.lists(st.tuples(*[st.sampled_from(WRITTEN)] * 3), min_size=1, max_size=5))
def test_a_column_is_what_the_rows_have_in_it(table: list[tuple[str, ...]]) -> None:
    """Rows are sorted by a column without reading the other cells."""
    lines = ["repo,priority,velocity,skip", *(",".join(("o/r", *cells)) for cells in table)]
    rows = csv_rows("\n".join(lines))
    for column in rows.header:
        assert [*rows.column(column)] == [rows[n].get(column) for n in range(len(rows))]
