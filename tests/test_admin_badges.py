"""States as badges: each has a word and a sign, and the colour is never alone."""

from datetime import UTC, datetime

import pytest

from cellcast_django.admin.display import badges
from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.factories import WebhookEventFactory
from cellcast_django.statuses import Status
from tests.admin_pages import text_of
from tests.html import only, tones

NOON = datetime(2026, 8, 12, 2, tzinfo=UTC)


def test_screen_readers_skip_the_sign_and_read_the_word() -> None:
    assert badge(Tone.GOOD, "<done>") == (
        '<span class="cellcast-badge cellcast-badge-good">'
        '<span aria-hidden="true">✓</span> <bdi>&lt;done&gt;</bdi></span>'
    )


TONES = {
    "": Tone.QUIET,
    "queued": Tone.OPEN,
    "sent": Tone.OPEN,
    "received": Tone.QUIET,
    "dead": Tone.BAD,
    "blocked": Tone.BAD,
    "delivered": Tone.GOOD,
    "zombie": Tone.UNKNOWN,
}


@pytest.mark.parametrize(
    "status", [*Status, *sorted(TONES.keys() - {each.value for each in Status})]
)
def test_every_status_has_a_badge_of_sign_and_word(status: str) -> None:
    shown = badges.status_badge(str(status))
    sign, _, word = text_of(shown).partition(" ")
    if tone := TONES.get(str(status)):
        assert (tones(shown), sign) == ([tone.name.lower()], tone.value)
    assert word
    if isinstance(status, Status):
        assert word == status.label
        assert only(shown, "span[@title]").get("title") == status.value


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("trait", "state"),
    [
        ({}, "✓ done"),
        ({"pending": True}, "… waiting"),
        ({"pending": True, "call__state": "retrying"}, "… retrying"),
        ({"failed": True}, "✕ failed"),
        ({"duplicate": True}, "• duplicate"),
        ({"invalid": True}, "✕ invalid"),
        ({"invalid": True, "dismissed_at": NOON}, "• dismissed"),
        ({"outcome": "deferred"}, "… deferred"),
    ],
)
def test_event_badge_has_sign_and_word(trait: dict[str, object], state: str) -> None:
    assert text_of(badges.state_badge(WebhookEventFactory.create(**trait))) == state


@pytest.mark.django_db
def test_waiting_events_badge_names_the_earlier_event() -> None:
    event = WebhookEventFactory.create(pending=True)
    assert text_of(badges.state_badge(event, 7)) == "… waiting for event 7"
    event.calls.update(state="done", next_attempt_at=None)
    assert text_of(badges.state_badge(event)) == "✓ done"
