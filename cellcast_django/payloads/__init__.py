"""What Cellcast sends, read into dataclasses: plain Python that knows no request and no database.

The only package that knows the field names of Cellcast's webhooks. Sources: Cellcast's setup page
(developer.cellcast.com/getting-started/setup-webhook.html), its v3 API documentation, that of its
sibling platform (guniteam.github.io/sms-api), and what public integrations have seen on live
accounts. Start with ``read``.
"""

from cellcast_django.payloads.body import clean, decode, elements, is_form, is_too_deep, read_object
from cellcast_django.payloads.element import is_web_url, read_element, unpack_mms
from cellcast_django.payloads.payload import (
    MAX_ID_LENGTH,
    MAX_MEDIA,
    MAX_NUMBER_LENGTH,
    MAX_STATUS_LENGTH,
    WEBHOOK_ENDPOINTS,
    Endpoint,
    Invalid,
    OptOut,
    Payload,
    PayloadError,
    RecoveredReply,
    RecoveredReport,
    Reply,
    StatusReport,
)

__all__ = [
    "MAX_ID_LENGTH",
    "MAX_MEDIA",
    "MAX_NUMBER_LENGTH",
    "MAX_STATUS_LENGTH",
    "WEBHOOK_ENDPOINTS",
    "Endpoint",
    "Invalid",
    "OptOut",
    "Payload",
    "RecoveredReply",
    "RecoveredReport",
    "Reply",
    "StatusReport",
    "clean",
    "decode",
    "is_form",
    "is_too_deep",
    "is_web_url",
    "read",
    "read_object",
    "unpack_mms",
]


def read(body: bytes, content_type: str, endpoint: Endpoint) -> list[Payload]:
    """Read the body of one webhook; never raises, and never returns an empty list.

    The body is JSON whatever ``content_type`` says, or form-encoded if it says so: an object, or an
    array of at most 1,000 objects. What is not understood comes back as ``Invalid``. The elements
    of an array are read one by one, so that a bad one does not affect the others.
    """
    raw = decode(body)
    try:
        found = elements(body, raw, content_type)
    except PayloadError as error:
        return [Invalid(raw=raw, reason=str(error))]
    return [read_element(element, element_raw, endpoint) for element, element_raw in found]
