"""``send_sms`` against a fake of Cellcast's API: what is certain, what is not, what is stored."""

import json
import runpy
import socket
import ssl
import sys
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest

from cellcast_django import api
from cellcast_django.api import ApiClient, ApiError, NotSentError, read_credit, send_sms
from cellcast_django.models import Message
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.sending import OptedOutError, send
from cellcast_django.simulator import STOP_HINT
from tests.fake_cellcast import GATEWAY, KEY, FakeCellcast, Fault
from tests.test_error_reports import failing, reported

pytestmark = pytest.mark.django_db

CUSTOMER = "+61400000001"
TEXT = "See you at nine?"
SPELLINGS = (CUSTOMER, CUSTOMER[1:], CUSTOMER[3:])


@pytest.fixture(autouse=True)
def _send_with_the_api(settings: Any) -> None:
    settings.CELLCAST_SEND_WITH = "cellcast_django.api.send_sms"


def refusal(status: int, document: Any) -> Fault:
    return Fault(status=status, body=json.dumps(document).encode())


def queued(*items: Any, status: bool = True, code: int = 200, **changes: Any) -> Fault:
    data = {"queueResponse": list(items), "invalidContacts": [], "unsubscribeContacts": []}
    return refusal(code, {"status": status, "data": data | changes})


# What is sent


def test_message_is_sent_and_recorded_under_its_id(fake_cellcast: FakeCellcast) -> None:
    message = send("0400 000 001", TEXT, sender="+61400000009", reference="order-7")

    assert fake_cellcast.sent == [(CUSTOMER, TEXT, "+61400000009", "order-7", message.cellcast_id)]
    [(path, parameters, headers)] = fake_cellcast.requests
    assert (path, parameters) == (GATEWAY, {})
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == headers["Accept"] == "application/json"


@pytest.mark.parametrize("reference", ["", "order 7", "order_7", "été", "7\n", "\u0667"])
def test_reference_that_cellcast_may_not_take_stays_here(
    fake_cellcast: FakeCellcast, reference: str
) -> None:
    message = send(CUSTOMER, TEXT, reference=reference)
    assert fake_cellcast.sent[0].reference == ""
    assert message.reference == reference
    assert fake_cellcast.sent[0].sender == "#SharedNum#"


@pytest.mark.parametrize("text", ["Süß, 你好 👋", "half \ud83d"])
def test_any_text_can_be_sent_with_cellcasts_words_if_you_say_so(
    fake_cellcast: FakeCellcast, text: str
) -> None:
    send_sms(CUSTOMER, text)
    send_sms(CUSTOMER, text, reply_stop=True)
    assert [each.body for each in fake_cellcast.sent] == [text, text + STOP_HINT]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
@pytest.mark.parametrize("message_id", ["66b5b93b1e2c012dfe964000", 10423817])
def test_id_may_be_text_or_a_number(
    fake_cellcast: FakeCellcast, message_id: object, mark: bytes
) -> None:
    body = queued("odd", {"Contact": CUSTOMER}, {"MessageId": message_id}).body
    fake_cellcast.faults.append(Fault(body=mark + body))
    assert send(CUSTOMER, TEXT).cellcast_id == str(message_id)


# What is refused: certainly not sent

NOT_REGISTERED = "Your sender id is not registered."
NO_BALANCE = "Your balance is too low for this request, please recharge."

