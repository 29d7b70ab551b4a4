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
    return _("%(time)s ago") % {"time": timesince(time, depth=1)}


def localised(time: datetime) -> datetime:
    """Return a time in the time zone of the reader; a naive one as it is."""
    return timezone.localtime(time) if timezone.is_aware(time) else time


def duration(time: timedelta) -> str:
    """Return how long something took, in the two largest units: a timeline has to be short."""
    seconds = round(time.total_seconds())
    if seconds < MINUTE:
        return _("%(seconds)d s") % {"seconds": seconds}
    if seconds < HOUR:
        return _("%(minutes)d min %(seconds)d s") % {
            "minutes": seconds // MINUTE,
            "seconds": seconds % MINUTE,
        }
    if seconds < DAY:
        return _("%(hours)d h %(minutes)d min") % {
            "hours": seconds // HOUR,
            "minutes": seconds % HOUR // MINUTE,
        }
    return _("%(days)d d %(hours)d h") % {"days": seconds // DAY, "hours": seconds % DAY // HOUR}
