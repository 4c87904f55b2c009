"""Templates: expressions over data, which keep types, and can neither reach out nor grow."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import Json
from runner.spec.json_limits import fault
from runner.spec.rendering import BUDGET, MAX_OUTPUT, TemplateError
from runner.spec.sandbox import sandbox
from runner.spec.templates import (
    MAX_SOURCE,
    _compile_jinja,
    compile_condition,
    compile_value,
)
from tests.depth import crossed

CONTEXT: dict[str, Json] = {
    "repo": {
        "repo": "vercel/ai",
        "owner": "vercel",
        "velocity": 40,
        "ratio": 0.5,
        "public": True,
        "label": None,
        "tags": ["b", "a"],
        "items": "data",
        "nested": {"deep": {"er": [1, {"x": 2}]}},
    },
    "vars": {"days": 90, "many": [f"owner/name-{n}" for n in range(20_000)]},
}

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def _as_for_a_new_plan() -> None:
    BUDGET.begin()


def render(value: Json, context: dict[str, Json] | None = None) -> Any:
    compiled = compile_value(value)
    assert compiled is not None, "a template, not a constant"
    return compiled(context or CONTEXT)


def refusal(template: Json) -> str:
    with pytest.raises(TemplateError) as caught:
        render(template)
    return str(caught.value)


@given(VALUES)
def test_a_value_survives_both_ways_of_reading_it(value: Json) -> None:
    """The shortcut for `{{ a.b }}` and Jinja itself give the same value, of the same type."""
    context = {"vars": {"x": value}}
    assert repr(render("{{ vars.x }}", context)) == repr(value)
    assert repr(render("{{ vars['x'] }}", context)) == repr(value)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ repo.velocity }}", 40),
        ("{{repo.velocity}}", 40),
        ("{{- repo.velocity -}}", 40),
        ("{{ repo.velocity }}\n", 40),
        ("{{ repo.velocity }}{# with a comment #}", 40),
        ("{{ repo.velocity + 2 }}", 42),
        ("{{ repo.velocity > 10 and repo.public }}", True),
        ("{{ -repo.velocity }}", -40),
        ("{{ repo.tags | sort }}", ["a", "b"]),
        ("{{ repo.tags | map('upper') }}", ["B", "A"]),
        ("{{ repo.nested.deep.er[1].x }}", 2),
        ("{{ repo['items'] }}", "data"),
        ("{{ repo.stars | default(7) }}", 7),
        ("{{ 'high' if repo.velocity > 10 else 'low' }}", "high"),
        ("{{ {'a': [repo.velocity]} }}", {"a": [40]}),
        ("{{ (1, 2) }}", [1, 2]),
        ("{{ repo.tags | join(', ') }}", "b, a"),
        ("{{ repo.repo | replace('/', '-') }}", "vercel-ai"),
        ("{{ [1, 2.5] | sum }}", 3.5),
        ("{{ 2.567 | round(1) }}", 2.6),
        ("{{ repo.nested | tojson }}", '{"deep": {"er": [1, {"x": 2}]}}'),
        ("{{ repo.repo.split is defined }}", False),
        ("last {{ vars.days }} days", "last 90 days"),
        ("{{ repo.public }} {{ repo.tags }}", 'true ["b", "a"]'),
        ("{% if repo.public %}yes{% else %}no{% endif %}", "yes"),
        ("{% raw %}{{ no }}{% endraw %}", "{{ no }}"),
        (["{{ vars.days }}", 1], [90, 1]),
        ({"a": {"b": "{{ vars.days }}", "c": None}}, {"a": {"b": 90, "c": None}}),
    ],
)
def test_an_expression_keeps_its_type_and_text_is_as_json_has_it(
    template: Json, value: Json
) -> None:
    assert repr(render(template)) == repr(value)


@pytest.mark.parametrize(
    "value", [None, True, 5, 1.5, "", "plain", "{ brace }", ["a", {"b": 1}], {}]
)
def test_what_holds_no_template_is_a_constant(value: Json) -> None:
    assert compile_value(value) is None


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ repo.stars }}", "`repo` has no `stars`"),
        ("{{ repo.nested.deeper }}", "`repo.nested` has no `deeper`"),
        ("{{ repo.owner.name }}", "`repo.owner` has no `name`"),
        ("{{ env.HOME }}", "`env` is not defined here"),
        ("{{ env['HOME'] }}", "`env` is not defined here"),
        ("{{ repo.stars + 1 }}", "there is no `stars`"),
        ("{{ repo.tags[9] }}", "there is no `9`"),
        ("{{ 1 if false }}", "no value"),
        ("a {{ repo.label }}", "a null cannot be part of a text"),
        ("{{ [nothing] }}", "`nothing` is not defined"),
        ("{{ repo.velocity / 0 }}", "division by zero"),
        ("{{ repo.velocity + 'a' }}", "`+` does not work with a number and text"),
        ("{{ 1e308 * 10 }}", "not a JSON number"),
        ("{{ 'nan' | float }}", "not a JSON number"),
        ("{{ '1O' | int }}", "`1O` is not a number"),  # it was 0
        ("{{ 'x' | float }}", "`x` is not a number"),
        ("{{ none | int }}", "`null` is not a number"),
        ("{{ none | float }}", "`null` is not a number"),
        ("{{ 'fg' | int(base=16) }}", "`fg` is not a number"),
        ("{{ 2 ** 64 }}", "64 bits"),
        ("{{ (-8) ** 0.5 }}", "complex"),
        ("{{ 'inf' | float > 3 and 'nan' | float }}", "not a JSON number"),
        ("{{ self }}", "not a JSON value"),
    ],
)
def test_what_cannot_be_rendered_is_said_plainly(template: str, words: str) -> None:
    message = refusal(template)
    assert words in message
    assert "object" not in message


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ repo.owner", "never closed"),
        ("{{ }}", "Expected an expression"),
        ("{{ 1 + }}", "ends too early"),
        ("{{ repo.owner | uper }}", "there is no filter `uper`"),
        ("{{ repo.owner is stringy }}", "there is no test `stringy`"),
        ("{{ repo.owner | attr('x') }}", "there is no filter `attr`"),
        ("{% for x in [1] %}{% endfor %}", "`for` is not allowed"),
        ("{% set x = 1 %}", "`assign` is not allowed"),
        ("{% macro f() %}{% endmacro %}", "`macro` is not allowed"),
        ("{% include 'x' %}", "`include` is not allowed"),
        ("{% import 'x' as y %}", "`import` is not allowed"),
        ("{% extends 'x' %}", "`extends` is not allowed"),
        ("{% block x %}{% endblock %}", "`block` is not allowed"),
        ("{% call x() %}{% endcall %}", "is not allowed"),
        ("{% filter upper %}x{% endfilter %}", "is not allowed"),
        ("{% with %}{% endwith %}", "`with` is not allowed"),
        ("{% autoescape true %}{% endautoescape %}", "is not allowed"),
        ("{% do x %}", "does not parse"),
        ("{% if repo.x %}", "never closed"),
        ("{# never closed", "Missing end of comment"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "does not compile"),
        ("{{ " + "[" * 150 + "]" * 150 + " }}", "nest"),
        ("{{ " + "not " * 3000 + "x }}", "does not compile"),
        ("{{ " + "9" * 5000 + " }}", "does not compile"),
        ("{{ '" + "x" * MAX_SOURCE + "' }}", "more than"),
    ],
)
def test_what_does_not_compile_is_said_plainly(template: str, words: str) -> None:
    assert words in refusal(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ repo.__class__ }}",
        "{{ repo['__class__'] }}",
        "{{ repo.__init__.__globals__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ repo.tags.append('x') }}",
        "{{ repo.update({'a': 1}) }}",
        "{{ repo.repo.upper() }}",
        "{{ repo.repo.format('x') }}",
        "{{ '%s' % repo }}",
        "{{ '{0.__class__}'.format(repo) }}",
        "{{ repo | map(attribute='__class__') }}",
        "{{ [repo] | map(attribute='__class__') }}",
        "{{ [repo] | map('attr', '__class__') }}",
        "{{ [repo] | join(attribute='__class__') }}",
        "{{ range(10) }}",
        "{{ dict(a=1) }}",
        "{{ lipsum() }}",
        "{{ cycler('a').next() }}",
        "{{ namespace() }}",
        "{{ self._TemplateReference__context }}",
        "{{ self.x() }}",
        "{{ super() }}",
        "{{ caller() }}",
        "{{ (repo | items).gi_frame }}",
        "{{ [].append }}",
        "{{ repo.tags.__len__ }}",
        "{{ joiner }}",
    ],
)
def test_nothing_of_python_can_be_reached(template: str) -> None:
    """Neither attributes nor calls nor Jinja's own helpers work, and the data does not change."""
    before = repr(CONTEXT["repo"])
    refusal(template)
    assert repr(CONTEXT["repo"]) == before


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 10000000 }}",
        "{{ 10000000 * 'x' }}",
        "{{ ['x'] * 10000000 }}",
        "{{ (['a' * 200000] * 200000) | join }}",
        "{{ [['a' * 1000] * 200] * 200000 }}",
        "{{ 10 ** 100000 }}",
        "{{ ((10 ** 64) ** 64) ** 64 }}",
        "{{ vars.many | join('x' * 200000) }}",
        "{{ vars.many | map('replace', '/', 'x' * 200000) | sort | first }}",
        "{{ vars.many | map(attribute='no', default='x' * 200000) | sort | tojson | length }}",
        "{{ vars.many | map(attribute='no', default='x' * 200000) | map('upper') | list }}",
        "{{ vars.many | map('truncate', 3, true, 'x' * 200000) | sort | length }}",
        "{{ 'a{{ x }}' }}{{ vars.many | map(attribute='no', default='x' * 200000) | list }}",
        "{{ ('x' * 200000) | replace('x', 'y' * 200000) }}",
        "{{ 1.5 | round(1000000000, 'ceil') }}",
        "{{ '%999999999d' % 1 }}",
        "{{ (['x'] * 200000) | tojson(indent=100000) }}",
        "{{ ([[1]] * 100000) | sum(start=[]) }}",
        "{{ vars.many }}{{ vars.many }}{{ vars.many }}",
        "{{ vars.many + vars.many + vars.many }}",
        "{{ [" + "'x' * 200000, " * 1000 + "] | join | length }}",
        "{{ " + "+".join(["('x' * 200000)"] * 900) + " }}",
        "{{ " + "*".join(["9" * 300] * 40) + " }}",
    ],
)
def test_no_template_grows_without_bound(template: str) -> None:
    """It is refused at once, before it takes the memory."""
    started = time.perf_counter()
    refusal(template)
    assert time.perf_counter() - started < 5


