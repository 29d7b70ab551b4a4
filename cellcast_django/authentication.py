"""Who may send webhooks: HTTP Basic against ``CELLCAST_WEBHOOK_SECRETS``, nothing else."""

import base64
import binascii
import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from ipaddress import ip_address
from math import inf
from threading import Lock
from traceback import clear_frames
from typing import ParamSpec, TypeVar

from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from cellcast_django.conf import conf

logger = logging.getLogger("cellcast_django")


@dataclass(frozen=True, slots=True)
class WebhookSender:
    """Whose webhook this is: the username of the credential that opened the door."""

    username: str
    is_authenticated: bool = True

    def get_username(self) -> str:
        """Return the username, as a user of Django's does."""
        return self.username


class WebhookAuthentication(BaseAuthentication):
    """Looks at the ``Authorization`` header alone: no body, no database, no password hasher.

    Raises ``AuthenticationFailed``, the same for every cause. With no credentials configured,
    everybody is refused.
    """

    def authenticate(self, request: Request) -> tuple[WebhookSender, None]:
        """Return the sender, or raise ``AuthenticationFailed``."""
        username = matching_username(request.META.get("HTTP_AUTHORIZATION", ""))
        if username is None:
            _refusals.log(request.META.get("REMOTE_ADDR", ""))
            raise AuthenticationFailed(_("Wrong or missing username and password."))
        return WebhookSender(username), None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge for ``WWW-Authenticate`` (RFC 7617)."""
        return 'Basic realm="Cellcast webhook", charset="UTF-8"'


class RefusalLog:
    """Logs refused webhooks with the remote address, and nothing of what was sent.

    At most ``LINES`` in ``SECONDS``, in each process, so that a stranger cannot fill a disk; the
    first line after that says how many were left out.
    """

    LINES = 10
    SECONDS = 60

    def __init__(self) -> None:
        self._lock = Lock()
        self._since = -inf
        self._refused = 0

    def log(self, remote_address: str) -> None:
        """Log one refusal, unless there have been too many."""
        now = time.monotonic()
        with self._lock:
            left_out = 0
            if now - self._since >= self.SECONDS:
                left_out = max(0, self._refused - self.LINES)
                self._since, self._refused = now, 0
            self._refused += 1
            is_too_many = self._refused > self.LINES
        if left_out:
            logger.warning("%d more webhooks were refused before.", left_out)
        if not is_too_many:
            logger.warning(
                "A webhook from %s was refused: wrong or missing username and password.",
                _ip_address(remote_address),
            )


def _ip_address(text: str) -> str:
    """Return the address, or "unknown": some servers take it from what a stranger sends."""
    try:
        return str(ip_address(text.partition("%")[0]))  # what follows is a zone of any length
    except ValueError:
        return "unknown"


_refusals = RefusalLog()


def matching_username(header: str) -> str | None:
    """Return the username of the credential that the header carries, or ``None``.

    Compares digests of equal length, each with every credential, in constant time: the answer's
    time tells nothing about how much of a password was right.
    """
    given = sha256(_basic_credential(header)).digest()
    found = None
    for credential in conf.webhook_secrets:
        if hmac.compare_digest(given, sha256(credential.encode()).digest()):
            found = credential.partition(":")[0]
    return found


def _basic_credential(header: str) -> bytes:
    """Return what follows ``Basic``, decoded; empty, matching nothing, where it is malformed."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


# What reports of errors show

P = ParamSpec("P")
T = TypeVar("T")


def hides_variables(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function so that what it raises shows where, and no variable on the way there.

    Passwords, numbers and texts stand in them, down to Django's and the driver's own frames. Error
    trackers report the variables of every frame, and know nothing of ``sensitive_variables``.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            del args, kwargs
            _clear(error)
            raise

    return wrapper


def _clear(error: BaseException) -> None:
    """Empty the frames of an exception, and of those from which it comes."""
    chain: list[BaseException | None] = [error]
    seen = set()
    while chain:
        each = chain.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            clear_frames(each.__traceback__)
            chain += [each.__cause__, each.__context__]
