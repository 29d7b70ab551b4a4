"""Payloads: every shape that Cellcast is known to send, and every bad one we know of."""

import json
import threading
from dataclasses import FrozenInstanceError, fields
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, strategies as st

from cellcast_django.payloads import Endpoint, Invalid, OptOut, Payload, Reply, StatusReport, read
from tests.any_text import any_text
from tests.test_documented_payloads import DOCUMENTED_RECEIVE, DOCUMENTED_STATUS, MMS

REPORT = json.loads(DOCUMENTED_STATUS)
SEEN_REPLY = json.loads(DOCUMENTED_RECEIVE) | {
    "status": "received",
    "message": "Your appointment is at 9. Reply STOP to opt-out",
    "reply": "YES",
}
V3_INBOUND = {
    "from": "61400000000",
    "body": "Yes please",
    "received_at": "2024-08-09 16:37:47",
    "message_id": "5c8f1d1e-6f0a-4c57-9b0e-3f8f2d6a1b11",
    "custom_string": "appointment-7",
    "type": "SMS",
    "original_message_id": "0f6d7f7a-9a2e-4a34-a2d4-14c1c4f1c0aa",
    "original_body": "Are you coming?",
}
V3_REPORT = {
    "message_id": 10423817,
    "status": "Delivered",
    "recipient": "61400000001",
    "custom_string": "appointment-7",
    "source": "cellcast",
}

PICTURE = "https://media.example.com/1.jpg"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def read_one(
    document: Any, endpoint: Endpoint = Endpoint.RECEIVE, content_type: str = JSON
) -> Payload:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    [payload] = read(body, content_type, endpoint)
    return payload


def without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


def reason(payload: Payload) -> str:
    assert isinstance(payload, Invalid)
    return payload.reason


def test_payloads_are_frozen() -> None:
    for body in (DOCUMENTED_RECEIVE, DOCUMENTED_STATUS, b"[]", b'{"type":"optout","number":"1"}'):
        with pytest.raises(FrozenInstanceError):
            read_one(body).raw = ""  # type: ignore[misc]


# From bytes to elements


@pytest.mark.parametrize("content_type", [JSON, FORM])
@pytest.mark.parametrize(
    "body", [b"\n [%s]\r\n\t", b" %s ", b"\xef\xbb\xbf%s", b"\xef\xbb\xbf [%s]"]
)
def test_reader_ignores_byte_order_mark_and_white_space(body: bytes, content_type: str) -> None:
    payload = read_one(body % DOCUMENTED_RECEIVE, content_type=content_type)
    assert isinstance(payload, Reply)
    assert payload.body == "This is reply message"


@pytest.mark.parametrize(
    "content_type",
    [FORM, f"{FORM}; charset=UTF-8", f" {FORM.upper()} ;charset=latin-1", f"{FORM};"],
)
def test_reader_accepts_a_form_with_its_content_type(content_type: str) -> None:
    body = (
        b"_id=1&status=&type=receive&message=Ja+gern%2C+%C3%BCbrigens+%F0%9F%91%8D"
        b"&sender=%2B61400000000&extra=1"
    )
    payload = read_one(body, content_type=content_type)
    assert isinstance(payload, Reply)
    assert (payload.raw, payload.status) == (body.decode(), "received")
    assert (payload.body, payload.sender) == ("Ja gern, übrigens 👍", "+61400000000")


@pytest.mark.parametrize(
    ("body", "raw", "why"),
    [
        (b"", "", "empty"),
        (b" \n", " \n", "empty"),
        (b"\xef\xbb\xbf", "\ufeff", "empty"),
        (b"[]", "[]", "empty"),
        (b'{"_id": "1"} x', '{"_id": "1"} x', "not JSON"),
        (b"\xff\xfe{\x00}\x00", r"\xff\xfe{\x00}\x00", "UTF-8"),  # UTF-16 with a mark
        (b"{\x00}\x00", r"{\x00}\x00", "not JSON"),  # and without
        (b'{"message": "caf\xe9"}', r'{"message": "caf\xe9"}', "UTF-8"),  # Latin-1
        (b"\xed\xa0\xbd", r"\xed\xa0\xbd", "UTF-8"),
        ("{\u00a0}".encode(), "{\u00a0}", "not JSON"),
        *((text.encode(), text, "object") for text in ("null", "5", '"text"')),
        *((f"[{text}]".encode(), text, "object") for text in ("null", "5", '"text"', "[]")),
    ],
)
def test_malformed_json_is_invalid_and_kept_verbatim(body: bytes, raw: str, why: str) -> None:
    payload = read_one(body)
    assert why in reason(payload)
    assert payload.raw == raw


