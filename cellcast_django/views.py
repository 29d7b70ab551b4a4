"""The view behind the URLs that Cellcast calls."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters
from rest_framework import status
from rest_framework.exceptions import APIException, NotAuthenticated
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from cellcast_django import payloads, receiving
from cellcast_django.authentication import WebhookAuthentication
from cellcast_django.conf import conf
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.error_reports import hides_variables, show_to_test
from cellcast_django.models import WebhookEvent
from cellcast_django.payloads import Endpoint, Invalid, Payload

logger = logging.getLogger("cellcast_django")

TEST_SEND_HEADER = "Cellcast-Test-Send"
"""``1`` marks our own Test Send, as opposed to a webhook from Cellcast."""


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


class BodyIncompleteError(APIException):
    """The connection broke before the whole body came: nobody will see this response."""

    status_code = status.HTTP_400_BAD_REQUEST


@dataclass(slots=True)
class Body:
    """As much of a request's body as the server passed on."""

    content: bytes = field(repr=False)
    content_type: str
    shortfall: str = ""
    """How it is shorter than its ``Content-Length``; empty if it is complete."""


def read_body(request: HttpRequest, *, limit: int) -> Body:
    """Read the body, but not one byte of it if its ``Content-Length`` is over ``limit``.

    Raises ``BodyTooLargeError``, ``BodyIncompleteError`` or ``LengthRequiredError``.
    """
    content_type = request.META.get("CONTENT_TYPE", "")
    given = str(request.META.get("CONTENT_LENGTH") or "")
    if not given.isdecimal():
        return Body(_read(_source_without_length(request), limit), content_type)
    length = int(given[:18])  # int() refuses thousands of digits
    if length > limit:
        raise BodyTooLargeError
    content = _read(request, limit)
    if len(content) < length:
        shortfall = f"The body ended after {len(content)} of {length} bytes."
        return Body(content, "", shortfall)  # without a type, half a form is never read as a whole
    return Body(content, content_type)


def _read(source: Any, limit: int) -> bytes:
    try:
        content: bytes = source.read(limit + 1)  # one more, by which a longer one is known
    except Exception:  # a lost connection, or chunks the server cannot read
        raise BodyIncompleteError from None
    if len(content) > limit:
        raise BodyTooLargeError
    return content


def _source_without_length(request: HttpRequest) -> Any:
    """Return what a body without a length is read from. Raises ``LengthRequiredError``.

    Of a chunked body Django reads nothing: that is read from the server's stream, if it has an end.
    """
    if request.META.get("wsgi.input_terminated"):
        return request.META["wsgi.input"]
    if "wsgi.input" in request.META and request.META.get("HTTP_TRANSFER_ENCODING"):
        raise LengthRequiredError
    return request  # there is no body, or an ASGI server has passed on all of it


class StorageUnavailableError(APIException):
    """Nothing was stored, not even the events by themselves."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = _("The webhook could not be stored. Please send it again.")
    wait = 30  # seconds


class JSONNegotiation(BaseContentNegotiation):
    """Every response is JSON, whatever ``Accept`` says."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


def json_exception_handler(exception: Exception, _context: dict[str, Any]) -> HttpResponse | None:
    """Turn an exception that carries an HTTP status into a JSON response with its detail."""
    if not isinstance(exception, APIException):
        return None
    response = JsonResponse({"detail": str(exception.detail)}, status=exception.status_code)
    if challenge := getattr(exception, "auth_header", None):
        response["WWW-Authenticate"] = challenge
        # Our own log line is rate-limited; Django would add one for each refusal.
        response._has_been_logged = True  # type: ignore[attr-defined]
    if wait := getattr(exception, "wait", None):
        response["Retry-After"] = str(wait)
    return response


