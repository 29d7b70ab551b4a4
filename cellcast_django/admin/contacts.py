"""Who a contact is, and who may be meant: names of the host project, opt-outs, last digits."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import islice, product
from typing import Any

from django.db import connections, transaction
from django.utils.html import format_html
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString

from cellcast_django.admin.display.badges import opt_out_badge
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import number_html, readable_number
from cellcast_django.admin.viewer import Viewer
from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact
from cellcast_django.models import OptOut
from cellcast_django.payloads import clean, is_web_url

logger = logging.getLogger("cellcast_django")


@shown
class Named:
    """What the host project calls something, and its own page about that, if it has one."""

    name: str = ""
    url: str = ""

    @property
    def html(self) -> SafeString:
        if not self.url:
            return format_html("<bdi>{}</bdi>", self.name)
        return format_html('<a href="{}" data-host-page><bdi>{}</bdi></a>', self.url, self.name)


@shown
class Customer:
    """A contact as the pages show them."""

    contact: str
    named: Named = Named()
    opted_out_since: datetime | None = None

    @property
    def name(self) -> str:
        return self.named.name

    @property
    def label(self) -> str:
        """The number and name for a title; empty without a number."""
        written = readable_number(self.contact)
        return f"{written} ({self.name})" if self.name else written

    @property
    def html(self) -> SafeString | str:
        """The name and number, each in its own direction; empty without a number."""
        if not self.name:
            return number_html(self.contact)
        return format_html(
            '<bdi>{}</bdi> <span class="cellcast-small"><bdi>{}</bdi></span>',
            self.name,
            readable_number(self.contact),
        )

    @property
    def opted_out(self) -> SafeString:
        return opt_out_badge(self.opted_out_since)


def customers(contacts: Iterable[str]) -> dict[str, Customer]:
    """Return the customers by contact: one query, and one call of the host's function."""
    wanted = sorted({contact for contact in contacts if contact})
    if not wanted:
        return {}
    names = _ask("CELLCAST_CONTACT_NAMES", conf.contact_names, wanted)
    active = OptOut.objects.fresh().active().filter(contact__in=wanted)
    since = dict(active.values_list("contact", "since"))
    return {each: Customer(each, names.get(each, Named()), since.get(each)) for each in wanted}


def customer_of(contact: str) -> Customer:
    """Return one customer; for several, ask for all at once."""
    return customers([contact]).get(contact) or Customer(contact)


def references_of(viewer: Viewer, references: Iterable[str]) -> dict[str, Named]:
    """Return what ``CELLCAST_REFERENCE_LINKS`` says of references, or else the references.

    On one page it is asked but once about each.
    """
    known, wanted = viewer.references, {each for each in references if each}
    if missing := sorted(wanted - known.keys()):
        found = _ask("CELLCAST_REFERENCE_LINKS", conf.reference_links, missing)
        known.update({each: found.get(each, Named(each)) for each in missing})
    return {each: known[each] for each in wanted}


def _ask(setting: str, path: str, about: list[str]) -> dict[str, Named]:
    """Return what a function of the host's says: for each a name, or a name and an address."""
    if not path:
        return {}
    with _host_code(setting):
        found = import_string(path)(about)
        return {each: _named(said) for each, said in found.items() if said}
    return {}


def _named(said: Any) -> Named:
    said, url = said if isinstance(said, tuple | list) else (said, "")
    name = clean(str(said)) if said else ""  # a column of the host's may be null
    return Named(name, url_or_nothing(url) if name else "")


def url_or_nothing(url: object) -> str:
    """Return an address of the host's if it leads to the web or to a path of this site.

    Browsers read two slashes, and a slash and a backslash, as the start of another site's name, and
    drop control characters before they look.
    """
    text = "" if url is None else str(url)
    is_path = text.startswith("/") and text[1:2] not in ("/", "\\")
    return text if text.isprintable() and (is_path or is_web_url(text)) else ""


MAX_NAMED = 200  # contacts that a name is searched for at once


def may_be_name(words: str) -> bool:
    """Whether these words are looked up with ``CELLCAST_CONTACT_SEARCH``: a name has a letter."""
    return bool(conf.contact_search) and any(map(str.isalpha, words))


def contacts_named(words: str) -> tuple[list[str], bool]:
    """Return the contacts whom the host project finds, and whether there are more.

    Nobody if its function fails.
    """
    if not may_be_name(words):
        return [], False
    with _host_code("CELLCAST_CONTACT_SEARCH"):
        found = list(islice(import_string(conf.contact_search)(words), MAX_NAMED + 1))
        contacts = [contact for contact in map(to_contact, found[:MAX_NAMED]) if contact]
        return contacts, len(found) > MAX_NAMED
    return [], False


@contextmanager
def _host_code(setting: str) -> Iterator[None]:
    """Log what the host's code raises; a database error aborts no transaction around it."""
    initialised = connections.all(initialized_only=True)
    try:
        with ExitStack() as stack:
            for using in [each.alias for each in initialised if each.in_atomic_block]:
                stack.enter_context(transaction.atomic(using=using))
            yield
    except Exception as error:  # the host's code may raise anything
        logger.error("The function in %s failed: %s.", setting, type(error).__qualname__)


AUSTRALIAN_PREFIXES = ("+614", "+612", "+613", "+617", "+618")
"""Of mobiles and of the four areas; eight digits follow."""
MIN_LAST_DIGITS = 6
DIGITS_AFTER_PREFIX = 8
_PART_OF_NUMBER = re.compile(r"[\d\s().-]+", re.ASCII)


def contacts_ending_with(term: str) -> list[str]:
    """Return every Australian number that ends with these six to eight digits, at most 500.

    An index finds them all, while none finds the end of a number. Empty for anything else, and
    where numbers belong to another region.
    """
    digits = re.sub(r"\D", "", term) if _PART_OF_NUMBER.fullmatch(term) else ""
    is_enough = MIN_LAST_DIGITS <= len(digits) <= DIGITS_AFTER_PREFIX
    if not is_enough or conf.default_region != "AU":
        return []
    missing = [
        "".join(each) for each in product("0123456789", repeat=DIGITS_AFTER_PREFIX - len(digits))
    ]
    return [f"{prefix}{each}{digits}" for prefix in AUSTRALIAN_PREFIXES for each in missing]
