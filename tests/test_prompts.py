"""Prompt templates: their syntax, their values, messages and documents."""

from __future__ import annotations

import contextlib
import copy
import pickle
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint.errors import PromptError
from smendpoint.prompts import ChatPromptTemplate, Document, PromptTemplate

NAMES = st.sampled_from(["a", "b", "context", "question", "_", "x1", "class", "self", "\u8cea\u554f", "\uc9c8\ubb38"])
TEXTS = st.text(alphabet=st.sampled_from("ab{}\n \u20ac\U0001f600.[]!:0"), max_size=20)


# The syntax


@st.composite
def templates(draw: st.DrawFn) -> str:
    """Text of the accepted subset: escaped literals and plain fields."""
    escaped = TEXTS.map(lambda text: text.replace("{", "{{").replace("}", "}}"))
    fields = NAMES.map(lambda name: "{" + name + "}")
    return "".join(draw(st.lists(st.one_of(escaped, fields), max_size=12)))


@given(templates(), st.data())
def test_format_equals_the_standard_formatter_on_the_accepted_subset(template: str, data: st.DataObject) -> None:
    prompt = PromptTemplate(template)
    values = {name: data.draw(st.one_of(TEXTS, st.integers(), st.floats())) for name in prompt.input_variables}
    assert prompt.format(**values) == string.Formatter().vformat(template, (), values)


@given(st.text(alphabet=st.sampled_from("{}ab.[]!:0 \n"), max_size=30))
def test_any_text_is_a_template_that_the_standard_formatter_reads_alike_or_an_error(text: str) -> None:
    try:
        prompt = PromptTemplate(text)
    except PromptError:
        return
    parsed = string.Formatter().parse(text)
    fields = [(name, spec, conversion) for _, name, spec, conversion in parsed if name is not None]
    assert all(name.isidentifier() and not spec and not conversion for name, spec, conversion in fields)
    assert prompt.input_variables == tuple(dict.fromkeys(name for name, _, _ in fields))
    values = dict.fromkeys(prompt.input_variables, "{a}")
    assert prompt.format(**values) == string.Formatter().vformat(text, (), values)


@given(st.text(alphabet=st.sampled_from("{}ab.[]!:0 \n"), max_size=30))
def test_a_text_that_the_standard_formatter_reads_as_plain_names_is_a_template(text: str) -> None:
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError:
        plain = False
    else:
        # The formatter cannot tell `{a:}` from `{a}`; here it is refused.
        plain = not set(":!") & set(text) and all(name is None or name.isidentifier() for _, name, _, _ in parsed)
    if plain:
        PromptTemplate(text)
    elif not set(":!") & set(text):
        with pytest.raises(PromptError):
            PromptTemplate(text)


@given(st.text(max_size=60))
def test_any_unicode_text_is_a_template_or_a_prompt_error(text: str) -> None:
    with contextlib.suppress(PromptError):
        PromptTemplate(text)


@pytest.mark.parametrize(
    ("template", "position"),
    [
        ("{}", 0),
        ("ab{0}", 2),
        ("{ name }", 0),
        ("{a.b}", 0),
        ("{a.__class__.__init__.__globals__}", 0),
        ("{a[0]}", 0),
        ("{a!r}", 0),
        ("{a:>1000000000}", 0),
        ("{a:}", 0),
        ("{a{b}}", 0),
        ("{a-b}", 0),
        ("{a\nb}", 0),
        ('{"inputs": 1}', 0),
        ("x {a", 2),
        ("{{a}", 3),
        ("}", 0),
        ("{a}}", 3),
        ("{", 0),
        ("{{{", 2),
        ("x} {", 1),
    ],
)
def test_anything_but_a_plain_name_is_refused_with_its_position(template: str, position: int) -> None:
    with pytest.raises(PromptError, match=rf"at position {position} \(line 1, column {position + 1}\)"):
        PromptTemplate(template)


def test_a_position_is_also_given_as_line_and_column() -> None:
    with pytest.raises(PromptError, match=r"at position 8 \(line 3, column 4\)"):
        PromptTemplate("one\n\n{a}{0}")


def test_a_long_bad_field_is_not_repeated_whole() -> None:
    with pytest.raises(PromptError) as caught:
        PromptTemplate("{" + "secret " * 100 + "}")
    assert len(str(caught.value)) < 300


def test_a_name_that_python_would_normalise_is_refused_with_its_normal_form() -> None:
    with pytest.raises(PromptError, match="write its name as 'fi'"):
        PromptTemplate("{\ufb01}")
    assert PromptTemplate("{\u00e9t\u00e9}").input_variables == ("\u00e9t\u00e9",)


