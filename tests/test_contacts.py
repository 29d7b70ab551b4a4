"""Contacts: one spelling for each phone number, and rubbish left alone."""

import pytest
from hypothesis import example, given, strategies as st
from phonenumbers import PhoneNumber

from cellcast_django.contacts import is_phone_number, text_of, to_contact
from cellcast_django.payloads import clean
from tests.any_text import any_text


@pytest.mark.parametrize(
    "number",
    [
        "61400000000",
        "0400000000",
        "400000000",
        "(04) 0000-0000",
        "0011 61 400 000 000",
        "0061 400 000 000",
        "0400\t000 000\n",
        "tel:+61-400-000-000",
        " +61400000000 ",
    ],
)
def test_every_spelling_of_an_australian_number_is_one_contact(number: str) -> None:
    assert to_contact(number, "AU") == "+61400000000"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0400 000 000", "0400 000 000"),
        (PhoneNumber(country_code=61, national_number=400000000), "+61400000000"),
        # django-phonenumber-field's, where it could not parse the text
        (PhoneNumber(raw_input="ext. 12"), "ext. 12"),
        (PhoneNumber(), ""),
    ],
)
def test_number_object_is_read_as_text(number: str | PhoneNumber, text: str) -> None:
    assert text_of(number) == text


@pytest.mark.parametrize("region", ["AU", "US"])
@pytest.mark.parametrize("prefix", ["400", "441", "442", "443", "445", "446", "453", "471", "499"])
def test_mobile_of_an_unknown_range_is_one_contact(prefix: str, region: str) -> None:
    spellings = [f"+61{prefix}123456", f"+61 {prefix} 123 456", f"+61 (0){prefix}-123-456"]
    if region == "AU":
        spellings += [f"0{prefix}123456", f"61{prefix}123456", f"{prefix}123456"]
        spellings += [f"0{prefix} 123 456", f"0011 61 {prefix} 123 456", f"\xa0{prefix}.123.456 "]
    contacts = {to_contact(spelling, region) for spelling in spellings}
    assert contacts == {f"+61{prefix}123456"}
    assert all(is_phone_number(spelling, region) for spelling in spellings)


@pytest.mark.parametrize(
    ("number", "region", "expected"),
    [
        ("(212) 555-0123", "US", "+12125550123"),
        ("12125550123", "US", "+12125550123"),
        ("+12125550123", "AU", "+12125550123"),
        ("021 345 678", "NZ", "+6421345678"),
        ("00 64 21 345 678", "AU", "+6421345678"),
        ("00 21 345 678", "NZ", "00 21 345 678"),
    ],
)
def test_region_supplies_a_missing_country_code(number: str, region: str, expected: str) -> None:
    assert to_contact(number, region) == expected


@pytest.mark.parametrize(
    "number",
    [
        "",
        " ",
        "cellcast",
        "#SharedNum#",
        "0400CALLME",  # on telephone keys it would be a number
        "19",
        "+61",
        "2125550123",  # a US number; no prefix makes it Australian
        "9" * 1_000,
        "0400000000 or 0400000001",
    ],
)
def test_odd_number_is_left_as_written(number: str) -> None:
    assert to_contact(number, "AU") == number
    assert not is_phone_number(number, "AU")


@given(any_text | st.text(alphabet="+0123456789 ()-.;,=#*x"))
@example("+61400000000;phone-context=")
@example("٠٤٠٠٠٠٠٠٠٠")
def test_any_text_has_one_spelling(number: str) -> None:
    contact = to_contact(number, "AU")
    assert to_contact(contact, "AU") == contact
    assert contact == clean(number) or len(contact) <= 16