def test_a_result_may_be_as_large_as_an_event() -> None:
    assert len(render("{{ 'x' * " + str(MAX_OUTPUT // 2) + " }}")) == MAX_OUTPUT // 2
    assert refusal("{{ ('x' * 200000) ~ ('x' * 200000) }}").startswith("the result has more than")


def test_the_budget_is_that_of_one_rendering() -> None:
    template = compile_value("{{ vars.many | map('upper') | sort | first }}")
    assert template is not None
    for _ in range(4):  # each uses a third of the budget
        assert template(CONTEXT) == "OWNER/NAME-0"


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("repo.velocity >= 10", True),
        ("{{ repo.velocity >= 100 }}", False),
        ("  repo.public  ", True),
        ("repo.label", False),
        ("repo.tags", True),
        ("not repo.tags", False),
        ("repo.owner in ['vercel', 'other']", True),
        ("repo.stars is defined and repo.stars > 3", False),
        ("repo.velocity", True),
        ("'}}' != repo.owner", True),
    ],
)
def test_a_condition_is_decided(source: str, kept: bool) -> None:
    assert compile_condition(source)(CONTEXT) is kept


@pytest.mark.parametrize("source", ["repo.owner", "'false'", "{{ repo.owner }}"])
def test_text_is_no_answer_to_a_condition(source: str) -> None:
    """`--var wanted=no` is text: if it counted as true, unwanted events would be sent."""
    with pytest.raises(TemplateError, match="neither true nor false"):
        compile_condition(source)(CONTEXT)


@pytest.mark.parametrize(
    "source",
    [
        "{{ repo.a }} and {{ repo.b }}",
        "{% if repo.a %}true{% endif %}",
        "a b",
        "",
        "}}",
        "x }}{{ y",
    ],
)
def test_a_condition_is_one_expression(source: str) -> None:
    with pytest.raises(TemplateError):
        compile_condition(source)


WORDS = [
    *("repo", "repo.velocity", "repo.owner", "repo.tags", "repo.nested", "vars.days", "nothing"),
    *("0", "1", "-1", "1.5", "'x'", "''", "[]", "{}", "[1,'a',none]", "{'a':1}", "none", "true"),
    *("(", ")", "[", "]", ",", ".", ":", "~", "+", "-", "*", "**", "/", "//", "%", "==", "<"),
    *("and", "or", "not", "in", "is", "if", "else", "defined", "string", "mapping", "iterable"),
    *("9999999999", "1e308", "attribute=", "default=", "}}", "{{", "{%", "%}", "{#", "#}"),
    *(f"| {name}" for name in sandbox().filters),
]


@given(st.lists(st.sampled_from(WORDS), max_size=9))
def test_no_expression_is_more_than_a_template_error(words: list[str]) -> None:
    """Any expression in a payload gives a JSON value, or this one kind of error."""
    with suppress(TemplateError):
        compiled = compile_value("{{ " + " ".join(words) + " }}")
        assert fault(compiled(CONTEXT) if compiled else None) is None


@pytest.mark.parametrize("name", sorted(sandbox().filters))
def test_no_filter_raises_anything_else(name: str) -> None:
    subjects = ["5", "'x'", "none", "[1, 'a', none]", "{'a': 1}", "true", "nothing"]
    given = ["", "(1)", "('x')", "(none, -1)", "([1], {'a': 1})", "(attribute='a')"]
    for subject, arguments in crossed(subjects, given):
        expression = "{{ " + f"{subject} | {name}{arguments}" + " }}"
        for template in (expression, f"text {expression}"):
            with suppress(TemplateError):
                assert fault(render(template)) is None


TEXTS = st.text(st.sampled_from("ab/%s#é {}\n\"'"), max_size=4)
PIECES = st.sampled_from(
    [
        "{{ repo.owner }}",
        "{{repo.repo}}",
        "{{ repo.label }}",
        "{{ repo.velocity }}",
        "{{repo.gone}}",
    ]
)


@given(st.lists(TEXTS | PIECES, min_size=1, max_size=5).map("".join))
def test_text_with_references_is_what_the_engine_makes_of_it(source: str) -> None:
    """The shortcut past the engine gives the same text and the same errors."""

    def told(make: Any) -> tuple[str, object]:
        try:
            return "value", make()(CONTEXT)
        except TemplateError as error:
            return "error", (str(error), error.hint)

    if "{{" in source:
        engine = told(lambda: _compile_jinja(source, single=False))
        ours = told(lambda: compile_value(source))
        if ours[0] == engine[0] == "value":
            assert (ours, type(ours[1])) == (engine, type(engine[1]))
        assert ours[0] == engine[0]


@pytest.mark.parametrize(
    "made",
    ["| upper", "| lower", "| title", "| capitalize", "| trim", "| truncate", "| urlencode",
     "| replace('a', 'b')", "| split", "| string", "~ ''"],
)  # fmt: skip
def test_a_null_becomes_no_text_however_text_is_made_of_it(made: str) -> None:
    assert refusal("{{ repo.label " + made + " }}") == "a null cannot be part of a text"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ repo.public ~ '' }}", "true"),
        ("{{ '' ~ repo.tags ~ repo.ratio }}", '["b", "a"]0.5'),
        ("{{ repo.public | urlencode }}", "true"),
        ("{{ repo.tags | upper }}", '["B", "A"]'),
        ("{{ {'a': 1} | urlencode }}", "a=1"),
        ("{{ repo.velocity | truncate(9) }}", "40"),
        ("{{ '2026-01-01' | date('%%s %s') }}", "%s 1767225600"),
    ],
)
def test_what_becomes_text_in_an_expression_is_as_json_has_it(template: str, text: str) -> None:
    assert render(template) == text


