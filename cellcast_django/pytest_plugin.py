"""For pytest with pytest-django: the fixture ``cellcast``, there once the package is installed."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cellcast_django.testing import WebhookClient

TEST_CREDENTIAL = "cellcast:a-password-for-tests-alone"


@pytest.fixture
def cellcast(settings: Any) -> "WebhookClient":
    """A Django test client that sends webhooks as Cellcast does.

    ``cellcast.reply(sender="+61400000000", message="YES")``, ``cellcast.status(...)`` and
    ``cellcast.opt_out(...)`` return the response; your handlers have run by then. Where the
    settings have no credential, one is there for the test. The test needs the database: mark it
    with ``pytest.mark.django_db``.
    """
    # Here, because pytest imports this module in every project, in those without Django too.
    from cellcast_django.conf import conf  # noqa: PLC0415
    from cellcast_django.testing import WebhookClient  # noqa: PLC0415

    if not conf.webhook_secrets:
        settings.CELLCAST_WEBHOOK_SECRETS = [TEST_CREDENTIAL]
    return WebhookClient()
