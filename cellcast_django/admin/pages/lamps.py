"""Three lamps, in the order in which they come on: only the last one means that it works."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.core.checks import ERROR
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.admin.display.texts import ago
from cellcast_django.admin.pages.check_results import Result
from cellcast_django.health import Receiving
from cellcast_django.models import WebhookEvent


class Lamp(NamedTuple):
    """One step of the setup."""

    badge: SafeString
    name: Promise
    since: Any
    """When this was last true."""


def lamps(checks: list[Result], health: Receiving) -> Iterator[Lamp]:
    """Yield one lamp each for the settings, for Test Send, and for a webhook from Cellcast."""
    are_right = all(message.level < ERROR for check in checks for message in check.messages)
    yield Lamp(_light(are_right), _("Settings are valid"), None)
    tests = WebhookEvent.objects.filter(is_test=True).order_by("-received_at")
    tested_at = tests.values_list("received_at", flat=True).first()
    yield Lamp(
        _light(tested_at is not None),
        _("Test Send reached this site"),
        tested_at and ago(tested_at),
    )
    called_at = health.last_webhook_at_any_url
    yield Lamp(
        _light(called_at is not None),
        _("Cellcast has sent a webhook"),
        called_at and ago(called_at),
    )


def _light(is_on: bool) -> SafeString:  # noqa: FBT001
    return badge(Tone.GOOD, _("yes")) if is_on else badge(Tone.QUIET, _("not yet"))
