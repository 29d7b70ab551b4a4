"""Texts, numbers and times as the pages show them: of any script, and for every reader."""

from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def number(contact: str) -> SafeString | str:
    """Return a number that keeps its direction among texts that run from right to left."""
    return format_html("<bdi>{}</bdi>", contact) if contact else ""


def text_block(text: str) -> SafeString | str:
    """Return a text of any script as a block that keeps its white space."""
    return format_html('<div class="cellcast-text" dir="auto">{}</div>', text) if text else ""


def beginning(text: str, length: int) -> str:
    """Return the first words of a text on one line."""
    words = " ".join(text[:length].split())
    return f"{words}…" if len(text) > length else words


def ago(time: datetime) -> SafeString:
    """Return how long ago something was; the exact time is a hover away, and read aloud."""
    exact = date_format(localised(time), "DATETIME_FORMAT")
    return format_html(
        '<time datetime="{}" title="{}">{}<span class="cellcast-hidden">, {}</span></time>',
        localised(time).isoformat(),
        exact,
        _ago_in_words(time),
        exact,
    )


def _ago_in_words(time: datetime) -> str:
    if timezone.now() - time < timedelta(minutes=1):
        return _("just now")
    return _("%(time)s ago") % {"time": timesince(time, timezone.now(), depth=1)}


def localised(time: datetime) -> datetime:
    """Return a time in the time zone of the reader; a naive one as it is."""
    return timezone.localtime(time) if timezone.is_aware(time) else time


def duration(time: timedelta) -> str:
    """Return how long something took, in the two largest units: a timeline has to be short."""
    seconds = max(0, round(time.total_seconds()))
    units = [
        (seconds // DAY, _("%(number)d d")),
        (seconds % DAY // HOUR, _("%(number)d h")),
        (seconds % HOUR // MINUTE, _("%(number)d min")),
        (seconds % MINUTE, _("%(number)d s")),
    ]
    largest = next((place for place, (number, _word) in enumerate(units) if number), len(units) - 1)
    said = units[largest : largest + 2]
    words = [word % {"number": number} for number, word in said if number]
    return " ".join(words) or units[-1][1] % {"number": 0}