@pytest.mark.parametrize(("depth", "kind"), [(100, StatusReport), (101, Invalid)])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_reader_accepts_at_most_a_hundred_levels(
    depth: int, kind: type, opening: str, closing: str
) -> None:
    inner = opening * (depth - 1) + "1" + closing * (depth - 1)
    body = f'{{"_id": "1", "status": "sent", "x": [{"[], " * 200}"{"[" * 200}"], "y": {inner}}}'
    assert type(read_one(body.encode(), Endpoint.STATUS)) is kind


def test_deep_json_does_not_overflow_a_small_thread_stack() -> None:
    """It did on Python 3.13 with 1 MB of stack, as on Alpine."""
    usual = threading.stack_size(256 * 1024)
    kept: list[Payload] = []
    try:
        thread = threading.Thread(target=lambda: kept.append(read_one(b"[" * 200_000)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(usual)
    assert isinstance(kept[0], Invalid)


# Arrays


def test_array_is_read_in_order_with_each_elements_raw_text() -> None:
    first = '{"_id":"1",  "status": "sent", "price": 1.50, "price": 1e2, "x": "a\x00b"}'
    second = '{ "message": "[}, \\" \\ud83d\\udc4d ü",\n"type":"receive","_id":2}'
    third = '{"type": "optout", "contact": 404000000}'
    body = f'[{first} ,\r\n\t{second},"rubbish",{third}\n, [], null,{{"_id": ""}}, {first} ]'

    payloads = read(body.encode(), JSON, Endpoint.STATUS)

    kinds = [StatusReport, Reply, Invalid, OptOut, Invalid, Invalid, Invalid, StatusReport]
    assert [type(payload) for payload in payloads] == kinds
    kept = first.replace("\x00", r"\u0000")
    rest = ["[]", "null", '{"_id": ""}', kept]
    assert [payload.raw for payload in payloads] == [kept, second, '"rubbish"', third, *rest]
    assert read(first.encode(), JSON, Endpoint.STATUS)[0].raw == kept


def test_array_over_a_thousand_elements_is_one_invalid_event() -> None:
    assert len(read(json.dumps([REPORT] * 1_000).encode(), JSON, Endpoint.STATUS)) == 1_000
    body = json.dumps([REPORT] * 1_001).encode()
    payload = read_one(body, Endpoint.STATUS)
    assert "1000" in reason(payload).replace(",", "")
    assert payload.raw == body.decode()


# Which endpoint an element belongs to

SPELLINGS = {
    Reply: ["receive", "RECEIVE", "Receive", " receive ", "SMS", "sms", "MMS", "Mms"],
    StatusReport: ["send", "SEND", "Send"],
    OptOut: ["optout", "OptOut", "OPTOUT", "opt-out", "opt_out", "Opt Out", "OPT-OUT"],
}
EVERYTHING = SEEN_REPLY | {"contact": "404000000"}


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [(spelling, kind) for kind, spellings in SPELLINGS.items() for spelling in spellings],
)
def test_known_type_decides_the_kind_at_every_url(spelling: str, kind: type[Payload]) -> None:
    for endpoint in Endpoint:
        assert type(read_one(EVERYTHING | {"type": spelling}, endpoint)) is kind


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [(Endpoint.RECEIVE, Reply), (Endpoint.STATUS, StatusReport), (Endpoint.OPT_OUT, OptOut)],
)
def test_url_decides_the_kind_if_the_type_is_unknown(
    endpoint: Endpoint, kind: type[Payload]
) -> None:
    for type_ in (None, "", "delivery", "received", "sent", 5, True, ["receive"], {"a": 1}):
        assert type(read_one(EVERYTHING | {"type": type_}, endpoint)) is kind
    assert type(read_one(without(EVERYTHING, "type"), endpoint)) is kind


