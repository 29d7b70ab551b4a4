"""Bodies laid out, which stand beside the raw ones."""

import pytest

from cellcast_django.admin.display.texts import format_body

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (
            '{"_id":"66b5","parts":[1,{"x":true}],"none":[],"nothing":{}}',
            "application/json",
            '{\n\t"_id": "66b5",\n\t"parts": [\n\t\t1,\n\t\t{\n\t\t\t"x": true\n\t\t}\n\t],\n'
            '\t"none": [],\n\t"nothing": {}\n}',
        ),
        *((scalar, "", scalar) for scalar in ("17", '"text"', "null", "[]")),
        ('\ufeff{"message": "one\ntwo"}', "", '{\n\t"message": "one\\ntwo"\n}'),
        ("_id=66b5&m=Yes%2C+I&s=", f"{FORM}; charset=utf-8", "_id = 66b5\nm = Yes, I\ns = "),
        ('{"a": 1}', FORM, '{\n\t"a": 1\n}'),
    ],
)
def test_body_has_one_line_per_value(body: str, content_type: str, text: str) -> None:
    assert format_body(body, content_type) == text


@pytest.mark.parametrize(
    "body", ["", " \n", "{broken", r"\xff", "[" * 100_000, "9" * 5_000], ids=range(6)
)
def test_invalid_body_is_only_shown_raw(body: str) -> None:
    assert format_body(body, "application/json") == ""


def test_deep_nesting_is_not_inflated_by_indentation() -> None:
    body = "[" * 100 + "]" * 100

    assert 0 < len(format_body(body, "")) < 15_000
