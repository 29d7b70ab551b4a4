"""From one element of a body to what it reports: which endpoint it belongs to, and its fields."""

import re
from typing import Any, TypeGuard

from cellcast_django.payloads.body import clean, parse_json
from cellcast_django.payloads.payload import (
    MAX_ID_LENGTH,
    MAX_MEDIA,
    MAX_MEDIA_LENGTH,
    MAX_NUMBER_LENGTH,
    MAX_REASON_LENGTH,
    MAX_STATUS_LENGTH,
    Endpoint,
    Invalid,
    OptOut,
    Payload,
    PayloadError,
    Reply,
    StatusReport,
)

_KNOWN_TYPES = {  # SMS and MMS are v3's
    "receive": Endpoint.RECEIVE,
    "sms": Endpoint.RECEIVE,
    "mms": Endpoint.RECEIVE,
    "send": Endpoint.STATUS,
    "optout": Endpoint.OPT_OUT,
}
_TEXT_KEYS = ("reply", "message", "body")


def read_element(element: Any, raw: str, endpoint: Endpoint) -> Payload:
    """Read one element; what is not understood comes back as ``Invalid``."""
    try:
        if not isinstance(element, dict):
            raise PayloadError("Expected a JSON object, or an array of objects.")
        match _proper_endpoint(element, endpoint):
            case Endpoint.OPT_OUT:
                return _read_opt_out(element, raw)
            case Endpoint.STATUS:
                return _read_status_report(element, raw)
            case _:
                return _read_reply(element, raw)
    except PayloadError as error:
        return Invalid(raw=raw, reason=str(error))


def _proper_endpoint(element: dict[str, Any], endpoint: Endpoint) -> Endpoint:
    """Return the URL that the element belongs to: by its type if known, else by where it came.

    A reply is a reply whatever it lacks: a picture and an empty text are answers too. But what came
    to the Status URL, or without a known type, needs a text or a picture to count as one.
    """
    type_ = _keyword(element.get("type"))
    proper = _KNOWN_TYPES.get(type_)
    if proper is None:
        # Items of the API have no type; those of its report have a status.
        is_item_of_report = endpoint == Endpoint.API and "status" in element
        proper = Endpoint.STATUS if is_item_of_report else endpoint
    if proper in (Endpoint.STATUS, Endpoint.OPT_OUT) or _has_content(element):
        return proper
    # Only v3's delivery reports have a "recipient", should one URL be in both fields.
    is_reply = type_ == "receive" or (type_ in _KNOWN_TYPES and "recipient" not in element)
    return Endpoint.RECEIVE if is_reply and endpoint != Endpoint.STATUS else Endpoint.STATUS


def _keyword(value: object) -> str:
    """Return the letters and digits of a keyword: ``Opt-Out`` and ``opt_out`` are the same."""
    return re.sub(r"[\W_]", "", value).lower() if isinstance(value, str) else ""


def _has_content(element: dict[str, Any]) -> bool:
    has_text = any(element.get(key) is not None for key in _TEXT_KEYS)
    return has_text or (isinstance(element.get("media"), list) and bool(element["media"]))


def _read_reply(element: dict[str, Any], raw: str) -> Reply:
    """Read a customer's answer.

    Seen on live accounts: the customer's text comes in ``reply``, and ``message`` is then your own
    text that they answered. v3 calls the text ``body``.
    """
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
    if not status:
        raise PayloadError("The status report has no status.")
    reason = element.get("reason")
    return StatusReport(
        raw=raw,
        cellcast_id=_cellcast_id(element),
        sender=_text(element, "sender", "from", limit=MAX_NUMBER_LENGTH) or "",
        receiver=_text(element, "receiver", "recipient", limit=MAX_NUMBER_LENGTH) or "",
        status=status,
        reason=clean(reason)[:MAX_REASON_LENGTH] if isinstance(reason, str) else "",
    )


def _read_opt_out(element: dict[str, Any], raw: str) -> OptOut:
    for key in ("contact", "sender", "from"):
        number = _text(element, key, limit=MAX_NUMBER_LENGTH)
        if number and number.strip():
            return OptOut(raw=raw, number=number)
    raise PayloadError("The opt-out has no number.")


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
    """Return the cleaned value of the first of these keys that is present and not null.

    Raises ``PayloadError`` if it is not a string (the decoder keeps numbers as strings) or is
    longer than ``limit`` characters.
    """
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


def unpack_mms(element: dict[str, Any], text: str) -> tuple[str, tuple[str, ...]]:
    """Return a reply's text and the URLs of its media.

    The text of an MMS is JSON inside a string: an object with the actual text as ``message``, and
    the ``media`` once more. Anything else is a text that merely looks like JSON, and stays.
    """
    media = element.get("media")
    if not isinstance(media, list) and not _is_true(element.get("mms")):
        return text, ()
    try:
        inner = parse_json(text)
    except PayloadError:
        inner = None
    if not isinstance(inner, dict) or not isinstance(inner.get("message", 0), str | None):
        return text, _web_urls(media)
    return (
        clean(inner["message"] or ""),
        _web_urls(media) or _web_urls(inner.get("media")),
    )


def _is_true(value: object) -> bool:
    return value is True or _keyword(value) in ("true", "1")  # as a form writes it


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
