"""The body of a webhook: read within its limits, or refused with the HTTP status that fits."""

from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from rest_framework import status
from rest_framework.exceptions import APIException

MAX_LENGTH_DIGITS = 18
"""Reads no more digits of ``Content-Length``: ``int()`` refuses thousands of them."""


class BodyTooLargeError(APIException):
    """The body is over ``CELLCAST_MAX_BODY_BYTES``; nothing of it is stored."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = _("The body is too large.")


class LengthRequiredError(APIException):
    """The body is chunked, and this server does not pass those on; nothing is stored."""

    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_detail = _(
        "This server does not pass on chunked bodies. Let the proxy in front of it buffer "
        "requests, or run the app on a server that sets wsgi.input_terminated, such as gunicorn."
    )


class BodyUnreadableError(APIException):
    """The connection broke before the whole body came; the sender will not see this response."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = _("The body could not be read.")


@dataclass(slots=True)
class Body:
    """As much of a request's body as the server passed on."""

    content: bytes = field(repr=False)
    content_type: str
    shortfall: str = ""
    """How it is shorter than its ``Content-Length``; empty if it is complete."""


def read_body(request: HttpRequest, *, limit: int) -> Body:
    """Read the body, but not one byte of it if its ``Content-Length`` is over ``limit``.

    Raises ``BodyTooLargeError``, ``LengthRequiredError`` and ``BodyUnreadableError``. A chunked
    request has no length, and Django reads nothing then, so the server's own stream is read if it
    ends by itself.
    """
    length = content_length(request)
    if length is not None and length > limit:
        raise BodyTooLargeError
    source = request if length is not None else _source_without_length(request)
    try:
        content: bytes = source.read(limit + 1)
    except Exception:  # noqa: BLE001  # a lost connection, or chunks the server cannot read
        raise BodyUnreadableError from None
    if len(content) > limit:
        raise BodyTooLargeError
    if length is not None and length > len(content):
        shortfall = f"The body ended after {len(content)} of {length} bytes."
        return Body(content, "", shortfall)  # half a form must not be read as a whole one later
    return Body(content, request.META.get("CONTENT_TYPE", ""))


def content_length(request: HttpRequest) -> int | None:
    """Return the ``Content-Length`` in bytes; ``None`` if there is none."""
    length = str(request.META.get("CONTENT_LENGTH") or "")
    if not length.isdecimal():
        return None
    return int(length[:MAX_LENGTH_DIGITS])


def _source_without_length(request: HttpRequest) -> Any:
    """Return the stream of a body without a length. Raises ``LengthRequiredError``."""
    if request.META.get("wsgi.input_terminated"):
        return request.META["wsgi.input"]
    if "wsgi.input" in request.META and request.META.get("HTTP_TRANSFER_ENCODING"):
        raise LengthRequiredError
    return request  # there is no body, or an ASGI server has passed on all of it
