"""For pytest-django: the fixtures ``cellcast`` and ``cellcast_account``, once it is installed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cellcast_django.simulator import Simulator
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


@pytest.fixture
def cellcast_account(cellcast: "WebhookClient") -> "Iterator[Simulator]":
    """A simulated account of Cellcast's, which your settings name: ``send`` sends to it.

    ``cellcast_account.sent`` has what was sent; ``reply("0491570006", "YES")``, ``opt_out(...)``,
    ``report(...)`` and ``send_reports()`` send webhooks and raise what a handler raised;
    ``webhook=False`` leaves them to ``cellcast_recover``. Needs the extra ``api``.
    """
    from django.test import override_settings

    from cellcast_django.api import why_not
    from cellcast_django.simulator import Simulator, slow_clock

    with Simulator(deliver=lambda to, said: cellcast.webhook(said, to), now=slow_clock) as account:
        names = {"CELLCAST_API_URL": account.url, "CELLCAST_API_KEY": account.key}
        with override_settings(CELLCAST_SEND_WITH="cellcast_django.api.send_sms", **names):
            if reason := why_not():
                pytest.fail(reason, pytrace=False)
            yield account
