"""Who a contact is: the name from the host project, and whether they have opted out."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.module_loading import import_string

from cellcast_django.conf import conf
from cellcast_django.models import OptOut, database_alias
from cellcast_django.payloads import clean

logger = logging.getLogger("cellcast_django")


@dataclass(frozen=True, slots=True)
class Customer:
    """A contact as the pages show them."""

    contact: str
    name: str = ""
    opted_out_since: datetime | None = None


def customers(contacts: Iterable[str]) -> dict[str, Customer]:
    """Return the customers by contact: one query, and one call of the host's function."""
    wanted = sorted({contact for contact in contacts if contact})
    if not wanted:
        return {}
    names = names_of(wanted)
    active = OptOut.objects.using(database_alias()).active().filter(contact__in=wanted)
    since = dict(active.values_list("contact", "since"))
    return {each: Customer(each, names.get(each, ""), since.get(each)) for each in wanted}


def attach_customers(rows: Iterable[Any]) -> None:
    """Look up the customers of all rows at once, for ``customer_of``."""
    rows = list(rows)
    known = customers(row.contact for row in rows)
    for row in rows:
        row.customer = known.get(row.contact, Customer(row.contact))


def customer_of(row: Any) -> Customer:
    """Return the customer of a message or an event."""
    if not hasattr(row, "customer"):
        attach_customers([row])
    customer: Customer = row.customer
    return customer


def names_of(contacts: list[str]) -> dict[str, str]:
    """Return the names that ``CELLCAST_CONTACT_NAMES`` knows; none if it fails."""
    if not conf.contact_names:
        return {}
    try:
        found = import_string(conf.contact_names)(contacts)
        return {contact: clean(str(name)) for contact, name in found.items() if name}
    except Exception as error:  # the host's code may raise anything
        logger.error("CELLCAST_CONTACT_NAMES failed: %s.", type(error).__qualname__)
        return {}
