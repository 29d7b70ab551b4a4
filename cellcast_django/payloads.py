"""What Cellcast sends, read into dataclasses: plain Python that knows no request and no database.

Sources: Cellcast's setup page (developer.cellcast.com/getting-started/setup-webhook.html), its v3
documentation, its sibling's (guniteam.github.io/sms-api), and what public integrations have seen on
live accounts. Start with ``read``.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from json.decoder import JSONDecoder
from typing import Any, Self, TypeGuard
from urllib.parse import parse_qsl

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from cellcast_django.statuses import choice

MAX_EVENTS = 1_000
MAX_DEPTH = 100
MAX_ID_LENGTH = 128
MAX_NUMBER_LENGTH = 64
MAX_STATUS_LENGTH = 64
MAX_REASON_LENGTH = 1_000
MAX_TEXT_LENGTH = 1_600  # no SMS is longer
MAX_MEDIA = 20
MAX_MEDIA_LENGTH = 2_000


@dataclass(frozen=True, slots=True, order=True)
class Listed:
    """The place of a reply in the list of Cellcast's API, which has a time instead of an id."""

    received_at: datetime
    media: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply: ``sender`` is the customer, ``original_body`` the text that they replied to."""

    raw: str = field(repr=False)
    cellcast_id: str
    sender: str = field(repr=False)
    receiver: str = field(repr=False)
    status: str
    body: str = field(repr=False)
    original_body: str = field(repr=False)
    media: tuple[str, ...] = field(default=(), repr=False)
    listed: Listed | None = None
    """Its place in the API's list, where it has no id."""
    alike: tuple[Listed, ...] = field(default=(), repr=False)
    """The places of all listed ones of the same contact and text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """The status of a message you sent, with the ``reason`` if Cellcast gives one."""

    raw: str = field(repr=False)
    cellcast_id: str
    sender: str = field(repr=False)
    receiver: str = field(repr=False)
    status: str
    reason: str = field(default="", repr=False)
    happened_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """An opt-out; Cellcast gives it no id."""

    raw: str = field(repr=False)
    number: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalid:
    """An element that could not be understood, and why."""

    raw: str = field(repr=False)
    reason: str


Payload = Reply | StatusReport | OptOut | Invalid


class PayloadError(ValueError):
    """An element that cannot be understood; the text is the reason, for a person to read."""


def decode(body: bytes, nul: str = r"\x00") -> str:
    r"""Return the body as text that every database stores: NUL and non-UTF-8 bytes as ``\xNN``.

    ``nul`` is how JSON or a form writes it, where the text has to say the same when read again.
    """
    return body.decode("utf-8", errors="backslashreplace").replace("\x00", nul)


def clean(text: str) -> str:
    """Drop NUL and replace lone surrogates with U+FFFD: no database stores them. Idempotent."""
    if text.isprintable():
        return text  # nearly every text is
    return text.replace("\x00", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def holds_form(text: str, content_type: str) -> bool:
    """Whether the body is form-encoded: the header says so, and it does not look like JSON."""
    is_said = content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"
    return is_said and not text.lstrip().startswith(("{", "["))


def elements(body: bytes, content_type: str) -> list[tuple[Any, str]]:
    """Return the body's elements, each with its own text. Raises ``PayloadError``."""
    try:
        text = body.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise PayloadError(f"The body is not UTF-8 (byte {error.start}).") from None
    if not text.strip():
        raise PayloadError("The body is empty.")
    if holds_form(text, content_type):
        return [(dict(parse_qsl(text.strip(), keep_blank_values=True)), decode(body, "%00"))]
    document = parse_json(text)
    if not isinstance(document, list):
        return [(document, decode(body, r"\u0000"))]
    if not document:
        raise PayloadError("The array is empty.")
    if len(document) > MAX_EVENTS:
        raise PayloadError(
            f"The array has {len(document)} elements; at most {MAX_EVENTS} are read."
        )
    pairs = zip(document, _element_texts(text), strict=True)
    return [(element, decode(raw.encode(), r"\u0000")) for element, raw in pairs]


