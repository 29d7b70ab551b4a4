"""For pytest-django: the fixture ``cellcast``, available once the package is installed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cellcast_django.testing import WebhookClient


@pytest.fixture
def cellcast() -> "Iterator[WebhookClient]":
    """A Django test client that sends webhooks as Cellcast does.

    ``cellcast.reply(sender="+61400000000", message="YES")``, ``cellcast.status(...)`` and
    ``cellcast.opt_out(...)`` return the response, after your handlers have run, and raise what a
    handler raised. The test needs the database: mark it with ``pytest.mark.django_db``.

    Nothing is sent: ``cellcast.sent`` has what ``send`` would have sent in this test, and
    ``cellcast_django.testing.fail_next(exception)`` makes the next call fail.
    """
    # Imported here because pytest loads this module in every project, even without Django.
    from django.test import override_settings

    from cellcast_django.testing import WebhookClient, reset

    reset()
    with override_settings(CELLCAST_SEND_WITH="cellcast_django.testing.pretend_to_send"):
        yield WebhookClient()
    reset()
