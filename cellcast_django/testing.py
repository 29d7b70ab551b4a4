"""For host projects' tests: webhooks as Cellcast sends them, and an outbox for what you send."""

import base64
import json
import secrets
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.core import mail
from django.test import Client, override_settings

from cellcast_django import handlers
from cellcast_django.conf import conf
from cellcast_django.error_reports import handler_errors
from cellcast_django.handlers.work import TakenOverError
from cellcast_django.payloads import (
    Endpoint,
    mms_payload,
    opt_out_payload,
    reply_payload,
    status_payload,
)
from cellcast_django.receiving import read_due
from cellcast_django.sending import NotSentError
from cellcast_django.signals import GiveUp, RetryLater
from cellcast_django.webhooks import WEBHOOKS, problem_of_keys

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

__all__ = [
    "Sent",
    "WebhookClient",
    "authorization",
    "fail_next",
    "mms_payload",
    "opt_out_payload",
    "pretend_to_send",
    "reply_payload",
    "reset",
    "run_handlers",
    "sent",
    "status_payload",
]

PATHS = {webhook.endpoint: webhook.path for webhook in WEBHOOKS}

SECRET = "cellcast:a-password-for-tests-alone"  # noqa: S105
"""What a client sends, and is accepted for its request, where none is configured."""


MAX_SENT = 1_000


class Sent(NamedTuple):
    """What ``pretend_to_send`` was called with: one item of ``sent``."""

    receiver: str
    body: str
    sender: str
    reference: str


sent: list[Sent] = []
_failures: deque[BaseException] = deque()


def pretend_to_send(receiver: str, body: str, sender: str = "", *, reference: str = "") -> str:
    """Add an SMS to ``sent``, and return a fresh id: for ``CELLCAST_SEND_WITH``.

    Sends nothing. The list ``sent`` has the newest 1,000, without what ``fail_next`` refused.
    Where ``DEBUG`` is on, and no test runs, it prints the SMS too. Raises ``NotSentError`` for a
    receiver of fewer than nine digits, which Cellcast refuses as well.
    """
    if _failures:
        raise _failures.popleft()
    if sum(map(str.isdigit, receiver)) < 9:  # as 400000000 has, Cellcast's shortest spelling
        raise NotSentError("Cellcast calls the number invalid.")
    cellcast_id = f"{int(time.time()):08x}{secrets.token_hex(8)}"  # as Cellcast's: the time first
    if settings.DEBUG and not hasattr(mail, "outbox"):  # which a test's environment has
        print(f"{cellcast_id} to {receiver}: {body}")
    sent.append(Sent(receiver, body, sender, reference))
    del sent[:-MAX_SENT]
    return cellcast_id


def fail_next(exception: BaseException) -> None:
    """Make one call of ``pretend_to_send`` raise this; several are raised one each, in order."""
    _failures.append(exception)


def reset() -> None:
    """Empty ``sent``, and forget what should fail."""
    sent.clear()
    _failures.clear()


class WebhookClient(Client):
    """A Django test client with ``reply()``, ``status()``, ``opt_out()`` and ``webhook()``.

    They send the first configured secret, or one of their own. What a handler raises is raised to
    the test, once all have been called, but for ``RetryLater`` and ``GiveUp``;
    ``raise_handler_errors=False`` leaves it in the call. Keyword arguments of ``reply``, ``status``
    and ``opt_out`` are keys of Cellcast's; any other is a ``TypeError``.
    """

    raise_handler_errors = True
    sent = sent
    """What ``pretend_to_send`` was called with."""

    def __init__(
        self, *arguments: Any, raise_handler_errors: bool | None = None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        if raise_handler_errors is not None:
            self.raise_handler_errors = raise_handler_errors

    def reply(self, **changes: Any) -> "Response":
        """Send a customer's reply to the Receive URL."""
        return self.webhook(reply_payload(**_known(changes)), Endpoint.RECEIVE)

    def status(self, **changes: Any) -> "Response":
        """Send a delivery report to the Status URL."""
        return self.webhook(status_payload(**_known(changes)), Endpoint.STATUS)

    def opt_out(self, **changes: Any) -> "Response":
        """Send an opt-out to the Opt-Out URL."""
        return self.webhook(opt_out_payload(**_known(changes)), Endpoint.OPT_OUT)

    def webhook(
        self, payload: Any, endpoint: str, content_type: str = "application/json"
    ) -> "Response":
        """Send any payload to a URL: bytes unchanged, everything else as JSON.

        ``endpoint`` is ``"receive"``, ``"status"`` or ``"opt_out"``.
        """
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        accepted = list(conf.webhook_secrets) or [SECRET]
        configured = override_settings(CELLCAST_WEBHOOK_SECRETS=accepted)
        with configured, _raising_handler_errors(is_wanted=self.raise_handler_errors):
            return self.post(
                PATHS[Endpoint(endpoint)](),
                body,
                content_type=content_type,
                headers=authorization(),
                secure=True,  # as Cellcast's webhooks come, where the site redirects to HTTPS
            )


def _known(changes: dict[str, Any]) -> dict[str, Any]:
    if problem := problem_of_keys(changes):
        raise TypeError(f"{problem} webhook() takes any payload.")
    return changes


@contextmanager
def _raising_handler_errors(*, is_wanted: bool) -> Iterator[None]:
    """Raise what the first failing handler raised once the block has ended, if that is wanted."""
    errors: list[BaseException] = []
    token = handler_errors.set(errors if is_wanted else None)
    try:
        yield
    finally:
        handler_errors.reset(token)
    requests = (RetryLater, GiveUp, TakenOverError)  # these are no failures
    if failed := [each for each in errors if not isinstance(each, requests)]:
        raise failed[0]


def run_handlers(*, raise_handler_errors: bool = True) -> int:
    """Make what is due, as ``cellcast_run_handlers`` does but for mail; return how many calls.

    For tests where handlers run as tasks and nothing works the queue off. Raises what a handler
    raises, once all have been called.
    """
    with _raising_handler_errors(is_wanted=raise_handler_errors):
        read_due()
        return handlers.run_due().total()


def authorization() -> dict[str, str]:
    """Return the first configured secret as ``headers=`` of Django's client takes it."""
    if not conf.webhook_secrets:
        return {}
    encoded = base64.b64encode(conf.webhook_secrets[0].encode()).decode()
    return {"Authorization": f"Basic {encoded}"}