class WebhookView(APIView):
    """Stores a webhook, runs its handlers, and responds: ``as_view(endpoint=Endpoint.STATUS)``.

    Sets every policy of Django REST framework itself, whatever the host's ``REST_FRAMEWORK`` says.
    """

    endpoint: Endpoint = None  # type: ignore[assignment]  # as_view() is given it
    received_as: str

    http_method_names = ["get", "head", "post"]
    authentication_classes = [WebhookAuthentication]
    permission_classes = []
    throttle_classes = []
    parser_classes = []
    renderer_classes = [JSONRenderer]
    content_negotiation_class = JSONNegotiation
    versioning_class = None
    metadata_class = None
    schema = None

    @classmethod
    def as_view(cls, *, endpoint: Endpoint, **initkwargs: Any) -> Any:  # type: ignore[override]
        """Return the endpoint's view, exempt from ``ATOMIC_REQUESTS`` on every database."""
        # Django's error mails parse and show the fields of a form even if no view did.
        view = sensitive_post_parameters()(super().as_view(endpoint=endpoint, **initkwargs))
        return outside_atomic_requests(view)

    @hides_variables  # passwords, numbers and texts
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(request, *args, **kwargs)

    def get_exception_handler(self) -> Any:
        return json_exception_handler  # whatever the host project's EXCEPTION_HANDLER is

    def perform_authentication(self, request: Request) -> None:
        """Require the password for a webhook; a probe of the URL needs none and sees nothing."""
        if request.method != "POST":
            return
        for authenticator in request.authenticators or ():
            authenticated: Any = authenticator.authenticate(request)
            if authenticated is not None:
                # Not as request.user, which the host's middleware may take for a row.
                self.received_as = authenticated[0].get_username()
                return
        raise NotAuthenticated

    def get(self, request: Request) -> HttpResponse:
        return JsonResponse({})

    def post(self, request: Request) -> HttpResponse:
        """Receive a webhook: 200 means stored."""
        body = read_body(request._request, limit=conf.max_body_bytes)
        try:
            events = receiving.receive(
                parse(body, self.endpoint),
                endpoint=self.endpoint,
                content_type=body.content_type,
                received_as=self.received_as,
                is_test=request.META.get("HTTP_CELLCAST_TEST_SEND") == "1",
            )
        except Exception as error:  # of the database or not: a 500 would not say "again"
            logger.error("A webhook could not be stored: %s", receiving.summary_of(error))
            show_to_test(error)
            raise StorageUnavailableError from None
        log_webhook(self.endpoint, self.received_as, events)
        return respond(events)


def parse(body: Body, endpoint: Endpoint) -> list[Payload]:
    """Return one payload for each event in the body; one if our own reading fails on it."""
    if body.shortfall:
        return [Invalid(raw=payloads.decode(body.content), reason=body.shortfall)]
    try:
        return payloads.read(body.content, body.content_type, endpoint)
    except Exception as error:
        logger.error("The body of a webhook could not be read: %s.", type(error).__qualname__)
        reason = f"This version cannot read it ({type(error).__qualname__})."
        return [Invalid(raw=payloads.decode(body.content), reason=reason)]


def log_webhook(endpoint: Endpoint, received_as: str, events: list[WebhookEvent]) -> None:
    """Log one line for a webhook, at level INFO: no number, no text."""
    if logger.isEnabledFor(logging.INFO):
        outcomes = Counter(str(event.outcome) for event in events)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        logger.info("Webhook on the %s, by %s: %s.", endpoint.label, received_as, counts)


def respond(events: list[WebhookEvent]) -> HttpResponse:
    """Return each event's outcome as JSON; 400 if none of them could be understood."""
    data: dict[str, Any] = {"events": [{"id": each.pk, "outcome": each.outcome} for each in events]}
    code: int = status.HTTP_200_OK
    if all(event.outcome == WebhookEvent.Outcome.INVALID for event in events):
        data["detail"] = " ".join(dict.fromkeys(event.error for event in events))
        code = status.HTTP_400_BAD_REQUEST
    return JsonResponse(data, status=code)