NO_TEXTS: list[dict[str, Any]] = [{}, {"message": None}, {"message": None, "reply": None}]
BARE = {"_id": "1", "status": "Delivered", "sender": "+61400000000"}


@pytest.mark.parametrize("text", NO_TEXTS)
def test_payload_without_type_text_and_media_is_a_report(text: dict[str, None]) -> None:
    assert isinstance(read_one(BARE | text), StatusReport)
    assert isinstance(read_one(BARE | text | {"type": "receive"}), Reply)
    element = BARE | text | {"type": "receive"}
    assert isinstance(read_one(element, Endpoint.STATUS), StatusReport)
    assert isinstance(read_one(BARE | text | {"media": [PICTURE]}), Reply)


# Replies


@pytest.mark.parametrize(
    ("texts", "body", "original_body"),
    [
        ({"message": "YES"}, "YES", ""),
        ({"reply": " YES\r\n", "message": "Coming?\t"}, " YES\r\n", "Coming?\t"),
        ({"reply": "", "message": "Coming?"}, "", "Coming?"),
        ({"reply": None, "message": "YES"}, "YES", ""),
        ({"body": "YES", "original_body": "Coming?"}, "YES", "Coming?"),
        ({"message": None, "body": "YES"}, "YES", ""),
        ({"reply": "YES", "message": "?", "original_body": "Coming?"}, "YES", "Coming?"),
        ({"message": 2.50}, "2.5", ""),
    ],
)
def test_reply_has_its_text_and_original_text(
    texts: dict[str, Any], body: str, original_body: str
) -> None:
    payload = read_one(without(SEEN_REPLY, "message", "reply", "sender", "receiver") | texts)
    assert isinstance(payload, Reply)
    assert (payload.body, payload.original_body) == (body, original_body)
    assert (payload.sender, payload.receiver) == ("", "")


# MMS


def inner(**parts: Any) -> str:
    return json.dumps(parts)


def read_mms(**changes: Any) -> Reply:
    payload = read_one(without(SEEN_REPLY, "message", "reply") | {"mms": True} | changes)
    assert isinstance(payload, Reply)
    return payload


@pytest.mark.parametrize(
    ("changes", "body", "media"),
    [
        ({"message": inner(message="", media=[])}, "", ()),
        ({"message": inner(message="hi\0"), "mms": False, "media": []}, "hi", ()),
        *(({"message": inner(message="hi"), "mms": mms}, "hi", ()) for mms in ("true", 1)),
        ({"reply": inner(message="hi"), "message": "Coming?"}, "hi", ()),
        ({"message": inner(message="hi", media=[PICTURE])}, "hi", (PICTURE,)),
        (
            {"message": inner(message="hi", media=["http://i"]), "media": [PICTURE]},
            "hi",
            (PICTURE,),
        ),
        ({"message": "hi", "media": [PICTURE, {"url": PICTURE}]}, "hi", (PICTURE, PICTURE)),
        ({"media": [PICTURE]}, "", (PICTURE,)),
        *(({"media": odd}, "", ()) for odd in (PICTURE, {"url": PICTURE})),
    ],
)
def test_mms_is_split_into_text_and_media(
    changes: dict[str, Any], body: str, media: tuple[str, ...]
) -> None:
    payload = read_mms(**changes)
    assert (payload.body, payload.media) == (body, media)


@pytest.mark.parametrize(
    "text",
    [
        *("{}", '{"text": "yes"}', '["message"]', '"message"', '{"message": "yes"', "yes {", " "),
        *(
            '{"message": ["yes"]}',
            '{"message": true}',
            '{"message": ' + "[" * 200 + "]" * 200 + "}",
        ),
    ],
)
def test_text_resembling_an_mms_is_left_unchanged(text: str) -> None:
    payload = read_mms(message=text, media=[PICTURE])
    assert (payload.body, payload.media) == (text, (PICTURE,))


@pytest.mark.parametrize("mms", [{"mms": False}, {"mms": "no"}, {"mms": None}, {"media": "x"}])
def test_json_in_an_sms_is_left_unchanged(mms: dict[str, Any]) -> None:
    text = inner(message="yes", media=[PICTURE])
    payload = read_mms(**{"message": text, "mms": None} | mms)
    assert (payload.body, payload.media) == (text, ())