@pytest.mark.parametrize("template", [None, b"{a}", 1, ["{a}"]])
def test_a_template_must_be_text(template: Any) -> None:
    with pytest.raises(PromptError, match="must be str, not"):
        PromptTemplate(template)


@pytest.mark.parametrize("unit", ["{{", "}}", "{a}", "{{}}", "x", "{" + "a" * 40 + "}"])
def test_a_template_of_any_length_is_parsed(unit: str) -> None:
    assert PromptTemplate(unit * 100_000).format(**dict.fromkeys(PromptTemplate(unit).input_variables, "")) == (
        string.Formatter().vformat(unit, (), {unit[1:-1]: ""}) * 100_000
    )


# Values


def test_input_variables_are_named_once_in_the_order_of_first_use() -> None:
    assert PromptTemplate("{b}{a}{b}{{c}}").input_variables == ("b", "a")


@given(TEXTS)
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    assert PromptTemplate("[{a}|{b}]").format(a=value, b="{a}") == f"[{value}|{{a}}]"
    assert PromptTemplate("[{a}|{b}]").partial(a=value).format(b="{a}") == f"[{value}|{{a}}]"


def test_names_that_python_reserves_can_be_filled_in() -> None:
    assert PromptTemplate("{self}{class}").format(**{"self": 1, "class": 2}) == "12"


def test_the_error_for_wrong_names_lists_the_missing_and_the_unknown() -> None:
    with pytest.raises(PromptError) as caught:
        PromptTemplate("{context}{question}").format(context="x", query="y")
    assert str(caught.value) == "the template needs 'context', 'question'; missing: 'question'; unknown: 'query'"


def test_the_error_for_wrong_names_does_not_repeat_values() -> None:
    with pytest.raises(PromptError) as caught:
        PromptTemplate("{a}").format(b="private")
    assert "private" not in repr(caught.value)


def test_a_template_without_fields_refuses_values() -> None:
    with pytest.raises(PromptError, match="needs no values; unknown: 'a'"):
        PromptTemplate("plain").format(a=1)
    assert PromptTemplate("plain").format() == "plain"


@pytest.mark.parametrize("value", [None, b"x", bytearray(b"x"), memoryview(b"x"), len, str])
def test_a_value_that_is_surely_a_mistake_is_refused(value: object) -> None:
    with pytest.raises(PromptError, match="the value of 'a' must be text, not"):
        PromptTemplate("{a}").format(a=value)


def test_a_value_whose_text_cannot_be_made_is_a_prompt_error_with_its_cause() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("broken")

    with pytest.raises(PromptError, match="'a', Broken, cannot be converted to text") as caught:
        PromptTemplate("{a}").format(a=Broken())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_subclass_of_str_goes_in_as_the_text_that_it_is() -> None:
    class Loud(str):
        def __format__(self, spec: str) -> str:
            return "LOUD"

        def __str__(self) -> str:
            return "LOUD"

        def format_map(self, mapping: Any) -> str:
            return "LOUD"

    class Speaker:
        def __str__(self) -> str:
            return Loud("quiet")

    assert PromptTemplate("{a}").format(a=Loud("quiet")) == "quiet"
    assert PromptTemplate(Loud("{a}")).format(a=Speaker()) == "quiet"


@given(templates(), st.data())
def test_filling_in_two_steps_equals_filling_in_at_once(template: str, data: st.DataObject) -> None:
    prompt = PromptTemplate(template)
    values = {name: data.draw(TEXTS) for name in prompt.input_variables}
    early = {name: value for name, value in values.items() if data.draw(st.booleans())}
    later = {name: value for name, value in values.items() if name not in early}
    partial = prompt.partial(**early)
    assert partial.input_variables == tuple(later)
    assert partial.format(**later) == prompt.format(**values)
    assert pickle.loads(pickle.dumps(partial)) == partial


def test_partial_refuses_what_is_unknown_or_filled_in_already() -> None:
    prompt = PromptTemplate("{a}{b}").partial(a="1")
    with pytest.raises(PromptError, match="the template needs 'b'; unknown: 'a'"):
        prompt.partial(a="2")
    with pytest.raises(PromptError, match="needs 'b'; missing: 'b'; unknown: 'a'"):
        prompt.format(a="2")


# A template as a value


def test_templates_are_equal_by_text_and_by_what_is_filled_in() -> None:
    one = PromptTemplate("{a}{b}")
    assert one != PromptTemplate("{a}{c}")
    assert one.partial(a=1, b=2) == one.partial(b=2).partial(a="1")
    assert one.partial(a=1) != one.partial(a=2)
    assert one.template == one.partial(a=1).template == "{a}{b}"


