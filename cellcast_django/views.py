"""The three URLs that Cellcast calls."""

import json
import logging
from collections import Counter
from typing import Any, ClassVar

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext_lazy as _
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from cellcast_django import payloads, receiving
from cellcast_django.authentication import WebhookAuthentication, WebhookSender
from cellcast_django.conf import conf
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.models import WebhookEvent
from cellcast_django.payloads import Endpoint, Invalid, Payload

logger = logging.getLogger("cellcast_django")

RETRY_AFTER_SECONDS = 30
MAX_LENGTH_DIGITS = 18
"""Of a ``Content-Length`` no more digits are read: an ``int`` of thousands is an error."""


class BodyTooLargeError(APIException):
    """The body is over ``CELLCAST_MAX_BODY_BYTES``; nothing of it is kept."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = _("The body is too large.")


class BodyUnreadableError(APIException):
    """The connection broke before the body had come; the sender will not see this answer."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = _("The body could not be read.")


class StorageUnavailableError(APIException):
    """The database refused before the commit; nothing was stored."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = _("The webhook could not be stored. Please send it again.")
    wait = RETRY_AFTER_SECONDS


class JSONNegotiation(BaseContentNegotiation):
    """Every answer is JSON, whatever ``Accept`` says."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[Any, str]:
        """Return the first renderer."""
        return renderers[0], renderers[0].media_type


def json_exception_handler(exception: Exception, _context: dict[str, Any]) -> HttpResponse | None:
    """Answer an exception that carries an HTTP status with its detail as JSON."""
    if isinstance(exception, DatabaseError):
        logger.error("A webhook could not be stored: %s.", type(exception).__qualname__)
        exception = StorageUnavailableError()
    if not isinstance(exception, APIException):
        return None
    response = JsonResponse({"detail": str(exception.detail)}, status=exception.status_code)
    if challenge := getattr(exception, "auth_header", None):
        response["WWW-Authenticate"] = challenge
        # Our own line is rate-limited; Django would add one for each refusal.
        response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001
    if wait := getattr(exception, "wait", None):
        response["Retry-After"] = str(wait)
    return response


class WebhookView(APIView):
    """Stores what a webhook says, announces it, and answers.

    Every policy of Django REST framework is named here, so that nothing of the host project's
    ``REST_FRAMEWORK`` changes how a webhook is received.
    """

    endpoint: ClassVar[Endpoint]
    sender: WebhookSender

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
    def as_view(cls, **initkwargs: Any) -> Any:
        """Return the view, outside the host project's ``ATOMIC_REQUESTS`` on every database."""
        return outside_atomic_requests(super().as_view(**initkwargs))

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Return the request without what a parser would be told, as none is used here.

        It refers back to request and view: a circle, which would hold the body in memory until the
        garbage collector comes by, and make that come more often.
        """
        wrapped: Request = super().initialize_request(request, *args, **kwargs)
        wrapped.parser_context.clear()
        return wrapped

    def get_exception_handler(self) -> Any:
        """Return our own, whatever the host project's ``EXCEPTION_HANDLER``."""
        return json_exception_handler

    def perform_authentication(self, request: Request) -> None:
        """Ask for the password before a webhook; a probe of the URL needs none and sees nothing."""
        if request.method == "POST":
            # Not by request.user: a refusal would ask for the host's UNAUTHENTICATED_USER, and a
            # middleware of the host may take what stands there for a user with a primary key.
            self.sender, _ = WebhookAuthentication().authenticate(request)

    def get(self, request: Request) -> HttpResponse:
        """Answer a probe of the URL."""
        return JsonResponse({})

    head = get  # Django would make it a method of the object: another circle

    def post(self, request: Request) -> HttpResponse:
        """Take a webhook: 200 means stored."""
        body = read_body(request._request, limit=conf.max_body_bytes)
        content_type = request.META.get("CONTENT_TYPE", "")
        said: list[Payload]
        if (length := content_length(request._request) or 0) > len(body):
            reason = f"The body ended after {len(body)} of {length} bytes."
            said = [Invalid(raw=payloads.decode(body), reason=reason)]
            content_type = ""  # half a form must not be read as a whole one later
        else:
            said = payloads.read(body, content_type, self.endpoint)
        events = receiving.receive(
            said,
            endpoint=self.endpoint,
            content_type=content_type,
            username=self.sender.username,
        )
        if logger.isEnabledFor(logging.INFO):
            log_webhook(self.endpoint, self.sender, events)
        return answer(events)


class ReplyWebhookView(WebhookView):
    """Takes what Cellcast sends to the Receive URL."""

    endpoint = Endpoint.RECEIVE


class StatusWebhookView(WebhookView):
    """Takes what Cellcast sends to the Status URL."""

    endpoint = Endpoint.STATUS


class OptOutWebhookView(WebhookView):
    """Takes what Cellcast sends to the Opt-Out URL."""

    endpoint = Endpoint.OPT_OUT


def answer(events: list[WebhookEvent]) -> HttpResponse:
    """Tell what became of each event; 400 when not one of them could be understood."""
    said: dict[str, Any] = {"events": [{"id": each.pk, "outcome": each.outcome} for each in events]}
    code: int = status.HTTP_200_OK
    if all(event.outcome == WebhookEvent.Outcome.INVALID for event in events):
        said["detail"] = " ".join(dict.fromkeys(event.error for event in events))
        code = status.HTTP_400_BAD_REQUEST
    # Not by JsonResponse, whose encoder, for dates and the like, is made anew for each answer.
    return HttpResponse(json.dumps(said), content_type="application/json", status=code)


def log_webhook(endpoint: Endpoint, sender: WebhookSender, events: list[WebhookEvent]) -> None:
    """Log one line for a webhook, at level INFO: no number, no text.

    The same stands in the record's attributes ``cellcast_endpoint``, ``cellcast_username`` and
    ``cellcast_outcomes``, for handlers that write JSON.
    """
    outcomes = dict(Counter(str(event.outcome) for event in events))
    logger.info(
        "Webhook on the %s: %s.",
        endpoint.label,
        ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items()),
        extra={
            "cellcast_endpoint": endpoint.value,
            "cellcast_username": sender.username,
            "cellcast_outcomes": outcomes,
        },
    )


def read_body(request: HttpRequest, *, limit: int) -> bytes:
    """Read the body, and not one byte of it when it says that it is over ``limit`` bytes.

    Raises ``BodyTooLargeError`` and ``BodyUnreadableError``. A chunked request says no length;
    Django then reads nothing, so the server's own stream is read where it ends by itself.
    """
    length = content_length(request)
    if length is not None and length > limit:
        raise BodyTooLargeError
    source: Any = request
    if length is None and request.META.get("wsgi.input_terminated"):
        source = request.META["wsgi.input"]
    try:
        body: bytes = source.read(limit + 1)
    except Exception:  # noqa: BLE001  # a lost connection, or chunks that the server cannot read
        raise BodyUnreadableError from None
    if len(body) > limit:
        raise BodyTooLargeError
    return body


def content_length(request: HttpRequest) -> int | None:
    """Return how long the body says that it is; ``None`` where it does not say."""
    length = str(request.META.get("CONTENT_LENGTH") or "")
    if not length.isdecimal():
        return None
    return int(length[:MAX_LENGTH_DIGITS])
