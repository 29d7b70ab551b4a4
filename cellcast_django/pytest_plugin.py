"""For pytest: the fixture ``cellcast``, there as soon as the package is installed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cellcast_django.testing import WebhookClient

TEST_CREDENTIAL = "cellcast:a-password-for-tests-alone"


@pytest.fixture
def cellcast() -> Iterator["WebhookClient"]:
    """A Django test client that sends webhooks as Cellcast does.

    ``cellcast.reply(sender="+61400000000", message="YES")``, ``cellcast.status(...)`` and
    ``cellcast.opt_out(...)`` return the response; your handlers have run by then. Where the
    settings have no credential, one is configured as long as the test runs. The test needs the
    database: mark it with ``pytest.mark.django_db``.
    """
    # Here, because pytest imports this module in every project, in those without Django too.
    from django.test import override_settings  # noqa: PLC0415

    from cellcast_django.conf import conf  # noqa: PLC0415
    from cellcast_django.testing import WebhookClient  # noqa: PLC0415

    credentials = list(conf.webhook_credentials) or [TEST_CREDENTIAL]
    with override_settings(CELLCAST_WEBHOOK_CREDENTIALS=credentials):
        yield WebhookClient()
