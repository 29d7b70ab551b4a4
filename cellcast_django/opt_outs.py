"""Who must not be texted: ask before you send.

The inbox makes opt-outs, by webhooks and by replies that are a stop word; people make and end them
through ``opt_out`` and ``opt_in``. A number may be spelled in any way, everywhere here.
"""

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models import Case, Value, When
from django.db.models.functions import Concat
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.contacts import normalise
from cellcast_django.models import OptOut, OptOutQuerySet, database_alias
from cellcast_django.payloads import MAX_NUMBER_LENGTH, clean

NUMBERS_PER_QUERY = 1_000


def is_opted_out(number: str) -> bool:
    """Whether the contact with this number must not be texted. One query.

    Like all of this module it asks the database that is written to: an opt-out that was stored a
    moment ago counts, also where other reads go to a replica.
    """
    contact = _contact(number)
    return contact != "" and _opt_outs().active().filter(contact=contact).exists()


def opted_out(numbers: Iterable[str]) -> set[str]:
    """Return those of the numbers that must not be texted, as you have spelled them.

    One query for each 1,000 contacts: made for a bulk send.
    """
    spellings: dict[str, set[str]] = {}
    for number in numbers:
        spellings.setdefault(_contact(number), set()).add(number)
    spellings.pop("", None)
    contacts = list(spellings)
    found: set[str] = set()
    for start in range(0, len(contacts), NUMBERS_PER_QUERY):
        some = contacts[start : start + NUMBERS_PER_QUERY]
        active = _opt_outs().active().filter(contact__in=some)
        for contact in active.values_list("contact", flat=True):
            found |= spellings[contact]
    return found


def opt_out(number: str, *, note: str = "") -> OptOut:
    """Opt a contact out, for a person who was told so by other means. No signal is sent.

    Idempotent: one that stands keeps its source and its time. A note is added to those that are
    there. Raises ``ValueError`` for a number that is empty or too long.
    """
    contact = _contact(number)
    if not contact.strip():
        raise ValueError("The number is empty.")
    if len(contact) > MAX_NUMBER_LENGTH:
        raise ValueError(f"The number is longer than {MAX_NUMBER_LENGTH} characters.")
    using = database_alias()
    with transaction.atomic(using=using):
        locked = OptOut.objects.using(using).lock([contact])[contact]
        locked.begin(OptOut.Source.PERSON, since=timezone.now())
        locked.note = "\n".join(filter(None, [locked.note, clean(note)]))
        locked.save(using=using)
    return locked


def opt_in(number: str, *, note: str = "") -> bool:
    """End the opt-out of a contact who has agreed to be texted again; whether there was one.

    A note is added to those that are there. A later opt-out, by whatever way, makes it stand again.
    """
    changes = {}
    if added := clean(note):
        text: Any = OptOut._meta.get_field("note")
        after_others = Concat("note", Value(f"\n{added}"), output_field=text)
        alone = When(note="", then=Value(added))
        changes["note"] = Case(alone, default=after_others, output_field=text)
    active = _opt_outs().active().filter(contact=_contact(number))
    return active.update(ended_at=timezone.now(), **changes) > 0


def _contact(number: str) -> str:
    return normalise(clean(str(number)), conf.default_region)


def _opt_outs() -> OptOutQuerySet:
    return OptOut.objects.using(database_alias())
