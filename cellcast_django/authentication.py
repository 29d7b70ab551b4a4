"""Who may send webhooks: HTTP Basic against ``CELLCAST_WEBHOOK_SECRETS``, and nothing else."""

import base64
import binascii
import hmac
import logging
import time
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from math import inf
from threading import Lock

from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from cellcast_django.conf import conf

logger = logging.getLogger("cellcast_django")


@dataclass(frozen=True, slots=True)
class WebhookSender:
    """The sender of a webhook, known by the username it authenticated with."""

    username: str
    is_authenticated: bool = True

    def get_username(self) -> str:
        return self.username


class WebhookAuthentication(BaseAuthentication):
    """Checks the ``Authorization`` header alone: no body, no database, no password hasher.

    Raises the same ``AuthenticationFailed`` for every cause. With no secret configured,
    everybody is refused.
    """

    def authenticate(self, request: Request) -> tuple[WebhookSender, None]:
        username = matching_username(request.META.get("HTTP_AUTHORIZATION", ""))
        if username is None:
            _refusals.log(request.META.get("REMOTE_ADDR", ""))
            raise AuthenticationFailed(_("Wrong or missing username and password."))
        return WebhookSender(username), None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge for ``WWW-Authenticate`` (RFC 7617)."""
        return 'Basic realm="Cellcast webhook", charset="UTF-8"'


class RefusalLog:
    """Logs refused webhooks with their remote address, and nothing of what was sent.

    At most ``MAX_LINES`` per ``WINDOW_SECONDS`` in each process, so that a stranger cannot fill a
    disk; the first line after that says how many were left out.
    """

    MAX_LINES = 10
    WINDOW_SECONDS = 60

    def __init__(self) -> None:
        self._lock = Lock()
        self._since = -inf
        self._refused = 0

    def log(self, remote_address: str) -> None:
        now = time.monotonic()
        with self._lock:
            left_out = 0
            if now - self._since >= self.WINDOW_SECONDS:
                left_out = max(0, self._refused - self.MAX_LINES)
                self._since, self._refused = now, 0
            self._refused += 1
            is_too_many = self._refused > self.MAX_LINES
        if left_out:
            logger.warning("%d more webhooks were refused before this one.", left_out)
        if not is_too_many:
            logger.warning(
                "A webhook from %s was refused: wrong or missing username and password.",
                _ip_address(remote_address),
            )


def _ip_address(text: str) -> str:
    """Return the address, or "unknown": some servers take it from what a stranger sent."""
    try:
        return str(ip_address(text.partition("%")[0]))  # a zone of any length follows the "%"
    except ValueError:
        return "unknown"


_refusals = RefusalLog()


def matching_username(header: str) -> str | None:
    """Return the username of the secret in the header, or ``None``.

    Compares digests of equal length with every secret, in constant time: the response time does
    not reveal how much of a password was right.
    """
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
