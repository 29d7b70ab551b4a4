"""Who a contact is to people: the name that the host project knows, and whether they opted out."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.module_loading import import_string

from cellcast_django.conf import conf
from cellcast_django.models import OptOut, database_alias

logger = logging.getLogger("cellcast_django")


@dataclass(frozen=True, slots=True)
class Customer:
    """What a page says about a contact."""

    contact: str
    name: str = ""
    opted_out_since: datetime | None = None


def customers(contacts: Iterable[str]) -> dict[str, Customer]:
    """Return the customers with these numbers: one query, and one call of the host's function."""
    wanted = sorted({contact for contact in contacts if contact})
    if not wanted:
        return {}
    names = names_of(wanted)
    standing = OptOut.objects.using(database_alias()).active().filter(contact__in=wanted)
    since = dict(standing.values_list("contact", "since"))
    return {each: Customer(each, names.get(each, ""), since.get(each)) for each in wanted}


def prepare(rows: Iterable[Any]) -> None:
    """Let all rows of a list or a thread know their customers at once."""
    rows = list(rows)
    known = customers(row.contact for row in rows)
    for row in rows:
        row.customer = known.get(row.contact, Customer(row.contact))


def customer_of(row: Any) -> Customer:
    """Return the customer of a message or an event."""
    if not hasattr(row, "customer"):
        prepare([row])
    customer: Customer = row.customer
    return customer


def names_of(contacts: list[str]) -> dict[str, str]:
    """Ask the host's ``CELLCAST_CONTACT_NAMES``. A page is shown also when that fails."""
    if not conf.contact_names:
        return {}
    try:
        found = import_string(conf.contact_names)(contacts)
        return {contact: str(name) for contact, name in found.items()}
    except Exception as error:  # noqa: BLE001  # the host's code may raise anything
        logger.error("CELLCAST_CONTACT_NAMES failed: %s.", type(error).__qualname__)
        return {}