REFUSALS = {
    "400": (
        refusal(400, {"code": 400, "message": NOT_REGISTERED, "stack": "Error"}),
        NOT_REGISTERED,
    ),
    "401": (refusal(401, {"code": 401, "message": "Please authenticate"}), "Please authenticate"),
    "422": (
        refusal(422, {"status": False, "error": {"errorMessage": NO_BALANCE}}),
        NO_BALANCE,
    ),
    "422 with both": (
        refusal(422, {"message": "Failed", "error": {"errorMessage": NO_BALANCE}}),
        NO_BALANCE,
    ),
    "429 without a body": (Fault(status=429), "Cellcast's API refused it with 429."),
    "odd sentence": (refusal(400, {"message": ["no"]}), "Cellcast's API refused it with 400."),
    "200 false": (refusal(200, {"status": False, "message": NOT_REGISTERED}), NOT_REGISTERED),
    "200 false without a word": (
        refusal(200, {"status": False}),
        "Cellcast's API refused it with 200.",
    ),
    "invalid": (
        queued(invalidContacts=[{"Contact": CUSTOMER, "Error": f"{CUSTOMER} is too short"}]),
        "… is too short",
    ),
    "invalid without a word": (
        queued(invalidContacts=[{"Contact": CUSTOMER}]),
        "Cellcast calls the number invalid.",
    ),
    "invalid, oddly": (queued(invalidContacts=[CUSTOMER]), "Cellcast calls the number invalid."),
}


@pytest.mark.parametrize(("fault", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refusal_is_certain_and_says_why(
    fake_cellcast: FakeCellcast, fault: Fault, reason: str
) -> None:
    fake_cellcast.faults.append(fault)

    with pytest.raises(NotSentError) as raised:
        send(CUSTOMER, TEXT)

    assert raised.value.reason == str(raised.value) == reason
    assert len(fake_cellcast.requests) == 1, "never retried"
    assert fake_cellcast.sent == [] == list(Message.objects.all())
    assert not is_opted_out(CUSTOMER)
    send(CUSTOMER, TEXT)  # another try texts once
    assert len(fake_cellcast.sent) == 1 == Message.objects.count()


@pytest.mark.parametrize(
    "fault",
    [
        queued(unsubscribeContacts=[CUSTOMER]),
        queued(unsubscribeContacts=[CUSTOMER], invalidContacts=[{"Contact": CUSTOMER}]),
        refusal(200, {"status": False, "data": {"unsubscribeContacts": [CUSTOMER[3:]]}}),
        refusal(422, {"status": False, "data": {"unsubscribeContacts": [CUSTOMER[3:]]}}),
    ],
)
def test_unsubscribed_contact_is_opted_out(fake_cellcast: FakeCellcast, fault: Fault) -> None:
    fake_cellcast.faults.append(fault)

    with pytest.raises(OptedOutError) as raised:
        send(CUSTOMER, TEXT)

    assert is_opted_out(CUSTOMER)
    assert raised.value.reason
    assert not any(each in str(raised.value) for each in SPELLINGS)
    with pytest.raises(OptedOutError):
        send(CUSTOMER, TEXT)
    assert len(fake_cellcast.requests) == 1, "the second time nobody is asked"
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    "sentence",
    [
        f"No credit for {KEY}",
        f"{CUSTOMER} cannot be reached",
        "Not to 400 000 001, nor (04) 0000-0001",
        "Not to short 12345",
        "\x1b[2J\n" + "x" * 10_000,
    ],
)
def test_reason_has_no_key_number_or_control_character(
    fake_cellcast: FakeCellcast, sentence: str
) -> None:
    fake_cellcast.faults.append(refusal(400, {"message": sentence}))
    with pytest.raises(NotSentError) as raised:
        send_sms("12345" if "12345" in sentence else CUSTOMER, TEXT)
    reason = raised.value.reason
    assert reason.isprintable() and 0 < len(reason) <= 200
    assert KEY not in reason and "0000" not in reason and "000 001" not in reason
    assert "12345" not in reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CELLCAST_API_KEY", ""),
        ("CELLCAST_API_KEY", "two words"),
        ("CELLCAST_API_URL", "http://api.cellcast.com"),
    ],
)
def test_missing_setting_is_named(
    fake_cellcast: FakeCellcast, settings: Any, name: str, value: str
) -> None:
    setattr(settings, name, value)
    with pytest.raises(NotSentError, match=name):
        send(CUSTOMER, TEXT)
    assert fake_cellcast.requests == []


