"""Bodies laid out: easier to read, and nothing lost or changed."""

import json

import pytest
from hypothesis import given, strategies as st

from cellcast_django.admin.display.texts import format_body, indent
from tests.any_text import any_text

FORM = "application/x-www-form-urlencoded"


def test_json_has_one_line_per_value() -> None:
    body = '{"_id":"66b5","parts":[1,{"x":true}],"none":[],"nothing":{}}'

    assert format_body(body, "application/json").text == (
        '{\n  "_id": "66b5",\n  "parts": [\n    1,\n    {\n      "x": true\n    }\n  ],\n'
        '  "none": [],\n  "nothing": {}\n}'
    )


@pytest.mark.parametrize("body", ["17", '"text"', "null", "[]"])
def test_scalar_json_is_formatted(body: str) -> None:
    assert format_body(body, "").text == body


def test_numbers_and_repeated_keys_are_left_unchanged() -> None:
    digits = "9" * 5_000

    text = format_body(f'{{"a": 1.00, "a": 1e999, "b": {digits}}}', "").text

    assert text.splitlines()[1:-1] == ['  "a": 1.00,', '  "a": 1e999,', f'  "b": {digits}']


def test_unicode_escapes_are_decoded() -> None:
    body = r'{"message": "\u0646\u0639\u0645 \ud83d\ude00 \ud83d", "q": "\"}{,:\\"}'

    text = format_body(body, "").text

    assert '"message": "نعم 😀 \ufffd"' in text
    assert r'"q": "\"}{,:\\"' in text


def test_line_break_is_escaped_and_byte_order_mark_dropped() -> None:
    assert format_body('\ufeff{"message": "one\ntwo"}', "").text == '{\n  "message": "one\\ntwo"\n}'


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | any_text,
    lambda children: st.lists(children) | st.dictionaries(any_text, children),
)


@given(VALUES)
def test_formatted_json_has_the_same_value(value: object) -> None:
    body = json.dumps(value)
    assert json.loads(indent(body)) == json.loads(body)


def test_form_is_shown_as_fields() -> None:
    formatted_body = format_body("_id=66b5&message=Yes%2C+I+will&sender=", f"{FORM}; charset=utf-8")

    assert formatted_body.rows == (("_id", "66b5"), ("message", "Yes, I will"), ("sender", ""))


def test_json_with_a_form_content_type_is_formatted_as_json() -> None:
    assert format_body('{"a": 1}', FORM).text == '{\n  "a": 1\n}'


def test_unreadable_body_has_a_reason() -> None:
    bodies = ["", " \n", "{broken", r"\xff", "[" * 100_000]

    empty, blank, broken, no_json, deep = (format_body(body, "application/json") for body in bodies)

    assert empty.reason == blank.reason
    assert len({each.reason for each in (empty, broken, no_json, deep)} - {""}) == 4
    assert "(line 1, column 1)" in no_json.reason
    assert not any(each.text for each in (empty, blank, broken, no_json, deep))


def test_deep_nesting_is_not_inflated_by_indentation() -> None:
    body = "[" * 100 + "]" * 100

    assert 0 < len(format_body(body, "").text) < 15_000
