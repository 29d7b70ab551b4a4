"""Who a contact is, and who may be meant: names of the host project, opt-outs, last digits."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import islice, product
from typing import Any

from django.db import connections, transaction
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString

from cellcast_django.admin.display.badges import opt_out_badge
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import number_html, readable_number
from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact
from cellcast_django.directory import Directory
from cellcast_django.models import OptOut
from cellcast_django.payloads import clean, is_web_url

logger = logging.getLogger("cellcast_django")

MAX_NAMED = 200  # contacts that a name is searched for at once


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


class HostDirectory:
    """The host's ``Directory`` for one page, asked about each contact and reference once."""

    def __init__(self) -> None:
        self.own: Any = Directory()
        """The host project's, or else one that knows nobody."""
        if conf.directory:
            with host_code("Directory"):
                self.own = import_string(conf.directory)()
        self._answers: dict[tuple[str, str], Named] = {}

    def customers(self, contacts: Iterable[str]) -> dict[str, Customer]:
        names = self._ask("names", contacts)
        active = OptOut.objects.fresh().active().filter(contact__in=list(names)) if names else ()
        since = {opt_out.contact: opt_out.since for opt_out in active}
        return {each: Customer(each, named, since.get(each)) for each, named in names.items()}

    def customer(self, contact: str) -> Customer:
        """Return one customer; for several, ask for all at once."""
        return self.customers([contact]).get(contact) or Customer(contact)

    def references(self, references: Iterable[str]) -> dict[str, Named]:
        """Return what the references are about, or else the references."""
        names = self._ask("references", references)
        return {each: named if named.name else Named(each) for each, named in names.items()}

    def _ask(self, method: str, about: Iterable[str]) -> dict[str, Named]:
        """Return what a method of the host's returns for these; it is asked about each once."""
        wanted = sorted({each for each in about if each})
        unasked = [each for each in wanted if (method, each) not in self._answers]
        self._answers |= {(method, each): Named() for each in unasked}  # once, come what may
        if unasked and hasattr(self.own, method):
            with host_code(method):
                for each, value in getattr(self.own, method)(unasked).items():
                    with host_code(method):  # one of a wrong shape costs itself and no other
                        self._answers[method, each] = _named(value)
        return {each: self._answers[method, each] for each in wanted}

    def search(self, words: str) -> tuple[list[str], bool]:
        """Return the contacts whom the host project finds, and whether there are more."""
        contacts: list[str] = []
        has_more = False
        if may_be_name(words):
            with host_code("search"):
                found = self.own.search(words)
                if isinstance(found, str):  # whose letters would be numbers
                    raise TypeError
                numbers = list(islice(found, MAX_NAMED + 1))
                contacts = [contact for contact in map(to_contact, numbers[:MAX_NAMED]) if contact]
                has_more = len(numbers) > MAX_NAMED
        return contacts, has_more


def searches_names() -> bool:
    """Whether the host's ``Directory`` has a search of its own."""
    search: Any = Directory.search
    with host_code("search"):
        if conf.directory:
            search = getattr(import_string(conf.directory), "search", search)
    return search is not Directory.search


def may_be_name(words: str) -> bool:
    """Whether these words are searched for: a name has a letter."""
    return any(map(str.isalpha, words)) and searches_names()


def _named(value: Any) -> Named:
    """Return a name, perhaps with an address. Raises ``TypeError`` for anything else."""
    name, url = value if isinstance(value, tuple | list) else (value, "")
    if not isinstance(name or "", str | Promise):
        raise TypeError
    name = clean(str(name or ""))
    return Named(name, url_or_nothing(url) if name else "")


def url_or_nothing(url: object) -> str:
    """Return an address of the host's if it leads to the web or to a path of this site.

    Browsers read two slashes, and a slash and a backslash, as the start of another site's name, and
    drop control characters before they look.
    """
    text = "" if url is None else str(url)
    is_path = text.startswith("/") and text[1:2] not in ("/", "\\")
    return text if text.isprintable() and (is_path or is_web_url(text)) else ""


@contextmanager
def host_code(name: str) -> Iterator[None]:
    """Log what the host's code raises, and go on after the block.

    In a savepoint of each open transaction, which a database error would abort otherwise.
    """
    initialised = connections.all(initialized_only=True)
    try:
        with ExitStack() as savepoints:
            for connection in initialised:
                if connection.in_atomic_block:
                    savepoints.enter_context(transaction.atomic(using=connection.alias))
            yield
    except Exception as error:  # the host's code may raise anything
        logger.error("CELLCAST_DIRECTORY: %s failed: %s.", name, type(error).__qualname__)


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
    between = product("0123456789", repeat=DIGITS_AFTER_PREFIX - len(digits))
    endings = ["".join(each) + digits for each in between]
    return [prefix + ending for prefix in AUSTRALIAN_PREFIXES for ending in endings]
