"""The pictures of an MMS as links: nothing is fetched until somebody follows one."""

from collections.abc import Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, ngettext

from cellcast_django.payloads import MAX_MEDIA, is_web_address


def media_links(media: Sequence[str], limit: int = MAX_MEDIA) -> SafeString | str:
    """Return how many pictures there are, and links to the first ones; empty without any."""
    addresses = [address for address in media if is_web_address(address)]
    if not addresses:
        return ""
    count = len(addresses)
    links = [
        (address, _("Picture %(number)d") % {"number": place}, place)
        for place, address in enumerate(addresses[:limit], start=1)
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
