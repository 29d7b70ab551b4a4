"""The pictures of an MMS as links: nothing is fetched until a person follows one."""

from collections.abc import Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, ngettext

from cellcast_django.payloads import MAX_MEDIA, is_web_url


def media_links(media: Sequence[str], limit: int = MAX_MEDIA) -> SafeString | str:
    """Return how many pictures there are, and links to the first ones; empty without any."""
    urls = [url for url in media if is_web_url(url)]
    if not urls:
        return ""
    count = len(urls)
    links = [
        (url, _("Picture %(number)d") % {"number": place}, place)
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
