"""For pytest-django: the fixture ``cellcast``, available once the package is installed."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cellcast_django.testing import WebhookClient

TEST_CREDENTIAL = "cellcast:a-password-for-tests-alone"


@pytest.fixture
def cellcast(settings: Any) -> "WebhookClient":
    """A Django test client that sends webhooks as Cellcast does.

    ``cellcast.reply(sender="+61400000000", message="YES")``, ``cellcast.status(...)`` and
    ``cellcast.opt_out(...)`` return the response, after your handlers have run. If the settings
    have no credential, the fixture sets one for the test. The test needs the database: mark it with
    ``pytest.mark.django_db``.
    """
    # Imported here because pytest loads this module in every project, even without Django.
    from cellcast_django.conf import conf
    from cellcast_django.testing import WebhookClient

    if not conf.webhook_secrets:
        settings.CELLCAST_WEBHOOK_SECRETS = [TEST_CREDENTIAL]
    return WebhookClient()
