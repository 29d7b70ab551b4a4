"""Bodies laid out, which stand beside the raw ones."""

import pytest

from cellcast_django.admin.display.texts import format_body

FORM = "application/x-www-form-urlencoded"


def test_json_has_one_line_per_value() -> None:
    body = '{"_id":"66b5","parts":[1,{"x":true}],"none":[],"nothing":{}}'

    assert format_body(body, "application/json") == (
        '{\n\t"_id": "66b5",\n\t"parts": [\n\t\t1,\n\t\t{\n\t\t\t"x": true\n\t\t}\n\t],\n'
        '\t"none": [],\n\t"nothing": {}\n}'
    )


@pytest.mark.parametrize("body", ["17", '"text"', "null", "[]"])
def test_scalar_json_is_formatted(body: str) -> None:
    assert format_body(body, "") == body


def test_unicode_escapes_are_decoded() -> None:
    body = r'{"message": "\u0646\u0639\u0645 \ud83d\ude00 \ud83d", "q": "\"}{,:\\"}'

    text = format_body(body, "")

    assert '"message": "نعم 😀 \ufffd"' in text
    assert r'"q": "\"}{,:\\"' in text


def test_line_break_is_escaped_and_byte_order_mark_dropped() -> None:
    assert format_body('\ufeff{"message": "one\ntwo"}', "") == '{\n\t"message": "one\\ntwo"\n}'


def test_form_has_one_line_per_field() -> None:
    formatted = format_body("_id=66b5&message=Yes%2C+I+will&sender=", f"{FORM}; charset=utf-8")

    assert formatted.splitlines() == ["_id = 66b5", "message = Yes, I will", "sender = "]


def test_json_with_a_form_content_type_is_formatted_as_json() -> None:
    assert format_body('{"a": 1}', FORM) == '{\n\t"a": 1\n}'


@pytest.mark.parametrize(
    "body", ["", " \n", "{broken", r"\xff", "[" * 100_000, "9" * 5_000], ids=range(6)
)
def test_invalid_body_is_only_shown_raw(body: str) -> None:
    assert format_body(body, "application/json") == ""


def test_deep_nesting_is_not_inflated_by_indentation() -> None:
    body = "[" * 100 + "]" * 100

    assert 0 < len(format_body(body, "")) < 15_000
