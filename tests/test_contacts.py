"""Contacts: one spelling for each phone number, and rubbish left alone."""

import re
from time import process_time

import phonenumbers
import pytest
from django.test import override_settings
from hypothesis import example, given, strategies as st
from phonenumbers import PhoneNumber

from cellcast_django.contacts import (
    is_phone_number,
    number_pattern,
    numbers_in,
    text_of,
    to_contact,
)
from cellcast_django.payloads import clean, decode
from tests.any_text import any_text

NUMBER = "+61491570156"


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
        ("2125550123", "US", "+12125550123"),
        ("(212) 555-0123", "US", "+12125550123"),
        ("12125550123", "US", "+12125550123"),
        ("+61400000000", "US", "+61400000000"),
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
        "1800FLOWERS",
        "1800CELLCAS",
        "0400CALLME",  # on telephone keys it would be a number
        "19",
        "0",
        "+",
        "+61",
        "2125550123",  # a US number; no prefix makes it Australian
        "4000000000000000",
        "9" * 64,
        "9" * 1_000,
        "0400000000 or 0400000001",
    ],
)
def test_odd_number_is_left_as_written(number: str) -> None:
    assert to_contact(number, "AU") == number
    assert not is_phone_number(number, "AU")


@pytest.mark.parametrize("region", ["", "XX", "Australia"])
def test_unknown_region_reads_only_international_numbers(region: str) -> None:
    assert to_contact("0400000000", region) == "0400000000"
    assert to_contact("+61400000000", region) == "+61400000000"


@given(any_text | st.text(alphabet="+0123456789 ()-.;,=#*x"))
@example("+61400000000;phone-context=")
@example("٠٤٠٠٠٠٠٠٠٠")
def test_any_text_has_one_spelling(number: str) -> None:
    contact = to_contact(number, "AU")
    assert to_contact(contact, "AU") == contact
    assert contact == clean(number) or len(contact) <= 16


def test_without_a_region_it_is_the_settings() -> None:
    assert to_contact("0491 570 006") == "+61491570006"
    with override_settings(CELLCAST_DEFAULT_REGION="NZ"):
        assert to_contact("021 345 678") == "+6421345678"


def test_number_may_be_an_object_of_phonenumbers() -> None:
    assert to_contact(phonenumbers.parse("0400 000 000", "AU")) == "+61400000000"
    with pytest.raises(TypeError):
        to_contact(None)  # type: ignore[arg-type]


# In the body of a webhook


def pattern_of(number: str) -> re.Pattern[str]:
    pattern = number_pattern(number, "AU")
    assert pattern is not None
    return pattern


@pytest.mark.parametrize(
    "text",
    [
        '{"from": "+61491570156"}',
        '{"from": 61491570156}',
        '{"from":"0491 570 156"}',
        '{"from":"(0491) 570-156"}',
        '{"from":"+61 (0) 491.570.156"}',
        '{"from":"0011 61 491 570 156"}',
        '{"from":"0061491570156"}',
        "from=%2B61491570156&body=hi",
        "from=0491%20570+156",
        '{"from":"\\u002b61491570156"}',
        "from=%20491570156",
        "from=%2B6149157015%36",
        r'{"from":"\u002B6149157\u0030156"}',
        r'{"from":"\u0020491570156"}',
        decode('{"from": "0491570156"}'.encode("utf-16")),
        decode('{"from": "+61 491 570 156"}'.encode("utf-16-be")),
        "491570156",
    ],
)
def test_pattern_finds_number_in_any_spelling(text: str) -> None:
    assert pattern_of(NUMBER).search(text)
    assert pattern_of("0491 570 156").search(text)


@pytest.mark.parametrize(
    "text",
    [
        "+614915701567",
        "%2B614915701567",
        "1491570156",
        "+62491570156",
        "66b5491570156491",
        '["491570","156"]',
        "",
    ],
)
def test_pattern_does_not_match_inside_a_longer_number(text: str) -> None:
    assert not pattern_of(NUMBER).search(text)


def test_pattern_finds_foreign_number_in_its_own_spellings() -> None:
    pattern = pattern_of("+12025550123")
    assert [bool(pattern.search(text)) for text in ("2025550123", "1 202 555 0123", "61")] == [
        True,
        True,
        False,
    ]


def test_pattern_is_fast_on_long_runs_of_white_space() -> None:
    text = " " * 300_000 + "0" + " " * 300_000 + "61" + " " * 300_000 + "49157015"
    started = process_time()
    assert not pattern_of(NUMBER).search(text)
    assert process_time() - started < 2


def test_what_is_no_number_has_no_pattern() -> None:
    assert number_pattern("Cellcast Pty", "AU") is None


# All numbers of a body


@pytest.mark.parametrize(
    "text",
    [
        '{"sender": "+61491570156"}',
        '{"sender": "61491570156"}',
        '{"contact": 491570156}',
        '{"contact": "491570156"}',
        '{"mobile": "0491 570 156"}',
        '{"message": "call me:\\n0491570156"}',
        r'{"message": "{\"message\": \"call\\n0491570156\"}"}',
        r'{"sender": "\u002b\u0036\u0031491570156"}',
        "sender=%2B61491570156&message=hi",
        "mobile=0491+570+156",
        '[{"sender": "+61491570156","rece',
        '"\x00{\x00"\x00+\x006\x001\x004\x009\x001\x005\x007\x000\x001\x005\x006\x00"',
    ],
)
def test_numbers_of_a_body_are_found_in_any_spelling(text: str) -> None:
    assert set(numbers_in(decode(text.encode()), "AU")) == {NUMBER}


def test_numbers_of_other_countries_and_new_ranges_are_found() -> None:
    text = '["+1 202-555-0123", "0445123456", "+61 445 123 456", "(02) 9374 4000"]'
    assert set(numbers_in(text, "AU")) == {"+12025550123", "+61445123456", "+61293744000"}
    assert set(numbers_in('["202-555-0123", 445123456]', "US")) == {"+12025550123", "+61445123456"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"_id": "66b5b93b1e2c012dfe964000", "at": "2026-11-10T09:00:00.123Z"}',
        '{"_id": "2c1e4915-7015-4915-8701-491570156491", "n": 1764322000}',
        '{"sender": "cellcast", "message": "See you at 5, room 12 34"}',
    ],
)
def test_ids_times_and_texts_are_no_numbers(text: str) -> None:
    assert list(numbers_in(text, "AU")) == []


@given(any_text)
def test_numbers_of_any_text_can_be_looked_for(text: str) -> None:
    assert all(is_phone_number(number, "AU") for number in numbers_in(text, "AU"))


def test_numbers_are_found_fast_in_hostile_bodies() -> None:
    for text in ("1 " * 30_000, "(" * 60_000, "12-34 " * 10_000, "\\" * 60_000):
        started = process_time()
        assert list(numbers_in(text, "AU")) == []
        assert process_time() - started < 2.5