@pytest.mark.parametrize(
    "item",
    [
        *("javascript:alert(1)", "ftp://media.example.com/1.jpg", "media.example.com/1.jpg"),
        *("https://", "https:///1.jpg", " https://media.example.com/1.jpg"),
        *(f"https://media.example.com/{rest}" for rest in ("a b", "\n", "\u202egpj.exe")),
        "https://media.example.com/" + "x" * 1_975,
        *({"url": None}, {"href": PICTURE}, [PICTURE], 5, None, True),
    ],
)
def test_reader_drops_odd_or_overlong_media_urls(item: Any) -> None:
    assert read_mms(message="hi", media=[item, PICTURE]).media == (PICTURE,)


# Opt-outs


@pytest.mark.parametrize(
    "document",
    [
        {"contact": 404000000},
        {"contact": "404000000", "number": "1"},
        {"number": "404000000", "sender": "1"},
        {"sender": "404000000", "from": "1"},
        {"from": "404000000"},
    ],
)
def test_opt_out_url_is_enough_to_recognise_an_opt_out(document: dict[str, Any]) -> None:
    payload = read_one(document, Endpoint.OPT_OUT)
    assert isinstance(payload, OptOut)
    assert payload.number == "404000000"


# Legacy v3


@pytest.mark.parametrize("document", [V3_INBOUND, [V3_INBOUND], [V3_INBOUND | {"type": "MMS"}]])
@pytest.mark.parametrize("endpoint", Endpoint, ids=str)
def test_reader_understands_one_or_several_v3_replies(document: Any, endpoint: Endpoint) -> None:
    payload = read_one(document, endpoint)
    element = document[0] if isinstance(document, list) else document
    assert payload == Reply(
        raw=json.dumps(element),
        cellcast_id="5c8f1d1e-6f0a-4c57-9b0e-3f8f2d6a1b11",
        sender="61400000000",
        receiver="",
        status="received",
        body="Yes please",
        original_body="Are you coming?",
    )


@pytest.mark.parametrize("type_", [{}, {"type": "SMS"}])
@pytest.mark.parametrize("endpoint", [Endpoint.RECEIVE, Endpoint.STATUS])
def test_reader_understands_a_v3_delivery_report(type_: dict[str, str], endpoint: Endpoint) -> None:
    document = V3_REPORT | type_
    report = StatusReport(
        raw=json.dumps(document),
        cellcast_id="10423817",
        sender="",
        receiver="61400000001",
        status="delivered",
    )
    assert read_one(document, endpoint) == read_one([document], endpoint) == report


# Fields that are missing, of a wrong shape, or too long


@pytest.mark.parametrize(
    ("document", "key"),
    [
        *((SEEN_REPLY, key) for key in ("_id", "reply", "message", "status", "sender", "receiver")),
        *((REPORT, key) for key in ("_id", "status", "sender", "receiver")),
        (V3_INBOUND, "original_body"),
        ({"type": "optout", "contact": "404000000"}, "contact"),
    ],
)
def test_field_of_the_wrong_type_is_invalid(document: dict[str, Any], key: str) -> None:
    for value in (True, False, [], ["x"], {}, {"x": 1}):
        assert key in reason(read_one(document | {key: value}))


@pytest.mark.parametrize(
    ("document", "key", "limit"),
    [
        *((each, "_id", 128) for each in (SEEN_REPLY, REPORT)),
        *((each, key, 64) for each in (SEEN_REPLY, REPORT) for key in ("sender", "receiver")),
        *((each, "status", 64) for each in (SEEN_REPLY, REPORT)),
        (V3_INBOUND, "message_id", 128),
        *((V3_INBOUND, key, 64) for key in ("from", "to")),
        *((V3_REPORT, key, 64) for key in ("from", "recipient")),
        ({"type": "optout", "contact": "404000000"}, "contact", 64),
    ],
)
def test_field_over_its_length_is_invalid(document: dict[str, Any], key: str, limit: int) -> None:
    endpoint = Endpoint.STATUS if document is V3_REPORT else Endpoint.RECEIVE
    assert not isinstance(read_one(document | {key: "x" * limit}, endpoint), Invalid)
    payload = read_one(document | {key: "x" * (limit + 1)}, endpoint)
    assert key in reason(payload)
    assert payload.raw == json.dumps(document | {key: "x" * (limit + 1)})