def test_a_repr_shows_the_template_but_not_what_was_filled_in() -> None:
    prompt = PromptTemplate("{a} {b}")
    assert repr(prompt) == "PromptTemplate('{a} {b}')"
    assert repr(prompt.partial(b="private")) == "PromptTemplate('{a} {b}').partial(b=...)"
    chat = ChatPromptTemplate([("user", "{a}")]).partial(a="private")
    assert repr(chat) == "ChatPromptTemplate([('user', PromptTemplate('{a}').partial(a=...))])"


# Messages


def test_role_and_template_pairs_build_messages() -> None:
    chat = ChatPromptTemplate([("system", "Use {context}."), ("user", PromptTemplate("{question} {context}"))])
    assert chat.input_variables == ("context", "question")
    assert chat.format(context="{c}", question="q") == [
        {"role": "system", "content": "Use {c}."},
        {"role": "user", "content": "q {c}"},
    ]
    assert chat.messages[0] == ("system", PromptTemplate("Use {context}."))
    assert chat.partial(context="c").format(question="q") == chat.format(context="c", question="q")


def test_message_dicts_build_the_same_messages_as_pairs() -> None:
    pairs = [("system", "Use {context}."), ("user", PromptTemplate("{question}"))]
    dicts = [{"role": role, "content": content} for role, content in pairs]
    chat = ChatPromptTemplate(dicts)
    assert chat == ChatPromptTemplate(pairs) == ChatPromptTemplate([dicts[0], pairs[1]])
    assert chat.format(context="c", question="{q}") == [
        {"role": "system", "content": "Use c."},
        {"role": "user", "content": "{q}"},
    ]
    assert ChatPromptTemplate(chat.format(context="c", question="q")).format() == chat.format(context="c", question="q")
    assert pickle.loads(pickle.dumps(chat)) == chat


def test_messages_are_checked_for_missing_and_unknown_names_together() -> None:
    chat = ChatPromptTemplate([("system", "{a}"), ("user", "{b}")])
    with pytest.raises(PromptError, match="needs 'a', 'b'; missing: 'b'; unknown: 'c'"):
        chat.format(a=1, c=2)


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ("user", "must be a list of .* not str"),
        (None, "must be a list of .* not NoneType"),
        ({"role": "user", "content": "x"}, "must be a list of .* not dict"),
        ([], "at least one"),
        (["ab"], r"messages\[0\] must be a \(role, template\) pair or a dict of 'role' and 'content', not str"),
        ([{"role": "user"}], r"messages\[0\] must have the keys 'role' and 'content', not 'role'"),
        ([{"role": "user", "content": "x", "name": "y"}], r"messages\[0\] must have .* not 'role', 'content', 'name'"),
        ([{}], r"messages\[0\] must have the keys"),
        ([{"role": "", "content": "x"}], r"messages\[0\] must begin with a role"),
        ([{"role": "user", "content": None}], r"messages\[0\]: a template must be str, not NoneType"),
        ([{"role": "user", "content": [{"type": "text", "text": "x"}]}], r"messages\[0\]: a template must be str"),
        ([("user", "a", "b")], r"messages\[0\] must be a \(role, template\) pair"),
        ([("user", "x"), ("", "x")], r"messages\[1\] must begin with a role"),
        ([(1, "x")], r"messages\[0\] must begin with a role"),
        ([("user", None)], r"messages\[0\]: a template must be str, not NoneType"),
        ([("user", "{"), ("user", "x")], r"messages\[0\]: unmatched '\{' at position 0"),
    ],
)
def test_anything_but_roles_and_templates_is_refused(messages: Any, problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        ChatPromptTemplate(messages)


# Documents


def test_a_document_keeps_its_text_and_a_copy_of_its_metadata() -> None:
    metadata = {"source": "a.txt"}
    document = Document("text", metadata)
    metadata["source"] = "changed"
    assert (document.page_content, document.metadata) == ("text", {"source": "a.txt"})
    assert Document(page_content="text").metadata == {}
    assert document == Document("text", {"source": "a.txt"})
    assert document != Document("text")
    assert document != "text"
    assert pickle.loads(pickle.dumps(document)) == copy.deepcopy(document) == document


def test_a_document_is_not_hashable_since_its_metadata_may_change() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Document("text"))


def test_the_repr_of_a_document_does_not_show_its_text() -> None:
    assert repr(Document("private", {"source": "private", "page": 1})) == (
        "<Document: 7 characters, metadata 'source', 'page'>"
    )
    assert repr(Document("private")) == "<Document: 7 characters>"


@pytest.mark.parametrize(
    ("content", "metadata", "problem"),
    [(b"x", None, "page_content of a document must be str, not bytes"), ("x", ["a"], "metadata .* must be a mapping")],
)
def test_a_document_is_checked_when_it_is_made(content: Any, metadata: Any, problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        Document(content, metadata)
