"""The pictures of an MMS as links: nothing is fetched from there before somebody asks for it."""

from collections.abc import Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, ngettext

from cellcast_django.payloads import MAX_MEDIA, is_web_address


def media_links(media: Sequence[str], most: int = MAX_MEDIA) -> SafeString | str:
    """Return how many pictures there are, with links to the first; empty where there is none."""
    addresses = [address for address in media if is_web_address(address)]
    if not addresses:
        return ""
    number = len(addresses)
    links = [
        (address, _("Picture %(number)d") % {"number": place}, place)
        for place, address in enumerate(addresses[:most], start=1)
    ]
    return format_html(
        '<span class="cellcast-media">{} {}{}</span>',
        ngettext("%(number)d picture:", "%(number)d pictures:", number) % {"number": number},
        format_html_join(
            " ",
            '<a href="{}" rel="noopener noreferrer" target="_blank" aria-label="{}">{}</a>',
            links,
        ),
        " …" if number > most else "",
    )
