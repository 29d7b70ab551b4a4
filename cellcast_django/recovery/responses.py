"""Reads a response of Cellcast's API: its envelope, its errors, and the items of its list.

Source for the envelopes, which come in three shapes: developer.cellcast.com/api-docs.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from django.views.decorators.debug import sensitive_variables

from cellcast_django.conf import conf
from cellcast_django.payloads import clean, read_object

MAX_RETRY_AFTER_SECONDS = 60.0
MAX_DETAIL_LENGTH = 200

Item = dict[str, Any]


class RecoveryError(Exception):
    """The API cannot be asked, or its response cannot be understood.

    The text tells a person what to do, and contains neither the key nor a phone number.
    """


class Response(NamedTuple):
    """What came back over HTTP. ``retry_after`` is the header, empty without one."""

    status: int
    retry_after: str
    body: bytes


class TemporaryError(Exception):
    """An error worth a retry; the text says what went wrong."""

    def __init__(self, problem: str, *, retry_after: str = "") -> None:
        super().__init__(problem)
        self.retry_after = retry_after


@sensitive_variables()  # the response may repeat the key
def read_data(response: Response) -> Item:
    """Return ``data`` of the response. Raises ``RecoveryError`` or ``TemporaryError``.

    A refusal may come as an HTTP status, as a code in the document, or as ``"status": false``.
    """
    document = read_object(response.body)
    code = response.status
    if code == HTTPStatus.OK:
        code = _code(document) or code
    detail = _detail(document)
    if code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise TemporaryError(
            f"Cellcast's API responded with {code}{detail}.", retry_after=response.retry_after
        )
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise RecoveryError(
            f"Cellcast's API refused the key with {code}{detail}. Check CELLCAST_API_KEY, and "
            "CELLCAST_API_URL: accounts outside Australia have another host."
        )
    if code // 100 != HTTPStatus.OK // 100:
        raise RecoveryError(f"Cellcast's API responded with {code}{detail}.")
    if document.get("status") is False:
        raise RecoveryError(f"Cellcast's API refused the request{detail}.")
    if not document:
        raise RecoveryError("Cellcast's API responded with something that is not a JSON object.")
    data = document.get("data")
    if not isinstance(data, dict):
        raise RecoveryError(f'Cellcast\'s API responded without "data"{_keys_of(document)}.')
    return data


def _code(document: Item) -> int | None:
    """Return the HTTP status that the document gives itself, even when it came with 200."""
    meta = document.get("meta")
    code = meta.get("code") if isinstance(meta, dict) else document.get("code")
    return code if isinstance(code, int) else None


def _detail(document: Item) -> str:
    """Return the API's own message, without the key and without phone numbers."""
    message = document.get("message")
    if not isinstance(message, str) or not message.strip():
        return ""
    text = " ".join(clean(message).replace(conf.api_key, "…").split())
    return f": {_LONG_NUMBER.sub('…', text)[:MAX_DETAIL_LENGTH].rstrip('.')}"


_LONG_NUMBER = re.compile(r"\+?\d{6,}")


def _keys_of(document: Item) -> str:
    """Return the keys of an unexpected document, for a bug report: they say nothing personal."""
    names = ", ".join(sorted(document)) or "nothing"
    return f"; it has {clean(names)[:MAX_DETAIL_LENGTH]}"


def read_items(data: Item) -> list[Item]:
    """Return the items of a page. Raises ``RecoveryError``."""
    items = data.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise RecoveryError(f'Cellcast\'s API responded without a list of "items"{_keys_of(data)}.')
    return items


def is_last(data: Item, page: int) -> bool:
    """Whether the list gives its number of pages, and this is the last."""
    total = data.get("totalPages")
    return isinstance(total, int) and 0 < total <= page


def retry_after_seconds(header: str) -> float:
    """Return the seconds that ``Retry-After``, a count or a date, asks for: at most a minute."""
    if header.strip().isdecimal():
        seconds = float(header)
    else:
        try:
            until = parsedate_to_datetime(header)
        except (ValueError, OverflowError):
            return 0.0
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