# Whatever comes


KEYS = [
    *("_id", "status", "type", "message", "reply", "sender", "receiver", "contact"),
    *("message_id", "from", "to", "body", "original_body", "recipient", "reason", "media", "mms"),
]
TYPES = ["receive", "send", "optout", "SMS", "rubbish"]
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.sampled_from(TYPES)
)
long_texts = st.sampled_from(["x", "İ", "\ud83d", "\x00", " "]).flatmap(
    lambda character: st.integers(60, 140).map(lambda length: character * length)
)
elements = st.dictionaries(
    st.sampled_from(KEYS) | any_text,
    scalars | long_texts | st.lists(scalars, max_size=2),
    max_size=10,
)
documents = (elements | st.lists(elements | scalars, max_size=4)).map(
    lambda document: json.dumps(document).encode()
)
bodies = (
    documents
    | st.binary()
    | any_text.map(partial(str.encode, errors="surrogatepass"))
    | st.sampled_from([b"[", b"{", b"[{"])
)


def assert_can_be_stored(payload: Payload) -> None:
    limits = {"cellcast_id": 128, "sender": 64, "receiver": 64, "status": 64, "number": 64}
    for field in fields(payload):
        value = getattr(payload, field.name)
        if isinstance(value, str):
            value.encode()
            assert "\x00" not in value
            assert len(value) <= limits.get(field.name, len(value))
    if isinstance(payload, Invalid):
        assert payload.reason
    if isinstance(payload, StatusReport):
        assert len(payload.reason) <= 1_000
    if isinstance(payload, Reply):
        assert len("".join(payload.media).encode()) <= 20 * 8_000
    if isinstance(payload, Reply | StatusReport):
        assert payload.cellcast_id.strip()
        assert payload.status == payload.status.strip().lower() != ""
    if isinstance(payload, OptOut):
        assert payload.number.strip()


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """Return a body with some bytes put in, taken out or doubled, as JSON or as a form."""
    document = draw(st.sampled_from([REPORT, SEEN_REPLY, V3_INBOUND, json.loads(MMS)]) | elements)
    form = urlencode({key: str(value) for key, value in document.items()}, errors="replace")
    text = draw(st.sampled_from([json.dumps(document), json.dumps([document, REPORT]), form]))
    body = draw(st.sampled_from(["", "\ufeff", " "])).encode() + text.encode()
    places = st.integers(0, len(body))
    junk = st.sampled_from([b"\x00", b"\x00", b"\\", b"\xff", b'"', b"&", b"%00"])
    for place, new, size in draw(st.lists(st.tuples(places, junk, st.integers(0, 2)), max_size=3)):
        body = body[:place] + new + body[place + size :]
    return body


@given(
    mangled() | bodies,
    st.sampled_from([JSON, FORM]) | st.sampled_from(["", "text/plain"]) | any_text,
    st.sampled_from(Endpoint),
)
@example(b'{"_id": "1", "status": "\xc4\xb0\xc4\xb0"}', JSON, Endpoint.STATUS)
@example(json.dumps(REPORT | {"status": "İ" * 64}).encode(), JSON, Endpoint.STATUS)  # 128 in lower
@example(json.dumps(REPORT | {"x": "?"}).encode().replace(b"?", b"\0"), JSON, Endpoint.STATUS)
@example(json.dumps([REPORT | {"x": "?"}]).encode().replace(b"?", b"\0"), JSON, Endpoint.STATUS)
@example(urlencode(SEEN_REPLY).encode().replace(b"YES", b"Y\0"), FORM, Endpoint.RECEIVE)
def test_any_body_can_be_stored_and_reads_again_as_what_was_received(
    body: bytes, content_type: str, endpoint: Endpoint
) -> None:
    payloads = read(body, content_type, endpoint)
    assert payloads
    for payload in payloads:
        assert_can_be_stored(payload)
        if not isinstance(payload, Invalid):
            assert read(payload.raw.encode(), content_type, endpoint) == [payload]