@pytest.mark.parametrize(
    "template",
    ["{{ 1e400 }}", "x{{ [-1e400] }}", "{% if 1e400 > repo.velocity %}a{% endif %}",
     "{{ repo.velocity < 1e999 }}"],
)  # fmt: skip
def test_a_number_that_json_does_not_have_is_refused_as_it_is_written(template: str) -> None:
    with pytest.raises(TemplateError, match="too large for JSON"):
        compile_value(template)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ '7' | int }}", 7),
        ("{{ '7.9' | int }}", 7),
        ("{{ 'ff' | int(base=16) }}", 255),
        ("{{ 'x' | int(0) }}", 0),
        ("{{ none | int(0) }}", 0),
        ("{{ 'x' | int(default=3) }}", 3),
        ("{{ '2.5' | float }}", 2.5),
        ("{{ 'x' | float(1.5) }}", 1.5),
    ],
)
def test_a_text_is_read_as_the_number_that_it_is_or_as_its_default(text: str, value: Json) -> None:
    assert render(text) == value


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("'a' < 1", "`<` does not work with text and a number"),
        ("'a' + 1", "`+` does not work with text and a number"),
        ("[1] + 1", "`+` does not work with a list and a number"),
        ("'a' * 'b'", "`*` does not work with text"),
        ("none ** 2", "`**` does not work with null and a number"),
        ("-{}", "`-` does not work with a mapping"),
        ("1 in 5", "the expression does not work with a number"),
        ("'a' | ceil", "the expression does not work with text"),
        ("[1, 'a'] | sort", "`<` does not work with text and a number"),
        ("5 | replace('a')", "`replace` is not called with the values that it takes"),
        ("5 | upper(1)", "`upper` is not called with the values that it takes"),
        ("5 | round(x=1)", "`round` is not called with the values that it takes"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_in_words_of_plans_and_not_of_python(
    expression: str, message: str
) -> None:
    render = compile_value(f"{{{{ {expression} }}}}")
    assert render
    with pytest.raises(TemplateError) as caught:
        render({})
    assert str(caught.value) == message
