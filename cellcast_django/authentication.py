"""Who may send webhooks: HTTP Basic against ``CELLCAST_WEBHOOK_SECRETS``, and nothing else."""

import base64
import binascii
import hmac
import logging
import time
from dataclasses import dataclass
from hashlib import sha256

from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from cellcast_django.conf import conf

logger = logging.getLogger("cellcast_django")

SECONDS_BETWEEN_LINES = 5  # of the log, about refused webhooks
_next_line_at = 0.0


@dataclass(frozen=True, slots=True)
class WebhookSender:
    """The sender of a webhook, known by the username it authenticated with."""

    username: str
    is_authenticated: bool = True

    def get_username(self) -> str:
        return self.username


class WebhookAuthentication(BaseAuthentication):
    """Checks the ``Authorization`` header alone: no body, no database, no password hasher.

    Raises the same ``AuthenticationFailed`` for every cause. With no secret, all are refused.
    """

    def authenticate(self, request: Request) -> tuple[WebhookSender, None]:
        username = matching_username(request.META.get("HTTP_AUTHORIZATION", ""))
        if username is None:
            _log_refusal()
            raise AuthenticationFailed(_("Wrong or missing username and password."))
        return WebhookSender(username), None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge for ``WWW-Authenticate`` (RFC 7617)."""
        return 'Basic realm="Cellcast webhook", charset="UTF-8"'


def _log_refusal() -> None:
    """Log a refused webhook, but seldom: a stranger must not fill a disk."""
    global _next_line_at
    if time.monotonic() >= _next_line_at:
        _next_line_at = time.monotonic() + SECONDS_BETWEEN_LINES
        logger.warning("A webhook was refused: wrong or missing username and password.")


def matching_username(header: str) -> str | None:
    """Return the username of the secret in the header, or ``None``: in constant time."""
    given = sha256(_basic_secret(header)).digest()
    found = None
    for secret in conf.webhook_secrets:
        if hmac.compare_digest(given, sha256(secret.encode()).digest()):
            found = secret.partition(":")[0]
    return found


def _basic_secret(header: str) -> bytes:
    """Return what follows ``Basic``, decoded; empty, which matches nothing, if malformed."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
