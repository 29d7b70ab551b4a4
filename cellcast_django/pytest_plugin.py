"""For pytest-django: the fixture ``cellcast``, available once the package is installed."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cellcast_django.testing import WebhookClient


@pytest.fixture
def cellcast() -> "WebhookClient":
    """A Django test client that sends webhooks as Cellcast does.

    ``cellcast.reply(sender="+61400000000", message="YES")``, ``cellcast.status(...)`` and
    ``cellcast.opt_out(...)`` return the response, after your handlers have run, and raise what a
    handler raised. The test needs the database: mark it with ``pytest.mark.django_db``.
    """
    # Imported here because pytest loads this module in every project, even without Django.
    from cellcast_django.testing import WebhookClient

    return WebhookClient()
