"""The three URLs that Cellcast calls."""

import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.db import Error as DatabaseError
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
from cellcast_django.authentication import WebhookAuthentication, hides_variables
from cellcast_django.conf import conf
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.models import WebhookEvent
from cellcast_django.payloads import Endpoint, Invalid, Payload

logger = logging.getLogger("cellcast_django")

RETRY_AFTER_SECONDS = 30
TEST_SEND_HEADER = "Cellcast-Test-Send"
"""``1`` says that the webhook is no report of Cellcast's, but our own Test Send."""
TEST_SEND_KEY = "HTTP_CELLCAST_TEST_SEND"
MAX_LENGTH_DIGITS = 18
"""Of a ``Content-Length`` no more digits are read: an ``int`` of thousands is an error."""


class BodyTooLargeError(APIException):
    """The body is over ``CELLCAST_MAX_BODY_BYTES``; nothing of it is kept."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = _("The body is too large.")


class LengthRequiredError(APIException):
    """A chunked body, which this server does not hand over; nothing of it is kept."""

    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_detail = _(
        "This server does not hand over a chunked body. Let the proxy in front of it buffer "
        "requests, or run the app on a server that sets wsgi.input_terminated, such as gunicorn."
    )


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
    username: str
    """Of whoever sent this webhook, as the authentication class names them."""

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
        # Error mails show the fields of a form, which Django parses for them when nobody has.
        view = sensitive_post_parameters()(super().as_view(**initkwargs))
        return outside_atomic_requests(view)

    @hides_variables
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Answer the request. What is raised here shows no password, no number and no text."""
        return super().dispatch(request, *args, **kwargs)

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
        """Ask for the password before a webhook; a probe of the URL needs none and sees nothing.

        Not by ``request.user``: a refusal would ask for the host's ``UNAUTHENTICATED_USER``, and a
        middleware of the host may take what stands there for a user with a primary key.
        """
        if request.method != "POST":
            return
        for authenticator in request.authenticators or ():
            authenticated: Any = authenticator.authenticate(request)
            if authenticated is not None:
                self.username = authenticated[0].get_username()
                return
        raise NotAuthenticated

    def get(self, request: Request) -> HttpResponse:
        """Answer a probe of the URL."""
        return JsonResponse({})

    head = get  # Django would make it a method of the object: another circle

    def post(self, request: Request) -> HttpResponse:
        """Take a webhook: 200 means stored."""
        body = read_body(request._request, limit=conf.max_body_bytes)
        reported = parse(body, self.endpoint)
        events = receiving.receive(
            reported,
            endpoint=self.endpoint,
            content_type=body.content_type,
            username=self.username,
            is_test=request.META.get(TEST_SEND_KEY) == "1",
        )
        log_webhook(self.endpoint, self.username, events)
        return respond(events)


class ReplyWebhookView(WebhookView):
    """Takes what Cellcast sends to the Receive URL."""

    endpoint = Endpoint.RECEIVE


class StatusWebhookView(WebhookView):
    """Takes what Cellcast sends to the Status URL."""

    endpoint = Endpoint.STATUS


class OptOutWebhookView(WebhookView):
    """Takes what Cellcast sends to the Opt-Out URL."""

    endpoint = Endpoint.OPT_OUT


# The steps


@dataclass(slots=True)
class Body:
    """What the server has handed over of a request's body."""

    content: bytes = field(repr=False)
    content_type: str
    shortfall: str = ""
    """How it falls short of the length that the request announced; empty where it is whole."""


def read_body(request: HttpRequest, *, limit: int) -> Body:
    """Read the body, and not one byte of it when it says that it is over ``limit`` bytes.

    Raises ``BodyTooLargeError``, ``LengthRequiredError`` and ``BodyUnreadableError``. A chunked
    request says no length; Django then reads nothing, so the server's own stream is read where it
    ends by itself.
    """
    length = content_length(request)
    if length is not None and length > limit:
        raise BodyTooLargeError
    source = request if length is not None else _source_without_length(request)
    try:
        content: bytes = source.read(limit + 1)
    except Exception:  # noqa: BLE001  # a lost connection, or chunks that the server cannot read
        raise BodyUnreadableError from None
    if len(content) > limit:
        raise BodyTooLargeError
    if length is not None and length > len(content):
        shortfall = f"The body ended after {len(content)} of {length} bytes."
        return Body(content, "", shortfall)  # half a form must not be read as a whole one later
    return Body(content, request.META.get("CONTENT_TYPE", ""))


def content_length(request: HttpRequest) -> int | None:
    """Return how long the body says that it is; ``None`` where it does not say."""
    length = str(request.META.get("CONTENT_LENGTH") or "")
    if not length.isdecimal():
        return None
    return int(length[:MAX_LENGTH_DIGITS])


def _source_without_length(request: HttpRequest) -> Any:
    """Return what a body of unknown length is read from. Raises ``LengthRequiredError``."""
    if request.META.get("wsgi.input_terminated"):
        return request.META["wsgi.input"]
    if "wsgi.input" in request.META and request.META.get("HTTP_TRANSFER_ENCODING"):
        raise LengthRequiredError
    return request  # there is no body, or an ASGI server has handed all of it over


def parse(body: Body, endpoint: Endpoint) -> list[Payload]:
    """Return what the body says: one payload for each event."""
    if body.shortfall:
        return [Invalid(raw=payloads.decode(body.content), reason=body.shortfall)]
    return payloads.read(body.content, body.content_type, endpoint)


def log_webhook(endpoint: Endpoint, username: str, events: list[WebhookEvent]) -> None:
    """Log one line for a webhook, at level INFO: no number, no text.

    The same stands in the record's attributes ``cellcast_endpoint``, ``cellcast_username`` and
    ``cellcast_outcomes``, for handlers that write JSON.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    outcomes = dict(Counter(str(event.outcome) for event in events))
    logger.info(
        "Webhook on the %s: %s.",
        endpoint.label,
        ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items()),
        extra={
            "cellcast_endpoint": endpoint.value,
            "cellcast_username": username,
            "cellcast_outcomes": outcomes,
        },
    )


def respond(events: list[WebhookEvent]) -> HttpResponse:
    """Tell what became of each event; 400 when not one of them could be understood."""
    said: dict[str, Any] = {"events": [{"id": each.pk, "outcome": each.outcome} for each in events]}
    code: int = status.HTTP_200_OK
    if all(event.outcome == WebhookEvent.Outcome.INVALID for event in events):
        said["detail"] = " ".join(dict.fromkeys(event.error for event in events))
        code = status.HTTP_400_BAD_REQUEST
    # Not by JsonResponse, whose encoder, for dates and the like, is made anew for each answer.
    return HttpResponse(json.dumps(said), content_type="application/json", status=code)
