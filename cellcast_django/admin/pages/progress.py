"""The progress of the setup: only its last step proves that webhooks arrive."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from django.core.checks import ERROR
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.admin.display.texts import ago
from cellcast_django.admin.pages.check_results import Result
from cellcast_django.health import Receiving
from cellcast_django.models import WebhookEvent


class Step(NamedTuple):
    """One step of the setup."""

    badge: SafeString
    name: Promise
    ago: SafeString | None = None
    """How long ago it was last done."""


def progress(checks: list[Result], health: Receiving) -> Iterator[Step]:
    """Yield a step each for the settings, for Test Send, and for a webhook from Cellcast."""
    is_valid = all(message.level < ERROR for check in checks for message in check.messages)
    yield Step(_badge(is_valid), _("Settings are valid"))
    tests = WebhookEvent.objects.filter(is_test=True).order_by("-received_at")
    tested_at = tests.values_list("received_at", flat=True).first()
    yield _step(_("Test Send reached this site"), tested_at)
    yield _step(_("Cellcast has sent a webhook"), health.last_webhook_at_any_url)


def _step(name: Promise, at: datetime | None) -> Step:
    return Step(_badge(at is not None), name, ago(at) if at else None)


def _badge(is_done: bool) -> SafeString:  # noqa: FBT001
    return badge(Tone.GOOD, _("yes")) if is_done else badge(Tone.QUIET, _("not yet"))
