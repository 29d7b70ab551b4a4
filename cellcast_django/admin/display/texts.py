"""Numbers, names, times and texts as people read them; pictures as links that nothing fetches."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import phonenumbers
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, ngettext, ngettext_lazy

from cellcast_django.conf import conf
from cellcast_django.models import Direction
from cellcast_django.payloads import MAX_MEDIA, clean, holds_form, is_too_deep, is_web_url


def number_html(contact: str) -> SafeString | str:
    """Return a phone number as HTML that keeps its direction in right-to-left text."""
    return format_html("<bdi>{}</bdi>", readable_number(contact)) if contact else ""


def readable_number(contact: str) -> str:
    """Return a phone number as people of the default region write it: ``0491 570 156``."""
    try:
        parsed = phonenumbers.parse(contact)
    except phonenumbers.NumberParseException:
        return contact
    is_ours = parsed.country_code == phonenumbers.country_code_for_region(conf.default_region)
    form = phonenumbers.PhoneNumberFormat
    return str(phonenumbers.format_number(parsed, form.NATIONAL if is_ours else form.INTERNATIONAL))


def own_number_html(message: Any) -> SafeString | str:
    """Return which of your numbers a customer wrote to, or you sent from; empty if unknown."""
    if not message.own_number:
        return ""
    words = _("to %(number)s") if message.direction == Direction.INBOUND else _("from %(number)s")
    number = readable_number(message.own_number)
    return format_html('<bdi class="cellcast-small">{}</bdi>', words % {"number": number})


def grouped(count: int) -> str:
    """Return a count as people write it: ``10,000``."""
    return number_format(count, force_grouping=True)


def counted(count: int, one: str, several: str) -> str:
    """Return a count and what is counted, in the English of the admin's log."""
    shown = f"{count:,}" if type(count) is int else str(count)  # a capped one says that itself
    return f"{shown} {one if count == 1 else several}"


def beginning(text: str, length: int) -> str:
    """Return the start of a text on one line."""
    words = " ".join(text[:length].split())
    return f"{words}…" if len(text) > length else words


def exact_time(time: datetime, clock: str = "H:i") -> str:
    """Return a time with the reader's zone: ``26 Nov 2026, 12:16 AEDT``."""
    return date_format(timezone.localtime(time), f"j M Y, {clock} T")


def exact_seconds(time: datetime) -> SafeString:
    """Return a time to the second, for steps that are close together."""
    exact = exact_time(time, "H:i:s")
    return format_html('<time datetime="{}"><bdi>{}</bdi></time>', machine_time(time), exact)


def machine_time(time: datetime) -> str:
    """Return a time for ``datetime`` attributes, which allow three decimals."""
    return timezone.localtime(time).isoformat(timespec="milliseconds")


def day(time: datetime) -> str:
    """Return the day of a time in the reader's zone: ``26 Nov 2026``."""
    return date_format(timezone.localtime(time), "j M Y")


class Unprinted:
    """A text that templates show and trackers do not store: of an object they keep the ``repr``."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


def ago(time: datetime) -> SafeString:
    """Return how long ago a time was; hovering, screen readers and paper give the exact time."""
    exact = exact_time(time)
    return format_html(
        '<time datetime="{}" title="{}"><bdi>{}</bdi><span class="cellcast-hidden">, </span>'
        '<span class="cellcast-hidden cellcast-exact">{}</span></time>',
        machine_time(time),
        exact,
        _ago_in_words(time),
        exact,
    )


# Not ``timesince``: Django translates that into languages that our "ago" has no translation for.
_AGES = [
    (timedelta(days=1), ngettext_lazy("%(count)d day ago", "%(count)d days ago", "count")),
    (timedelta(hours=1), ngettext_lazy("%(count)d h ago", "%(count)d h ago", "count")),
    (timedelta(minutes=1), ngettext_lazy("%(count)d min ago", "%(count)d min ago", "count")),
]


def _ago_in_words(time: datetime) -> str:
    """Return how long ago it was; from a week on its day, as nobody counts back further."""
    age = timezone.now() - time
    if age >= timedelta(days=7):
        return day(time)
    for unit, words in _AGES:
        if age >= unit:
            return str(words % {"count": age // unit})
    return _("just now")


def duration(time: timedelta) -> str:
    """Return how long something took, in its two largest units."""
    minutes, seconds = divmod(max(0, round(time.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [
        (days, _("%(count)d d")),
        (hours, _("%(count)d h")),
        (minutes, _("%(count)d min")),
        (seconds, _("%(count)d s")),
    ]
    while len(units) > 1 and units[0][0] == 0:
        del units[0]
    largest, *smaller = units[:2]
    shown = [largest, *(each for each in smaller if each[0] > 0)]
    return " ".join(words % {"count": count} for count, words in shown)


def format_body(body: str, content_type: str) -> str:
    """Return the body as people read it: one value per line, escapes decoded; empty if it cannot.

    It stands beside the raw body, which alone has each digit and each repeated key.
    """
    text = body.removeprefix("\ufeff").strip()
    if holds_form(text, content_type):
        fields = parse_qsl(text, keep_blank_values=True)
        return clean("\n".join(f"{name} = {value}" for name, value in fields))
    if is_too_deep(text):
        return ""
    try:
        value = json.loads(text, strict=False)
    except ValueError:
        return ""
    # Tabs: a deeply nested body would consist of spaces above all.
    return clean(json.dumps(value, indent="\t", ensure_ascii=False))


def media_links(media: Sequence[str], limit: int = MAX_MEDIA) -> SafeString | str:
    """Return how many pictures there are, and links to the first ones; empty without any."""
    urls = [url for url in media if is_web_url(url)]
    if not urls:
        return ""
    count = len(urls)
    links = [
        (url, _("Picture %(place)d") % {"place": place}, place)
        for place, url in enumerate(urls[:limit], start=1)
    ]
    return format_html(
        '<span class="cellcast-media">{} {}{}</span>',
        ngettext("%(count)d picture:", "%(count)d pictures:", count) % {"count": count},
        format_html_join(
            " ",
            '<a href="{}" rel="noopener noreferrer" target="_blank" aria-label="{}">{}</a>',
            links,
        ),
        " …" if count > limit else "",
    )