def test_missing_urllib3_is_named_with_its_extra(
    fake_cellcast: FakeCellcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "urllib3", None)
    monkeypatch.setattr(api, "urllib3", runpy.run_path(api.__file__)["urllib3"])
    with pytest.raises(NotSentError, match=r'"cellcast-django\[api\]"'):
        send(CUSTOMER, TEXT)


# No connection: certainly not sent


def assert_is_certain() -> NotSentError:
    with pytest.raises(NotSentError) as raised:
        send(CUSTOMER, TEXT)
    assert not Message.objects.exists()
    return raised.value


def test_no_connection_is_certain(
    fake_cellcast: FakeCellcast, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CELLCAST_API_URL = "http://127.0.0.1:1"
    assert "(NewConnectionError)" in assert_is_certain().reason
    monkeypatch.setattr(socket, "getaddrinfo", failing(socket.gaierror(-2, "unknown")))
    settings.CELLCAST_API_URL = "https://api.example.com"
    assert_is_certain()


def test_failed_tls_is_certain(fake_cellcast: FakeCellcast, settings: Any) -> None:
    settings.CELLCAST_API_URL = fake_cellcast.url.replace("http:", "https:")
    assert_is_certain()
    assert fake_cellcast.requests == []


@pytest.mark.parametrize("scheme", ["http://", "http://us%C3%A9r:pass%20word@"])
def test_proxy_that_refuses_is_certain(
    fake_cellcast: FakeCellcast, settings: Any, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    settings.CELLCAST_API_URL = "https://api.example.com"
    monkeypatch.setenv("https_proxy", fake_cellcast.url.replace("http://", scheme))
    error = assert_is_certain()
    assert "the proxy responded with 502" in error.reason
    [(_path, _parameters, headers)] = fake_cellcast.requests
    kind, _, encoded = headers.get("Proxy-Authorization", "").partition(" ")
    has_password = "@" in scheme
    assert kind == ("Basic" if has_password else "")
    assert b64decode(encoded).decode() == ("us\u00e9r:pass word" if has_password else "")
    if has_password:
        assert not any(each in reported(error) for each in ("pass%20word", "pass word", encoded))


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "127.0.0.1:3128", "http://[", "nobody:"])
def test_proxy_that_cannot_be_used_is_certain(
    fake_cellcast: FakeCellcast, settings: Any, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    settings.CELLCAST_API_URL = "https://api.example.com"
    monkeypatch.setenv("https_proxy", proxy)
    assert_is_certain()


# What may have been sent


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "SEND_SECONDS", 0.2)