# Numbers stay as written: ids of any length, and no 1e999 that becomes infinity. A raw newline in
# a string is no reason to lose a customer's reply, hence not strict.
_decoder = JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False)


def parse_json(text: str) -> Any:
    """Parse JSON, with numbers as strings. Raises ``PayloadError``."""
    if is_too_deep(text):
        raise PayloadError(f"The JSON is nested deeper than {MAX_DEPTH} levels.")
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise PayloadError(
            f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from None


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a response or a stored body, else an empty one; numbers as such."""
    try:
        text = body.decode("utf-8-sig")
        document = None if is_too_deep(text) else json.loads(text, strict=False, parse_int=_integer)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_ID_LENGTH else digits  # it refuses thousands of them


def read_fields(body: str, content_type: str) -> dict[str, Any]:
    """Return the object or the form that a stored body holds; an empty one if it is neither."""
    text = body.removeprefix("\ufeff").strip()
    if holds_form(text, content_type):
        return dict(parse_qsl(text, keep_blank_values=True))
    return read_object(text.encode())


_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)


def is_too_deep(text: str) -> bool:
    """Whether JSON is nested so deeply that Python's parser may crash where stacks are small."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False  # nearly every text
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif match[0] in "]}":
            depth -= 1
    return False


def _element_texts(text: str) -> list[str]:
    """Return the text of each element, as written, of a JSON array that is known to parse."""
    texts: list[str] = []
    position = text.index("[") + 1
    while True:
        while text[position] in " \t\n\r,":
            position += 1
        if text[position] == "]":
            return texts
        _, end = _decoder.raw_decode(text, position)
        texts.append(text[position:end])
        position = end


Reader = Callable[[dict[str, Any], str], Payload]
"""Takes an element and its text. Raises ``PayloadError``."""


def _read_reply(element: dict[str, Any], raw: str) -> Reply:
    """Read a reply: beside ``reply``, ``message`` is your own text; else it is the customer's."""
    text = _text(element, "reply")
    original_body = _text(element, "original_body")
    if text is None:
        text = _text(element, "message", "body")
    elif original_body is None:
        original_body = _text(element, "message")
    body, media = unpack_mms(element, text or "")
    return Reply(
        raw=raw,
        cellcast_id=_cellcast_id(element),
        sender=_text(element, "sender", "from", limit=MAX_NUMBER_LENGTH) or "",
        receiver=_text(element, "receiver", "to", limit=MAX_NUMBER_LENGTH) or "",
        status=_status(element) or "received",
        body=body,
        original_body=original_body or "",
        media=media,
    )


def _read_status_report(element: dict[str, Any], raw: str) -> StatusReport:
    status = _status(element)
    if not status:  # perhaps a reply without a text: those are read as reports, too
        if _has_content(element):
            raise PayloadError("The status report has no status.")
        keys = ", ".join(f'"{key}"' for key in _TEXT_KEYS)
        raise PayloadError(f'There is no "status", and no text ({keys}).')
    reason = element.get("reason")  # one of another type is no cause to refuse the report
    return StatusReport(
        raw=raw,
        cellcast_id=_cellcast_id(element),
        sender=_text(element, "sender", "from", limit=MAX_NUMBER_LENGTH) or "",
        receiver=_text(element, "receiver", "recipient", limit=MAX_NUMBER_LENGTH) or "",
        status=status,
        reason=clean(reason)[:MAX_REASON_LENGTH] if isinstance(reason, str) else "",
    )


def _read_opt_out(element: dict[str, Any], raw: str) -> OptOut:
    for key in ("contact", "number", "sender", "from"):
        number = _text(element, key, limit=MAX_NUMBER_LENGTH)
        if number and number.strip():
            return OptOut(raw=raw, number=number)
    raise PayloadError("The opt-out has no number.")


_TEXT_KEYS = ("reply", "message", "body")


def _has_content(element: dict[str, Any]) -> bool:
    has_text = any(element.get(key) is not None for key in _TEXT_KEYS)
    return has_text or (isinstance(element.get("media"), list) and bool(element["media"]))


def _cellcast_id(element: dict[str, Any]) -> str:
    cellcast_id = _text(element, "_id", "message_id", limit=MAX_ID_LENGTH)
    if not cellcast_id or not cellcast_id.strip():
        raise PayloadError("There is no message id.")
    return cellcast_id


_SPELLINGS = {"cancelled": "canceled", "delievered": "delivered"}  # the latter is Cellcast's own


def _status(element: dict[str, Any]) -> str:
    status = (_text(element, "status") or "").strip().lower()
    if len(status) > MAX_STATUS_LENGTH:
        raise PayloadError(f'"status" is longer than {MAX_STATUS_LENGTH} characters.')
    return _SPELLINGS.get(status, status)


def _text(element: dict[str, Any], *keys: str, limit: int | None = None) -> str | None:
    """Return the cleaned text of the first key that is not null. Raises ``PayloadError``."""
    for key in keys:
        value = element.get(key)
        if value is None:
            continue
        if not isinstance(value, str):
            raise PayloadError(f'"{key}" is not a string.')
        text = clean(value)
        if limit is not None and len(text) > limit:
            raise PayloadError(f'"{key}" is longer than {limit} characters.')
        return text
    return None


def letters_and_digits(text: str) -> str:
    """Return the part of a word that counts: ``OPT-OUT!`` and ``opt out`` are one word."""
    if len(text) <= MAX_TEXT_LENGTH:  # thousands of accents would take minutes to compose
        text = unicodedata.normalize("NFC", text)
    return re.sub(r"[\W_]+", "", text).casefold()


def _keyword(value: object) -> str:
    return letters_and_digits(value) if isinstance(value, str) else ""


def unpack_mms(element: dict[str, Any], text: str) -> tuple[str, tuple[str, ...]]:
    """Return a reply's text and its media's URLs: an MMS has both as JSON inside its text."""
    media = element.get("media")
    # A form sends words.
    is_mms = element.get("mms") is True or _keyword(element.get("mms")) in ("true", "1")
    if not isinstance(media, list) and not is_mms:
        return text, ()
    try:
        inner = parse_json(text)
    except PayloadError:
        inner = None
    is_wrapped = isinstance(inner, dict) and "message" in inner
    if not is_wrapped or not isinstance(inner["message"], str | None):
        return text, _web_urls(media)
    return clean(inner["message"] or ""), _web_urls(media) or _web_urls(inner.get("media"))


_WEB_URL = re.compile(r"https?://[^\s/?#]\S*", re.IGNORECASE)


def _web_urls(media: object) -> tuple[str, ...]:
    """Return the first ``MAX_MEDIA`` URLs, given as strings or as ``{"url": …}``."""
    if not isinstance(media, list):
        return ()
    urls = [item.get("url") if isinstance(item, dict) else item for item in media]
    return tuple(url for url in urls if is_web_url(url))[:MAX_MEDIA]


def is_web_url(url: object) -> TypeGuard[str]:
    """Whether it is a printable ``http(s)`` URL of a reasonable length."""
    return (
        isinstance(url, str)
        and len(url) <= MAX_MEDIA_LENGTH
        and url.isprintable()
        and _WEB_URL.fullmatch(url) is not None
    )


class Endpoint(TextChoices):
    """Where an event came from: one of the URLs in Cellcast's dashboard, or its API."""

    # In each row: the value; what reads it; which values of "type" mean it, wherever they come to;
    # the label, which Django takes off before it calls __new__ with the others.
    RECEIVE = choice("receive", _read_reply, ("receive", "sms", "mms"), _("Receive URL"))
    STATUS = choice("status", _read_status_report, ("send",), _("Status URL"))
    OPT_OUT = choice("opt_out", _read_opt_out, ("optout",), _("Opt-Out URL"))
    API = choice("api", _read_status_report, (), _("Cellcast’s API"))  # recovery reads its lists

    reader: Reader
    types: tuple[str, ...]

    # The defaults are for type checkers, to which Endpoint("receive") is a call of it.
    def __new__(cls, value: str, reader: Any = None, types: tuple[str, ...] = ()) -> Self:
        self = str.__new__(cls, value)
        self._value_ = value
        self.reader = reader
        self.types = types
        return self

    @property
    def slug(self) -> str:
        """How commands and their output spell it: ``opt-out``."""
        return self.value.replace("_", "-")


def read_element(element: Any, raw: str, endpoint: Endpoint) -> Payload:
    """Read one element; what is not understood comes back as ``Invalid``."""
    try:
        if not isinstance(element, dict):
            raise PayloadError("Expected a JSON object, or an array of objects.")
        return _proper_endpoint(element, endpoint).reader(element, raw)
    except PayloadError as error:
        return Invalid(raw=raw, reason=str(error))


_BY_TYPE = {type_: endpoint for endpoint in Endpoint for type_ in endpoint.types}


def _proper_endpoint(element: dict[str, Any], endpoint: Endpoint) -> Endpoint:
    """Return the URL that the element belongs to: by its type if known, else by where it came.

    What came to the Status URL, or without a known type, needs a text or a picture to be a reply.
    """
    type_ = _keyword(element.get("type"))
    proper = _BY_TYPE.get(type_, endpoint)
    if proper is not Endpoint.RECEIVE or _has_content(element):
        return proper
    if endpoint == Endpoint.STATUS or type_ not in _BY_TYPE:
        return Endpoint.STATUS
    # "receive" is a reply. v3's reports, should one URL be in both fields, have a "recipient".
    is_report = type_ != "receive" and "recipient" in element
    return Endpoint.STATUS if is_report else Endpoint.RECEIVE


def read(body: bytes, content_type: str, endpoint: Endpoint) -> list[Payload]:
    """Read the body of one webhook; never raises, and never returns an empty list.

    The body is JSON whatever ``content_type`` says, or form-encoded if it says so: an object, or an
    array of at most 1,000 objects. What is not understood comes back as ``Invalid``.
    """
    try:
        found = elements(body, content_type)
    except PayloadError as error:
        return [Invalid(raw=decode(body), reason=str(error))]
    return [read_element(element, element_raw, endpoint) for element, element_raw in found]


# Examples: what Cellcast documents, for Test Send, the setup page and tests


KEYS = frozenset(
    {
        *("_id", "message_id", "original_message_id", "bulkId", "subaccount_id", "type", "source"),
        *("sender", "from", "receiver", "recipient", "to", "contact", "number", "received_at"),
        *("reply", "message", "body", "original_body", "media", "mms", "status", "reason"),
        *("custom_string", "customString"),
    }
)
"""The keys that Cellcast sends, whether a reader looks for them or not."""

PICTURE = "https://media.example.com/1.jpg"


def reply_payload(**changes: Any) -> dict[str, Any]:
    """Return the documented payload of a customer's reply, with ``changes`` to its keys."""
    return {
        "_id": "66b5b93b1e2c012dfe964000",
        "status": "delivered",
        "type": "receive",
        "message": "This is reply message",
        "sender": "+61400000000",
        "receiver": "+61400000001",
    } | changes


def mms_payload(
    *, message: str = "Here is the form", media: Sequence[str] = (PICTURE,), **changes: Any
) -> dict[str, Any]:
    """Return the payload of an MMS reply, as the platform behind Cellcast documents it."""
    urls = [{"url": url} for url in media]
    text = json.dumps({"message": message, "media": urls}, separators=(",", ":"))
    return reply_payload(**{"message": text, "media": urls, "mms": True} | changes)


def status_payload(**changes: Any) -> dict[str, Any]:
    """Return the documented payload of a delivery report, with ``changes`` to its keys.

    A failure may have a ``reason``: ``status_payload(status="failed", reason="no such number")``.
    """
    return {
        "_id": "66b5b93b1e2c012dfe964000",
        "status": "delivered",
        "type": "send",
        "sender": "cellcast",
        "receiver": "+61400000001",
    } | changes


def opt_out_payload(**changes: Any) -> dict[str, Any]:
    """Return an opt-out as it has been seen on live accounts, with ``changes`` to its keys."""
    return {"type": "optout", "contact": "404000000"} | changes
