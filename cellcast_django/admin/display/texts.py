"""Texts, numbers and times for display, in any script and for every reader."""

from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

import phonenumbers
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, ngettext_lazy

from cellcast_django.conf import conf

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def number_html(contact: str) -> SafeString | str:
    """Return a phone number as HTML that keeps its direction in right-to-left text."""
    return format_html("<bdi>{}</bdi>", readable_number(contact)) if contact else ""


def readable_number(contact: str) -> str:
    """Return a phone number as people of the default region write it: ``0491 570 156``."""
    return _format_number(contact, conf.default_region)


@lru_cache(maxsize=10_000)
def _format_number(contact: str, region: str) -> str:
    try:
        parsed = phonenumbers.parse(contact)
    except phonenumbers.NumberParseException:
        return contact
    is_ours = parsed.country_code == phonenumbers.country_code_for_region(region)
    form = phonenumbers.PhoneNumberFormat
    return str(phonenumbers.format_number(parsed, form.NATIONAL if is_ours else form.INTERNATIONAL))


def customer_label(customer: Any) -> str:
    """Return the number and name of a ``Customer`` for a title; empty without a number."""
    written = readable_number(customer.contact)
    return f"{written} ({customer.name})" if customer.name else written


def customer_html(customer: Any) -> SafeString | str:
    """Return the name and number of a ``Customer`` as HTML, each in its own direction."""
    if not customer.name:
        return number_html(customer.contact)
    return format_html(
        '<bdi>{}</bdi> <span class="cellcast-small"><bdi>{}</bdi></span>',
        customer.name,
        readable_number(customer.contact),
    )


def figure(count: int) -> str:
    """Return a count as people write it: ``10,000``."""
    return number_format(count, force_grouping=True)


def text_block(text: str) -> SafeString | str:
    """Return a text in any script as a block that keeps its white space."""
    return format_html('<div class="cellcast-text" dir="auto">{}</div>', text) if text else ""


def beginning(text: str, length: int) -> str:
    """Return the start of a text on one line."""
    words = " ".join(text[:length].split())
    return f"{words}…" if len(text) > length else words


def exact_time(time: datetime, clock: str = "H:i") -> str:
    """Return a time with the reader's zone: ``26 Nov 2026, 12:16 AEDT``."""
    zone = " T" if timezone.is_aware(time) else ""
    return date_format(localised(time), f"j M Y, {clock}{zone}")


def exact_seconds(time: datetime) -> SafeString:
    """Return a time to the second, for steps that are close together."""
    exact = exact_time(time, "H:i:s")
    return format_html('<time datetime="{}"><bdi>{}</bdi></time>', machine_time(time), exact)


def machine_time(time: datetime) -> str:
    """Return a time for ``datetime`` attributes, which allow three decimals."""
    return localised(time).isoformat(timespec="milliseconds")


def day(time: datetime) -> str:
    """Return the day of a time in the reader's zone: ``26 Nov 2026``."""
    return date_format(localised(time), "j M Y")


def ago(time: datetime) -> SafeString:
    """Return how long ago a time was; hovering and screen readers give the exact time."""
    exact = exact_time(time)
    return format_html(
        '<time datetime="{}" title="{}"><bdi>{}</bdi>'
        '<span class="cellcast-hidden">, {}</span></time>',
        machine_time(time),
        exact,
        _ago_in_words(time),
        exact,
    )


# Not ``timesince``: Django translates that into languages that our "ago" has no translation for.
_AGES = [
    (timedelta(days=365), ngettext_lazy("%(count)d year ago", "%(count)d years ago", "count")),
    (timedelta(days=30), ngettext_lazy("%(count)d month ago", "%(count)d months ago", "count")),
    (timedelta(days=7), ngettext_lazy("%(count)d week ago", "%(count)d weeks ago", "count")),
    (timedelta(days=1), ngettext_lazy("%(count)d day ago", "%(count)d days ago", "count")),
    (timedelta(hours=1), ngettext_lazy("%(count)d hour ago", "%(count)d hours ago", "count")),
    (timedelta(minutes=1), ngettext_lazy("%(count)d minute ago", "%(count)d minutes ago", "count")),
]


def _ago_in_words(time: datetime) -> str:
    age = timezone.now() - time
    for unit, words in _AGES:
        if age >= unit:
            return str(words % {"count": age // unit})
    return _("just now")


def today() -> date:
    """Return today's date in the reader's time zone."""
    return localised(timezone.now()).date()


def localised(time: datetime) -> datetime:
    """Return a time in the reader's time zone; a naive one unchanged."""
    return timezone.localtime(time) if timezone.is_aware(time) else time


def duration(time: timedelta) -> str:
    """Return how long something took, in its two largest units."""
    seconds = max(0, round(time.total_seconds()))
    units = [
        (seconds // DAY, _("%(count)d d")),
        (seconds % DAY // HOUR, _("%(count)d h")),
        (seconds % HOUR // MINUTE, _("%(count)d min")),
        (seconds % MINUTE, _("%(count)d s")),
    ]
    largest = next((place for place, (count, _unit) in enumerate(units) if count), len(units) - 1)
    words = [unit % {"count": count} for count, unit in units[largest : largest + 2] if count]
    return " ".join(words) or units[-1][1] % {"count": 0}
