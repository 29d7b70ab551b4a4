"""Contacts: one spelling for each phone number, and rubbish left alone."""

import pytest
from hypothesis import example, given, strategies as st

from cellcast_django.contacts import normalise


@pytest.mark.parametrize(
    "number",
    [
        "+61400000000",
        "61400000000",
        "0400000000",
        "400000000",
        "+61 400 000 000",
        "0400 000 000",
        "(04) 0000-0000",
        "0011 61 400 000 000",
        " +61400000000 ",
    ],
)
def test_every_spelling_of_an_australian_number_is_one_contact(number: str) -> None:
    assert normalise(number, "AU") == "+61400000000"


@pytest.mark.parametrize(
    ("number", "region", "expected"),
    [
        ("2125550123", "US", "+12125550123"),
        ("(212) 555-0123", "US", "+12125550123"),
        ("12125550123", "US", "+12125550123"),
        ("+61400000000", "US", "+61400000000"),
        ("+12125550123", "AU", "+12125550123"),
        ("021 345 678", "NZ", "+6421345678"),
    ],
)
def test_region_decides_what_a_number_without_country_code_is(
    number: str, region: str, expected: str
) -> None:
    assert normalise(number, region) == expected


@pytest.mark.parametrize(
    "number",
    [
        "",
        " ",
        "cellcast",
        "#SharedNum#",
        "1800FLOWERS",
        "1800CELLCAS",
        "0400CALLME",  # as the keys of a telephone it would be a number
        "19",
        "0",
        "+",
        "+61",
        "2125550123",  # a number of the US; no prefix makes it an Australian one
        "4000000000000000",
        "9" * 64,
        "9" * 1_000,
        "0400000000 or 0400000001",
    ],
)
def test_what_is_no_phone_number_stays_as_written(number: str) -> None:
    assert normalise(number, "AU") == number


@pytest.mark.parametrize("region", ["", "XX", "Australia"])
def test_region_that_does_not_exist_leaves_all_but_international_numbers(region: str) -> None:
    assert normalise("0400000000", region) == "0400000000"
    assert normalise("+61400000000", region) == "+61400000000"


@given(st.text() | st.text(alphabet="+0123456789 ()-.;,=#*x"))
@example("+61400000000;phone-context=")
@example("٠٤٠٠٠٠٠٠٠٠")
def test_never_raises_and_is_idempotent(number: str) -> None:
    contact = normalise(number, "AU")
    assert normalise(contact, "AU") == contact
    assert contact == number or len(contact) <= 16