UNCERTAIN = {
    "500 although delivered": Fault(status=500, is_sent=True),
    "500 that says 400": Fault(status=500, body=b'{"code": 400, "message": "no"}', is_sent=True),
    "502": Fault(status=502, body=b"<html>"),
    "408": Fault(status=408),
    "499": Fault(status=499, body=b'{"status": false}'),
    "200 false beside an id": queued({"MessageId": "1"}, status=False),
    "422 beside an id": queued({"MessageId": "1"}, status=False, code=422),
    "id beside an unsubscribed contact": queued(
        {"MessageId": "1"}, status=False, unsubscribeContacts=[CUSTOMER]
    ),
    "200 false by a fault of theirs": refusal(
        200, {"status": False, "message": "Internal server error", "error": {"name": "CastError"}}
    ),
    "200 false by a fault of theirs in two parts": refusal(
        200,
        {
            "status": False,
            "message": "internal server error",
            "error": {"errorMessage": "CastError"},
        },
    ),
    "503 with false": Fault(status=503, body=b'{"status": false}'),
    "200 that says 500": refusal(200, {"meta": {"code": 500}, "message": "Internal"}),
    "silent": Fault(hangs=True, is_sent=True),
    "dripping": Fault(drips=True, is_sent=True),
    "breaks off": Fault(body=b'{"status": true', breaks_off=True, is_sent=True),
    "redirect": Fault(status=307, headers={"Location": "/elsewhere"}),
    "huge": Fault(body=b" " * 3_000, is_sent=True),
    "queue of nothing": queued({}, None, {"MessageId": None}, {"MessageId": " "}),
    "queue of nonsense": queued(
        {"MessageId": True}, {"MessageId": ["1"]}, {"MessageId": "x" * 129}
    ),
    "queue that is none": queued(queueResponse={"MessageId": "1"}),
    "odd data": refusal(200, {"status": True, "data": "ok"}),
    "nothing": Fault(),
    "nonsense": Fault(body=b"\xff[[[", is_sent=True),
    "compressed": Fault(body=b"{}", headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.usefixtures("_hurry")
@pytest.mark.parametrize("fault", UNCERTAIN.values(), ids=UNCERTAIN)
def test_anything_else_is_uncertain_and_never_retried(
    fake_cellcast: FakeCellcast, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(api, "MAX_RESPONSE_BYTES", 2_000)
    fake_cellcast.faults.append(fault)

    with pytest.raises(ApiError) as raised:
        send(CUSTOMER, TEXT)

    assert len(fake_cellcast.requests) == 1
    # Another try may be the second SMS, so the error must not be one that says "not sent".
    assert len(fake_cellcast.sent) == fault.is_sent
    assert not isinstance(raised.value, NotSentError | OptedOutError)
    assert not Message.objects.exists()
    assert not is_opted_out(CUSTOMER)
    assert not any(each in str(raised.value) for each in (*SPELLINGS, KEY, TEXT))


def test_tls_that_breaks_after_the_request_is_uncertain(
    fake_cellcast: FakeCellcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("http.client.HTTPConnection.getresponse", failing(ssl.SSLError("bad mac")))
    with pytest.raises(ApiError) as raised:
        send(CUSTOMER, TEXT)
    assert not isinstance(raised.value, NotSentError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, MemoryError, OSError])
@pytest.mark.parametrize("method", ["putheader", "endheaders", "getresponse"])
def test_error_tracker_gets_no_key_number_or_text(
    fake_cellcast: FakeCellcast,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BaseException],
    method: str,
) -> None:
    monkeypatch.setattr(f"http.client.HTTPConnection.{method}", failing(kind()))
    with pytest.raises((kind, ApiError, NotSentError)) as raised:
        send_sms(CUSTOMER, TEXT)
    report = reported(raised.value)
    assert not any(each in report for each in (*SPELLINGS, KEY, TEXT))


# Credit


@pytest.fixture
def client(fake_cellcast: FakeCellcast) -> Iterator[ApiClient]:
    with ApiClient(1) as client:
        yield client


ODD: list[object] = [None, True, "", "much", "nan", "inf", [1], {}, 10**400]
BALANCES: list[tuple[object, float | None]] = [
    *[(0, 0), ("12", 12), (12.0, 12), ("12.5", 12), (-3, -3), (1e9, 10**9)],
    *((odd, None) for odd in ODD),
]


@pytest.mark.parametrize(("balance", "sms"), BALANCES)
def test_credit_may_be_written_as_any_number(
    client: ApiClient, fake_cellcast: FakeCellcast, balance: object, sms: float | None
) -> None:
    fake_cellcast.account = {"sms_balance": balance}
    credit = read_credit(client)
    assert (credit and credit["sms"], credit and credit["mms"]) == (sms, None)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=401),
        Fault(status=500),
        refusal(200, {"status": False, "data": {"sms_balance": 1}}),
        refusal(200, {"data": []}),
        Fault(body=b"<html>"),
        Fault(breaks_off=True),
    ],
)
def test_failed_request_reads_no_credit(
    client: ApiClient, fake_cellcast: FakeCellcast, fault: Fault
) -> None:
    fake_cellcast.faults.append(fault)
    assert read_credit(client) is None
    assert len(fake_cellcast.requests) == 1
