"""What the project's databases mean for webhooks and handlers."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Info
from django.utils.translation import gettext

Messages = Iterator[CheckMessage]


def check_atomic_requests(**_: Any) -> Messages:
    """The webhook views are outside ``ATOMIC_REQUESTS``, which handlers may count on."""
    if any(options.get("ATOMIC_REQUESTS") for options in settings.DATABASES.values()):
        yield Info(
            gettext(
                "ATOMIC_REQUESTS does not hold for webhooks: they are committed before "
                "handlers run, and handlers run outside any transaction."
            ),
            hint=gettext("Open transaction.atomic() in each handler that writes more than once."),
            id="cellcast_django.I001",
        )
